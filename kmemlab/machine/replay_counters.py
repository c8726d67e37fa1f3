"""Free pages as Linux's watermark tests see them: each CPU keeps its last few changes to itself.

threshold 2     change          -3    +1    +1    -1    -2    -1
                the CPU's own    0    +1    +2    +1    -1    -2     once beyond the threshold, all goes to the zone
                the zone's      -3    -3    -3    -3    -3    -3

Once a second each CPU adds up the rest. A small zone is full or empty by such numbers. The model counts at once; a
replay keeps what the CPUs would have kept, change by change, and shows its watermark tests the zone's counter alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.alloc.freelist import rmqueue_buddy
from kmemlab.mm.buddy import FPI_NONE, free_one_page
from kmemlab.mm.globals import Mm
from kmemlab.mm.pcp import rmqueue_bulk
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.mm.zone_watermark_ok import zone_watermark_fast, zone_watermark_ok
from kmemlab.sim.hook import Function, hook_of
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch

STAT_INTERVAL = 1.0  # sysctl_stat_interval, in seconds


@invented("a part of __mod_zone_page_state", traced=False)
def kept_back(kept: int, change: int, threshold: int) -> int:
    """What a CPU keeps to itself after one more change.

    >>> [kept_back(1, change, 2) for change in (-4, -3, 1, 2)]
    [0, -2, 2, 0]
    """
    kept += change
    return 0 if abs(kept) > threshold else kept


@invented("somebody else's patch stays in force below ours", traced=False)
def in_force_now(function: Function) -> Function:
    """What a call of a kernel function runs: the last patch, or the function as it came."""
    replacements = hook_of(function).replacements
    return replacements[-1] if replacements else lambda *args: function.original(*args)  # type: ignore[attr-defined]


@invented("vm_stat_diff of per_cpu_zonestats, as far as free pages go")
class FreePageCounts:
    """What each CPU has not added up yet, by zone."""

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.kept: dict[int, Counter[int]] = {zone.slot: Counter() for zone in mm.populated_zones()}
        self.second: dict[int, int] = {}

    def change(self, zone: Zone, pages: int) -> None:
        """Free pages came or went, all at once."""
        cpu, kept = self.mm.current.cpu, self.kept[zone.slot]
        kept[cpu] = kept_back(kept[cpu], pages, zone.stat_threshold)

    def passes(self, cpu: int, time: float) -> None:
        """A CPU has an event at `time`, in seconds. With each full one it adds up: vmstat_update's timer is rounded."""
        second = int(time / STAT_INTERVAL)
        if self.second.setdefault(cpu, second) != second:
            self.second[cpu] = second
            for kept in self.kept.values():
                kept[cpu] = 0

    @contextmanager
    def shown(self, zone: Zone) -> Iterator[None]:
        """While this lasts, the zone's counter tells what Linux's would."""
        free = zone.vm_stat[NR_FREE_PAGES]
        zone.vm_stat[NR_FREE_PAGES] = free - self.kept[zone.slot].total()
        try:
            yield
        finally:
            zone.vm_stat[NR_FREE_PAGES] = free

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While this lasts, every change is noted, and watermarks are tested as Linux would."""
        run_fast, run_ok = in_force_now(zone_watermark_fast), in_force_now(zone_watermark_ok)
        run_bulk, run_buddy = in_force_now(rmqueue_bulk), in_force_now(rmqueue_buddy)
        run_freed = in_force_now(free_one_page)

        def fast(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, gfp: int) -> bool:
            with self.shown(zone):
                return bool(run_fast(zone, order, mark, highest_zoneidx, alloc_flags, gfp))

        def ok(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int) -> bool:
            with self.shown(zone):
                return bool(run_ok(zone, order, mark, highest_zoneidx, alloc_flags))

        def bulk(mm: Mm, zone: Zone, order: int, count: int, head: int, migratetype: int, alloc_flags: int) -> int:
            moved: int = run_bulk(mm, zone, order, count, head, migratetype, alloc_flags)
            self.change(zone, -(moved << order))
            return moved

        def buddy(mm: Mm, zone: Zone, order: int, alloc_flags: int, migratetype: int) -> int | None:
            pfn: int | None = run_buddy(mm, zone, order, alloc_flags, migratetype)
            if pfn is not None:
                self.change(zone, -(1 << order))
            return pfn

        def freed(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = FPI_NONE) -> None:
            if zone.page is self.mm.page:  # not Linux's own lists, which are followed beside
                self.change(zone, 1 << order)
            run_freed(zone, pfn, order, migratetype, fpi_flags)

        with (
            livepatch(zone_watermark_fast, fast),
            livepatch(zone_watermark_ok, ok),
            livepatch(rmqueue_bulk, bulk),
            livepatch(rmqueue_buddy, buddy),
            livepatch(free_one_page, freed),
        ):
            yield
