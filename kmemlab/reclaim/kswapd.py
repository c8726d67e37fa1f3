"""kswapd: woken when a zone falls below its low watermark, it works until one is above the high one.

asleep ── wakeup_kswapd ─▶ balance_pgdat: priority 12 … 1 ─▶ balanced? ── sleeps lightly, 0.1 s ─▶ still balanced?
  ▲                              ▲                              └── no ─────────┐          │          │
  │                              └──────────────────────────────────────────────┴──── woken ┘── no ───┤
  └─────────────────────────────────────────────────────────────────────────────────────── yes ───────┘
Sixteen runs that free nothing, and it gives up until somebody else frees something.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.mm.compaction_suitable import compact_gap
from kmemlab.mm.context import HZ, PF_KSWAPD, PF_KTHREAD, PF_MEMALLOC, set_task_comm, task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.kcompactd_wake import wakeup_kcompactd
from kmemlab.mm.kswapd_wake import MAX_RECLAIM_RETRIES, pgdat_balanced
from kmemlab.mm.lruvec import LRU_ACTIVE_ANON, LRU_INACTIVE_ANON, LRUVEC_CONGESTED
from kmemlab.mm.node import PglistData
from kmemlab.mm.pageblock_skip import reset_isolation_suitable
from kmemlab.mm.vm_event import KSWAPD_HIGH_WMARK_HIT_QUICKLY, KSWAPD_LOW_WMARK_HIT_QUICKLY, PAGEOUTRUN
from kmemlab.mm.wait import DAEMONS
from kmemlab.mm.watermark import SWAP_CLUSTER_MAX
from kmemlab.mm.zone import WMARK_HIGH, ZONE_RECLAIM_ACTIVE, Zone
from kmemlab.mm.zone_watermark_ok import wmark_pages
from kmemlab.reclaim.scan_control import DEF_PRIORITY, PGDAT_DIRTY, PGDAT_WRITEBACK, ScanControl, can_age_anon_pages
from kmemlab.reclaim.scan_count import inactive_is_low, snapshot_refaults
from kmemlab.reclaim.shrink_list import shrink_active_list
from kmemlab.reclaim.shrink_node import shrink_node
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.zone_type import MAX_NR_ZONES


@invented("for_each_managed_zone_pgdat of later kernels", traced=False)
def managed_zones(pgdat: PglistData, highest_zoneidx: int) -> list[Zone]:
    """The node's zones up to an index that have pages."""
    return [zone for zone in pgdat.node_zones[: highest_zoneidx + 1] if zone.managed_pages]


@kernel("mm/vmscan.c", "kswapd_age_node", formerly=("age_active_anon",))
def kswapd_age_node(mm: Mm, pgdat: PglistData, sc: ScanControl) -> None:
    """Make some anonymous pages inactive if few are, so that their use shows before they would have to go."""
    if can_age_anon_pages(mm) and inactive_is_low(pgdat, LRU_INACTIVE_ANON):
        shrink_active_list(mm, pgdat, SWAP_CLUSTER_MAX, LRU_ACTIVE_ANON, sc)


@kernel("mm/vmscan.c", "kswapd_shrink_node", formerly=("kswapd_shrink_zone",))
def kswapd_shrink_node(mm: Mm, pgdat: PglistData, sc: ScanControl) -> bool:
    """Free as much as the high watermarks amount to; whether so much was scanned. Then order 0 is good enough, too."""
    zones = managed_zones(pgdat, sc.reclaim_idx)
    sc.nr_to_reclaim = sum(max(wmark_pages(zone, WMARK_HIGH), SWAP_CLUSTER_MAX) for zone in zones)
    shrink_node(mm, pgdat, sc)
    if sc.order and sc.nr_reclaimed >= compact_gap(sc.order):
        sc.order = 0
    return sc.nr_scanned >= sc.nr_to_reclaim


