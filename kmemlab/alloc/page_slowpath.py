"""__alloc_pages_slowpath: no zone is above its low watermark; what is tried then, stage by stage.

wake kswapd ─▶ a zone above MIN? ─▶ compact ─▶ reserves ─▶ reclaim ─▶ compact, harder ─▶ OOM killer ─▶ from the start
                                       │          └─ for those who may      └─▶ up to 16 times without any progress
                                       └─ for more than 8 pages in a row, or for pages that can't move later
Whoever can't wait leaves before direct reclaim; whoever wants more than 8 pages in a row leaves after compaction.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.alloc.direct_compact import CompactAttempts, alloc_pages_direct_compact, should_compact_retry
from kmemlab.alloc.freelist import get_page_from_freelist, gfp_migratetype, gfp_zone, node_zonelist
from kmemlab.alloc.warn_alloc import warn_alloc
from kmemlab.mm.compact_control import INIT_COMPACT_PRIORITY
from kmemlab.mm.compaction_suitable import CompactResult, compaction_suitable_inner, gfp_compaction_allowed
from kmemlab.mm.context import PF_DUMPCORE, PF_MEMALLOC, Context
from kmemlab.mm.globals import Mm
from kmemlab.mm.highatomic import unreserve_highatomic_pageblock
from kmemlab.mm.kswapd_wake import MAX_RECLAIM_RETRIES, wakeup_kswapd
from kmemlab.mm.pcp import drain_all_pages
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.reclaim_table import out_of_memory, try_to_free_pages
from kmemlab.mm.wait import cond_resched
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import (
    ALLOC_CPUSET,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_HIGH,
    ALLOC_WMARK_MIN,
    wmark_pages,
    zone_watermark_ok_inner,
)
from kmemlab.mm.zonelist import first_zones_zonelist, for_each_zone_zonelist
from kmemlab.reclaim.scan_control import zone_reclaimable_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import MustWait
from kmemlab.types.gfp import (
    __GFP_ATOMIC,
    __GFP_DIRECT_RECLAIM,
    __GFP_HARDWALL,
    __GFP_HIGH,
    __GFP_KSWAPD_RECLAIM,
    __GFP_MEMALLOC,
    __GFP_NOFAIL,
    __GFP_NOMEMALLOC,
    __GFP_NORETRY,
    __GFP_RETRY_MAYFAIL,
    __GFP_THISNODE,
    gfp_text,
)
from kmemlab.types.migratetype import MIGRATE_MOVABLE

MOST_KILLS_IN_VAIN = 128
"""As many tasks as a machine has here: each of them may have had nothing to give."""


@invented("for_each_zone_zonelist for the zonelist and the highest zone of a request", traced=False)
def zones_for(mm: Mm, gfp: int, nid: int) -> Iterator[Zone]:
    """The zones that a request may use, best first."""
    return for_each_zone_zonelist(mm, node_zonelist(mm, nid, gfp), gfp_zone(mm, gfp))


@kernel("mm/page_alloc.c", "gfp_to_alloc_flags", left_out="real-time tasks, which may go deeper")
def gfp_to_alloc_flags(gfp: int, order: int) -> int:
    """How deep the slow path may go: to MIN, and below it for urgent requests, further for those that can't sleep."""
    alloc_flags = ALLOC_WMARK_MIN | ALLOC_CPUSET | gfp & (__GFP_HIGH | __GFP_KSWAPD_RECLAIM)
    if not gfp & __GFP_DIRECT_RECLAIM:
        if not gfp & __GFP_NOMEMALLOC:
            alloc_flags |= ALLOC_NON_BLOCK
            if order > 0 and alloc_flags & ALLOC_MIN_RESERVE:
                alloc_flags |= ALLOC_HIGHATOMIC
        if alloc_flags & ALLOC_MIN_RESERVE:
            alloc_flags &= ~ALLOC_CPUSET
    return alloc_flags


@kernel("mm/page_alloc.c", "__gfp_pfmemalloc_flags", left_out="soft interrupts")
def gfp_pfmemalloc_flags(current: Context, gfp: int) -> int:
    """Who may use the last pages: those who free memory all of them, a victim of the OOM killer a part."""
    if gfp & __GFP_NOMEMALLOC:
        return 0
    if gfp & __GFP_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    if current.hardirq_count:
        return 0
    if current.flags & PF_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    return ALLOC_OOM if current.oom_victim else 0


@kernel("mm/page_alloc.c", "wake_all_kswapds")
def wake_all_kswapds(mm: Mm, gfp: int, order: int, nid: int) -> None:
    """Wake the kswapd of each node in the zonelist, one zone a node."""
    last = None
    for zone in zones_for(mm, gfp, nid):
        if zone.managed_pages and zone.node != last:
            wakeup_kswapd(mm, zone, gfp, order, gfp_zone(mm, gfp))
            last = zone.node


