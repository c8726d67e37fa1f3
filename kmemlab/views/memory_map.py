"""The memory map: who says what about which addresses, from the lowest (above) to the highest.

         what the firmware said          what the kernel made of it
  0x0    ┌──────┐                        ┌──────────────────────┐
         │ 0  U │                        │ U usable     636 KiB │
  0x9f…  │      │┌──────┐               ├──────────────────────┤
         └──────┘│ 1  R │               │ R reserved     4 KiB │
                 └──────┘               └──────────────────────┘

Addresses reach from bytes to terabytes, so a stretch is drawn as high as the logarithm of its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from kmemlab.machine.snapshot import E820Snapshot, Range
from kmemlab.types.units import size_text
from kmemlab.views.colours import HOLE_KIND, INK, LINE, NOW_BAR, SOFT_INK, kind_of
from kmemlab.views.figure import Figure
from kmemlab.views.svg import Svg
from kmemlab.views.text import e820_text

_TOP = 46
_ADDRESS = 138  # width of the column of addresses
_LANE = 46
_RESULT = 250


@dataclass(frozen=True, slots=True)
class Stretch:
    """Addresses between two borders, and where they are drawn."""

    start: int
    end: int
    top: float
    height: float


def stretches(ranges: tuple[Range, ...], top: float = _TOP) -> list[Stretch]:
    """The addresses from the lowest to the highest range, cut at every border.

    >>> [(s.start, s.end) for s in stretches((Range(0, 8, "usable"), Range(4, 8, "reserved")))]
    [(0, 4), (4, 8), (8, 12)]
    """
    borders = sorted({item.start for item in ranges if item.size} | {item.end for item in ranges if item.size})
    found = []
    for start, end in pairwise(borders):
        height = 20 + 1.1 * max(0.0, math.log2(end - start) - 12)
        found.append(Stretch(start, end, top, height))
        top += height
    return found


def with_holes(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """The ranges of a table in order, and the gaps between them as ranges of kind "hole".

    >>> [r.kind for r in with_holes((Range(0, 4, "usable"), Range(8, 4, "usable")))]
    ['usable', 'hole', 'usable']
    """
    filled: list[Range] = []
    for item in sorted((r for r in ranges if r.size), key=lambda r: r.start):
        if filled and item.start > filled[-1].end:
            filled.append(Range(filled[-1].end, item.start - filled[-1].end, HOLE_KIND))
        filled.append(item)
    return tuple(filled)


def lanes(ranges: tuple[Range, ...]) -> list[int]:
    """A lane for each range, such that ranges in one lane don't overlap.

    >>> lanes((Range(0, 8, "usable"), Range(4, 8, "reserved"), Range(12, 4, "usable")))
    [0, 1, 0]
    """
    ends: list[int] = []
    placed = [0] * len(ranges)
    for index in sorted(range(len(ranges)), key=lambda i: (ranges[i].start, i)):
        item = ranges[index]
        lane = next((i for i, end in enumerate(ends) if end <= item.start), len(ends))
        if lane == len(ends):
            ends.append(0)
        ends[lane] = item.end
        placed[index] = lane
    return placed


def memory_map_svg(
    result: E820Snapshot,
    raw: E820Snapshot | None = None,
    *,
    title: str = "Memory map",
    current: int | None = None,
    stop: tuple[int, tuple[int, ...]] | None = None,
) -> Svg:
    """Draw a sanitised table, with the firmware's raw entries as lanes at its left where given.

    `current` is the entry of `result` that the story is about. `stop` is where a sweep over the raw entries
    stands, an address and the entries that are open: a line marks it, and they are outlined.
    """
    drawing = _draw(result.entries, raw.entries if raw else (), title, current, raw is not None)
    if stop is not None and raw is not None:
        _mark_stop(drawing, result.entries + raw.entries, raw.entries, *stop)
    return drawing


def _mark_stop(
    drawing: Svg, ranges: tuple[Range, ...], raw: tuple[Range, ...], stop: int, open_now: tuple[int, ...]
) -> None:
    rows = stretches(ranges)
    where = {row.start: row.top for row in rows} | {row.end: row.top + row.height for row in rows}
    for index in open_now:
        x, item = _ADDRESS + lanes(raw)[index] * _LANE, raw[index]
        drawing.rect(x + 2, where[item.start], _LANE - 6, where[item.end] - where[item.start], stroke=INK, line=3)
    right = _ADDRESS + (max(lanes(raw), default=0) + 1) * _LANE + 10
    drawing.line(_ADDRESS - 128, where[stop] + 7, _ADDRESS - 10, where[stop] + 7, stroke=NOW_BAR, line=2)
    drawing.line(_ADDRESS - 6, where[stop], right, where[stop], stroke=NOW_BAR, line=3)


def unsorted_svg(
    table: E820Snapshot, *, title: str = "e820 table", current: int | None = None, reach: E820Snapshot | None = None
) -> Svg:
    """Draw a table that is not in order yet: each entry a box in a lane, overlaps side by side."""
    return _draw((), table.entries, title, current, True, reach.entries if reach else ())


def _draw(
    result: tuple[Range, ...],
    raw: tuple[Range, ...],
    title: str,
    current: int | None,
    with_raw: bool,
    reach: tuple[Range, ...] = (),
) -> Svg:
    rows = stretches(result + raw + reach)
    lane_of = lanes(raw)
    nr_lanes = max(lane_of, default=0) + 1 if with_raw else 0
    if with_raw and not result and not reach:
        nr_lanes = max(nr_lanes, 1)
    right = _ADDRESS + nr_lanes * _LANE + (18 if with_raw else 0)
    bottom = rows[-1].top + rows[-1].height if rows else _TOP + 20
    drawing = Svg(right + _RESULT + 10, bottom + 30, title, alt_of(result, raw))
    drawing.text(10, 18, title, size=13, bold=True)
    if with_raw:
        drawing.text(_ADDRESS, 38, "in the table" if not result else "firmware", size=11, fill=SOFT_INK)
    if result:
        drawing.text(right, 38, "sanitised" if with_raw else "", size=11, fill=SOFT_INK)
    for row in rows:
        _address(drawing, row.start, row.top, right + (_RESULT if result else 0))
    if rows:
        _address(drawing, rows[-1].end, bottom, right + (_RESULT if result else 0))
    where = {row.start: row.top for row in rows} | {row.end: row.top + row.height for row in rows}
    for index, item in enumerate(raw):
        if item.size:
            x = _ADDRESS + lane_of[index] * _LANE
            now = index == current and not result
            _lane_box(drawing, x, where[item.start], where[item.end], index, item, now)
    for item in with_holes(result):
        now = current is not None and current < len(result) and item == result[current]
        _result_box(drawing, right, where[item.start], where[item.end], item, now)
    drawing.text(10, bottom + 22, "heights grow with the logarithm of the size", size=10.5, fill=SOFT_INK)
    return drawing


def _address(drawing: Svg, address: int, y: float, right: float) -> None:
    drawing.line(_ADDRESS - 6, y, right, y, stroke="#d0d7de")
    drawing.text(_ADDRESS - 10, y + 4, f"{address:#014x}", size=11, anchor="end", mono=True)


def _lane_box(drawing: Svg, x: float, top: float, bottom: float, index: int, item: Range, now: bool) -> None:
    letter, colour = kind_of(item.kind)
    note = f"entry {index}: {item.kind}, {size_text(item.size)}"
    drawing.rect(
        x + 2, top, _LANE - 6, bottom - top, fill=colour, stroke=INK if now else LINE, line=3 if now else 1, note=note
    )
    drawing.text(x + _LANE / 2 - 1, (top + bottom) / 2 + 4, f"{index} {letter}", size=11, anchor="middle", mono=True)


def _result_box(drawing: Svg, x: float, top: float, bottom: float, item: Range, now: bool) -> None:
    middle = (top + bottom) / 2 + 4
    if item.kind == HOLE_KIND:
        drawing.rect(x, top, _RESULT, bottom - top, fill="#ffffff", stroke=LINE, dash=True)
        drawing.text(x + 30, middle, "hole", size=11.5, fill=SOFT_INK)
        drawing.text(x + _RESULT - 10, middle, size_text(item.size), size=11.5, anchor="end", mono=True, fill=SOFT_INK)
        return
    letter, colour = kind_of(item.kind)
    drawing.rect(x, top, _RESULT, bottom - top, fill=colour, stroke=INK if now else LINE, line=3 if now else 1)
    drawing.text(x + 16, middle, letter, size=11, anchor="middle", mono=True, bold=True)
    drawing.text(x + 30, middle, item.kind, size=11.5)
    drawing.text(x + _RESULT - 10, middle, size_text(item.size), size=11.5, anchor="end", mono=True)


def alt_of(result: tuple[Range, ...], raw: tuple[Range, ...] = ()) -> str:
    """The picture in one or two sentences, written from the state."""
    shown = result or raw
    if not shown:
        return "An empty e820 table."
    usable = sum(item.size for item in shown if item.kind == "usable")
    end = max(item.end for item in shown)
    holes = sum(item.kind == HOLE_KIND for item in with_holes(shown)) if result else 0
    said = (
        f"{len(raw)} entries of the firmware, {len(result)} in the sanitised table"
        if raw and result
        else f"{len(shown)} entries"
    )
    gaps = f", {holes} {'hole' if holes == 1 else 'holes'} between them" if result else ""
    return f"{said}{gaps}; {size_text(usable)} usable, the highest address is {max(end - 1, 0):#x}."


def memory_map_figure(result: E820Snapshot, raw: E820Snapshot | None = None, title: str = "Memory map") -> Figure:
    """The memory map with its text: the raw entries if given, then the table with its holes."""
    parts = []
    if raw:
        parts += ["firmware", e820_text(raw), "", "sanitised"]
    parts.append(e820_text(E820Snapshot(with_holes(result.entries))))
    return Figure.drawn(memory_map_svg(result, raw, title=title), "\n".join(parts))
