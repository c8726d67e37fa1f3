"""mm/workingset.c: was a page that comes back thrown out too early? Its slot in the file remembers when it went.

clock = nonresident_age: evictions and activations of the node so far

      evicted at 1000                 read again at 1300              distance 300 ≤ active pages: had it been active
──────────●──────────────────────────────────●──────────▶ clock      in place of one of those, it would still be here

bits of a shadow     [ eviction time >> bucket_order | memcg 16 | node | was in the working set 1 ]
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.lruvec import (
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    Lruvec,
    folio_is_file_lru,
)
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_state import page_has_flag, set_page_flag
from kmemlab.mm.vmstat import NODE_STAT_NAMES
from kmemlab.sim.kernel import kernel
from kmemlab.types.pageflags import PG_active, PG_workingset

WORKINGSET_REFAULT_BASE = NODE_STAT_NAMES.index("workingset_refault_anon")
WORKINGSET_ACTIVATE_BASE = NODE_STAT_NAMES.index("workingset_activate_anon")
WORKINGSET_RESTORE_BASE = NODE_STAT_NAMES.index("workingset_restore_anon")

WORKINGSET_SHIFT = 1
MEM_CGROUP_ID_SHIFT = 16
XA_VALUE_SHIFT = 1  # a value in the tree of a file is told from a page by one bit
ROOT_MEMCG_ID = 1


@kernel("mm/workingset.c", "EVICTION_SHIFT", traced=False)
def timestamp_bits(mm: Mm) -> int:
    """How many bits of the clock a shadow has room for."""
    config = mm.boot.config
    taken = XA_VALUE_SHIFT + WORKINGSET_SHIFT + config.nodes_shift + MEM_CGROUP_ID_SHIFT
    return config.sizeof_pointer * 8 - taken


@kernel("mm/workingset.c", "workingset_init", left_out="the shrinker of nodes that hold nothing but shadows")
def workingset_init(mm: Mm) -> None:
    """Choose how coarse the clock of a shadow is, so that a distance as long as all memory fits."""
    bits = timestamp_bits(mm)
    max_order = (mm.totalram_pages - 1).bit_length()
    mm.bucket_order = max(0, max_order - bits)
    mm.boot.printk.info(f"workingset: timestamp_bits={bits} max_order={max_order} bucket_order={mm.bucket_order}")


@kernel("mm/workingset.c", "pack_shadow", traced=False)
def pack_shadow(mm: Mm, node: int, eviction: int, workingset: bool) -> int:
    """The value that stands in for a page that is gone."""
    eviction &= (1 << timestamp_bits(mm)) - 1
    eviction = eviction << MEM_CGROUP_ID_SHIFT | ROOT_MEMCG_ID
    return (eviction << mm.boot.config.nodes_shift | node) << WORKINGSET_SHIFT | workingset


@kernel("mm/workingset.c", "unpack_shadow", traced=False)
def unpack_shadow(mm: Mm, shadow: int) -> tuple[int, int, bool]:
    """(node, clock at the eviction, was in the working set) of such a value."""
    nodes_shift = mm.boot.config.nodes_shift
    workingset, shadow = bool(shadow & 1), shadow >> WORKINGSET_SHIFT
    node = shadow & (1 << nodes_shift) - 1
    return node, shadow >> nodes_shift + MEM_CGROUP_ID_SHIFT, workingset


@kernel("mm/workingset.c", "workingset_age_nonresident", traced=False)
def workingset_age_nonresident(lruvec: Lruvec, nr_pages: int) -> None:
    """Let the clock go on: so many pages have left the inactive list, upwards or for good."""
    lruvec.nonresident_age += nr_pages


@kernel("mm/workingset.c", "workingset_activation")
def workingset_activation(mm: Mm, pfn: int) -> None:
    """A page is activated, which makes pages that are gone older by one."""
    workingset_age_nonresident(folio_pgdat(mm, pfn).lruvec, 1)


@kernel("mm/workingset.c", "workingset_eviction", lock="mapping->i_pages")
def workingset_eviction(mm: Mm, pfn: int) -> int:
    """Note when a page goes; returns the shadow that is to stand in its place."""
    pgdat = folio_pgdat(mm, pfn)
    eviction = pgdat.lruvec.nonresident_age >> mm.bucket_order
    workingset_age_nonresident(pgdat.lruvec, 1)
    return pack_shadow(mm, pgdat.node_id, eviction, page_has_flag(mm.page, pfn, PG_workingset))


@kernel("mm/workingset.c", "workingset_refault", left_out="memcg")
def workingset_refault(mm: Mm, pfn: int, shadow: int) -> None:
    """A page comes back that has left a shadow: make it active at once if it went too early."""
    page, file = mm.page, int(folio_is_file_lru(mm.page, pfn))
    node, eviction, workingset = unpack_shadow(mm, shadow)
    pgdat = mm.node_data[node]
    age = pgdat.lruvec.nonresident_age - (eviction << mm.bucket_order)
    distance = age & (1 << timestamp_bits(mm)) - 1
    pgdat.vm_stat[WORKINGSET_REFAULT_BASE + file] += 1
    if distance > workingset_size(mm, pgdat, file):
        return
    set_page_flag(page, pfn, PG_active)
    workingset_age_nonresident(pgdat.lruvec, 1)
    pgdat.vm_stat[WORKINGSET_ACTIVATE_BASE + file] += 1
    if workingset:
        set_page_flag(page, pfn, PG_workingset)
        lru_note_cost(pgdat, bool(file), 1)
        pgdat.vm_stat[WORKINGSET_RESTORE_BASE + file] += 1


@kernel("mm/workingset.c", "workingset_refault", traced=False)
def workingset_size(mm: Mm, pgdat: PglistData, file: int) -> int:
    """How many resident pages a page that comes back competes with; anonymous ones only where they could go to swap."""
    size = pgdat.vm_stat[LRU_ACTIVE_FILE]
    if not file:
        size += pgdat.vm_stat[LRU_INACTIVE_FILE]
    if mm.nr_swap_pages > 0:
        size += pgdat.vm_stat[LRU_ACTIVE_ANON]
        if file:
            size += pgdat.vm_stat[LRU_INACTIVE_ANON]
    return size


@kernel("mm/swap.c", "lru_note_cost", left_out="memcg", lock="lruvec->lru_lock")
def lru_note_cost(pgdat: PglistData, file: bool, nr_pages: int) -> None:
    """Note trouble that reclaiming files, or anonymous memory, has made; old trouble counts less and less."""
    lruvec = pgdat.lruvec
    if file:
        lruvec.file_cost += nr_pages
    else:
        lruvec.anon_cost += nr_pages
    if lruvec.file_cost + lruvec.anon_cost > sum(pgdat.vm_stat[: LRU_ACTIVE_FILE + 1]) // 4:
        lruvec.file_cost //= 2
        lruvec.anon_cost //= 2
