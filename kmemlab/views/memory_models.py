"""The memory models for one machine: what each describes of the physical addresses, and what that costs.

memory        |█████ node 0 █████|        hole        |███ node 1 ███|
FLATMEM       |██████████████████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒███████████████|   hatched: struct pages of a hole
SPARSEMEM     |██████████████████|                    |██████████████|

Addresses reach from kilobytes to terabytes, so a stretch of them is drawn as wide as the logarithm of its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from kmemlab.mm.four_models import ModelCost
from kmemlab.mm.memory_model import ModelMachine
from kmemlab.types.units import PAGE_SHIFT, size_text
from kmemlab.views.colours import COLOURS, INK, LINE, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg

_LEFT, _STRIP = 214, 346
_COLUMNS = (("struct page", 76), ("map", 76), ("of it holes", 84), ("tables", 76), ("reads", 66))
_HEAD, _BAR, _ROW = 108, 26, 88
_MANY = 4  # of the nodes, and of the pieces of one, so many are told one by one
_LEAST = 5  # pixels of the narrowest stretch
_GAP = 84  # pixels that an address needs


@dataclass(frozen=True, slots=True)
class Axis:
    """Where page frames are drawn: `cuts` are borders, `places` the x of each."""

    cuts: tuple[int, ...]
    places: tuple[float, ...]

    def at(self, pfn: int) -> float:
        """The x of a border."""
        return self.places[self.cuts.index(pfn)]


def axis_of(machine: ModelMachine, costs: Iterable[ModelCost]) -> Axis:
    """An axis cut at each border of memory, and of a piece of any memory map."""
    borders = {0, *(pfn for start, end, _ in machine.ranges for pfn in (start, end))}
    borders |= {pfn for cost in costs for _, first, end, _ in cost.pieces for pfn in (first, end)}
    cuts = tuple(sorted(borders))
    weights = [math.log2(high - low) + 1 for low, high in pairwise(cuts)]
    free = max(_STRIP - _LEAST * len(weights), 0)
    places = [float(_LEFT)]
    for weight in weights:
        places.append(places[-1] + _LEAST + free * weight / sum(weights))
    scale = _STRIP / (places[-1] - _LEFT)
    return Axis(cuts, tuple(_LEFT + (place - _LEFT) * scale for place in places))


def memory_models_figure(machine: ModelMachine, costs: tuple[ModelCost, ...], title: str = "Memory models") -> Figure:
    """The picture and the text of what `compare_models` found for a machine."""
    return Figure.drawn(memory_models_svg(machine, costs, title=title), memory_models_text(machine, costs))


def memory_models_svg(machine: ModelMachine, costs: tuple[ModelCost, ...], *, title: str = "Memory models") -> Svg:
    """Draw memory on top, and under it for each model the stretches that have struct pages."""
    axis = axis_of(machine, costs)
    width = _LEFT + _STRIP + 22 + sum(size for _, size in _COLUMNS)
    drawing = Svg(width, _HEAD + _ROW * len(costs) + 26, title, alt_of(machine, costs))
    drawing.text(10, 20, title, size=13, bold=True)
    _draw_memory(drawing, machine, axis)
    right = _LEFT + _STRIP + 10
    for name, size in _COLUMNS:
        right += size
        drawing.text(right, _HEAD - 12, name, size=10.5, fill=SOFT_INK, anchor="end")
    for row, cost in enumerate(costs):
        _draw_model(drawing, machine, axis, cost, _HEAD + row * _ROW)
    foot = (
        "digits: nodes; hatched: struct pages that describe no memory; reads: memory accesses of pfn→page / page→pfn; "
        "widths grow with the logarithm of the size"
    )
    drawing.text(10, drawing.height - 12, foot, size=10.5, fill=SOFT_INK)
    return drawing


def _draw_memory(drawing: Svg, machine: ModelMachine, axis: Axis) -> None:
    top = 46
    drawing.text(10, top + 17, "physical memory", size=11.5)
    drawing.rect(_LEFT, top, _STRIP, _BAR, stroke=LINE, dash=True)
    for start, end, nid in machine.ranges:
        _stretch(drawing, axis, start, end, top, _BAR, _colour(nid), f"node {nid}: {_size(end - start)}", str(nid))
    shown = float(_LEFT) - _GAP
    for pfn, x in zip(axis.cuts, axis.places, strict=True):
        last = pfn == axis.cuts[-1]
        # The end is written leftwards from its border, so the label before it must leave room for both.
        if last or (x - shown >= _GAP and x + 2 * _GAP <= _LEFT + _STRIP):
            drawing.line(x, top - 6, x, top + _BAR, stroke=LINE)
            drawing.text(x, top - 9, f"{pfn << PAGE_SHIFT:#x}", size=10, mono=True, anchor="end" if last else "start")
            shown = x
    words = "   ".join(f"node {nid}: {_size(_pages(machine, nid))}" for nid in machine.nodes[:_MANY])
    drawing.text(_LEFT, top + _BAR + 15, words + _more(len(machine.nodes), "nodes"), size=10.5)


def _draw_model(drawing: Svg, machine: ModelMachine, axis: Axis, cost: ModelCost, top: float) -> None:
    drawing.line(10, top - 6, drawing.width - 10, top - 6, stroke="#d0d7de")
    drawing.text(10, top + 15, cost.kind.title, size=12, bold=True)
    for line, part in enumerate(cost.kind.versions.split("; ")):
        drawing.text(10, top + 31 + 13 * line, part, size=10, fill=SOFT_INK)
    if cost.refused:
        drawing.rect(_LEFT, top, _STRIP, _BAR, stroke=LINE, dash=True)
        drawing.text(_LEFT + 8, top + 17, f"not to be had: {cost.refused}", size=10.5, fill=SOFT_INK)
        return
    lanes = _lanes(cost)
    height = _BAR / (max(lanes) + 1)
    for (nid, first, end, size), lane in zip(cost.pieces, lanes, strict=True):
        y = top + lane * height
        _stretch(drawing, axis, first, end, y, height, HATCHED, f"struct pages of node {nid}: {size_text(size)}")
        for start, stop, owner in machine.ranges:
            if max(start, first) < min(stop, end) and (owner == nid or len(set(lanes)) == 1):
                _stretch(drawing, axis, max(start, first), min(stop, end), y, height, _colour(owner), "", str(owner))
        drawing.rect(axis.at(first), y, axis.at(end) - axis.at(first), height, stroke=INK)
    drawing.text(_LEFT, top + _BAR + 15, map_words(cost), size=10.5)
    for line, words in enumerate(reads_words(cost)):
        drawing.text(_LEFT, top + _BAR + 30 + 14 * line, words, size=9.5, mono=True, fill=SOFT_INK)
    x = _LEFT + _STRIP + 10
    for (_, size), words in zip(_COLUMNS, column_words(cost), strict=True):
        x += size
        drawing.text(x, top + 17, words, size=10.5, mono=True, anchor="end")


def _stretch(
    drawing: Svg, axis: Axis, start: int, end: int, y: float, height: float, fill: str, note: str, letter: str = ""
) -> None:
    drawing.rect(axis.at(start), y, axis.at(end) - axis.at(start), height, fill=fill, stroke=LINE, line=0.5, note=note)
    if letter and axis.at(end) - axis.at(start) > 12:
        middle = (axis.at(start) + axis.at(end)) / 2
        drawing.text(middle, y + height / 2 + 4, letter, size=min(11, height), anchor="middle", mono=True)


def _lanes(cost: ModelCost) -> list[int]:
    """A lane a piece, so that pieces which describe the same page frames lie under each other."""
    ends: list[int] = []
    lanes = []
    for _, first, end, _ in cost.pieces:
        lane = next((at for at, behind in enumerate(ends) if behind <= first), len(ends))
        ends[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes


def _colour(nid: int) -> str:
    return COLOURS[nid % len(COLOURS)]


def _pages(machine: ModelMachine, nid: int) -> int:
    return sum(end - start for start, end, node in machine.ranges if node == nid)


def _size(pages: int) -> str:
    return size_text(pages << PAGE_SHIFT)


def _more(count: int, what: str) -> str:
    return f"   and {count - _MANY} more {what}" if count > _MANY else ""


def map_words(cost: ModelCost) -> str:
    """What of the memory map is for each node, with its sections.

    >>> from kmemlab.types.memory_model import MemoryModelKind
    >>> map_words(ModelCost(MemoryModelKind.FLATMEM, pieces=((0, 0, 1024, 65536), (1, 2048, 3072, 65536))))
    'node 0: 64 KiB   node 1: 64 KiB'
    """
    nodes = sorted({nid for nid, *_ in cost.pieces})
    words = []
    for nid in nodes[:_MANY]:
        mine = [piece for piece in cost.pieces if piece[0] == nid]
        told = f"node {nid}: {size_text(sum(size for *_, size in mine))}"
        if cost.section_pages:
            count = sum(end - first for _, first, end, _ in mine) // cost.section_pages
            each = size_text(cost.section_pages * cost.sizeof_page)
            told += f" = {count} × {each}"
        words.append(told)
    return "   ".join(words) + _more(len(nodes), "nodes")


def reads_words(cost: ModelCost) -> tuple[str, str]:
    """Which memory each conversion reads, in order."""
    return f"pfn→page: {', '.join(cost.pfn_to_page)}", f"page→pfn: {', '.join(cost.page_to_pfn)}"


def column_words(cost: ModelCost) -> tuple[str, ...]:
    """The figures of a model, in the order of the columns."""
    reads = f"{len(cost.pfn_to_page)} / {len(cost.page_to_pfn)}"
    sizes = (size_text(size) for size in (cost.map_bytes, cost.hole_bytes, cost.table_bytes))
    return (f"{cost.sizeof_page} B", *sizes, reads)


def memory_models_text(machine: ModelMachine, costs: tuple[ModelCost, ...]) -> str:
    """The same facts: the memory, then each model with its map, its tables, and what a conversion reads."""
    lines = ["physical memory"]
    for nid in machine.nodes:
        lines.append(f"  node {nid}: {_size(_pages(machine, nid))}")
    for start, end, nid in machine.ranges:
        lines.append(f"    [{start << PAGE_SHIFT:#x}-{(end << PAGE_SHIFT) - 1:#x}] node {nid}  {_size(end - start)}")
    for cost in costs:
        lines += ["", f"{cost.kind.title}  ({cost.kind.versions})"]
        if cost.refused:
            lines.append(f"  not to be had: {cost.refused}")
            continue
        sizeof_page, size, holes, tables, reads = column_words(cost)
        lines += [f"  struct page {sizeof_page}, map {size}, of it holes {holes}, tables {tables}, reads {reads}"]
        lines.append(f"  map: {map_words(cost)}")
        lines += [f"  table {name}: {size_text(table)}" for name, table in cost.tables]
        lines += [f"  {words}" for words in reads_words(cost)]
    return "\n".join(lines)


def alt_of(machine: ModelMachine, costs: tuple[ModelCost, ...]) -> str:
    """The picture in a few sentences, written from the figures."""
    count = len(machine.nodes)
    memory = f"{_size(machine.pages)} of memory on {count} {'node' if count == 1 else 'nodes'}"
    told = [
        f"{cost.kind.title} {size_text(cost.map_bytes)} ({size_text(cost.hole_bytes)} for holes)"
        for cost in costs
        if not cost.refused
    ]
    return f"{memory}. Memory maps: {', '.join(told) or 'none can be had'}."
