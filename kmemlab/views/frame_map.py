"""The frame map: every page frame a cell, every free block a box with its order.

A row has a power of two of frames, and a block is aligned to its size: so a block is part of one row, or whole rows.
"""

from __future__ import annotations

from collections import Counter

from kmemlab.machine.snapshot import HOLE, IN_USE, ORDER_MASK, RESERVED, FrameMap
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.views.colours import IN_USE as IN_USE_COLOUR
from kmemlab.views.colours import INK, LINE, ORDER_INK, ORDERS, PAPER, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.png import pixels
from kmemlab.views.svg import HATCHED, Svg
from kmemlab.views.text import frame_map_text, free_text, pages_text

SIDE = 512  # pixels
_SMALLEST_LABEL = 13
_MOST_BOXES = 900  # more are drawn as pixels: nobody could tell them apart, and the file stays small
_LARGE = 1500  # square pixels: a box that is worth a label among pixels
_RESERVED_COLOUR = "#b3bac4"
_PALETTE = (*ORDERS, IN_USE_COLOUR, _RESERVED_COLOUR, PAPER)
_PIXEL = bytes(
    len(ORDERS) if cell & IN_USE else len(ORDERS) + 1 if cell & RESERVED else len(ORDERS) + 2 if cell & HOLE
    else min(cell & ORDER_MASK, MAX_ORDER - 1) for cell in range(256)
)  # fmt: skip


