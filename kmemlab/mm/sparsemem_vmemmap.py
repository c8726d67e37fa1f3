"""SPARSEMEM_VMEMMAP: sections as before, but the MMU makes them look like one array.

physical   |map of 0-3|      |map of 8|   |…|       2 MiB of struct pages a section, wherever memory was free
              ▲ ▲ ▲ ▲          ▲                    mapped by 2 MiB pages
vmemmap    |0 |1 |2 |3 |  |  |  |  |8 |  |…         one array of virtual addresses; holes are not mapped

A conversion is as short as with FLATMEM, and holes of whole sections cost nothing. The price: page tables, and address
space (1 TiB), which 32 bits do not have.
"""

from __future__ import annotations

from kmemlab.boot.memblock import memblock_alloc_try_nid_raw
from kmemlab.mm.memory_model import Loads, MapPiece
from kmemlab.mm.sparse import vmemmap_spans
from kmemlab.mm.sparsemem import Sections, two_level_bytes
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.memory_model import MemoryModelKind
from kmemlab.types.units import PAGE_SIZE
from kmemlab.types.zone_type import MAX_DMA_ADDRESS

VMEMMAP_START = {4: 0xFFFFEA0000000000, 5: 0xFFD4000000000000}  # by levels of page tables; KASLR would move it


@kernel("include/asm-generic/memory_model.h", "CONFIG_SPARSEMEM_VMEMMAP", left_out="memory that is plugged in later")
class SparsememVmemmap(Sections):
    """The struct page of page frame `pfn` is `vmemmap[pfn]`, whatever lies between."""

    kind = MemoryModelKind.SPARSEMEM_VMEMMAP
    vmemmap_base: int

    def build(self) -> tuple[tuple[MapPiece, ...], tuple[tuple[str, int], ...]]:
        """The sections, then page tables that map them."""
        if self.machine.levels not in VMEMMAP_START:
            raise BadRequest(
                f"{self.machine.config.key} has no room for vmemmap",
                where="SPARSEMEM_VMEMMAP needs 64-bit addresses",
                remedy="choose another memory model for 32 bits",
            )
        self.vmemmap_base = VMEMMAP_START[self.machine.levels]
        pieces, tables = super().build()
        return pieces, (*tables, ("page tables", self.vmemmap_populate(pieces)))

    def vmemmap_populate(self, pieces: tuple[MapPiece, ...]) -> int:
        """Take a page for each page table that the array needs, on the node of the section; returns the bytes."""
        touched: set[tuple[int, int]] = set()
        for piece in pieces:
            size = piece.pages * self.sizeof_page
            for span in vmemmap_spans(self.machine.levels, self.machine.large_pages):
                for at in range(piece.va // span, (piece.va + size - 1) // span + 1):
                    if (span, at) not in touched:
                        touched.add((span, at))
                        memblock_alloc_try_nid_raw(self.memblock, PAGE_SIZE, PAGE_SIZE, MAX_DMA_ADDRESS, 0, piece.nid)
        return len(touched) * PAGE_SIZE

    def mem_section_bytes(self) -> int:
        """The table is still there: pfn_valid() asks it."""
        return two_level_bytes(self)

    def map_address(self, pa: int, first_pfn: int) -> int:
        """The place in the array, wherever the memory is."""
        return self.vmemmap_base + first_pfn * self.sizeof_page

    # The base is a variable since it may be moved by KASLR or 5-level page tables; it was a constant: no load at all.

    def _pfn_to_page(self, pfn: int, loads: Loads) -> int:
        return loads.load("vmemmap_base", self.vmemmap_base) + pfn * self.sizeof_page

    def _page_to_pfn(self, page: int, loads: Loads) -> int:
        return (page - loads.load("vmemmap_base", self.vmemmap_base)) // self.sizeof_page