@kernel("mm/vmscan.c", "balance_pgdat", left_out="waking those who wait; HighMem's buffer heads")
def balance_pgdat(mm: Mm, pgdat: PglistData, order: int, highest_zoneidx: int) -> int:
    """Free pages until a zone up to an index is above its high watermark, or no priority is left; returns the order.

    That is 0 if so much was freed that blocks should have come of it. Boosts that it finds are worked off and removed.
    """
    mm.vm_event[PAGEOUTRUN] += 1
    zones = managed_zones(pgdat, highest_zoneidx)
    boosts = [zone.watermark_boost for zone in zones]
    for zone in zones:
        zone.flags |= ZONE_RECLAIM_ACTIVE
    sc = ScanControl(GFP_KERNEL, order, highest_zoneidx)
    if not balance_by_priority(mm, pgdat, sc, sum(boosts)) and not sc.nr_reclaimed:
        pgdat.kswapd_failures += 1
    for zone, boost in zip(zones, boosts, strict=True):
        zone.flags &= ~ZONE_RECLAIM_ACTIVE
        zone.watermark_boost -= min(zone.watermark_boost, boost)
    if any(boosts):
        wakeup_kcompactd(mm, pgdat, mm.page.pageblock_order, highest_zoneidx)
    snapshot_refaults(pgdat)
    return sc.order


@invented("the loop of balance_pgdat", traced=False)
def balance_by_priority(mm: Mm, pgdat: PglistData, sc: ScanControl, nr_boost_reclaim: int) -> bool:
    """Raise the pressure step by step; True once the node is balanced. A boost alone is worked off gently."""
    while sc.priority >= 1:
        balanced = pgdat_balanced(pgdat, sc.order, sc.reclaim_idx)
        if not balanced and nr_boost_reclaim:
            nr_boost_reclaim, sc.priority = 0, DEF_PRIORITY
        if balanced and not nr_boost_reclaim:
            return True
        raise_priority = not (nr_boost_reclaim and sc.priority == DEF_PRIORITY - 2)
        sc.may_writepage = not nr_boost_reclaim or sc.priority < DEF_PRIORITY - 2
        sc.may_swap = not nr_boost_reclaim
        kswapd_age_node(mm, pgdat, sc)
        sc.nr_scanned = 0
        before = sc.nr_reclaimed
        if kswapd_shrink_node(mm, pgdat, sc):
            raise_priority = False
        freed = sc.nr_reclaimed - before
        nr_boost_reclaim -= min(nr_boost_reclaim, freed)
        if nr_boost_reclaim and not freed:
            break
        if raise_priority or not freed:
            sc.priority -= 1
    return False


@kernel("mm/vmscan.c", "prepare_kswapd_sleep", left_out="waking those who wait")
def prepare_kswapd_sleep(pgdat: PglistData, order: int, highest_zoneidx: int) -> bool:
    """Whether kswapd may sleep: the node is balanced, or hopeless."""
    if pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES:
        return True
    if not pgdat_balanced(pgdat, order, highest_zoneidx):
        return False
    pgdat.flags &= ~(PGDAT_DIRTY | PGDAT_WRITEBACK)
    pgdat.lruvec.flags &= ~LRUVEC_CONGESTED
    return True


@kernel("mm/vmscan.c", "kswapd_try_to_sleep", left_out="coarser statistics while asleep")
def kswapd_try_to_sleep(mm: Mm, pgdat: PglistData, alloc_order: int) -> bool:
    """After a run: sleep lightly if that is allowed; whether kswapd sleeps. Pages are free now, but a block of order
    `alloc_order` may have to be made of them: that is kcompactd's work."""
    if not prepare_kswapd_sleep(pgdat, pgdat.kswapd_reclaim_order, pgdat.kswapd_prev_zoneidx):
        mm.vm_event[KSWAPD_HIGH_WMARK_HIT_QUICKLY] += 1
        return False
    reset_isolation_suitable(pgdat)
    wakeup_kcompactd(mm, pgdat, alloc_order, pgdat.kswapd_prev_zoneidx)
    pgdat.kswapd_awake = 0
    pgdat.kswapd_sleep_until = mm.current.jiffies + HZ // 10
    return True


