"""One node: its lists in batches of 32, in the proportion that get_scan_count says, and its caches of objects.

shrink_node ─▶ prepare_scan_count ─▶ shrink_lruvec ─▶ shrink_slab ─▶ must somebody wait? ─▶ again, for a large block?
"""

from __future__ import annotations

from kmemlab.mm.compaction_suitable import CompactResult, compact_gap, compaction_suitable, gfp_compaction_allowed
from kmemlab.mm.globals import Mm
from kmemlab.mm.lruvec import (
    EVICTABLE_LRUS,
    LRU_ACTIVE,
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    LRUVEC_CONGESTED,
)
from kmemlab.mm.node import PglistData
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.watermark import SWAP_CLUSTER_MAX
from kmemlab.reclaim.scan_control import (
    DEF_PRIORITY,
    PGDAT_DIRTY,
    PGDAT_WRITEBACK,
    ReclaimStat,
    ScanControl,
    can_age_anon_pages,
    can_reclaim_anon_pages,
    current_is_kswapd,
)
from kmemlab.reclaim.scan_count import get_scan_count, inactive_is_low, prepare_scan_count
from kmemlab.reclaim.shrink_list import shrink_active_list, shrink_inactive_list
from kmemlab.reclaim.shrinker import shrink_slab
from kmemlab.reclaim.throttle import Throttle, reclaim_throttle
from kmemlab.sim.kernel import invented, kernel


@kernel("mm/vmscan.c", "shrink_list", traced=False)
def shrink_list(mm: Mm, pgdat: PglistData, lru: int, nr_to_scan: int, sc: ScanControl) -> int:
    """Scan a batch of a list; returns how many pages were freed. Active lists are left alone unless they may age."""
    if lru & LRU_ACTIVE:
        if sc.may_deactivate & 1 << (lru >= LRU_FILE):
            shrink_active_list(mm, pgdat, nr_to_scan, lru, sc)
        else:
            sc.skipped_deactivate = True
        return 0
    return shrink_inactive_list(mm, pgdat, nr_to_scan, lru, sc)


@kernel("mm/vmscan.c", "shrink_lruvec", formerly=("shrink_node_memcg", "shrink_zone"), left_out="generations")
def shrink_lruvec(mm: Mm, pgdat: PglistData, sc: ScanControl) -> None:
    """Scan all lists in turn, up to 32 pages at a time, until the targets are reached or enough was freed."""
    nr = get_scan_count(mm, pgdat, sc)
    targets = tuple(nr)
    nr_reclaimed = 0
    # A task that frees pages at the lowest pressure does so because kswapd is late: it does its whole share at once.
    proportional_reclaim = not current_is_kswapd(mm) and sc.priority == DEF_PRIORITY
    while nr[LRU_INACTIVE_ANON] or nr[LRU_ACTIVE_FILE] or nr[LRU_INACTIVE_FILE]:
        for lru in EVICTABLE_LRUS:
            if nr[lru]:
                nr_to_scan = min(nr[lru], SWAP_CLUSTER_MAX)
                nr[lru] -= nr_to_scan
                nr_reclaimed += shrink_list(mm, pgdat, lru, nr_to_scan, sc)
        if nr_reclaimed >= sc.nr_to_reclaim and not proportional_reclaim and not scan_on(nr, targets):
            break
    sc.nr_reclaimed += nr_reclaimed
    if can_age_anon_pages(mm) and inactive_is_low(pgdat, LRU_INACTIVE_ANON):
        shrink_active_list(mm, pgdat, SWAP_CLUSTER_MAX, LRU_ACTIVE_ANON, sc)


