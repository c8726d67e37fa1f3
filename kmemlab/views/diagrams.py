"""Diagrams of what is a graph: firmware entries to ranges, nodes to zones to free lists."""

from __future__ import annotations

from kmemlab.machine.snapshot import E820Snapshot, NodeSnapshot, ZoneSnapshot
from kmemlab.types.units import PAGE_SIZE, size_text
from kmemlab.views.colours import kind_of
from kmemlab.views.dot import MAX_NODES, Graph, diagram, table
from kmemlab.views.figure import Figure
from kmemlab.views.memory_map import alt_of, with_holes
from kmemlab.views.text import buddyinfo_line, e820_text, free_text, node_text, pages_text, some, zone_text

_ROWS = 24


def memory_map_diagram(raw: E820Snapshot, result: E820Snapshot) -> Figure:
    """Which entry of the firmware ended up in which range of the sanitised table."""
    graph = Graph("memory_map", ranksep="1.1")
    # Sorted by address, so that the edges run side by side; the first column says where an entry stood.
    order = sorted(range(len(raw.entries)), key=lambda at: (raw.entries[at].start, at))
    graph.node("raw", _range_table("firmware", E820Snapshot(tuple(raw.entries[at] for at in order)), order))
    sanitised = E820Snapshot(with_holes(result.entries))
    graph.node("result", _range_table("sanitised", sanitised))
    for row, at in enumerate(order[:_ROWS]):
        entry = raw.entries[at]
        for place, item in enumerate(sanitised.entries[:_ROWS]):
            if item.kind == entry.kind and item.start < entry.end and entry.start < item.end:
                graph.edge(f"raw:r{row}c3:e", f"result:r{place}c0:w")
    text = "\n".join(["firmware", e820_text(raw), "", "sanitised", e820_text(sanitised)])
    return diagram(graph, "Memory map", alt_of(result.entries, raw.entries), text)


def _range_table(head: str, snapshot: E820Snapshot, numbers: list[int] | None = None) -> str:
    shown = snapshot.entries[:_ROWS]
    rows = [[f"{item.start:#014x}", item.kind, size_text(item.size)] for item in shown]
    if numbers:
        rows = [[str(number), *row] for number, row in zip(numbers, rows, strict=False)]
    fills = ["#ffffff" if item.kind == "hole" else kind_of(item.kind)[1] for item in shown]
    if len(snapshot.entries) > _ROWS:
        rows.append([f"{len(snapshot.entries) - _ROWS} more", *[""] * (len(rows[0]) - 1)])
    return table(rows, head=head, fills=fills)


def zone_rows(zone: ZoneSnapshot) -> list[list[str]]:
    """A row an order, up to the highest that has any: how many blocks are free, and which are taken next."""
    rows = []
    highest = max((order for order, count in enumerate(zone.nr_free) if count), default=0)
    for order, count in enumerate(zone.nr_free[: highest + 1]):
        firsts = [f"{item.migratetype} {some(item.pfns, 4)}" for item in zone.lists if item.order == order]
        rows.append([f"order {order}", str(count), "   ".join(firsts)])
    return rows


def zone_diagram(zone: ZoneSnapshot) -> Figure:
    """A zone and its free lists: the first block of each list is the next one taken."""
    graph = Graph("zone")
    graph.node("zone", table(_zone_cells(zone), head=f"Zone {zone.name}, node {zone.node}"))
    graph.node("lists", table(zone_rows(zone), head="free_area"))
    graph.edge("zone", "lists:r0c0:w")
    alt = f"Zone {zone.name} of node {zone.node}: {pages_text(zone.free)} free; {free_text(zone.nr_free)}."
    return diagram(graph, f"Zone {zone.name}", alt, zone_text(zone))


def _zone_cells(zone: ZoneSnapshot) -> list[list[str]]:
    return [
        ["pfn", f"{zone.start_pfn} to {zone.end_pfn - 1}"],
        ["spanned", pages_text(zone.spanned)],
        ["present", pages_text(zone.present)],
        ["managed", pages_text(zone.managed)],
        ["free", pages_text(zone.free)],
    ]


def nodes_diagram(nodes: tuple[NodeSnapshot, ...], title: str = "Nodes, zones and free lists") -> Figure:
    """Nodes, their zones, and each zone's free lists; what is too much for one look is folded."""
    graph = Graph("nodes")
    budget = MAX_NODES
    for node in nodes:
        key = f"node{node.node}"
        if budget < 1 + 2 * len(node.zones):
            graph.node("rest", table([[f"{len(nodes) - nodes.index(node)} more nodes"]]))
            break
        budget -= 1 + 2 * len(node.zones)
        present = size_text(node.present * PAGE_SIZE)
        order = " > ".join(node.zonelist) or "nothing yet"
        rows = [["present", present], ["looks in", order if len(order) < 60 else f"{order[:57]}..."]]
        graph.node(key, table(rows, head=f"Node {node.node}"))
        for zone in node.zones:
            zone_key = f"{key}_{zone.name}"
            graph.node(zone_key, table(_zone_cells(zone), head=f"Zone {zone.name}"))
            graph.edge(key, zone_key)
            graph.node(f"{zone_key}_lists", table(_counts(zone), head="free blocks by order"))
            graph.edge(zone_key, f"{zone_key}_lists")
    text = "\n\n".join(f"{node_text(node)}\n" + "\n".join(map(buddyinfo_line, node.zones)) for node in nodes)
    count = sum(len(node.zones) for node in nodes)
    alt = f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'} with {count} zones. " + " ".join(
        f"Node {node.node}, zone {zone.name}: {pages_text(zone.free)} free." for node in nodes for zone in node.zones
    )
    return diagram(graph, title, alt, text)


def _counts(zone: ZoneSnapshot) -> list[list[str]]:
    return [[str(order) for order in range(len(zone.nr_free))], [str(count) for count in zone.nr_free]]
