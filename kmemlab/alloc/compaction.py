"""Compaction: two scanners go towards each other through a zone; what could move goes from the one to the other.

compact_zone ─▶ compact_finished? ─▶ isolate_migratepages ─▶ migrate_pages ─▶ what is free now back to the buddy ─┐
                     ▲                                          └─ compaction_alloc ─▶ isolate_freepages          │
                     └────────────────────────────────────────────────────────────────────────────────────────────┘
try_to_compact_pages   for a request, zone after zone, until a block has come about
compact_nodes          everything: vm.compact_memory                kcompactd: alloc/kcompactd.py
"""

from __future__ import annotations

from functools import partial

from kmemlab.alloc.freelist import gfp_migratetype, gfp_zone, node_zonelist
from kmemlab.alloc.isolate_free_block import release_freepages
from kmemlab.alloc.isolate_freepages import compaction_alloc, compaction_free
from kmemlab.alloc.isolate_migratepages import ISOLATE_ABORT, ISOLATE_SUCCESS, block_end_pfn, isolate_migratepages
from kmemlab.alloc.migrate import migrate_pages, putback_movable_pages
from kmemlab.boot.numa import nodes_of
from kmemlab.mm.compact_control import (
    MIGRATE_ASYNC,
    MIGRATE_SYNC,
    MIGRATE_SYNC_LIGHT,
    MIN_COMPACT_PRIORITY,
    CompactControl,
    CompactPriority,
    init_compact_control,
)
from kmemlab.mm.compaction_defer import (
    compaction_defer_reset,
    compaction_deferred,
    compaction_restarting,
    defer_compaction,
)
from kmemlab.mm.compaction_suitable import (
    CompactResult,
    compaction_suitable,
    gfp_compaction_allowed,
    is_via_compact_memory,
)
from kmemlab.mm.context import PF_KTHREAD
from kmemlab.mm.fallback import can_steal_fallback, find_suitable_fallback
from kmemlab.mm.globals import Mm
from kmemlab.mm.kcompactd_wake import fragmentation_score_wmark, fragmentation_score_zone
from kmemlab.mm.lru import lru_add_drain, lru_add_drain_all
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.pageblock_skip import pageblock_start_pfn, reset_cached_positions, reset_zone_isolation_suitable
from kmemlab.mm.pcp import drain_local_pages
from kmemlab.mm.vm_event import COMPACTFREE_SCANNED, COMPACTMIGRATE_SCANNED
from kmemlab.mm.zone import Zone, populated_zone, zone_end_pfn
from kmemlab.mm.zonelist import for_each_zone_zonelist
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head
from kmemlab.types.errno import ENOMEM
from kmemlab.types.gfp import GFP_KERNEL


@invented("C has the struct on the stack of whoever compacts", traced=False)
def free_compact_control(mm: Mm) -> CompactControl:
    """A struct compact_control that nobody uses: kcompactd may run while somebody who compacts waits for the disk."""
    return next(cc for cc in mm.compact_controls if not cc.running)


# -- is it done? -------------------------------------------------------------------------------------------------------


@kernel("mm/compaction.c", "compact_scanners_met", traced=False)
def compact_scanners_met(cc: CompactControl, zone: Zone) -> bool:
    """Whether the free scanner has come to the migrate scanner's pageblock, or below."""
    order = zone.page.pageblock_order
    return cc.free_pfn >> order <= cc.migrate_pfn >> order


@invented("the loop of __compact_finished", traced=False)
def is_block_free(mm: Mm, zone: Zone, order: int, migratetype: int) -> bool:
    """Whether a block of the order is free for a type: on its own lists, or on those of a type that lends it."""
    lru = zone.page.lru
    for at in range(order, MAX_ORDER):
        head = zone.free_list[at][migratetype]
        if zone.nr_free[at] and lru.next[head] != head:
            return True
        if can_steal_fallback(mm, at, migratetype) and find_suitable_fallback(zone, at, migratetype) is not None:
            return True
    return False


@kernel("mm/compaction.c", "__compact_finished", formerly=("compact_finished",), left_out="signals, contended locks")
def compact_finished(mm: Mm, cc: CompactControl, zone: Zone) -> CompactResult:
    """CONTINUE; or what it came to, if the scanners have met or what is wanted is there."""
    if compact_scanners_met(cc, zone):
        reset_cached_positions(zone)
        if cc.direct_compaction:
            zone.compact_blockskip_flush = 1
        return CompactResult.COMPLETE if cc.whole_zone else CompactResult.PARTIAL_SKIPPED
    if cc.proactive_compaction:
        if mm.node_data[zone.node].kswapd_awake:
            return CompactResult.PARTIAL_SKIPPED
        content = fragmentation_score_zone(zone) <= fragmentation_score_wmark(mm, low=True)
        return CompactResult.SUCCESS if content else CompactResult.CONTINUE
    # A pageblock that was begun is done to its end, so that fewer pageblocks get mixed later.
    begun = cc.migrate_pfn != pageblock_start_pfn(zone.page, cc.migrate_pfn)
    if is_via_compact_memory(cc.order) or begun or not is_block_free(mm, zone, cc.order, cc.migratetype):
        return CompactResult.CONTINUE
    return CompactResult.SUCCESS