def columns_for(frames: int) -> int:
    """Frames in a row: a power of two that makes the map about square.

    >>> columns_for(1024), columns_for(65536), columns_for(2048)
    (32, 256, 64)
    """
    return max(8, 1 << (max(frames - 1, 1).bit_length() + 1) // 2)


def boxes(frames: FrameMap, columns: int) -> list[tuple[int, int, int, int, int, int]]:
    """The map as boxes: (first page frame, cell, column, row, columns, rows), each run cut at the rows' ends."""
    found = []
    for pfn, count, cell in frames.runs():
        at, end = pfn - frames.start_pfn, pfn - frames.start_pfn + count
        while at < end:
            column, row = at % columns, at // columns
            if column == 0 and end - at >= columns:
                rows = (end - at) // columns
                found.append((frames.start_pfn + at, cell, 0, row, columns, rows))
                at += rows * columns
            else:
                width = min(columns - column, end - at)
                found.append((frames.start_pfn + at, cell, column, row, width, 1))
                at += width
    return found


def free_by_order(frames: FrameMap) -> tuple[int, ...]:
    """How many free blocks of each order the map shows."""
    count = Counter(cell & ORDER_MASK for _, _, cell in frames.runs() if not cell & (IN_USE | RESERVED | HOLE))
    return tuple(count[order] for order in range(MAX_ORDER))


def alt_of(frames: FrameMap) -> str:
    """The map in one sentence, written from the state."""
    used = sum(count for _, count, cell in frames.runs() if cell & IN_USE)
    end = frames.start_pfn + len(frames.cells) - 1
    return (
        f"Page frames {frames.start_pfn} to {end}: {pages_text(used)} in use; "
        f"free blocks: {free_text(free_by_order(frames))}."
    )


def frame_map_svg(
    frames: FrameMap,
    *,
    title: str = "Page frames",
    columns: int | None = None,
    current: tuple[int, int] | None = None,
    zone_free: tuple[int, ...] | None = None,
) -> Svg:
    """Draw the map; `current` is the block (first page frame, order) that the story is about.

    The legend counts the free blocks of the map, or those of the whole zone where `zone_free` says them.
    """
    columns = columns or columns_for(len(frames.cells))
    cell_px = max(1.0, SIDE / columns)
    rows = -(-len(frames.cells) // columns)
    left, top = 76, 34
    width, height = columns * cell_px, rows * cell_px
    drawing = Svg(left + width + 12, top + height + 56, title, alt_of(frames))
    drawing.text(10, 18, title, size=13, bold=True)
    drawing.rect(left, top, width, height, fill=HATCHED)
    found = boxes(frames, columns)
    if len(found) > _MOST_BOXES:
        drawing.image(left, top, width, height, pixels(frames.cells.translate(_PIXEL), columns, list(_PALETTE)))
    for pfn, cell, column, row, across, down in found:
        if not cell & IN_USE and (len(found) <= _MOST_BOXES or across * down * cell_px**2 >= _LARGE):
            x, y = left + column * cell_px, top + row * cell_px
            _box(drawing, x, y, across * cell_px, down * cell_px, cell, pfn)
    drawing.rect(left, top, width, height, stroke=LINE)
    if current:
        outline(drawing, frames, columns, current, left, top, cell_px)
    for row in range(0, rows, max(1, rows // 8)):
        pfn = frames.start_pfn + row * columns
        drawing.text(left - 8, top + row * cell_px + 11, f"{pfn}", size=10.5, anchor="end", mono=True, fill=SOFT_INK)
    named = "free blocks by order" if zone_free is None else "free blocks of the zone by order"
    drawing.text(left, top + height + 24, named, size=11, bold=True, fill=SOFT_INK)
    legend(
        drawing, left, top + height + 14, zone_free or free_by_order(frames), any(c & RESERVED for c in frames.cells)
    )
    return drawing


def _box(drawing: Svg, x: float, y: float, width: float, height: float, cell: int, pfn: int) -> None:
    if cell & (HOLE | RESERVED):
        drawing.rect(
            x,
            y,
            width,
            height,
            fill=PAPER if cell & HOLE else _RESERVED_COLOUR,
            stroke="#d0d7de",
            dash=bool(cell & HOLE),
        )
        return
    order = cell & ORDER_MASK
    drawing.rect(x, y, width, height, fill=ORDERS[order], stroke=INK, line=0.6, note=f"pfn {pfn}, order {order}, free")
    if width >= _SMALLEST_LABEL and height >= _SMALLEST_LABEL:
        drawing.text(
            x + width / 2, y + height / 2 + 4, f"{order}", size=10.5, fill=ORDER_INK[order], anchor="middle", mono=True
        )


def outline(
    drawing: Svg, frames: FrameMap, columns: int, block: tuple[int, int], left: float, top: float, cell_px: float
) -> None:
    """A thick outline around the block that the story is about."""
    at, size = block[0] - frames.start_pfn, 1 << block[1]
    if 0 <= at < len(frames.cells):
        across, down = min(size, columns), max(1, size // columns)
        x, y = left + at % columns * cell_px, top + at // columns * cell_px
        drawing.rect(x, y, across * cell_px, down * cell_px, stroke="#000000", line=3)


def legend(drawing: Svg, x: float, y: float, nr_free: tuple[int, ...], reserved: bool = False) -> None:
    """The ramp with the number of free blocks of each order, and what the greys mean."""
    drawing.rect(x + 210, y, 14, 14, fill=HATCHED, stroke=LINE)
    drawing.text(x + 230, y + 11, "in use", size=11, fill=SOFT_INK)
    if reserved:
        drawing.rect(x + 290, y, 14, 14, fill=_RESERVED_COLOUR, stroke=LINE)
        drawing.text(x + 310, y + 11, "kept by boot", size=11, fill=SOFT_INK)
    for order, count in enumerate(nr_free):
        drawing.rect(x, y + 20, 18, 16, fill=ORDERS[order], stroke=INK, line=0.6)
        drawing.text(x + 9, y + 32, f"{order}", size=10.5, fill=ORDER_INK[order], anchor="middle", mono=True)
        drawing.text(x + 22, y + 32, f"{count}", size=11, mono=True)
        x += 30 + 7 * len(str(count))


def frame_map_figure(frames: FrameMap, title: str = "Page frames") -> Figure:
    """The frame map with its text."""
    counts = f"free blocks by order: {' '.join(map(str, free_by_order(frames)))}"
    return Figure.drawn(frame_map_svg(frames, title=title), f"{frame_map_text(frames)}\n{counts}")
