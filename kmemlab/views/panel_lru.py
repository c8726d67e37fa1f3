"""The LRU lists in motion: the ends where reclaim looks, the pages in its hands, and free pages against the marks.

inactive file  1,204   |d7•|d8 |d9D| …      left is the tail: these go next     • referenced   D dirty   W being written
active file      311   |d1 |d2 | …
DMA32          ▐████████░░░░  min ┊ low ┊ high
"""

from __future__ import annotations

from kmemlab.machine.kernel import Kernel
from kmemlab.machine.lru_snapshot import LruList, LruPage, LruSnapshot, lru_snapshot
from kmemlab.machine.procfs_lists import vmstat
from kmemlab.machine.time_series import ZoneMoment
from kmemlab.sim.timeline import Call, Event
from kmemlab.views.colours import INK, KINDS, LINE, NOW, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.panel import Sight, What
from kmemlab.views.svg import HATCHED, Svg

SHOWN = 14  # pages of a list
_LEFT, _CELL, _ROW, _TOP, _BAR = 96, 27, 42, 62, 300
COUNTERS = (
    "nr_free_pages", "pgscan_kswapd", "pgscan_direct", "pgsteal_kswapd", "pgsteal_direct", "pgactivate",
    "pgdeactivate", "pgrefill", "workingset_refault_file", "workingset_activate_file", "pswpout",
)  # fmt: skip


