"""Free pages as Linux's watermark tests see them: a CPU adds its changes up before the zone's counter hears of them.

threshold 2     change   +1   +1   +1   +1   +1
                CPU's    +1   +2    0   +1   +2      more than the threshold: all of it goes to the zone
                zone's    0    0   +3   +3   +3

A zone of few pages is full or empty by such small numbers. The model counts at once; here a replay shows its watermark
tests the number that Linux's would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.mm.zone_watermark_ok import zone_watermark_fast, zone_watermark_ok
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch


@invented("what a CPU keeps to itself", traced=False)
def kept_back(kept: int, change: int, threshold: int) -> int:
    """What a CPU has not added up yet after a change that came page by page.

    >>> [kept_back(0, change, 2) for change in range(7)], kept_back(2, -5, 2)
    ([0, 1, 2, 0, 1, 2, 0], 0)
    """
    kept += change
    if abs(kept) <= threshold:
        return kept
    rest = abs(kept) % (threshold + 1)
    return rest if kept > 0 else -rest


@invented("vm_stat_diff of per_cpu_zonestats, as far as free pages go")
class LaggingCounters:
    """What has not reached each zone's counter, worked out when somebody looks at it."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self.seen: dict[int, int] = {}

    def seen_free(self, zone: Zone) -> int:
        """The free pages that the zone's counter tells."""
        free, slot = zone.vm_stat[NR_FREE_PAGES], zone.slot
        change = free - self.seen.get(slot, free)
        self.seen[slot] = free
        self.kept[slot] = kept_back(self.kept.get(slot, 0), change, zone.stat_threshold)
        return free - self.kept[slot]

    @contextmanager
    def shown(self, zone: Zone) -> Iterator[None]:
        """While this lasts, the zone's counter tells what Linux's would."""
        free = zone.vm_stat[NR_FREE_PAGES]
        zone.vm_stat[NR_FREE_PAGES] = self.seen_free(zone)
        try:
            yield
        finally:
            zone.vm_stat[NR_FREE_PAGES] = free

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While this lasts, watermarks are tested so."""

        def fast(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, gfp: int) -> bool:
            with self.shown(zone):
                return bool(test_fast(zone, order, mark, highest_zoneidx, alloc_flags, gfp))

        def ok(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int) -> bool:
            with self.shown(zone):
                return bool(test_ok(zone, order, mark, highest_zoneidx, alloc_flags))

        with livepatch(zone_watermark_fast, fast), livepatch(zone_watermark_ok, ok):
            test_fast = zone_watermark_fast.original  # type: ignore[attr-defined]
            test_ok = zone_watermark_ok.original  # type: ignore[attr-defined]
            yield
