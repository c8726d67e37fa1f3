"""Where nodes and zones lie: memory and the zones that it is cut into, and one page frame seen closer and closer.

zones      |DMA|      DMA32       |     Normal     |     hatched: spanned, but no memory there
node 0     |███|██████▒▒▒▒████▒▒▒▒|████████|
node 1     |   |                  |        |███████|
"""

from __future__ import annotations

import math
from itertools import pairwise

from kmemlab.boot.memblock import for_each_mem_pfn_range
from kmemlab.boot.numa import nodes_of
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import PAGES_PER_SECTION
from kmemlab.mm.zone import Zone, zone_end_pfn
from kmemlab.types.units import PAGE_SHIFT, size_text
from kmemlab.views.colours import ACCENT, COLOURS, INK, LINE, NOW, PAPER, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg

_LEFT, _WIDTH, _BAR = 100, 800, 30
_LETTERS = {"DMA": "D", "DMA32": "32", "Normal": "N", "HighMem": "H", "Movable": "M", "Device": "V"}


def spanned_zones(mm: Mm) -> list[Zone]:
    """The zones that span anything, node by node."""
    return [zone for zone in mm.zones() if zone.spanned_pages]


def places_of(mm: Mm) -> dict[int, float]:
    """The x of every border of memory and of zones; a stretch is as wide as the logarithm of its size."""
    borders = {0, *(pfn for start, end, _ in for_each_mem_pfn_range(mm.boot.memblock) for pfn in (start, end))}
    borders |= {pfn for zone in spanned_zones(mm) for pfn in (zone.zone_start_pfn, zone_end_pfn(zone))}
    cuts = sorted(borders)
    weights = [math.log2(high - low) + 1 for low, high in pairwise(cuts)]
    places, x = {cuts[0]: float(_LEFT)}, float(_LEFT)
    for cut, weight in zip(cuts[1:], weights, strict=True):
        x += _WIDTH * weight / sum(weights)
        places[cut] = x
    return places


def zones_figure(mm: Mm, title: str = "Nodes and zones") -> Figure:
    """Each node a row: what of its zones is memory, and what is spanned without being there."""
    nodes = nodes_of(mm.numa.node_online)
    at = places_of(mm)
    drawing = Svg(_LEFT + _WIDTH + 20, 84 + 62 * len(nodes) + 24, title, zones_alt(mm))
    drawing.text(10, 20, title, size=13, bold=True)
    _draw_borders(drawing, mm, at)
    for row, nid in enumerate(nodes):
        y = 72 + 62 * row
        drawing.text(10, y + 19, f"node {nid}", size=12, bold=True)
        for zone in (zone for zone in spanned_zones(mm) if zone.node == nid):
            _draw_zone(drawing, mm, zone, at, y)
    letters = ", ".join(f"{_LETTERS[name]} {name}" for name in dict.fromkeys(z.name for z in spanned_zones(mm)))
    foot = f"{letters}; hatched: spanned, but no memory; widths grow with the logarithm of the size"
    drawing.text(10, drawing.height - 10, foot, size=10.5, fill=SOFT_INK)
    return Figure.drawn(drawing, zones_text(mm))


def _draw_borders(drawing: Svg, mm: Mm, at: dict[int, float]) -> None:
    """The addresses at which zones begin, and where the last one ends."""
    borders = sorted({pfn for zone in spanned_zones(mm) for pfn in (zone.zone_start_pfn, zone_end_pfn(zone))})
    shown = -200.0
    for pfn in borders:
        drawing.line(at[pfn], 56, at[pfn], drawing.height - 30, stroke=LINE, dash=True)
        last = pfn == borders[-1]
        # The end is written leftwards from its border, so the label before it must leave room for both.
        if last or (at[pfn] - shown > 84 and at[pfn] + 160 < at[borders[-1]]):
            drawing.text(at[pfn], 50, f"{pfn << PAGE_SHIFT:#x}", size=10, mono=True, anchor="end" if last else "start")
            shown = at[pfn]