@kernel("mm/page_alloc.c", "__perform_reclaim")
def perform_reclaim(mm: Mm, gfp: int, order: int, nid: int) -> int:
    """Free pages; whoever does so may itself use the last ones. Returns how many were freed."""
    cond_resched(mm)
    before = mm.current.flags
    mm.current.flags = before | PF_MEMALLOC
    progress = try_to_free_pages(mm, gfp, order, nid, gfp_zone(mm, gfp))
    mm.current.flags = mm.current.flags & ~PF_MEMALLOC | before & PF_MEMALLOC
    cond_resched(mm)
    return progress


@kernel("mm/page_alloc.c", "__alloc_pages_direct_reclaim")
def alloc_pages_direct_reclaim(mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int) -> tuple[int | None, bool]:
    """Free pages and try again; returns the block, and whether any page was freed.

    What was freed may have come to lie on per-CPU lists or in a reserve, so these are emptied before giving up.
    """
    if not perform_reclaim(mm, gfp, order, nid):
        return None, False
    pfn = get_page_from_freelist(mm, gfp, order, alloc_flags, nid)
    if pfn is None:
        unreserve_highatomic_pageblock(zones_for(mm, gfp, nid), gfp_migratetype(mm, gfp), force=False)
        drain_all_pages(mm)
        pfn = get_page_from_freelist(mm, gfp, order, alloc_flags, nid)
    return pfn, True


@kernel("mm/page_alloc.c", "should_reclaim_retry")
def should_reclaim_retry(mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int, no_progress_loops: int) -> bool:
    """Whether to free pages once more: not too often in vain, and only if that could ever be enough.

    Before giving up, the reserve of urgent requests is taken.
    """
    if no_progress_loops <= MAX_RECLAIM_RETRIES:
        for zone in zones_for(mm, gfp, nid):
            available = zone_reclaimable_pages(mm, zone) + zone.vm_stat[NR_FREE_PAGES]
            mark = wmark_pages(zone, WMARK_MIN)
            if zone_watermark_ok_inner(zone, order, mark, gfp_zone(mm, gfp), alloc_flags, available):
                return True
    return unreserve_highatomic_pageblock(zones_for(mm, gfp, nid), gfp_migratetype(mm, gfp), force=True)


@kernel("mm/compaction.c", "compaction_zonelist_suitable")
def compaction_zonelist_suitable(mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int) -> bool:
    """Whether some zone would have pages enough to compact with if a part of what could be freed were."""
    highest = gfp_zone(mm, gfp)
    for zone in zones_for(mm, gfp, nid):
        available = zone_reclaimable_pages(mm, zone) // order + zone.vm_stat[NR_FREE_PAGES]
        result = compaction_suitable_inner(zone, order, alloc_flags, highest, available)
        if result is CompactResult.CONTINUE:
            return True
    return False


@kernel("mm/page_alloc.c", "__alloc_pages_may_oom", left_out="suspended storage", lock="oom_lock")
def alloc_pages_may_oom(mm: Mm, gfp: int, order: int, nid: int) -> tuple[int | None, bool]:
    """Have somebody killed, where that can help; returns a block, and whether pages will come.

    It helps no request for many pages in a row, for a certain node or for the lowest zones, and none that may fail.
    """
    calm = (gfp | __GFP_HARDWALL) & ~__GFP_DIRECT_RECLAIM
    pfn = get_page_from_freelist(mm, calm, order, ALLOC_WMARK_HIGH | ALLOC_CPUSET, nid)
    if pfn is not None:
        return pfn, False
    too_much = order > PAGE_ALLOC_COSTLY_ORDER or bool(mm.current.flags & PF_DUMPCORE)
    may_fail = gfp & (__GFP_RETRY_MAYFAIL | __GFP_THISNODE)
    if too_much or may_fail or gfp_zone(mm, gfp) < mm.boot.config.zone_normal:
        return None, False
    if out_of_memory(mm, gfp, order, nid) or gfp & __GFP_NOFAIL:
        if gfp & __GFP_NOFAIL:
            pfn = get_page_from_freelist(mm, gfp, order, ALLOC_NO_WATERMARKS | ALLOC_CPUSET, nid)
        return pfn, True
    return None, False


@invented("C would loop for ever, while other tasks run and free pages")
def must_wait(mm: Mm, gfp: int, order: int, why: str) -> MustWait:
    """The error for a request that must not fail, and can't be met."""
    return MustWait(
        f"{why}, and this request may not fail: Linux tries again until another task frees pages",
        where=f"alloc_pages(gfp={gfp:#x} ({gfp_text(gfp)}), order={order})",
        remedy="free pages first, or ask without __GFP_NOFAIL",
    )


