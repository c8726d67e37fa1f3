"""The direct map as a picture: which RAM is mapped by pages of which size, from the lowest address to the highest.

0x0         │ 4K   512 │  2 MiB
0x200000    │ 2M    62 │  124 MiB
0x7fc0000   └──────────┘
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kmemlab.boot.globals import Boot
from kmemlab.boot.page_tables import ENTRY_NONE, ENTRY_PAGE, ENTRY_TABLE, PUD_SHIFT, PUD_SIZE, DirectMap
from kmemlab.machine.snapshot import Range
from kmemlab.sim.column import Column
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, size_text
from kmemlab.views.colours import INK, KINDS, LINE, PAPER, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.memory_map import stretches
from kmemlab.views.svg import HATCHED, Svg

_SAME = re.compile(rb"(.)\1*", re.DOTALL)
_ADDRESS, _BOX, _TOP = 138, 250, 50
_COLOURS = {"4K": KINDS["ACPI NVS"][1], "2M": KINDS["ACPI data"][1], "4M": KINDS["ACPI data"][1],
            "1G": KINDS["reserved"][1]}  # fmt: skip


class Mapped(NamedTuple):
    """Neighbouring pages of one size: their bytes [start, end), the size of a page, and its short name."""

    start: int
    end: int
    size: int

    @property
    def name(self) -> str:
        """The size as people say it: 4K, 2M, 4M, 1G.

        >>> Mapped(0, 0x200000, 4096).name, Mapped(0, 0x40000000, 1 << 30).name
        ('4K', '1G')
        """
        return size_text(self.size).replace(" KiB", "K").replace(" MiB", "M").replace(" GiB", "G")

    @property
    def pages(self) -> int:
        """How many pages."""
        return (self.end - self.start) // self.size


def mapped_by_size(tables: DirectMap) -> list[Mapped]:
    """What the tables map, as runs of pages of one size, ascending."""
    found: list[Mapped] = []
    for run in sorted([*_leaves(tables.pud, PUD_SHIFT), *_below(tables)]):
        if found and found[-1].end == run.start and found[-1].size == run.size:
            found[-1] = Mapped(found[-1].start, run.end, run.size)
        else:
            found.append(run)
    return found


def _leaves(entries: Column, shift: int, first: int = 0, last: int | None = None) -> Iterator[Mapped]:
    for start, end, kind in _runs(entries, first, len(entries) if last is None else last):
        if kind == ENTRY_PAGE:
            yield Mapped(start << shift, end << shift, 1 << shift)


def _below(tables: DirectMap) -> Iterator[Mapped]:
    """The pages of 2 MiB (or 4 MiB), and those of 4 KiB where a table for them is."""
    for start, end, kind in _runs(tables.pmd, 0, len(tables.pmd)):
        if kind == ENTRY_PAGE:
            yield Mapped(start << tables.pmd_shift, end << tables.pmd_shift, tables.pmd_size)
        elif kind == ENTRY_TABLE:
            scale = tables.pmd_shift - PAGE_SHIFT
            yield from _leaves(tables.pte, PAGE_SHIFT, start << scale, min(end << scale, len(tables.pte)))


def _runs(entries: Column, first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Entries of one kind side by side: (first, behind the last, kind); empty ones are left out."""
    for run in _SAME.finditer(bytes(entries[first:last])):
        if run[1][0] != ENTRY_NONE:
            yield first + run.start(), first + run.end(), run[1][0]


def direct_map_text(runs: list[Mapped]) -> str:
    """One line a run, holes between them told."""
    lines = []
    for at, run in enumerate(runs):
        if at and runs[at - 1].end < run.start:
            lines.append(f"{runs[at - 1].end:#014x}-{run.start - 1:#014x}  not mapped, {hole(runs, at)}")
        count = f"{run.pages} {'page' if run.pages == 1 else 'pages'} of {size_text(run.size)}"
        lines.append(f"{run.start:#014x}-{run.end - 1:#014x}  {count}, {size_text(run.end - run.start)}")
    return "\n".join(lines) or "nothing is mapped"


def hole(runs: list[Mapped], at: int) -> str:
    """The size of the hole below run number `at`."""
    return size_text(runs[at].start - runs[at - 1].end)


def direct_map_svg(runs: list[Mapped], now: tuple[int, int] | None = None, reach: tuple[Range, ...] = ()) -> Svg:
    """Draw the runs; `now` is the range that is being mapped, `reach` what will be, which keeps the scale."""
    ranges = tuple(Range(run.start, run.end - run.start, run.name) for run in runs)
    rows = stretches((*ranges, *reach), _TOP)
    bottom = rows[-1].top + rows[-1].height if rows else _TOP + 30
    alt = "Direct map: " + (direct_map_text(runs).replace("\n", "; ") if runs else "nothing is mapped yet") + "."
    drawing = Svg(_ADDRESS + _BOX + 96, bottom + 34, "The direct map", alt)
    drawing.text(10, 20, "The direct map, by size of page", size=13, bold=True)
    drawing.text(_ADDRESS, 42, "pages", size=10.5, fill=SOFT_INK)
    drawing.text(_ADDRESS + _BOX + 8, 42, "mapped", size=10.5, fill=SOFT_INK)
    edges = {row.start: row.top for row in rows} | {row.end: row.top + row.height for row in rows}
    for row in rows:  # what nobody maps (yet)
        drawing.rect(_ADDRESS, row.top, _BOX, row.height, fill=HATCHED, stroke=LINE, dash=True)
    for run in runs:
        _box(drawing, run, edges[run.start], edges[run.end])
    for address, y in edges.items():
        drawing.text(_ADDRESS - 8, y + 4, f"{address:#014x}", size=11, anchor="end", mono=True)
    if now and now[0] < now[1]:
        inside = [row for row in rows if row.start < now[1] and now[0] < row.end]
        if inside:
            top, end = inside[0].top, inside[-1].top + inside[-1].height
            drawing.rect(_ADDRESS - 3, top, _BOX + 6, end - top, stroke=INK, line=3)
    drawing.text(10, bottom + 24, "hatched: not mapped; heights grow with the logarithm of the size", size=10.5,
                 fill=SOFT_INK)  # fmt: skip
    return drawing


def _box(drawing: Svg, run: Mapped, top: float, end: float) -> None:
    note = f"{run.pages} pages of {size_text(run.size)} from {run.start:#x}"
    drawing.rect(_ADDRESS, top, _BOX, end - top, fill=_COLOURS[run.name], stroke=LINE, note=note)
    middle = (top + end) / 2 + 4
    drawing.rect(_ADDRESS + 8, middle - 13, 32, 17, fill=PAPER, stroke=LINE)
    drawing.text(_ADDRESS + 24, middle - 0.5, run.name, size=11, anchor="middle", bold=True, mono=True)
    # Small pages are drawn as many lines as fit, large ones as one: the finer the pages, the finer the grid.
    step = {PAGE_SIZE: 3, PUD_SIZE: 26}.get(run.size, 9)
    for nth in range(1, min(run.pages, int(96 / step))):
        x = _ADDRESS + _BOX - 104 + nth * step
        drawing.line(x, top + 2, x, end - 2, stroke=LINE, line=0.6)
    drawing.text(_ADDRESS + 50, middle, f"× {run.pages}", size=12, mono=True)
    drawing.text(_ADDRESS + _BOX + 8, middle, size_text(run.end - run.start), size=11, mono=True)


def direct_map_figure(boot: Boot) -> Figure:
    """The direct map of a machine as it is now."""
    runs = mapped_by_size(boot.direct_map)
    return Figure.drawn(direct_map_svg(runs), direct_map_text(runs))