@invented("the second half of kswapd_try_to_sleep: what a light sleep ends with", traced=False)
def light_sleep_is_over(mm: Mm, pgdat: PglistData) -> bool:
    """Whether kswapd must run now: it was woken early, or the node is out of balance again. Else it sleeps on."""
    if pgdat.kswapd_awake:
        pgdat.kswapd_sleep_until = 0
        if pgdat.kswapd_highest_zoneidx == MAX_NR_ZONES:
            pgdat.kswapd_highest_zoneidx = pgdat.kswapd_prev_zoneidx
        pgdat.kswapd_order = max(pgdat.kswapd_order, pgdat.kswapd_reclaim_order)
        mm.vm_event[KSWAPD_LOW_WMARK_HIT_QUICKLY] += 1
        return True
    if mm.current.jiffies < pgdat.kswapd_sleep_until:
        return False
    pgdat.kswapd_sleep_until = 0
    if prepare_kswapd_sleep(pgdat, pgdat.kswapd_reclaim_order, pgdat.kswapd_prev_zoneidx):
        return False
    mm.vm_event[KSWAPD_HIGH_WMARK_HIT_QUICKLY] += 1
    return True


@invented("switching to another task and back", traced=False)
@contextmanager
def running_as(mm: Mm, name: str, flags: int) -> Iterator[None]:
    """While this lasts, a daemon runs in place of the task that waits."""
    current = mm.current
    before = (current.flags, current.pid, task_comm(current), current.preempt_count, current.irqs_disabled)
    current.flags, current.pid, current.preempt_count, current.irqs_disabled = flags, 0, 0, 0
    set_task_comm(current, name)
    try:
        yield
    finally:
        current.flags, current.pid, _, current.preempt_count, current.irqs_disabled = before
        set_task_comm(current, before[2])


@kernel("mm/vmscan.c", "kswapd", left_out="the thread: each jiffy its loop is gone through at most once")
def kswapd(mm: Mm, pgdat: PglistData) -> None:
    """What the node's daemon does this jiffy: sleep on, or balance the node for what it was asked."""
    if pgdat.kswapd_sleep_until:
        if not light_sleep_is_over(mm, pgdat):
            return
    elif not pgdat.kswapd_awake:
        return
    pgdat.kswapd_awake = 1
    order, asked = pgdat.kswapd_order, pgdat.kswapd_highest_zoneidx
    highest_zoneidx = pgdat.kswapd_prev_zoneidx if asked == MAX_NR_ZONES else asked
    pgdat.kswapd_order, pgdat.kswapd_highest_zoneidx = 0, MAX_NR_ZONES
    pgdat.kswapd_prev_zoneidx = highest_zoneidx
    with running_as(mm, f"kswapd{pgdat.node_id}", PF_MEMALLOC | PF_KSWAPD | PF_KTHREAD):
        reclaim_order = balance_pgdat(mm, pgdat, order, highest_zoneidx)
    alloc_order = order
    if reclaim_order >= order:  # else the block was not to be had: sleep as if fewer pages had been asked for
        alloc_order = reclaim_order = pgdat.kswapd_order
        if pgdat.kswapd_highest_zoneidx != MAX_NR_ZONES:
            pgdat.kswapd_prev_zoneidx = pgdat.kswapd_highest_zoneidx
    pgdat.kswapd_reclaim_order = reclaim_order
    kswapd_try_to_sleep(mm, pgdat, alloc_order)


@invented("each node has a thread of its own", traced=False)
def all_kswapds(mm: Mm) -> None:
    """Each node's daemon has its turn."""
    for pgdat in mm.node_data:
        kswapd(mm, pgdat)


DAEMONS["kswapd"] = all_kswapds
