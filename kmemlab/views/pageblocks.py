"""Pageblocks: a tile each, with its mobility type, and each of its page frames: free, movable, or in use for good.

pageblock   ┌──────────────────────────────┐
pfn 28160   │M│ ▪▪ ▪ ▪▪▪  ▪  ▨▨ ▪▪    ▪▪ ▪ │   ▪ could move   ▨ can't   blank: free
            └──────────────────────────────┘
A bar above each tile tells how full it is. A pageblock that has changed its type shows the old letter, crossed out.
While memory is compacted, two frames are outlined: where the migrate scanner and the free scanner stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kmemlab.machine.snapshot import HOLE, IN_USE, ON_PCP, RESERVED, frame_map
from kmemlab.mm.compact_control import CompactControl
from kmemlab.mm.mem_map import PAGEBLOCK_ORDER
from kmemlab.mm.zone import Zone, get_pageblock_migratetype
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.recording import plain_column
from kmemlab.types.migratetype import MIGRATETYPE_NAMES
from kmemlab.types.pageflags import PG_lru
from kmemlab.views.colours import ACCENT, INK, LINE, NOW_BAR, PAPER, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.png import pixels
from kmemlab.views.svg import Svg

FREE, CAN_MOVE, CANT_MOVE, ISOLATED, ON_A_CPU, NO_MEMORY = range(6)
STATES = ("free", "could move", "can't move", "taken by the free scanner", "free on a CPU's list", "no memory")
PAGES = 1 << PAGEBLOCK_ORDER
TYPE_LOOK = (("U", "#e9a878"), ("M", "#9fd8c5"), ("R", "#b3dcf5"), ("H", "#e6c3d6"), ("I", "#f4eb8f"))

_COLUMNS, _CELL = 32, 7  # frames in a row of a tile; pixels a frame
_ROWS = PAGES // _COLUMNS
_TILE_WIDTH, _TILE_HEIGHT = _COLUMNS * _CELL, _ROWS * _CELL
_TYPE_WIDTH, _HEAD, _BAR, _GAP = 18, 26, 6, 12
# Each frame is 2 by 2 dots, so that its state is told by a pattern, too.
_DOTS = {
    FREE: (0, 0, 0, 0),
    CAN_MOVE: (1, 1, 1, 1),
    CANT_MOVE: (2, 0, 0, 2),
    ISOLATED: (3, 3, 0, 0),
    ON_A_CPU: (2, 0, 0, 0),
    NO_MEMORY: (4, 4, 4, 4),
}
_PALETTE = ["#f6f8fa", "#31446B", "#777776", NOW_BAR, PAPER]


@dataclass(frozen=True, slots=True)
class Pageblock:
    """One pageblock: its first page frame, its mobility type, and the state of each of its frames.

    `was` is the type that it had before, if it has changed.
    """

    pfn: int
    migratetype: int
    cells: bytes
    was: int | None = None

    def count(self, state: int) -> int:
        """How many frames are in a state."""
        return self.cells.count(state)

    def text(self) -> str:
        """The pageblock in a line."""
        counts = ", ".join(f"{self.count(state)} {name}" for state, name in enumerate(STATES) if self.count(state))
        was = f" (was {MIGRATETYPE_NAMES[self.was]})" if self.was is not None else ""
        return f"pfn {self.pfn:6}  {MIGRATETYPE_NAMES[self.migratetype]:11} {counts}{was}"


@dataclass(frozen=True, slots=True)
class PageblockMap:
    """Some pageblocks of a zone, and where the two scanners stand while it is compacted."""

    blocks: tuple[Pageblock, ...]
    migrate_pfn: int | None = None
    free_pfn: int | None = None

    def text(self) -> str:
        """A line a pageblock, and the scanners."""
        lines = [block.text() for block in self.blocks]
        if self.migrate_pfn is not None:
            lines.append(f"migrate scanner at pfn {self.migrate_pfn}, free scanner at pfn {self.free_pfn}")
        return "\n".join(lines)


def pageblock_map(
    zone: Zone,
    start_pfn: int,
    end_pfn: int,
    compact: CompactControl | None = None,
    before: PageblockMap | None = None,
) -> PageblockMap:
    """Read the pageblocks of [start_pfn, end_pfn), which begins with one; `compact` is the run that is at work.

    Pageblocks whose type is not what it was in `before` are marked.
    """
    page = zone.page
    cells = bytearray(frame_map(zone, start_pfn, end_pfn - start_pfn).cells)
    flags, mapcount = plain_column(page.flags), plain_column(page.mapcount)
    for at, cell in enumerate(cells):
        pfn = start_pfn + at
        if cell & (HOLE | RESERVED):
            cells[at] = NO_MEMORY
        elif cell == ON_PCP:
            cells[at] = ON_A_CPU
        elif cell & IN_USE:
            cells[at] = CAN_MOVE if flags[pfn] >> PG_lru & 1 or mapcount[pfn] > 0 else CANT_MOVE
        else:
            cells[at] = FREE
    for pfn in _held(zone, compact):
        if start_pfn <= pfn < end_pfn:
            cells[pfn - start_pfn] = ISOLATED
    old = {block.pfn: block.migratetype for block in before.blocks} if before else {}
    blocks = tuple(
        _block(zone, pfn, bytes(cells[pfn - start_pfn : pfn - start_pfn + PAGES]), old.get(pfn))
        for pfn in range(start_pfn, end_pfn, PAGES)
    )
    running = compact is not None and compact.running == zone.slot
    if not running or compact is None:
        return PageblockMap(blocks)
    return PageblockMap(blocks, compact.migrate_pfn, compact.free_pfn)


def _block(zone: Zone, pfn: int, cells: bytes, old: int | None) -> Pageblock:
    migratetype = get_pageblock_migratetype(zone.page, pfn)
    return Pageblock(pfn, migratetype, cells, old if old != migratetype else None)


def _held(zone: Zone, compact: CompactControl | None) -> Iterator[int]:
    """The free pages that compaction has taken to move others to."""
    if compact is not None and compact.running == zone.slot:
        for pfn in list_for_each(zone.page.lru, compact.freepages):
            size = max(0, zone.page.owned[pfn] - 1)
            yield from range(pfn, pfn + (1 << size))


def alt_of(shown: PageblockMap) -> str:
    """The map in a few words, written from the state."""
    free = sum(block.count(FREE) for block in shown.blocks)
    can = sum(block.count(CAN_MOVE) for block in shown.blocks)
    whole = sum(block.count(FREE) == PAGES for block in shown.blocks)
    said = f"{len(shown.blocks)} pageblocks: {free} pages free, {can} could move, {whole} pageblocks free as a whole."
    for block in shown.blocks:
        if block.was is not None:
            types = f"{MIGRATETYPE_NAMES[block.migratetype]}; it was {MIGRATETYPE_NAMES[block.was]}"
            said += f" The one at pfn {block.pfn} is {types}."
    if shown.migrate_pfn is not None:
        said += f" The migrate scanner is at pfn {shown.migrate_pfn}, the free scanner at pfn {shown.free_pfn}."
    return said


def pageblocks_svg(shown: PageblockMap, title: str = "Pageblocks") -> Svg:
    """Draw the map, two tiles a row."""
    across = _TYPE_WIDTH + _TILE_WIDTH + _GAP
    down = _HEAD + _TILE_HEIGHT + _GAP
    rows = -(-len(shown.blocks) // 2)
    drawing = Svg(2 * across, 26 + rows * down + 40, title, alt_of(shown))
    drawing.text(8, 17, title, size=13, bold=True)
    for number, block in enumerate(shown.blocks):
        _tile(drawing, shown, block, 8 + number % 2 * across, 26 + number // 2 * down)
    _legend(drawing, 8, 26 + rows * down)
    return drawing


def _tile(drawing: Svg, shown: PageblockMap, block: Pageblock, x: float, y: float) -> None:
    letter, colour = TYPE_LOOK[block.migratetype]
    top, left = y + _HEAD, x + _TYPE_WIDTH
    drawing.text(x, y + 13, f"pfn {block.pfn}", size=11, mono=True)
    named = f"{MIGRATETYPE_NAMES[block.migratetype]}, {block.count(FREE)} free"
    drawing.text(left + _TILE_WIDTH, y + 13, named, size=11, fill=SOFT_INK, anchor="end")
    _fill_level(drawing, block, left, top - _BAR - 2)
    drawing.rect(x, top, _TYPE_WIDTH, _TILE_HEIGHT, fill=colour, stroke=LINE, line=0.6, note=block.text())
    middle = top + _TILE_HEIGHT / 2 + 5
    drawing.text(x + _TYPE_WIDTH / 2, middle, letter, size=13, bold=True, anchor="middle")
    if block.was is not None:
        drawing.text(x + _TYPE_WIDTH / 2, middle - 19, TYPE_LOOK[block.was][0], size=12, anchor="middle")
        drawing.line(x + 3, middle - 23, x + _TYPE_WIDTH - 3, middle - 23, stroke=INK, line=1.4)
        drawing.rect(x, top, _TYPE_WIDTH, _TILE_HEIGHT, stroke=INK, line=2.5)
    drawing.image(left, top, _TILE_WIDTH, _TILE_HEIGHT, pixels(_dots(block.cells), 2 * _COLUMNS, _PALETTE))
    drawing.rect(left, top, _TILE_WIDTH, _TILE_HEIGHT, stroke=LINE)
    for pfn, colour, label in ((shown.migrate_pfn, INK, "m"), (shown.free_pfn, ACCENT, "f")):
        if pfn is not None and block.pfn <= pfn < block.pfn + PAGES:
            at = pfn - block.pfn
            cx, cy = left + at % _COLUMNS * _CELL, top + at // _COLUMNS * _CELL
            drawing.rect(cx - 5, cy - 3, 17, 13, fill=PAPER, stroke=colour, line=2.5)
            drawing.text(cx + 3.5, cy + 7.5, label, size=11, bold=True, fill=colour, anchor="middle", mono=True)


def _fill_level(drawing: Svg, block: Pageblock, x: float, y: float) -> None:
    """How much of the pageblock could move, can't, and is free: in this order, in the patterns of the frames."""
    drawing.rect(x, y, _TILE_WIDTH, _BAR, fill=_PALETTE[0], stroke=LINE, line=0.6, note=block.text())
    for state in (CAN_MOVE, CANT_MOVE, ISOLATED, ON_A_CPU):
        frames = block.count(state)
        width = frames * _TILE_WIDTH / PAGES
        if frames:
            dots = bytes(_DOTS[state][half + at % 2] for half in (0, 2) for at in range(max(2, round(width / 3))))
            drawing.image(x, y, width, _BAR, pixels(dots, len(dots) // 2, _PALETTE))
        x += width


def _dots(cells: bytes) -> bytes:
    """Four dots a frame, row by row."""
    out = bytearray()
    for at in range(0, PAGES, _COLUMNS):
        row = cells[at : at + _COLUMNS]
        for half in (0, 2):
            out += bytes(dot for cell in row for dot in _DOTS[cell][half : half + 2])
    return bytes(out)


def _legend(drawing: Svg, x: float, y: float) -> None:
    """What the patterns and the two letters mean, in two rows."""
    at = x
    for state in (FREE, CAN_MOVE, CANT_MOVE, ON_A_CPU, ISOLATED):
        if state == ISOLATED:
            at, y = x, y + 17
        dots = pixels(bytes(_DOTS[state][0:2] * 2 + _DOTS[state][2:4] * 2), 4, _PALETTE)
        drawing.image(at, y, 16, 8, dots)
        drawing.rect(at, y, 16, 8, stroke=LINE, line=0.6)
        drawing.text(at + 21, y + 9, STATES[state], size=11, fill=SOFT_INK)
        at += 40 + 5.6 * len(STATES[state])
    drawing.text(at, y + 9, "m, f: migrate scanner and free scanner", size=11, fill=SOFT_INK)


def pageblocks_figure(shown: PageblockMap, title: str = "Pageblocks") -> Figure:
    """The map with its text."""
    return Figure.drawn(pageblocks_svg(shown, title), shown.text())
