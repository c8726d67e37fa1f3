"""struct scan_control: what one run of reclaim is for, what it may do, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from kmemlab.mm.context import PF_KSWAPD
from kmemlab.mm.globals import Mm
from kmemlab.mm.lruvec import (
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    NR_ZONE_LRU_BASE,
)
from kmemlab.mm.watermark import SWAP_CLUSTER_MAX
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.sim.kernel import kernel

DEF_PRIORITY = 12
"""At priority p a list is scanned for 1/2**p of its length; 0 is the whole list."""

DEACTIVATE_ANON, DEACTIVATE_FILE = 1, 2

# pglist_data.flags
PGDAT_DIRTY = 1 << 0  # kswapd met nothing but dirty pages of files at the tail, and may write them itself
PGDAT_WRITEBACK = 1 << 1  # it met nothing but pages that are being written


@kernel("mm/vmscan.c", "struct reclaim_stat", left_out="what nothing is decided by")
@dataclass
class ReclaimStat:
    """What kind of pages were met, counted over one batch, or over one shrink_node."""

    nr_dirty: int = 0
    nr_unqueued_dirty: int = 0
    nr_congested: int = 0
    nr_writeback: int = 0
    nr_immediate: int = 0
    nr_pageout: int = 0
    nr_activate: int = 0
    taken: int = 0
    file_taken: int = 0


@kernel("mm/vmscan.c", "struct scan_control", left_out="memcg, hibernation")
@dataclass
class ScanControl:
    """One run of reclaim; it lives no longer than that, so it is no state of the machine."""

    gfp_mask: int
    order: int = 0
    reclaim_idx: int = 0  # pages of higher zones don't help
    priority: int = DEF_PRIORITY
    nr_to_reclaim: int = SWAP_CLUSTER_MAX
    may_writepage: bool = True
    may_unmap: bool = True
    may_swap: bool = True
    may_deactivate: int = 0  # DEACTIVATE_…
    force_deactivate: bool = False
    skipped_deactivate: bool = False
    cache_trim_mode: bool = False  # plenty of files that nobody needs: leave anonymous memory alone
    file_is_tiny: bool = False  # hardly any file left: go for anonymous memory
    compaction_ready: bool = False
    anon_cost: int = 0
    file_cost: int = 0
    nr_scanned: int = 0
    nr_reclaimed: int = 0
    nr: ReclaimStat = field(default_factory=ReclaimStat)


@kernel("include/linux/swap.h", "current_is_kswapd", traced=False)
def current_is_kswapd(mm: Mm) -> bool:
    """Whether kswapd runs; else a task frees pages for itself."""
    return bool(mm.current.flags & PF_KSWAPD)


@kernel("mm/vmscan.c", "can_reclaim_anon_pages", left_out="demotion to slower nodes", traced=False)
def can_reclaim_anon_pages(mm: Mm) -> bool:
    """Whether anonymous memory could go anywhere."""
    return mm.nr_swap_pages > 0


@kernel("mm/vmscan.c", "can_age_anon_pages", left_out="demotion to slower nodes", traced=False)
def can_age_anon_pages(mm: Mm) -> bool:
    """Whether it is worth knowing how old anonymous memory is: there is swap, if perhaps a full one."""
    return mm.total_swap_pages > 0


@kernel("mm/vmscan.c", "zone_reclaimable_pages", traced=False)
def zone_reclaimable_pages(mm: Mm, zone: Zone) -> int:
    """How many pages of the zone could be freed; if none, its free pages, lest a zone full of them be passed over."""
    lists = [LRU_INACTIVE_FILE, LRU_ACTIVE_FILE]
    if can_reclaim_anon_pages(mm):
        lists += [LRU_INACTIVE_ANON, LRU_ACTIVE_ANON]
    return sum(zone.vm_stat[NR_ZONE_LRU_BASE + lru] for lru in lists) or zone.vm_stat[NR_FREE_PAGES]
