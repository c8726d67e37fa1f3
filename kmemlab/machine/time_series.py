"""A time series of one machine: what /proc would have said, moment by moment.

step   0        16       32       …
       │        │        │
       free pages of each zone and its three marks, and every counter of /proc/vmstat
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kmemlab.machine.kernel import Kernel
from kmemlab.machine.procfs_lists import vmstat
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_LOW, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import wmark_pages
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest

FREE, TIME = "free", "jiffies"
GROUPS = {
    "pgscan": ("pgscan_kswapd", "pgscan_direct"),
    "pgsteal": ("pgsteal_kswapd", "pgsteal_direct"),
    "refault": ("workingset_refault_anon", "workingset_refault_file"),
    "swapped": ("pswpin", "pswpout"),
}
"""Columns that are sums of counters."""
COLUMNS = (TIME, FREE, "pgscan", "pgsteal", "refault", "pgfault", "swapped", "oom_kill")


@invented("a few lines of /proc/zoneinfo")
@dataclass(frozen=True, slots=True)
class ZoneMoment:
    """One zone at one moment; all numbers are pages."""

    name: str
    free: int
    min: int
    low: int
    high: int


@invented("what a tool reads at one time")
@dataclass(frozen=True, slots=True)
class Moment:
    """One machine at one moment: `step` of the work, `jiffies` since boot, each zone, each counter."""

    step: int
    jiffies: int
    zones: tuple[ZoneMoment, ...]
    counters: Mapping[str, int]

    def __getitem__(self, column: str) -> int:
        """A number by its column: jiffies, free, a counter of /proc/vmstat, or a sum of `GROUPS`.

        Raises `BadRequest` for a column that there is not.
        """
        if column == FREE:
            return sum(zone.free for zone in self.zones)
        if column == TIME:
            return self.jiffies
        names = GROUPS.get(column, (column,))
        if missing := [name for name in names if name not in self.counters]:
            raise BadRequest(
                f"no counter is called {missing[0]!r}",
                where="a time series",
                remedy=f"choose {TIME}, {FREE}, {', '.join(GROUPS)}, or a name that /proc/vmstat prints",
            )
        return sum(self.counters[name] for name in names)


@invented("a few lines of /proc/zoneinfo, read at once", traced=False)
def zone_moment(zone: Zone) -> ZoneMoment:
    """A zone's free pages and its marks now."""
    marks = (wmark_pages(zone, mark) for mark in (WMARK_MIN, WMARK_LOW, WMARK_HIGH))
    return ZoneMoment(zone.name, zone.vm_stat[NR_FREE_PAGES], *marks)


@invented("what a tool sees that reads /proc/zoneinfo and /proc/vmstat again and again", traced=False)
def moment(kernel: Kernel, step: int) -> Moment:
    """The machine now. Nothing is changed by looking."""
    mm = kernel.mm
    zones = tuple(map(zone_moment, mm.populated_zones()))
    counters = {name: int(value) for name, value in map(str.split, vmstat(kernel).splitlines())}
    return Moment(step, mm.current.jiffies, zones, counters)


@invented("what a tool that goes on reading has at its end")
@dataclass
class TimeSeries:
    """Moments in the order of time, and what happened between them (`events`: step and sentence)."""

    title: str
    moments: list[Moment] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.moments)

    def level(self, column: str) -> list[int]:
        """The numbers of a column, one a moment."""
        return [moment[column] for moment in self.moments]

    def rate(self, column: str) -> list[int]:
        """By how much a counter grew since the moment before; 0 for the first moment.

        >>> series = TimeSeries("two moments", [Moment(n, n, (), {"pgfault": 5 * n}) for n in (1, 3)])
        >>> series.rate("pgfault")
        [0, 10]
        """
        levels = self.level(column)
        return [0] + [now - before for before, now in itertools.pairwise(levels)]

    def marks(self) -> list[tuple[int, int, int]]:
        """The three watermarks, min, low and high, summed over the zones, one triple a moment."""
        return [
            (sum(z.min for z in now.zones), sum(z.low for z in now.zones), sum(z.high for z in now.zones))
            for now in self.moments
        ]

    def rows(self, columns: Sequence[str] = COLUMNS) -> Iterator[tuple[int, ...]]:
        """Step and numbers of each moment: time and free pages as they are, counters as what they grew by."""
        numbers = [self.level(name) if name in (FREE, TIME) else self.rate(name) for name in columns]
        for at, now in enumerate(self.moments):
            yield (now.step, *(column[at] for column in numbers))

    def table(self, columns: Sequence[str] = COLUMNS, rows: int = 20) -> str:
        """The series as text, at most about `rows` lines: each line tells what happened since the one before."""
        few = self.thinned(rows)
        heads = ("step", *columns)
        widths = [max(len(head), 8) for head in heads]
        lines = ["  ".join(head.rjust(width) for head, width in zip(heads, widths, strict=True))]
        for row in few.rows(columns):
            lines.append("  ".join(str(number).rjust(width) for number, width in zip(row, widths, strict=True)))
        return "\n".join([self.title, *lines, *(f"step {step}: {said}" for step, said in self.events)])

    def csv(self, columns: Sequence[str] = COLUMNS) -> str:
        """The series as comma-separated values."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("step", *columns))
        writer.writerows(self.rows(columns))
        return out.getvalue()

    def thinned(self, count: int) -> TimeSeries:
        """The same with at most `count` moments, the first and the last among them."""
        last = len(self.moments) - 1
        if last < count or count < 2:
            return self
        kept: Iterable[int] = sorted({round(at * last / (count - 1)) for at in range(count)})
        return TimeSeries(self.title, [self.moments[at] for at in kept], self.events)

    def __repr__(self) -> str:
        return self.table()
