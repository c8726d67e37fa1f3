"""kcompactd: each node's daemon that makes blocks before anybody must wait for them.

woken by kswapd ─▶ kcompactd_do_work: until a block of the order asked for is free
every 0.5 s     ─▶ is the node so fragmented (score above 90)? ─▶ proactive_compact_node: until it is 80 in each zone
                                                                     └─ in vain: not again for 32 s
"""

from __future__ import annotations

from kmemlab.alloc.compaction import compact_zone, free_compact_control
from kmemlab.mm.compact_control import MIGRATE_SYNC_LIGHT, CompactControl, init_compact_control
from kmemlab.mm.compaction_defer import (
    COMPACT_MAX_DEFER_SHIFT,
    compaction_defer_reset,
    compaction_deferred,
    defer_compaction,
)
from kmemlab.mm.compaction_suitable import CompactResult, compaction_suitable
from kmemlab.mm.context import PF_KTHREAD
from kmemlab.mm.globals import Mm
from kmemlab.mm.kcompactd_wake import KCOMPACTD_TIMEOUT, fragmentation_score_node, should_proactive_compact_node
from kmemlab.mm.node import PglistData
from kmemlab.mm.pcp import drain_all_pages
from kmemlab.mm.vm_event import KCOMPACTD_FREE_SCANNED, KCOMPACTD_MIGRATE_SCANNED, KCOMPACTD_WAKE
from kmemlab.mm.wait import DAEMONS
from kmemlab.mm.zone import Zone, populated_zone
from kmemlab.reclaim.kswapd import running_as
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import GFP_KERNEL


@kernel("mm/compaction.c", "kcompactd_do_work")
def kcompactd_do_work(mm: Mm, pgdat: PglistData) -> None:
    """Compact each zone in which a block of the order asked for is lacking and could be made."""
    order, highest = pgdat.kcompactd_max_order, pgdat.kcompactd_highest_zoneidx
    cc = init_compact_control(
        free_compact_control(mm),
        order=order,
        search_order=order,
        highest_zoneidx=highest,
        mode=MIGRATE_SYNC_LIGHT,
        gfp_mask=GFP_KERNEL,
    )
    mm.vm_event[KCOMPACTD_WAKE] += 1
    for zone in pgdat.node_zones[: highest + 1]:
        if not populated_zone(zone) or compaction_deferred(zone, order):
            continue
        threshold = mm.sysctl_extfrag_threshold
        if compaction_suitable(zone, order, zone.index, threshold=threshold) is CompactResult.CONTINUE:
            work_on_zone(mm, cc, zone)
    if pgdat.kcompactd_max_order <= order:
        pgdat.kcompactd_max_order = 0
    if pgdat.kcompactd_highest_zoneidx >= highest:
        pgdat.kcompactd_highest_zoneidx = pgdat.nr_zones - 1


@invented("the second half of the loop of kcompactd_do_work", traced=False)
def work_on_zone(mm: Mm, cc: CompactControl, zone: Zone) -> None:
    """Compact a zone, and note whether that is worth another attempt soon."""
    result = compact_zone(mm, cc, zone)
    if result is CompactResult.SUCCESS:
        compaction_defer_reset(zone, cc.order, False)
    elif result in (CompactResult.PARTIAL_SKIPPED, CompactResult.COMPLETE):
        drain_all_pages(mm, zone)
        defer_compaction(zone, cc.order)
    mm.vm_event[KCOMPACTD_MIGRATE_SCANNED] += cc.total_migrate_scanned
    mm.vm_event[KCOMPACTD_FREE_SCANNED] += cc.total_free_scanned


@kernel("mm/compaction.c", "proactive_compact_node")
def proactive_compact_node(mm: Mm, pgdat: PglistData) -> None:
    """Compact all zones of a node until each is whole enough."""
    cc = init_compact_control(
        free_compact_control(mm),
        order=-1,
        mode=MIGRATE_SYNC_LIGHT,
        ignore_skip_hint=1,
        whole_zone=1,
        gfp_mask=GFP_KERNEL,
        proactive_compaction=1,
    )
    for zone in pgdat.node_zones:
        if populated_zone(zone):
            compact_zone(mm, cc, zone)


@invented("the second half of the loop of kcompactd", traced=False)
def look_round(mm: Mm, pgdat: PglistData) -> int:
    """Act without being asked, if the node is badly fragmented; how long to sleep then, in jiffies."""
    if not should_proactive_compact_node(mm, pgdat):
        return KCOMPACTD_TIMEOUT
    before = fragmentation_score_node(pgdat)
    proactive_compact_node(mm, pgdat)
    in_vain = fragmentation_score_node(pgdat) >= before
    return KCOMPACTD_TIMEOUT << COMPACT_MAX_DEFER_SHIFT if in_vain else KCOMPACTD_TIMEOUT


@kernel("mm/compaction.c", "kcompactd", left_out="the thread: each jiffy its loop is gone through at most once")
def kcompactd(mm: Mm, pgdat: PglistData) -> None:
    """What the node's daemon does this jiffy: sleep on; or, woken or after half a second, what it was asked.

    With vm.compaction_proactiveness 0 it sleeps until it is woken.
    """
    looks_round = mm.sysctl_compaction_proactiveness and mm.current.jiffies >= pgdat.kcompactd_wakes_at
    if not pgdat.kcompactd_awake and not looks_round:
        return
    timeout = KCOMPACTD_TIMEOUT
    with running_as(mm, f"kcompactd{pgdat.node_id}", PF_KTHREAD):
        if pgdat.kcompactd_max_order and not pgdat.proactive_compact_trigger:
            kcompactd_do_work(mm, pgdat)
        else:
            timeout = look_round(mm, pgdat)
            pgdat.proactive_compact_trigger = 0
    pgdat.kcompactd_awake = int(pgdat.kcompactd_max_order > 0)
    pgdat.kcompactd_wakes_at = mm.current.jiffies + timeout


@invented("each node has a thread of its own", traced=False)
def all_kcompactds(mm: Mm) -> None:
    """Each node's daemon has its turn."""
    for pgdat in mm.node_data:
        kcompactd(mm, pgdat)


DAEMONS["kcompactd"] = all_kcompactds


@kernel("mm/compaction.c", "compaction_proactiveness_sysctl_handler")
def compaction_proactiveness_sysctl_handler(mm: Mm, value: int) -> None:
    """Set how soon kcompactd acts without being asked, 0 (never) to 100; it looks round at once."""
    mm.sysctl_compaction_proactiveness = value
    for pgdat in mm.node_data if value else ():
        if not pgdat.proactive_compact_trigger:
            pgdat.proactive_compact_trigger = pgdat.kcompactd_awake = 1
