"""The paths that requests for memory take, from whoever asks down to the free lists: drawn from recorded calls.

kmalloc ──▶ slabs ──┐
vmalloc ────────────┼──▶ alloc_pages ──▶ rmqueue ──▶ free lists
malloc ··▶ fault ───┘
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kmemlab.sim.timeline import Call, Timeline
from kmemlab.views.dot import Graph, diagram, table
from kmemlab.views.figure import Figure

# The functions that are worth a box, by their C name, with what they are for. Calls in between are passed over.
STATIONS = {
    "sys_brk": "a longer heap", "do_mmap": "new addresses", "do_user_addr_fault": "a page is missing",
    "do_anonymous_page": "memory of a program", "wp_page_copy": "copy on write", "do_fault": "a page of a file",
    "__kmem_cache_alloc_node": "an object of a slab", "allocate_slab": "a new slab",
    "__kmalloc_large_node": "too large for slabs", "__vmalloc_node_range": "addresses in a row",
    "__alloc_pages_bulk": "many pages at once", "pte_alloc_one": "a page table", "__alloc_pages": "zones, watermarks",
    "__rmqueue_pcplist": "the CPU's own list", "rmqueue_buddy": "straight from the zone",
    "__rmqueue_smallest": "free lists by order",
}  # fmt: skip
Edges = dict[tuple[str, str], int]  # (who asks, who is asked): how often


def paths(timeline: Timeline, asked: Mapping[int, str]) -> Edges:
    """How often each station was reached from which one; `asked` names the commands by number, the first stations."""
    found: Edges = {}
    for number, name in asked.items():
        for edge in _edges(name, timeline.calls(number)):
            found[edge] = found.get(edge, 0) + 1
    return found


def _edges(last: str, calls: Iterable[Call]) -> Iterator[tuple[str, str]]:
    for call in calls:
        here = call.name if call.name in STATIONS else last
        if here != last:
            yield last, here
        yield from _edges(here, call.calls)


def paths_text(edges: Edges) -> str:
    """A line for each edge: who asks, who is asked, how often."""
    return "\n".join(f"{tail:>24} -> {head:<24} x {count}" for (tail, head), count in edges.items())


def paths_figure(edges: Edges) -> Figure:
    """The stations as a graph, from left to right; thick where a request ends up in the page allocator."""
    graph = Graph("paths", ranksep="0.35")
    for name in dict.fromkeys(name for edge in edges for name in edge):
        graph.node(name, table([[STATIONS[name]]], head=name) if name in STATIONS else table([[name]]))
    for (tail, head), count in edges.items():
        graph.edge(tail, head, str(count), told=head in ("__alloc_pages", "__alloc_pages_bulk"))
    told = "; ".join(f"{tail} calls {head} {count} times" for (tail, head), count in edges.items())
    alt = f"Who calls whom on the way to a page: {told}."
    return diagram(graph, "The paths of requests for memory", alt, paths_text(edges))
