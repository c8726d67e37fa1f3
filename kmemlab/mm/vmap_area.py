"""Areas of vmalloc: which there are, how large, and how many pages each has from which node. Not where they lie yet."""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct

MOST_AREAS = 64
CALLERS = ("alloc_large_system_hash",)


@kernel("include/linux/vmalloc.h", "struct vm_struct", left_out="addresses; who may use them; the tree of free space")
class VmStructs(Struct):
    """Area i has `nr_pages[i]` pages; node n gave `pages_of_node[i * nr_nodes + n]` of them; `caller` asked for it."""

    count = Cell()

    nr_pages: Column
    caller: Column
    pages_of_node: Column

    def __init__(self, nr_nodes: int) -> None:
        self.nr_nodes = nr_nodes
        self.nr_pages = column("q", MOST_AREAS)
        self.caller = column("B", MOST_AREAS)
        self.pages_of_node = column("q", MOST_AREAS * nr_nodes)


@invented("C adds one page after the other to the array of the area")
def add_vm_struct(areas: VmStructs, caller: str, nids: list[int], pages_each: int) -> None:
    """Note an area whose pieces of `pages_each` pages came from these nodes, piece by piece."""
    at = areas.count
    areas.count += 1
    areas.nr_pages[at] = len(nids) * pages_each
    areas.caller[at] = CALLERS.index(caller)
    for nid in set(nids):
        areas.pages_of_node[at * areas.nr_nodes + nid] = nids.count(nid) * pages_each
