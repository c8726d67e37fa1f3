"""Who frees pages must wait at times: for the disk, for others, or for kswapd. How often, and how long, is counted.

VMSCAN_THROTTLE_WRITEBACK    0.1 s    kswapd: all that it meets is being written, and was asked for already
VMSCAN_THROTTLE_ISOLATED    20 ms     too many pages are in the hands of others who free
VMSCAN_THROTTLE_NOPROGRESS   4 ms     nothing could be freed at the highest pressure but one
VMSCAN_THROTTLE_CONGESTED    4 ms     all dirty pages wait for the disk already
pfmemalloc_wait           up to 1 s   half of what lies below the min watermarks is used up: kswapd needs the rest
"""

from __future__ import annotations

from enum import IntEnum

from kmemlab.mm.context import HZ, PF_KTHREAD
from kmemlab.mm.globals import NR_RECLAIM_WAITS, Mm
from kmemlab.mm.kswapd_wake import MAX_RECLAIM_RETRIES
from kmemlab.mm.node import PglistData
from kmemlab.mm.vmstat import NR_THROTTLED_WRITTEN, NR_ZONE_WRITE_PENDING
from kmemlab.mm.wait import io_schedule
from kmemlab.mm.watermark import SWAP_CLUSTER_MAX
from kmemlab.reclaim.scan_control import ScanControl, current_is_kswapd, zone_reclaimable_pages
from kmemlab.sim.kernel import invented, kernel


@kernel("include/linux/mmzone.h", "enum vmscan_throttle_state")
class Throttle(IntEnum):
    """Why somebody waits; the last is a queue of its own in C."""

    WRITEBACK = 0
    ISOLATED = 1
    NOPROGRESS = 2
    CONGESTED = 3
    PFMEMALLOC = 4


TIMEOUTS = {Throttle.WRITEBACK: HZ // 10, Throttle.ISOLATED: HZ // 50, Throttle.NOPROGRESS: 1, Throttle.CONGESTED: 1}
"""How long each waits, in jiffies."""


@kernel("mm/vmscan.c", "skip_throttle_noprogress", traced=False)
def skip_throttle_noprogress(mm: Mm, pgdat: PglistData) -> bool:
    """Whether waiting a little would be in vain: kswapd has given up, or most pages do not wait for the disk."""
    if pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES:
        return True
    zones = [zone for zone in pgdat.node_zones if zone.managed_pages]
    write_pending = sum(zone.vm_stat[NR_ZONE_WRITE_PENDING] for zone in zones)
    return 2 * write_pending <= sum(zone_reclaimable_pages(mm, zone) for zone in zones)


@kernel("mm/vmscan.c", "reclaim_throttle", left_out="being woken by others who made progress")
def reclaim_throttle(mm: Mm, pgdat: PglistData, reason: int) -> None:
    """Whoever frees pages waits some jiffies for the disk, or for others; kernel threads but kswapd don't."""
    if mm.current.flags & PF_KTHREAD and not current_is_kswapd(mm):
        return
    if reason in (Throttle.NOPROGRESS, Throttle.CONGESTED) and skip_throttle_noprogress(mm, pgdat):
        return
    start = mm.current.jiffies
    if reason == Throttle.WRITEBACK:
        if not pgdat.nr_writeback_throttled:
            pgdat.nr_reclaim_start = pgdat.vm_stat[NR_THROTTLED_WRITTEN]
        pgdat.nr_writeback_throttled += 1
    while mm.current.jiffies < start + TIMEOUTS[Throttle(reason)] and not enough_written(pgdat):
        io_schedule(mm)
    if reason == Throttle.WRITEBACK:
        pgdat.nr_writeback_throttled -= 1
    note_wait(mm, reason, mm.current.jiffies - start)


@kernel("mm/vmscan.c", "__acct_reclaim_writeback", left_out="the counter: whoever ends a write keeps it", traced=False)
def enough_written(pgdat: PglistData) -> bool:
    """Whether the disk has written 32 pages for each who waits for it, so that they need not wait any longer."""
    written = pgdat.vm_stat[NR_THROTTLED_WRITTEN] - pgdat.nr_reclaim_start
    return bool(pgdat.nr_writeback_throttled) and written > SWAP_CLUSTER_MAX * pgdat.nr_writeback_throttled


@kernel("mm/vmscan.c", "consider_reclaim_throttle", left_out="waking those who wait already")
def consider_reclaim_throttle(mm: Mm, pgdat: PglistData, sc: ScanControl) -> None:
    """A task that could free nothing at the highest pressure but one waits a little."""
    if sc.priority == 1 and not sc.nr_reclaimed and not current_is_kswapd(mm):
        reclaim_throttle(mm, pgdat, Throttle.NOPROGRESS)


@invented("C prints an event: mm_vmscan_throttled", traced=False)
def note_wait(mm: Mm, reason: int, jiffies: int) -> None:
    """Count a wait, and how long it was."""
    mm.reclaim_waits[reason] += 1
    mm.reclaim_waits[NR_RECLAIM_WAITS + reason] += jiffies


@invented("what a reader of the events would add up", traced=False)
def reclaim_waits(mm: Mm) -> dict[str, tuple[int, int]]:
    """By reason, how often somebody who freed pages had to wait until now, and for how many jiffies together."""
    counted = mm.reclaim_waits
    return {reason.name: (counted[reason], counted[NR_RECLAIM_WAITS + reason]) for reason in Throttle}
