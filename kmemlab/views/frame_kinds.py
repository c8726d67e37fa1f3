"""The frame map by kind: whose each page frame is, or of which mobility type, as colour, pattern and letter.

The drawing is a grid of dots, 2 pixels each, whatever a frame's size: a pattern repeats after 4 dots and is read as a
texture where many frames of a kind lie together. Where there is room for it, the kind's letter stands on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kmemlab.machine.frame_kinds import FrameKinds
from kmemlab.views.carry import runs_of
from kmemlab.views.colours import INK, LINE, PAPER, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.frame_map import SIDE
from kmemlab.views.png import pixels
from kmemlab.views.svg import Svg

DOT = 2
_DOTS = SIDE // DOT
_LETTER_WIDE, _LETTER_HIGH, _MOST_LETTERS = 20, 14, 400


class Look(NamedTuple):
    """How a kind is drawn: its letter, two colours, and which of 4 by 4 dots are of the second one."""

    letter: str
    base: str
    mark: str
    pattern: tuple[str, str, str, str]


_PLAIN = ("....",) * 4
_ROWS = ("####", "....", "....", "....")
_COLUMNS = ("#...",) * 4
_RISING = ("...#", "..#.", ".#..", "#...")
_FALLING = ("#...", ".#..", "..#.", "...#")
_CHECKED = ("##..", "##..", "..##", "..##")
_DOTTED = ("#...", "....", "..#.", "....")
_GRID = ("####", "#...", "#...", "#...")
_BLANK = "#f6f8fa"

OWNER_LOOKS = (
    Look("", _BLANK, _BLANK, _PLAIN),
    Look("C", "#b3dcf5", "#3c8fc7", _ROWS),
    Look("A", "#9fd8c5", "#2f8f74", _RISING),
    Look("S", "#f3cf85", "#b9790a", _CHECKED),
    Look("T", "#e6c3d6", "#9c4f7d", _COLUMNS),
    Look("K", "#e9a878", "#a0541c", _DOTTED),
    Look("B", "#c9ced6", "#b3bac4", _FALLING),
    Look("", PAPER, "#d0d7de", _DOTTED),
)
_TYPES = (
    ("U", "#fbeadf", "#e9a878", "#a0541c", _RISING),
    ("M", "#e4f5ef", "#9fd8c5", "#2f8f74", _ROWS),
    ("R", "#e8f5fc", "#b3dcf5", "#3c8fc7", _COLUMNS),
    ("H", "#f8eef4", "#e6c3d6", "#9c4f7d", _CHECKED),
    ("I", "#fcfadd", "#f4eb8f", "#8f8414", _GRID),
)
TYPE_LOOKS = (
    *(
        look
        for letter, pale, light, dark, pattern in _TYPES
        for look in (Look(letter.lower(), pale, light, pattern), Look(letter, light, dark, pattern))
    ),
    *OWNER_LOOKS[-2:],
)
"""In the order of the types, each first for frames that are free, with a small letter, then for those in use."""
LOOKS = {"owner": OWNER_LOOKS, "migratetype": TYPE_LOOKS}


def letter_boxes(shown: FrameKinds, columns: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Runs of a kind, cut into rectangles of whole rows or parts of one: (kind, column, row, columns, rows)."""
    for pfn, count, kind in shown.runs():
        at, end = pfn - shown.start_pfn, pfn - shown.start_pfn + count
        while at < end:
            column = at % columns
            rows = (end - at) // columns if column == 0 else 0
            across = columns if rows else min(columns - column, end - at)
            yield kind, column, at // columns, across, max(rows, 1)
            at += across * max(rows, 1)