def _draw_zone(drawing: Svg, mm: Mm, zone: Zone, at: dict[int, float], y: float) -> None:
    """The span hatched, memory in the zone's colour on top, and its name below."""
    first, behind = zone.zone_start_pfn, zone_end_pfn(zone)
    note = f"zone {zone.name} of node {zone.node} spans {size_text(zone.spanned_pages << PAGE_SHIFT)}"
    drawing.rect(at[first], y, at[behind] - at[first], _BAR, fill=HATCHED, stroke=INK, note=note)
    for start, end, nid in for_each_mem_pfn_range(mm.boot.memblock):
        low, high = max(start, first), min(end, behind)
        if nid == zone.node and low < high:
            width = at[high] - at[low]
            note = f"{zone.name}: {size_text((high - low) << PAGE_SHIFT)} of memory"
            colour = COLOURS[zone.index % len(COLOURS)]
            drawing.rect(at[low], y, width, _BAR, fill=colour, stroke=LINE, line=0.5, note=note)
            if width > 16:
                drawing.text(at[low] + width / 2, y + 19, _LETTERS[zone.name], size=11, mono=True, anchor="middle")
    drawing.rect(at[first], y, at[behind] - at[first], _BAR, stroke=INK)
    size = size_text(zone.present_pages << PAGE_SHIFT)
    for told in (f"{zone.name} {size}", size):
        if 6.4 * len(told) <= at[behind] - at[first]:
            drawing.text(at[first] + 2, y + _BAR + 14, told, size=10.5)
            break


def zones_text(mm: Mm) -> str:
    """The same as text: a line a zone, and under it the memory in it."""
    lines = []
    for zone in spanned_zones(mm):
        first, behind = zone.zone_start_pfn, zone_end_pfn(zone)
        lines.append(
            f"node {zone.node}, zone {zone.name:8} pfn {first} to {behind - 1}: "
            f"spanned {zone.spanned_pages}, present {zone.present_pages}"
        )
        for start, end, nid in for_each_mem_pfn_range(mm.boot.memblock):
            low, high = max(start, first), min(end, behind)
            if nid == zone.node and low < high:
                lines.append(f"    memory at pfn {low} to {high - 1}, {size_text((high - low) << PAGE_SHIFT)}")
    return "\n".join(lines)


def zones_alt(mm: Mm) -> str:
    """The picture in a few sentences."""
    return " ".join(
        f"Node {zone.node}, zone {zone.name}: {size_text(zone.present_pages << PAGE_SHIFT)} of memory in a span of "
        f"{size_text(zone.spanned_pages << PAGE_SHIFT)}."
        for zone in spanned_zones(mm)
    )


# -- closer and closer -------------------------------------------------------------------------------------------------


def levels_of(mm: Mm, pfn: int) -> list[tuple[str, int, int]]:
    """What holds a page frame, from the machine down to the page: (name, first pfn, pfn behind)."""
    zone = next(zone for zone in spanned_zones(mm) if zone.zone_start_pfn <= pfn < zone_end_pfn(zone))
    pgdat = mm.node_data[zone.node]
    number = pfn // PAGES_PER_SECTION
    start = pgdat.node_start_pfn
    return [
        ("the machine", 0, mm.boot.max_pfn),
        (f"node {zone.node}", start, start + pgdat.node_spanned_pages),
        (f"zone {zone.name}", zone.zone_start_pfn, zone_end_pfn(zone)),
        (f"section {number}", number * PAGES_PER_SECTION, (number + 1) * PAGES_PER_SECTION),
        (f"page frame {pfn}", pfn, pfn + 1),
    ]


def zoom_figure(mm: Mm, pfn: int, title: str = "One page frame, closer and closer") -> Figure:
    """A bar a level; the dark outline in each is what the next bar shows."""
    levels = levels_of(mm, pfn)
    words = [f"{name}: pfn {low} to {high - 1}, {size_text((high - low) << PAGE_SHIFT)}" for name, low, high in levels]
    drawing = Svg(_LEFT + _WIDTH + 20, 40 + 68 * len(levels), title, ". ".join(words) + ".")
    drawing.text(10, 20, title, size=13, bold=True)
    for row, ((name, low, high), said) in enumerate(zip(levels, words, strict=True)):
        y = 52 + 68 * row
        drawing.text(10, y + 19, name.removesuffix(f" {pfn}"), size=11.5, bold=True)
        drawing.rect(_LEFT, y, _WIDTH, _BAR, fill=COLOURS[row % len(COLOURS)], stroke=LINE)
        drawing.rect(_LEFT + 4, y - 17, 6.8 * len(said), 15, fill=PAPER)
        drawing.text(_LEFT + 6, y - 5, said, size=10.5, mono=True)
        if row + 1 < len(levels):
            _, inner_low, inner_high = levels[row + 1]
            left = _LEFT + _WIDTH * (max(inner_low, low) - low) / (high - low)
            width = max(_WIDTH * (min(inner_high, high) - max(inner_low, low)) / (high - low), 3)
            drawing.rect(left, y, width, _BAR, fill=NOW, stroke=INK, line=2.5)
            drawing.line(left, y + _BAR, _LEFT, y + 68, stroke=ACCENT)
            drawing.line(left + width, y + _BAR, _LEFT + _WIDTH, y + 68, stroke=ACCENT)
    return Figure.drawn(drawing, "\n".join(words))