class LruPanel:
    """The lists of one node, for a player."""

    stage = "kswapd"
    proc_name = "from /proc/vmstat"

    def __init__(self, kernel: Kernel, node: int = 0) -> None:
        self.kernel = kernel
        self.node = node

    def prepare(self, calls: list[Call]) -> None:
        """The picture shows the ends of the lists, wherever they are."""

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the lists, the zones and the counters."""
        lru = lru_snapshot(self.kernel, self.node, SHOWN)
        counters = dict(line.split() for line in vmstat(self.kernel).splitlines())
        facts = [(each.name, f"{each.count:,} pages") for each in lru.lists]
        facts += [(name, counters[name]) for name in COUNTERS]
        facts.append(("isolated", str(lru.isolated)))
        proc = "\n".join(f"{name} {counters[name]}" for name in COUNTERS)
        return Sight(lru_drawing(lru), lru_alt(lru), proc, tuple(facts))

    def wrote(self, event: Event) -> What | None:
        """No single write is worth a step: pages move by calls."""
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """Never asked for, as no write is a step."""
        return by


def lru_figure(lru: LruSnapshot) -> Figure:
    """The lists as a still picture, with the same facts as text."""
    return Figure.drawn(lru_drawing(lru), lru_text(lru))


def page_text(page: LruPage) -> str:
    """A page with what is said of it.

    >>> page_text(LruPage(77, "data", 12, True, True, False))
    'd12 (referenced, dirty)'
    """
    said = [word for word, holds in zip(("referenced", "dirty", "being written"), _said(page), strict=True) if holds]
    return page.label + (f" ({', '.join(said)})" if said else "")


def _said(page: LruPage) -> tuple[bool, bool, bool]:
    return page.referenced, page.dirty, page.writeback


def list_text(each: LruList) -> str:
    """A list as a line: how long, and what goes next."""
    if not each.count:
        return f"{each.name}: empty"
    more = f", and {each.count - len(each.tail):,} more" if each.count > len(each.tail) else ""
    return f"{each.name}: {each.count:,} pages, from the tail: {', '.join(map(page_text, each.tail))}{more}"


def zone_text(zone: ZoneMoment) -> str:
    """A zone's free pages, and which mark they are below.

    >>> zone_text(ZoneMoment("DMA32", 300, 204, 255, 306))
    'zone DMA32: 300 pages free, below high (min 204, low 255, high 306)'
    """
    below = next((name for name in ("min", "low", "high") if zone.free < getattr(zone, name)), "")
    place = f"below {below}" if below else "above high"
    marks = f"min {zone.min:,}, low {zone.low:,}, high {zone.high:,}"
    return f"zone {zone.name}: {zone.free:,} pages free, {place} ({marks})"


def lru_text(lru: LruSnapshot) -> str:
    """All of it as lines."""
    hands = f"{lru.isolated} pages are in the hands of reclaim, {lru.unevictable} are unevictable"
    return "\n".join([f"node {lru.node}", *map(list_text, lru.lists), hands, *map(zone_text, lru.zones)])


def lru_alt(lru: LruSnapshot) -> str:
    """The picture in a few sentences."""
    lists = ", ".join(f"{each.name} {each.count:,}" for each in lru.lists)
    zones = "; ".join(map(zone_text, lru.zones))
    return f"LRU lists of node {lru.node}: {lists}; {lru.isolated} pages isolated. {zones}."


def lru_drawing(lru: LruSnapshot) -> Svg:
    """Four rows of pages, the tail at the left, and a bar a zone."""
    zones_at = _TOP + _ROW * len(lru.lists) + 30
    drawing = Svg(_LEFT + _CELL * SHOWN + 16, zones_at + 36 * len(lru.zones) + 8, "LRU lists", lru_alt(lru))
    drawing.text(10, 20, f"LRU lists of node {lru.node}", size=13, bold=True)
    drawing.text(10, 38, "left: the tail, where reclaim looks next", size=10.5, fill=SOFT_INK)
    drawing.text(10, 52, "R referenced   D dirty   W being written", size=10.5, fill=SOFT_INK)
    for row, each in enumerate(lru.lists):
        _draw_list(drawing, each, _TOP + _ROW * row)
    below = f"in the hands of reclaim: {lru.isolated}    unevictable: {lru.unevictable}"
    drawing.text(10, zones_at - 12, below, size=11, bold=bool(lru.isolated))
    for row, zone in enumerate(lru.zones):
        _draw_zone(drawing, zone, zones_at + 36 * row)
    return drawing


def _draw_list(drawing: Svg, each: LruList, y: float) -> None:
    drawing.text(_LEFT - 8, y + 13, each.name, size=11, anchor="end")
    drawing.text(_LEFT - 8, y + 27, f"{each.count:,}", size=11, mono=True, anchor="end", bold=True)
    fill = KINDS["usable" if each.name.endswith("file") else "ACPI data"][1]
    for at, page in enumerate(each.tail):
        x = _LEFT + _CELL * at
        drawing.rect(x, y, _CELL - 2, 32, fill=NOW if page.referenced else fill, stroke=LINE, note=page_text(page))
        drawing.text(x + _CELL / 2 - 1, y + 14, page.label, size=8.5 if len(page.label) < 5 else 7, anchor="middle")
        marks = "".join(letter for letter, holds in zip("RDW", _said(page), strict=True) if holds)
        drawing.text(x + _CELL / 2 - 1, y + 27, marks, size=9.5, anchor="middle", bold=True)
    if each.count > len(each.tail):
        drawing.text(_LEFT + _CELL * SHOWN + 2, y + 20, "…", fill=SOFT_INK)


def _draw_zone(drawing: Svg, zone: ZoneMoment, y: float) -> None:
    """Free pages up to twice the high mark: what is beyond that is enough."""
    scale = _BAR / max(2 * zone.high, 1)
    drawing.text(_LEFT - 8, y + 13, zone.name, size=11, anchor="end")
    drawing.rect(_LEFT, y, _BAR, 16, stroke=LINE, note=zone_text(zone))
    drawing.rect(_LEFT, y, min(_BAR, zone.free * scale), 16, fill=HATCHED)
    places = [_LEFT + mark * scale for mark in (zone.min, zone.low, zone.high)]
    for x, name, anchor in zip(places, ("min", "low", "high"), ("end", "middle", "start"), strict=True):
        drawing.line(x, y - 3, x, y + 19, stroke=INK, line=1.4)
        if places[2] - places[0] > 40:
            drawing.text(x, y + 29, name, size=9, anchor=anchor, fill=SOFT_INK)
    if places[2] - places[0] <= 40:  # too near for a word each
        drawing.text(places[1], y + 29, "min, low, high", size=9, anchor="middle", fill=SOFT_INK)
    drawing.text(_LEFT + _BAR + 8, y + 13, f"{zone.free:,} free", size=11, bold=zone.free < zone.low)