def dots(shown: FrameKinds, columns: int) -> bytes:
    """The grid of dots: 2 * kind for the first colour, one more for the second."""
    wide = _DOTS // columns  # dots a frame, each way
    looks = LOOKS[shown.by]
    out = bytearray()
    kinds = shown.kinds.ljust(-(-len(shown.kinds) // columns) * columns, bytes((len(looks) - 1,)))
    for start in range(0, len(kinds), columns):
        line = b"".join(bytes((kind,)) * wide for kind in kinds[start : start + columns])
        for _ in range(wide):
            row = len(out) // _DOTS % 4
            marks = [look.pattern[row] for look in looks]
            out += bytes(2 * kind + (marks[kind][x & 3] == "#") for x, kind in enumerate(line))
    return bytes(out)


def kinds_text(shown: FrameKinds, many: int = 64) -> str:
    """How many frames of each kind, then a line a run."""
    lines = [f"{name:>24} {count:>8} pages" for name, count in zip(shown.names, shown.counts(), strict=True) if count]
    runs = list(shown.runs())
    lines += [f"pfn {pfn:>7} to {pfn + count - 1:<7} {shown.names[kind]}" for pfn, count, kind in runs[:many]]
    if len(runs) > many:
        lines.append(f"and {len(runs) - many} more runs")
    return "\n".join(lines)


def kinds_alt(shown: FrameKinds) -> str:
    """The map in one sentence, written from the state."""
    said = [f"{count:,} {name}" for name, count in zip(shown.names, shown.counts(), strict=True) if count]
    return (
        f"Page frames {shown.start_pfn} to {shown.start_pfn + len(shown.kinds) - 1} by {shown.by}: {'; '.join(said)}."
    )


def kinds_svg(shown: FrameKinds, columns: int, title: str = "Page frames") -> Svg:
    """Draw the map: dots, letters where there is room, and a legend with counts."""
    cell = SIDE / columns
    rows = -(-len(shown.kinds) // columns)
    left, top, height = 76, 34, rows * cell
    legend = _legend_rows(shown)
    drawing = Svg(left + SIDE + 12, top + height + 18 + 20 * len(legend), title, kinds_alt(shown))
    drawing.text(10, 18, f"{title}, by {shown.by}", size=13, bold=True)
    palette = [colour for look in LOOKS[shown.by] for colour in (look.base, look.mark)]
    drawing.image(left, top, SIDE, height, pixels(dots(shown, columns), _DOTS, palette))
    _draw_letters(drawing, shown, columns, left, top)
    drawing.rect(left, top, SIDE, height, stroke=LINE)
    for row in range(0, rows, max(1, rows // 8)):
        pfn = shown.start_pfn + row * columns
        drawing.text(left - 8, top + row * cell + 11, f"{pfn}", size=10.5, anchor="end", mono=True, fill=SOFT_INK)
    for nth, chips in enumerate(legend):
        _draw_legend(drawing, shown, chips, left, top + height + 12 + 20 * nth)
    return drawing


def _draw_letters(drawing: Svg, shown: FrameKinds, columns: int, left: float, top: float) -> None:
    cell = SIDE / columns
    large = [
        box for box in letter_boxes(shown, columns)
        if LOOKS[shown.by][box[0]].letter and box[3] * cell >= _LETTER_WIDE and box[4] * cell >= _LETTER_HIGH
    ]  # fmt: skip
    for kind, column, row, across, down in sorted(large, key=lambda box: -box[3] * box[4])[:_MOST_LETTERS]:
        look = LOOKS[shown.by][kind]
        x, y = left + (column + across / 2) * cell, top + (row + down / 2) * cell
        drawing.rect(x - 6, y - 6.5, 12, 13, fill=look.base, note=shown.names[kind])
        drawing.text(x, y + 4, look.letter, size=11, bold=True, anchor="middle", mono=True)


def _legend_rows(shown: FrameKinds) -> list[list[int]]:
    """The kinds that the map has, two or three a row."""
    present = [kind for kind, count in enumerate(shown.counts()) if count]
    return [present[at : at + 3] for at in range(0, len(present), 3)]


def _draw_legend(drawing: Svg, shown: FrameKinds, chips: list[int], x: float, y: float) -> None:
    for kind in chips:
        look = LOOKS[shown.by][kind]
        tile = bytes(look.pattern[row % 4][at % 4] == "#" for row in range(8) for at in range(11))
        drawing.image(x, y, 22, 16, pixels(tile, 11, [look.base, look.mark]))
        drawing.rect(x, y, 22, 16, stroke=LINE, line=0.6)
        if look.letter:
            drawing.rect(x + 6, y + 2, 10, 12, fill=look.base)
            drawing.text(x + 11, y + 12, look.letter, size=10.5, bold=True, anchor="middle", mono=True, fill=INK)
        drawing.text(x + 27, y + 12, f"{shown.names[kind]}: {shown.kinds.count(kind):,}", size=11)
        x += 172


def kinds_figure(shown: FrameKinds, columns: int, title: str = "Page frames") -> Figure:
    """The map with its text."""
    return Figure.drawn(kinds_svg(shown, columns, title), kinds_text(shown))


def kinds_data(shown: FrameKinds) -> dict[str, Any]:
    """The map as plain JSON for the widget; a pattern is its sixteen dots in a row, "" the colour of the paper."""
    looks = [
        [look.letter, *("" if each in (_BLANK, PAPER) else each for each in look[1:3]), "".join(look.pattern)]
        for look in LOOKS[shown.by]
    ]
    counts, cells = shown.counts(), runs_of(shown.kinds)
    return {"by": shown.by, "names": shown.names, "looks": looks, "cells": cells, "counts": counts}
