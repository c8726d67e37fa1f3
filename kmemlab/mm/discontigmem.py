"""DISCONTIGMEM, until 5.13: one array of struct page a node, and a table that says which node a page frame is on.

memory          |node 0 ███ █████|      hole      |node 1 ████████|
node_mem_map    |pppppppppppppppp|                |ppppppppppppppp|   holes between nodes cost nothing, those within do
physnode_map    | 0| 0| 0| 0| 0| 0|-1|-1|-1|-1|-1|-1| 1| 1| 1| 1| 1|  one entry a chunk of memory

If the memory of one node lies amid another's, both arrays span it: its page frames have two struct pages, of which the
table finds one.
"""

from __future__ import annotations

from kmemlab.mm.flatmem import alloc_node_mem_map, setup_usemaps
from kmemlab.mm.memory_model import Loads, MapPiece, MemoryModel
from kmemlab.mm.page_flags import page_to_nid
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.memory_model import MemoryModelKind
from kmemlab.types.units import PAGE_SHIFT

PHYSNODE_SHIFT = 26  # x86-32: chunks of 64 MiB, and a table for the 64 GiB that it can reach at most
MAX_ELEMENTS = 1024
MIN_MEMNODE_SHIFT, MAX_MEMNODE_SHIFT = 20, 63  # x86-64: the largest chunks that no two nodes share


@kernel(
    "include/asm-generic/memory_model.h",
    "CONFIG_DISCONTIGMEM",
    left_out="gone since 5.14; on x86-32 the arrays lay in a window of their own (alloc_remap)",
)
class Discontigmem(MemoryModel):
    """An array a node, from the node's first page frame to its last."""

    kind = MemoryModelKind.DISCONTIGMEM
    chunk_shift: int

    def build(self) -> tuple[tuple[MapPiece, ...], tuple[tuple[str, int], ...]]:
        """Find how to tell nodes apart, then take a piece for each."""
        machine = self.machine
        self.chunk_shift = self.find_chunk_shift()
        pieces, usemaps = [], 0
        for nid in machine.nodes:
            start_pfn, end_pfn = machine.span(nid)
            pieces.append(
                alloc_node_mem_map(self.memblock, machine.page_offset, nid, start_pfn, end_pfn, self.sizeof_page)
            )
            usemaps += sum(setup_usemaps(self.memblock, machine, nid, start_pfn, end_pfn))
        if machine.config.highmem:
            table = ("physnode_map", MAX_ELEMENTS)
        else:
            table = ("memnodemap", (machine.max_pfn << PAGE_SHIFT >> self.chunk_shift) + 1)
        node_data = ("node_data", machine.config.sizeof_pointer << self.layout.nodes_shift)
        return tuple(pieces), (table, node_data, ("zone->pageblock_flags", usemaps))

    def find_chunk_shift(self) -> int:
        """2**shift bytes belong to one node. Raises `BadRequest` where two nodes meet within the smallest chunk."""
        if self.machine.config.highmem:
            shift = lowest = PHYSNODE_SHIFT
        else:
            shift, lowest = MAX_MEMNODE_SHIFT, MIN_MEMNODE_SHIFT
        while self.shared(shift):
            shift -= 1
            if shift < lowest:
                raise BadRequest(
                    "Your memory is not aligned",
                    where=f"DISCONTIGMEM: two nodes share {1 << lowest >> 20} MiB, which the table gives to one",
                    remedy="move the border between the nodes",
                )
        return shift

    def shared(self, shift: int) -> bool:
        """Whether some chunk of 2**shift bytes holds memory of two nodes."""
        last, last_nid = -1, -1
        for start_pfn, end_pfn, nid in self.machine.ranges:
            if start_pfn << PAGE_SHIFT >> shift == last and nid != last_nid:
                return True
            last, last_nid = (end_pfn - 1) << PAGE_SHIFT >> shift, nid
        return False

    def chunk_nid(self, chunk: int) -> int:
        """The entry of the table: the node that has memory in the chunk; -1 for none."""
        shift = self.chunk_shift - PAGE_SHIFT
        for start_pfn, end_pfn, nid in self.machine.ranges:
            if start_pfn >> shift <= chunk <= (end_pfn - 1) >> shift:
                return nid
        return -1

    def pfn_valid(self, pfn: int) -> bool:
        """Whether the page frame's chunk belongs to a node, and lies within what the node spans."""
        nid = self.chunk_nid(pfn >> (self.chunk_shift - PAGE_SHIFT)) if pfn >= 0 else -1
        return nid >= 0 and self.node_piece(nid).first_pfn <= pfn < self.machine.span(nid)[1]

    def node_piece(self, nid: int) -> MapPiece:
        """The array of a node."""
        return self.pieces[self.machine.nodes.index(nid)]

    def pfn_to_nid(self, pfn: int, loads: Loads) -> int:
        """The node of a page frame; x86-64 must read how large the chunks are, and where the table is, before."""
        shift, name = self.chunk_shift - PAGE_SHIFT, "physnode_map"
        if not self.machine.config.highmem:
            name = "memnodemap"
            shift = loads.load("memnode.shift", self.chunk_shift) - PAGE_SHIFT
            loads.load("memnode.map", 0)
        return loads.load(f"{name}[{pfn >> shift}]", self.chunk_nid(pfn >> shift))

    def _node(self, nid: int, loads: Loads) -> tuple[int, int]:
        loads.load(f"node_data[{nid}]", nid)
        piece, start_pfn = self.node_piece(nid), self.machine.span(nid)[0]
        # C keeps where the node's first page is described, not where the array begins.
        node_mem_map = piece.va + (start_pfn - piece.first_pfn) * self.sizeof_page
        return loads.load("node_mem_map", node_mem_map), loads.load("node_start_pfn", start_pfn)

    def _pfn_to_page(self, pfn: int, loads: Loads) -> int:
        node_mem_map, node_start_pfn = self._node(self.pfn_to_nid(pfn, loads), loads)
        return node_mem_map + (pfn - node_start_pfn) * self.sizeof_page

    def _page_to_pfn(self, page: int, loads: Loads) -> int:
        nid = page_to_nid(self.layout, loads.load("page->flags", self.page_flags(page)))
        node_mem_map, node_start_pfn = self._node(nid, loads)
        return (page - node_mem_map) // self.sizeof_page + node_start_pfn
