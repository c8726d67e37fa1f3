"""The zonelists while they grow: a row a node, an entry for each zone in the order in which a request looks there."""

from __future__ import annotations

from kmemlab.boot.numa import node_distance, nodes_of
from kmemlab.mm.globals import Mm
from kmemlab.mm.node import ZONELIST_FALLBACK, ZONELIST_NOFALLBACK, Zonelist
from kmemlab.sim.recording import plain_column
from kmemlab.sim.timeline import Call, Event
from kmemlab.views.colours import COLOURS, INK, LINE, NOW, NOW_BAR, SOFT_INK
from kmemlab.views.panel import Sight, What
from kmemlab.views.svg import Svg

_LEFT, _BOX, _ROW, _HEAD = 130, 62, 44, 66


class ZonelistPanel:
    """The fallback lists of all nodes, the list of each node alone, and how loaded each node is."""

    stage = "zones"
    proc_name = "dmesg so far"

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.nodes = tuple(nodes_of(mm.numa.node_online))
        self._entry: What | None = None  # written, but not yet counted

    def prepare(self, calls: list[Call]) -> None:
        """All lists are shown whole: there is nothing to choose."""
        self._entry = None

    def entries(self, nid: int, which: int = ZONELIST_FALLBACK) -> list[str]:
        """The entries of a list, as node:zone."""
        zonelist = self.mm.node_data[nid].node_zonelists[which]
        return [self.entry(zonelist, at) for at in range(zonelist.count)]

    def entry(self, zonelist: Zonelist, at: int) -> str:
        """An entry, as node:zone."""
        zones = self.mm.node_data[zonelist.nid[at]].node_zones
        return f"{zonelist.nid[at]}:{zones[zonelist.zone_idx[at]].name}"

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the lists."""
        rows = {nid: self.entries(nid) for nid in self.nodes}
        told = [f"node {nid}: {' '.join(row) or 'nothing yet'}" for nid, row in rows.items()]
        facts = [(f"node {nid}, all nodes", " ".join(row) or "empty") for nid, row in rows.items()]
        facts += [
            (f"node {nid}, itself only", " ".join(self.entries(nid, ZONELIST_NOFALLBACK)) or "empty")
            for nid in self.nodes
        ]
        facts += [(f"node_load[{nid}]", str(self.mm.node_load[nid])) for nid in self.nodes]
        log = [line for line in self.mm.boot.printk.lines() if "Fallback order" in line]
        return Sight(self.drawn(rows, what), f"Zonelists. {'; '.join(told)}.", "\n".join(log), tuple(facts))

    def drawn(self, rows: dict[int, list[str]], what: What | None) -> Svg:
        """A row a node: its distances at the left, then its list."""
        left = max(_LEFT, 84 + 21 * len(self.nodes))
        places = sum(1 for nid in self.nodes for zone in self.mm.node_data[nid].node_zones if zone.present_pages)
        drawing = Svg(left + _BOX * places + 16, _HEAD + _ROW * len(rows) + 12, "Zonelists", "a list a node")
        drawing.text(10, 20, "Zonelists: where a request from a node looks, in this order", size=13, bold=True)
        drawing.text(10, 48, "node load distances", size=10.5, fill=SOFT_INK)
        for at in range(places):
            drawing.text(left + at * _BOX + _BOX / 2 - 3, 48, str(at + 1), size=10.5, fill=SOFT_INK, anchor="middle")
        now = (what.number, what.open[0]) if what and what.kind == "entry" else None
        for row, (nid, entries) in enumerate(rows.items()):
            y = _HEAD + row * _ROW
            if what and what.kind == "load" and what.number == nid:
                drawing.rect(6, y, left - 14, 30, fill=NOW, stroke=NOW_BAR, line=2.5)
            distances = " ".join(str(node_distance(self.mm.numa, nid, other)) for other in self.nodes)
            drawing.text(12, y + 19, f"{nid:<4} {self.mm.node_load[nid]:<3} {distances}", size=11, mono=True)
            for at in range(places):
                x = left + at * _BOX
                if at >= len(entries):
                    drawing.rect(x, y, _BOX - 6, 30, stroke=LINE, dash=True)
                    continue
                written = now == (nid, at)
                fill = NOW if written else COLOURS[int(entries[at].split(":")[0]) % len(COLOURS)]
                drawing.rect(
                    x, y, _BOX - 6, 30, fill=fill, stroke=NOW_BAR if written else INK, line=2.5 if written else 1.0
                )
                drawing.text(x + (_BOX - 6) / 2, y + 19, entries[at], size=9.5, mono=True, anchor="middle")
        return drawing

    def wrote(self, event: Event) -> What | None:
        """The count of a list, for an entry counts from then on; and a node's load."""
        for nid in self.nodes:
            for which, zonelist in enumerate(self.mm.node_data[nid].node_zonelists):
                # Not `in`: two columns that hold the same are equal, but they are two.
                if event.column is plain_column(zonelist.nid) or event.column is plain_column(zonelist.zone_idx):
                    self._entry = What("own" if which == ZONELIST_NOFALLBACK else "entry", nid, (event.index,))
                    return self._entry
                if event.column is plain_column(zonelist.cells):
                    # An entry counts from now on; the write that empties a list follows no entry.
                    entry, self._entry = self._entry, None
                    return entry
        if event.column is plain_column(self.mm.node_load):
            return What("load", event.index)
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """Which zone was appended to which list, or whose load grew."""
        if what.kind == "load":
            load = self.mm.node_load[what.number]
            if not load:
                return f"{by} clears the load of node {what.number}."
            return f"{by} sets the load of node {what.number} to {load}: nodes that are as near now go before it."
        which = ZONELIST_FALLBACK if what.kind == "entry" else ZONELIST_NOFALLBACK
        entries = self.entries(what.number, which)
        where = "list" if what.kind == "entry" else "list of its own zones only"
        return f"{by} appends {entries[-1]} to node {what.number}'s {where}: place {len(entries)}."