# -- one zone ----------------------------------------------------------------------------------------------------------


@invented("a part of compact_zone", traced=False)
def set_scanners(cc: CompactControl, zone: Zone) -> None:
    """Let the scanners begin where earlier runs have come to, or at the ends of the zone."""
    start_pfn, end_pfn = zone.zone_start_pfn, zone_end_pfn(zone)
    last_block = pageblock_start_pfn(zone.page, end_pfn - 1)
    cached = zone.compact_cached_migrate_pfn
    cc.fast_start_pfn = 0
    if cc.whole_zone:
        cc.migrate_pfn, cc.free_pfn = start_pfn, last_block
        return
    cc.migrate_pfn, cc.free_pfn = cached[int(cc.mode != MIGRATE_ASYNC)], zone.compact_cached_free_pfn
    if not start_pfn <= cc.free_pfn < end_pfn:
        cc.free_pfn = zone.compact_cached_free_pfn = last_block
    if not start_pfn <= cc.migrate_pfn < end_pfn:
        cc.migrate_pfn = cached[0] = cached[1] = start_pfn
    cc.whole_zone = int(cc.migrate_pfn <= zone.compact_init_migrate_pfn)


@kernel("mm/compaction.c", "compact_zone", left_out="cond_resched: nobody else has a turn meanwhile")
def compact_zone(mm: Mm, cc: CompactControl, zone: Zone) -> CompactResult:
    """Compact a zone as `cc` says, if that is suitable; what it came to."""
    cc.total_migrate_scanned = cc.total_free_scanned = cc.nr_migratepages = cc.nr_freepages = 0
    for head in (cc.freepages, cc.migratepages):
        init_list_head(mm.page.lru, head)
    cc.migratetype = gfp_migratetype(mm, cc.gfp_mask)
    threshold = mm.sysctl_extfrag_threshold
    result = compaction_suitable(zone, cc.order, cc.highest_zoneidx, cc.alloc_flags, threshold)
    if result is not CompactResult.CONTINUE:
        return result
    if compaction_restarting(zone, cc.order):
        reset_zone_isolation_suitable(zone)
    set_scanners(cc, zone)
    lru_add_drain(mm)
    cc.running = zone.slot
    try:
        result = compact_until_finished(mm, cc, zone)
    finally:
        cc.running = 0
    release_rest(mm, cc, zone)
    mm.vm_event[COMPACTMIGRATE_SCANNED] += cc.total_migrate_scanned
    mm.vm_event[COMPACTFREE_SCANNED] += cc.total_free_scanned
    return result


@invented("the loop of compact_zone", traced=False)
def compact_until_finished(mm: Mm, cc: CompactControl, zone: Zone) -> CompactResult:
    """Isolate and move, 32 pages at a time, until it is done."""
    page, cached = zone.page, zone.compact_cached_migrate_pfn
    # As long as nothing was found, what such a run passes over need not be looked at by one that may wait either.
    update_cached = cc.mode == MIGRATE_ASYNC and cached[0] == cached[1]
    last_migrated_pfn = 0
    while (result := compact_finished(mm, cc, zone)) is CompactResult.CONTINUE:
        start_pfn = cc.migrate_pfn
        cc.rescan = int(pageblock_start_pfn(page, last_migrated_pfn) == pageblock_start_pfn(page, start_pfn))
        isolated = isolate_migratepages(mm, cc, zone)
        if isolated == ISOLATE_ABORT:
            putback_movable_pages(mm, cc.migratepages)
            cc.nr_migratepages = 0
            return CompactResult.CONTENDED
        if isolated == ISOLATE_SUCCESS:
            update_cached, last_migrated_pfn = False, start_pfn
            err = migrate_isolated(mm, cc, zone)
            if err == -ENOMEM and not compact_scanners_met(cc, zone):
                return CompactResult.CONTENDED
            if err and cc.direct_compaction and cc.mode == MIGRATE_ASYNC:
                cc.migrate_pfn, last_migrated_pfn = block_end_pfn(cc.migrate_pfn - 1, cc.order), 0
        elif update_cached:
            cached[1] = cached[0]
        if cc.order > 0 and last_migrated_pfn and last_migrated_pfn < cc.migrate_pfn & -(1 << cc.order):
            lru_add_drain_cpu_zone(mm, zone)
            last_migrated_pfn = 0
        if zone.captured_pfn:
            return CompactResult.SUCCESS
    return result


