"""Classic SPARSEMEM: memory is cut into sections, and a section has struct pages only if it holds memory.

memory       |███████|███    |  hole |  hole |███████|      sections of 128 MiB (x86-64)
memory map   |ppppppp|ppppppp|       |       |ppppppp|      a whole section's worth, or nothing
mem_section  |   ●   |   ●   |   0   |   0   |   ●   |      where each section's map lies, minus its first page frame

From page to page frame the section must be known, so each page carries its number in page->flags. The table is one
array (static), or one of pointers to pages of entries (extreme), so that a wide hole costs eight bytes in 16 GiB.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import groupby

from kmemlab.boot.memblock import memblock_alloc_exact_nid_raw, memblock_alloc_try_nid, memblock_alloc_try_nid_raw
from kmemlab.mm.flatmem import NR_PAGEBLOCK_BITS
from kmemlab.mm.memory_model import Loads, MapPiece, MemoryModel
from kmemlab.mm.page_flags import page_to_section
from kmemlab.mm.sparse import present_sections
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.memory_model import MemoryModelKind
from kmemlab.types.units import PAGE_SIZE, round_up
from kmemlab.types.zone_type import MAX_DMA_ADDRESS

SUBSECTION_MAP_BYTES = 8  # which 2 MiB of a section have struct pages; with vmemmap only


@invented("what the variants of SPARSEMEM share: C has conditions for it in mm/sparse.c")
class Sections(MemoryModel):
    """A memory map in sections. Those of one node that follow each other in the table lie side by side."""

    def build(self) -> tuple[tuple[MapPiece, ...], tuple[tuple[str, int], ...]]:
        """Take the table of sections, then what each node's sections need."""
        self.sections = dict(present_sections(self.memblock, self.pages_per_section))
        config = self.machine.config
        tables = [("mem_section", self.mem_section_bytes())]
        if self.layout.node_not_in_page_flags:
            entry = 1 if 1 << self.layout.nodes_shift <= 256 else 2
            tables.append(("section_to_node_table", entry << self.layout.sections_shift))
        pieces: list[MapPiece] = []
        for nid, run in groupby(self.sections, self.sections.__getitem__):
            pieces += self.sparse_init_nid(nid, list(run))
        blocks = self.pages_per_section >> config.pageblock_order
        return tuple(pieces), (*tables, ("section usage", self.usage_bytes(blocks) * len(self.sections)))

    @property
    def pages_per_section(self) -> int:
        """PAGES_PER_SECTION of this configuration."""
        return 1 << self.pfn_section_shift

    @property
    def nr_sections(self) -> int:
        """NR_MEM_SECTIONS: as many as the kernel could ever reach."""
        return 1 << self.layout.sections_shift

    @property
    def sizeof_mem_section(self) -> int:
        """Four words an entry: the map, the usage, and what debugging aids keep of each page."""
        return 4 * self.machine.config.sizeof_pointer

    def usage_bytes(self, blocks: int) -> int:
        """sizeof(struct mem_section_usage) with the mobility types of a section's pageblocks."""
        word = self.machine.config.sizeof_pointer
        subsections = 0 if self.kind.classic else SUBSECTION_MAP_BYTES
        return 2 * word + subsections + round_up(blocks * NR_PAGEBLOCK_BITS, 8 * word) // 8

    def sparse_init_nid(self, nid: int, numbers: list[int]) -> list[MapPiece]:
        """Take the usage maps and one buffer for the maps of all these sections; a piece ends where a section lacks."""
        blocks = self.pages_per_section >> self.machine.config.pageblock_order
        memblock_alloc_try_nid(self.memblock, self.usage_bytes(blocks) * len(numbers), 64, nid=nid)
        map_size = self.pages_per_section * self.sizeof_page
        buffer = self.sparse_buffer_init(nid, map_size, len(numbers))
        pieces = []
        # Numbers that follow each other have the same distance from their places in the list.
        for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
            found = list(run)
            at, first = found[0]
            first_pfn, pa = first << self.pfn_section_shift, buffer + at * map_size
            end_pfn = first_pfn + len(found) * self.pages_per_section
            pieces.append(MapPiece(first_pfn, end_pfn, nid, pa, self.map_address(pa, first_pfn)))
        return pieces

    def sparse_buffer_init(self, nid: int, map_size: int, sections: int) -> int:
        """Take memory for so many maps, on their node if it has room; returns the physical address.

        C rounds down by masks, which odd sizes would upset: a map whose size is no power of two starts at a page here.
        """
        align = PAGE_SIZE if map_size & (map_size - 1) else map_size
        size = map_size * sections
        pa = memblock_alloc_exact_nid_raw(self.memblock, size, align, MAX_DMA_ADDRESS, 0, nid)
        pa = pa or memblock_alloc_try_nid_raw(self.memblock, size, align, MAX_DMA_ADDRESS, 0, nid)
        if not pa:
            raise KernelPanic(
                f"sparse_init_nid: node[{nid}] memory map backing failed. Some memory will not be available.",
                where=f"{size} bytes for {sections} sections",
                remedy="give the machine more memory: this lab makes no map with parts missing",
            )
        return pa

    def pfn_valid(self, pfn: int) -> bool:
        """Whether the section holds any memory: then all of its page frames have a struct page."""
        return pfn >> self.pfn_section_shift in self.sections

    @abstractmethod
    def mem_section_bytes(self) -> int:
        """What the table of sections takes."""

    @abstractmethod
    def map_address(self, pa: int, first_pfn: int) -> int:
        """The virtual address of a piece of the map at `pa`, whose first page frame is `first_pfn`."""