@invented("the part of __alloc_pages_slowpath from its label `retry` on", traced=False)
def retry_until_hopeless(
    mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int, attempts: CompactAttempts
) -> int | None:
    """Reserves, direct reclaim, compaction, the OOM killer, and again; None where the request has to fail."""
    no_progress_loops, free_at_last_kill, kills_in_vain = 0, -1, 0
    while True:
        if alloc_flags & ALLOC_KSWAPD:
            wake_all_kswapds(mm, gfp, order, nid)
        reserve_flags = gfp_pfmemalloc_flags(mm.current, gfp)
        if reserve_flags:
            alloc_flags = reserve_flags | alloc_flags & ALLOC_KSWAPD
        pfn = get_page_from_freelist(mm, gfp, order, alloc_flags, nid)
        if pfn is not None or not gfp & __GFP_DIRECT_RECLAIM or mm.current.flags & PF_MEMALLOC:
            return pfn
        pfn, progress = alloc_pages_direct_reclaim(mm, gfp, order, alloc_flags, nid)
        if pfn is None and order:
            priority = attempts.priority
            pfn, attempts.result = alloc_pages_direct_compact(mm, gfp, order, alloc_flags, nid, priority)
        if pfn is not None or gfp & __GFP_NORETRY:
            return pfn
        costly = order > PAGE_ALLOC_COSTLY_ORDER
        if costly and not (gfp & __GFP_RETRY_MAYFAIL and gfp_compaction_allowed(gfp)):
            return None
        no_progress_loops = 0 if progress and not costly else no_progress_loops + 1
        if should_reclaim_retry(mm, gfp, order, alloc_flags, nid, no_progress_loops):
            continue
        if progress and order and gfp_compaction_allowed(gfp):
            reclaim_may_help = compaction_zonelist_suitable(mm, gfp, order, alloc_flags, nid)
            if should_compact_retry(order, attempts, reclaim_may_help):
                continue
        pfn, progress = alloc_pages_may_oom(mm, gfp, order, nid)
        if pfn is not None or not progress:
            return pfn
        if mm.current.oom_victim and (alloc_flags & ALLOC_OOM or gfp & __GFP_NOMEMALLOC):
            return None
        free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.populated_zones())
        kills_in_vain = kills_in_vain + 1 if free == free_at_last_kill else 0
        if kills_in_vain == MOST_KILLS_IN_VAIN:
            raise must_wait(mm, gfp, order, "nothing can be freed")
        no_progress_loops, free_at_last_kill = 0, free


@invented("the first attempt to compact in __alloc_pages_slowpath", traced=False)
def compact_first(
    mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int, attempts: CompactAttempts
) -> tuple[int | None, bool]:
    """Compact before reclaim: pages are often free, only not in a row. And what can't move later had better get a block
    where others were moved away than one of a movable pageblock. A block, and whether the request fails at once."""
    costly = order > PAGE_ALLOC_COSTLY_ORDER
    allowed = gfp & __GFP_DIRECT_RECLAIM and gfp_compaction_allowed(gfp)
    if not allowed or gfp_pfmemalloc_flags(mm.current, gfp):
        return None, False
    if not costly and (order == 0 or gfp_migratetype(mm, gfp) == MIGRATE_MOVABLE):
        return None, False
    pfn, attempts.result = alloc_pages_direct_compact(mm, gfp, order, alloc_flags, nid, INIT_COMPACT_PRIORITY)
    if pfn is not None or not costly or not gfp & __GFP_NORETRY:
        return pfn, False
    attempts.priority = INIT_COMPACT_PRIORITY
    skipped = attempts.result in (CompactResult.SKIPPED, CompactResult.DEFERRED)
    return None, skipped or bool(gfp & __GFP_THISNODE)


@kernel(
    "mm/page_alloc.c",
    "__alloc_pages_slowpath",
    left_out="cpusets; the warnings for odd requests; further rounds for one that must not fail: here it must wait",
)
def alloc_pages_slowpath(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
    """What is tried when no zone is above its low watermark. Raises `MustWait` for one that may not fail, but must."""
    if gfp & __GFP_DIRECT_RECLAIM:
        gfp &= ~__GFP_ATOMIC  # who can wait has no right to the reserves of those who can't
    alloc_flags = gfp_to_alloc_flags(gfp, order)
    # Where no zone may serve the request, nobody could free anything for it.
    hopeless = first_zones_zonelist(mm, node_zonelist(mm, nid, gfp), gfp_zone(mm, gfp)) is None
    if alloc_flags & ALLOC_KSWAPD and not hopeless:
        wake_all_kswapds(mm, gfp, order, nid)
    pfn, attempts = get_page_from_freelist(mm, gfp, order, alloc_flags, nid), CompactAttempts()
    if pfn is None and not hopeless:
        pfn, hopeless = compact_first(mm, gfp, order, alloc_flags, nid, attempts)
    if pfn is None and not hopeless:
        pfn = retry_until_hopeless(mm, gfp, order, alloc_flags, nid, attempts)
    if pfn is None and gfp & __GFP_NOFAIL and gfp & __GFP_DIRECT_RECLAIM:
        pfn = get_page_from_freelist(mm, gfp, order, ALLOC_MIN_RESERVE | ALLOC_CPUSET, nid)
        if pfn is None:
            raise must_wait(mm, gfp, order, "no block is large enough")
    if pfn is None:
        warn_alloc(mm, gfp, f"page allocation failure: order:{order}")
    return pfn