@invented("the last part of the loop of shrink_lruvec", traced=False)
def scan_on(nr: list[int], targets: tuple[int, ...]) -> bool:
    """Enough was freed: drop the kind of which less is left, and scan of the other as large a part as of this.

    False if one kind is done already, so that nothing is left to be made even.

    >>> nr = [10, 0, 60, 20]
    >>> scan_on(nr, (40, 0, 90, 50)), nr  # 24 % of anon are left, so files end with 24 % left, too
    (True, [0, 0, 38, 8])
    """
    anon, file = nr[0] + nr[1], nr[2] + nr[3]
    if not anon or not file:
        return False
    smaller, left = (LRU_INACTIVE_ANON, anon) if file > anon else (LRU_FILE, file)
    percentage = left * 100 // (targets[smaller] + targets[smaller + LRU_ACTIVE] + 1)
    nr[smaller] = nr[smaller + LRU_ACTIVE] = 0
    other = LRU_FILE - smaller
    for lru in (other, other + LRU_ACTIVE):
        scanned = targets[lru] - nr[lru]
        nr[lru] = max(targets[lru] * (100 - percentage) // 100 - scanned, 0)
    return True


@kernel("mm/vmscan.c", "in_reclaim_compaction", traced=False)
def in_reclaim_compaction(sc: ScanControl) -> bool:
    """Whether pages are freed to make a block of."""
    large = sc.order > 0 and (sc.order > PAGE_ALLOC_COSTLY_ORDER or sc.priority < DEF_PRIORITY - 2)
    return large and gfp_compaction_allowed(sc.gfp_mask)


@kernel("mm/vmscan.c", "should_continue_reclaim")
def should_continue_reclaim(mm: Mm, pgdat: PglistData, nr_reclaimed: int, sc: ScanControl) -> bool:
    """Whether to go on at this priority for a block: something was freed, no zone is ready, and pages are left."""
    if not in_reclaim_compaction(sc) or not nr_reclaimed:
        return False
    for zone in pgdat.node_zones[: sc.reclaim_idx + 1]:
        ready = (CompactResult.SUCCESS, CompactResult.CONTINUE)
        if zone.managed_pages and compaction_suitable(zone, sc.order, sc.reclaim_idx) in ready:
            return False
    inactive = pgdat.vm_stat[LRU_INACTIVE_FILE]
    if can_reclaim_anon_pages(mm):
        inactive += pgdat.vm_stat[LRU_INACTIVE_ANON]
    return inactive > compact_gap(sc.order)


@kernel("mm/vmscan.c", "shrink_node", formerly=("shrink_zone",), left_out="memcg")
def shrink_node(mm: Mm, pgdat: PglistData, sc: ScanControl) -> None:
    """Free pages of a node at the priority that is set, and once more as long as that serves a large block."""
    reclaimable = False
    while True:
        sc.nr = ReclaimStat()
        before = sc.nr_reclaimed
        prepare_scan_count(mm, pgdat, sc)
        shrink_lruvec(mm, pgdat, sc)
        mm.current.reclaimed_slab = 0
        shrink_slab(mm, sc.gfp_mask, pgdat.node_id, sc.priority)
        sc.nr_reclaimed += mm.current.reclaimed_slab
        reclaimable = reclaimable or sc.nr_reclaimed > before
        judge_dirty(mm, pgdat, sc)
        if not should_continue_reclaim(mm, pgdat, sc.nr_reclaimed - before, sc):
            break
    if reclaimable:
        pgdat.kswapd_failures = 0


@invented("a part of shrink_node", traced=False)
def judge_dirty(mm: Mm, pgdat: PglistData, sc: ScanControl) -> None:
    """kswapd notes on the node that it met nothing but dirty pages, and waits; tasks wait where it has noted so."""
    met = sc.nr
    if current_is_kswapd(mm):
        if met.nr_writeback and met.nr_writeback == met.taken:
            pgdat.flags |= PGDAT_WRITEBACK
        if met.nr_unqueued_dirty == met.file_taken:
            pgdat.flags |= PGDAT_DIRTY
        if met.nr_immediate:
            reclaim_throttle(mm, pgdat, Throttle.WRITEBACK)
        if met.nr_dirty and met.nr_dirty == met.nr_congested:
            pgdat.lruvec.flags |= LRUVEC_CONGESTED
    elif pgdat.lruvec.flags & LRUVEC_CONGESTED:
        reclaim_throttle(mm, pgdat, Throttle.CONGESTED)