@invented("the middle of the loop of compact_zone", traced=False)
def migrate_isolated(mm: Mm, cc: CompactControl, zone: Zone) -> int:
    """Move the isolated pages; those that can't be moved are put back. 0, or as `migrate_pages` says."""
    err = migrate_pages(
        mm,
        cc.migratepages,
        cc.ret_folios,
        lambda _: compaction_alloc(mm, cc, zone),
        partial(compaction_free, mm, cc),
        cc.mode,
    )
    cc.nr_migratepages = 0
    if err:
        putback_movable_pages(mm, cc.migratepages)
    return err


@kernel("mm/swap.c", "lru_add_drain_cpu_zone")
def lru_add_drain_cpu_zone(mm: Mm, zone: Zone) -> None:
    """Pages that were moved away from are free, but on this CPU's lists: back to the buddy, so that they join."""
    lru_add_drain(mm)
    drain_local_pages(mm, zone)


@invented("the label out of compact_zone", traced=False)
def release_rest(mm: Mm, cc: CompactControl, zone: Zone) -> None:
    """Free the pages that nobody moved to; the next run begins no lower than where they are."""
    if cc.nr_freepages:
        free_pfn = pageblock_start_pfn(zone.page, release_freepages(mm, cc.freepages))
        cc.nr_freepages = 0
        zone.compact_cached_free_pfn = max(zone.compact_cached_free_pfn, free_pfn)


# -- for a request -----------------------------------------------------------------------------------------------------


@kernel("mm/compaction.c", "compact_zone_order")
def compact_zone_order(
    mm: Mm, zone: Zone, order: int, gfp: int, priority: int, alloc_flags: int, highest_zoneidx: int
) -> tuple[CompactResult, int | None]:
    """Compact a zone until a block of the order is there; and that block, if it was got as it came about.

    A task gets the block as soon as it is joined: on a free list somebody else might take it.
    """
    hardest = int(priority == MIN_COMPACT_PRIORITY)
    cc = init_compact_control(
        free_compact_control(mm),
        order=order,
        search_order=order,
        gfp_mask=gfp,
        mode=MIGRATE_ASYNC if priority == CompactPriority.ASYNC else MIGRATE_SYNC_LIGHT,
        alloc_flags=alloc_flags,
        highest_zoneidx=highest_zoneidx,
        direct_compaction=1,
        whole_zone=hardest,
        ignore_skip_hint=hardest,
        ignore_block_suitable=hardest,
    )
    zone.capture_order = 0 if mm.current.flags & PF_KTHREAD else order
    try:
        result = compact_zone(mm, cc, zone)
    finally:
        captured, zone.capture_order, zone.captured_pfn = zone.captured_pfn, 0, 0
    return (CompactResult.SUCCESS, captured - 1) if captured else (result, None)


@kernel("mm/compaction.c", "try_to_compact_pages")
def try_to_compact_pages(
    mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int, priority: int
) -> tuple[CompactResult, int | None]:
    """Compact the zones that a request may use, best first, until it should succeed; what it came to, and perhaps a
    block that is nobody else's. Zones in which it failed lately are passed over, unless it tries its hardest."""
    best, captured = CompactResult.SKIPPED, None
    if not gfp_compaction_allowed(gfp):
        return best, captured
    highest = gfp_zone(mm, gfp)
    for zone in for_each_zone_zonelist(mm, node_zonelist(mm, nid, gfp), highest):
        if priority > MIN_COMPACT_PRIORITY and compaction_deferred(zone, order):
            best = max(best, CompactResult.DEFERRED)
            continue
        result, captured = compact_zone_order(mm, zone, order, gfp, priority, alloc_flags, highest)
        best = max(best, result)
        if result is CompactResult.SUCCESS:
            compaction_defer_reset(zone, order, False)
            break
        unsuccessful = result in (CompactResult.COMPLETE, CompactResult.PARTIAL_SKIPPED)
        if priority != CompactPriority.ASYNC and unsuccessful:
            defer_compaction(zone, order)
    return best, captured


# -- everything --------------------------------------------------------------------------------------------------------


@kernel("mm/compaction.c", "compact_node")
def compact_node(mm: Mm, nid: int) -> None:
    """Compact all zones of a node, and wait for whatever that needs."""
    cc = init_compact_control(
        free_compact_control(mm), order=-1, mode=MIGRATE_SYNC, ignore_skip_hint=1, whole_zone=1, gfp_mask=GFP_KERNEL
    )
    for zone in mm.node_data[nid].node_zones:
        if populated_zone(zone):
            compact_zone(mm, cc, zone)


@kernel("mm/compaction.c", "compact_nodes")
def compact_nodes(mm: Mm) -> None:
    """Compact all memory: a write to vm.compact_memory."""
    lru_add_drain_all(mm)
    for nid in nodes_of(mm.numa.node_online):
        compact_node(mm, nid)
