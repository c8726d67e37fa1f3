"""FLATMEM: one array of struct page from page frame 0 to the last, holes included.

memory    |███|   hole   |██████████|
mem_map   |ppp|pppppppppp|pppppppppp|      a hole costs as much as memory, but the way is the shortest of all
"""

from __future__ import annotations

from kmemlab.boot.memblock import Memblock, memblock_alloc_try_nid, memblock_alloc_try_nid_raw
from kmemlab.mm.mem_map import MAX_ORDER_NR_PAGES
from kmemlab.mm.memory_model import Loads, MapPiece, MemoryModel, ModelMachine
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import KernelConfig
from kmemlab.types.errors import KernelPanic
from kmemlab.types.memory_model import MemoryModelKind
from kmemlab.types.units import round_down, round_up
from kmemlab.types.zone_type import MAX_DMA32_PFN, MAX_DMA_PFN

NR_PAGEBLOCK_BITS = 4  # what is kept of each pageblock: its mobility type, and a hint for compaction


@kernel("include/asm-generic/memory_model.h", "CONFIG_FLATMEM", left_out="ARCH_PFN_OFFSET: 0 on x86")
class Flatmem(MemoryModel):
    """One array for the whole machine, which is one node. Every page frame below the last has a struct page."""

    kind = MemoryModelKind.FLATMEM
    mem_map: int

    def build(self) -> tuple[tuple[MapPiece, ...], tuple[tuple[str, int], ...]]:
        """Take one piece for all of it."""
        start_pfn, end_pfn = self.machine.ranges[0][0], self.machine.max_pfn
        page_offset = self.machine.page_offset
        piece = alloc_node_mem_map(self.memblock, page_offset, 0, start_pfn, end_pfn, self.sizeof_page)
        self.mem_map = piece.va - piece.first_pfn * self.sizeof_page
        usemaps = setup_usemaps(self.memblock, self.machine, 0, start_pfn, end_pfn)
        return (piece,), (("mem_map", self.machine.config.sizeof_pointer), ("zone->pageblock_flags", sum(usemaps)))

    def pfn_valid(self, pfn: int) -> bool:
        """Whether the number lies within the array: that says nothing of holes."""
        return self.pieces[0].first_pfn <= pfn < self.machine.max_pfn

    def _pfn_to_page(self, pfn: int, loads: Loads) -> int:
        return loads.load("mem_map", self.mem_map) + pfn * self.sizeof_page

    def _page_to_pfn(self, page: int, loads: Loads) -> int:
        return (page - loads.load("mem_map", self.mem_map)) // self.sizeof_page


@kernel("mm/page_alloc.c", "alloc_node_mem_map", formerly=("alloc_remap",))
def alloc_node_mem_map(
    memblock: Memblock, page_offset: int, nid: int, start_pfn: int, end_pfn: int, sizeof_page: int
) -> MapPiece:
    """Take the array of a node. Its ends are rounded to the largest block, so that merging never looks beyond it.

    `page_offset` is where the direct map starts.
    """
    start_pfn, end_pfn = round_down(start_pfn, MAX_ORDER_NR_PAGES), round_up(end_pfn, MAX_ORDER_NR_PAGES)
    size = (end_pfn - start_pfn) * sizeof_page
    pa = memblock_alloc_try_nid_raw(memblock, size, 64, nid=nid, caller="memmap_alloc")
    if not pa:
        raise KernelPanic(
            f"Failed to allocate {size} bytes for node {nid} memory map",
            where="alloc_node_mem_map",
            remedy="give the machine more memory, or smaller holes",
        )
    return MapPiece(start_pfn, end_pfn, nid, pa, page_offset + pa)


@kernel("mm/page_alloc.c", "usemap_size")
def usemap_size(config: KernelConfig, zone_start_pfn: int, zonesize: int) -> int:
    """The bytes that a zone needs to keep the mobility type of its pageblocks: 4 bits each, in whole longs.

    >>> from kmemlab.types.config import I386_PAE
    >>> usemap_size(I386_PAE, 1, 4095)
    4
    """
    pageblock, bits_per_long = 1 << config.pageblock_order, 8 * config.sizeof_pointer
    # The zone may begin within a pageblock: that one counts whole.
    blocks = round_up(zonesize + zone_start_pfn % pageblock, pageblock) // pageblock
    return round_up(blocks * NR_PAGEBLOCK_BITS, bits_per_long) // 8


@kernel("mm/page_alloc.c", "setup_usemap")
def setup_usemap(memblock: Memblock, config: KernelConfig, nid: int, zone_start_pfn: int, zonesize: int) -> int:
    """Take the pageblock map of one zone; its bytes."""
    size = usemap_size(config, zone_start_pfn, zonesize)
    if not memblock_alloc_try_nid(memblock, size, 64, nid=nid, caller="setup_usemap"):
        raise KernelPanic(
            f"Failed to allocate {size} bytes for zone pageblock flags on node {nid}",
            where="setup_usemap",
            remedy="give the machine more memory",
        )
    return size


@invented("the loop over zones; kernelcore= is left out, a Movable zone would cut one more piece")
def setup_usemaps(memblock: Memblock, machine: ModelMachine, nid: int, start_pfn: int, end_pfn: int) -> tuple[int, ...]:
    """Take the pageblock maps of all zones that a node with this span has; returns their bytes, lowest zone first."""
    dma32 = () if machine.config.highmem else (MAX_DMA32_PFN,)
    sizes = []
    for border in (MAX_DMA_PFN, *dma32, machine.max_low_pfn, end_pfn):
        until = max(start_pfn, min(border, end_pfn))
        if until > start_pfn:
            sizes.append(setup_usemap(memblock, machine.config, nid, start_pfn, until - start_pfn))
        start_pfn = until
    return tuple(sizes)
