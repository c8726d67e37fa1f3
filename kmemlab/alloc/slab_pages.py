"""struct slab: what is known of the pages that caches took. It lies over struct page, so one number is both.

pfn              100    101    102   103         a slab of order 1 at 100, one of order 0 at 103
slab_cache         7      7      7*   9          which cache (* not a slab: whatever was there)
compound_head      0      1      .    0          how far back the first page of the block is
inuse              3      .      .   12          objects that are not on the slab's own freelist
freelist     0x…6440      .      .    0          the first free object (SLUB: the next one stands in it)
"""

from __future__ import annotations

from kmemlab.boot.swapper_pg_dir import va
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import page_zone_id
from kmemlab.sim.column import Column, column, index_typecode
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead
from kmemlab.sim.struct import Struct
from kmemlab.types.pageflags import PG_slab
from kmemlab.types.units import PAGE_SHIFT
from kmemlab.types.zone_type import MAX_NR_ZONES

NR_CACHES = 256
"""Slots for caches; slot 0 stays empty, so that a 0 in a column means "no cache". A booted Debian has about 150."""

LISTS_PER_NODE = 3
"""Lists of slabs that a cache may have on a node: SLUB partial and full; SLAB partial, full and free."""

PG_SLAB_MASK = 1 << PG_slab


@kernel("mm/slab.h", "struct slab", left_out="RCU; the charge to control groups")
class SlabPages(Struct):
    """The fields of struct slab by page frame; those of a slab stand at its first page.

    `slab_list` threads slabs by the number of their first page; a list's head is `list_head(cache, node, which)`.
    """

    slab_cache: Column
    compound_head: Column
    freelist: Column
    inuse: Column
    objects: Column
    frozen: Column
    next: Column
    slabs: Column
    s_mem: Column

    def __init__(self, mm: Mm, nr_nodes: int) -> None:
        max_pfn = mm.page.max_pfn
        pfn_type = index_typecode(max_pfn)
        self.page = mm.page
        self.pointer = mm.boot.config.sizeof_pointer
        self.page_offset = va(mm.boot, 0)  # the direct map shows physical address 0 here
        self.ram = mm.boot.ram
        self.max_pfn = max_pfn
        self.nr_nodes = nr_nodes
        self.slab_list = ListHead(max_pfn + NR_CACHES * nr_nodes * LISTS_PER_NODE)
        self.slab_cache = column("H", max_pfn)  # of tail pages, too
        self.compound_head = column("H", max_pfn)  # of each page of a slab or a large kmalloc
        self.freelist = column("Q", max_pfn)  # SLUB: the first free object. SLAB: where the array of free indices is
        self.inuse = column("H", max_pfn)  # SLAB calls it active
        self.objects = column("H", max_pfn)
        self.frozen = column("B", max_pfn)  # SLUB: it belongs to a CPU
        self.next = column(pfn_type, max_pfn)  # SLUB: the next slab of a CPU's partial list
        self.slabs = column("i", max_pfn)  # SLUB: how many slabs that list has from here on
        self.s_mem = column("Q", max_pfn)  # SLAB: the first object

    def list_head(self, cache: int, node: int, which: int) -> int:
        """The head of a cache's list of slabs on a node."""
        return self.max_pfn + (cache * self.nr_nodes + node) * LISTS_PER_NODE + which


@kernel("arch/x86/include/asm/page.h", "__pa", traced=False)
def pa(pages: SlabPages, address: int) -> int:
    """The physical address behind an address of the direct map."""
    return address - pages.page_offset


@kernel("mm/slab.h", "slab_address", traced=False)
def slab_address(pages: SlabPages, slab: int) -> int:
    """Where the memory of a slab (the number of its first page) begins in the direct map."""
    return pages.page_offset + (slab << PAGE_SHIFT)


@kernel("mm/slab.h", "virt_to_slab", traced=False)
def virt_to_slab(pages: SlabPages, address: int) -> int | None:
    """The slab that an address lies in, as the number of its first page; None: the page is no slab's."""
    pfn = address - pages.page_offset >> PAGE_SHIFT
    if not 0 <= pfn < pages.max_pfn:
        return None
    slab = pfn - pages.compound_head[pfn]
    return slab if pages.page.flags[slab] & PG_SLAB_MASK else None


@kernel("mm/slab.h", "slab_nid", traced=False)
def slab_nid(pages: SlabPages, slab: int) -> int:
    """The node whose memory a slab is."""
    return (page_zone_id(pages.page, slab) - 1) // MAX_NR_ZONES


@kernel("mm/page_alloc.c", "prep_compound_page", left_out="destructor, order, counts: struct page keeps the order")
def prep_compound_page(pages: SlabPages, pfn: int, order: int) -> None:
    """Let each page of a block know its first page."""
    for tail in range(1 << order):
        pages.compound_head[pfn + tail] = tail


@invented("C keeps the order in the second page of a block", traced=False)
def slab_order(pages: SlabPages, slab: int) -> int:
    """The order of the block that begins at a page."""
    return pages.page.owned[slab] - 1