@invented("what both classic variants share: a conversion by way of the section")
class ClassicSections(Sections):
    """Each piece is used where it lies; the section's number in page->flags leads back."""

    def map_address(self, pa: int, first_pfn: int) -> int:
        """The place in the direct map."""
        return self.machine.page_offset + pa

    @abstractmethod
    def nr_to_section(self, number: int, loads: Loads) -> str:
        """Find a section's entry in the table; returns what to call it."""

    def section_mem_map(self, number: int, loads: Loads) -> int:
        """The entry's value: where page frame 0 would have its struct page, if the section's map began there."""
        name = self.nr_to_section(number, loads)
        piece = self.piece_of(number << self.pfn_section_shift)
        value = piece.va - piece.first_pfn * self.sizeof_page if piece else 0
        return loads.load(f"{name}.section_mem_map", value)

    def _pfn_to_page(self, pfn: int, loads: Loads) -> int:
        return pfn_to_page(self, pfn, loads)

    def _page_to_pfn(self, page: int, loads: Loads) -> int:
        return page_to_pfn(self, page, loads)


@kernel("include/asm-generic/memory_model.h", "__pfn_to_page")
def pfn_to_page(model: ClassicSections, pfn: int, loads: Loads) -> int:
    """The struct page of a page frame: its section says where the map lies."""
    return model.section_mem_map(pfn >> model.pfn_section_shift, loads) + pfn * model.sizeof_page


@kernel("include/asm-generic/memory_model.h", "__page_to_pfn")
def page_to_pfn(model: ClassicSections, page: int, loads: Loads) -> int:
    """The page frame of a struct page: the page itself says in which section's map it lies."""
    number = page_to_section(model.layout, loads.load("page->flags", model.page_flags(page)))
    return (page - model.section_mem_map(number, loads)) // model.sizeof_page


@kernel("include/linux/mmzone.h", "CONFIG_SPARSEMEM_STATIC")
class SparsememStatic(ClassicSections):
    """The table is an array in the kernel's image, with an entry for each section that there could ever be."""

    kind = MemoryModelKind.SPARSEMEM_STATIC

    def mem_section_bytes(self) -> int:
        """An entry a section, of memory or not."""
        return self.nr_sections * self.sizeof_mem_section

    def nr_to_section(self, number: int, loads: Loads) -> str:
        """The array's address is a constant in the code."""
        return f"mem_section[{number}]"


@kernel("include/linux/mmzone.h", "CONFIG_SPARSEMEM_EXTREME")
class SparsememExtreme(ClassicSections):
    """The table has two levels: a pointer a root, and a page of entries only for roots with memory."""

    kind = MemoryModelKind.SPARSEMEM_EXTREME

    def mem_section_bytes(self) -> int:
        """Two levels: what `two_level_bytes` says."""
        return two_level_bytes(self)

    def nr_to_section(self, number: int, loads: Loads) -> str:
        """Two steps: which page of entries, and which entry."""
        root, entry = divmod(number, PAGE_SIZE // self.sizeof_mem_section)
        loads.load("mem_section", root)
        loads.load(f"mem_section[{root}]", entry)
        return f"mem_section[{root}][{entry}]"


@kernel("mm/sparse.c", "sparse_index_alloc", left_out="taking the memory: only its size is told")
def two_level_bytes(model: Sections) -> int:
    """The bytes of a two-level table: a pointer for each page of entries there could be, and the pages there are."""
    per_root = PAGE_SIZE // model.sizeof_mem_section
    roots = {number // per_root for number in model.sections}
    return -(-model.nr_sections // per_root) * model.machine.config.sizeof_pointer + len(roots) * PAGE_SIZE
