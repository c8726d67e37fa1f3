"""page_address: where the kernel sees a page. Low memory by arithmetic; HighMem by a hash table of what kmap mapped.

page_address_htable     0        1        2       …   127          bucket = hash of the address of struct page
                        │        │        │
                        ○        ●17─●403 ○                        the page_address_map of slot 17, of slot 403
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.layout_32 import pkmap_base
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.mm.globals import Mm
from kmemlab.mm.highmem import is_highmem
from kmemlab.mm.mem_map import page_zone_id
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead, init_list_head, list_add_tail, list_del, list_for_each
from kmemlab.sim.struct import Struct
from kmemlab.types.pgtable import PTE
from kmemlab.types.units import PAGE_SHIFT
from kmemlab.types.zone_type import MAX_NR_ZONES

PA_HASH_ORDER = 7
GOLDEN_RATIO_32 = 0x61C88647


@kernel("mm/highmem.c", "struct page_address_map", left_out="virtual: the number of the map is that of its slot")
class PageAddresses(Struct):
    """Map number n says which page slot n of kmap shows; the heads of the hash table stand behind the maps."""

    pfn: Column

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.maps = last_pkmap(mm.boot)
        self.pfn = column("q", self.maps)
        self.list = ListHead(self.maps + (1 << PA_HASH_ORDER))


@kernel("arch/x86/include/asm/pgtable_32_areas.h", "LAST_PKMAP", traced=False)
def last_pkmap(boot: Boot) -> int:
    """How many slots kmap has: the entries of one page table; 0 without HighMem."""
    return boot.swapper_pg_dir.layout.levels[PTE].entries if boot.config.highmem else 0


@kernel("mm/highmem.c", "page_address_init")
def page_address_init(addresses: PageAddresses) -> None:
    """Make the buckets of the hash table empty lists."""
    for bucket in range(1 << PA_HASH_ORDER):
        init_list_head(addresses.list, addresses.maps + bucket)


@kernel("arch/x86/include/asm/highmem.h", "PKMAP_ADDR", traced=False)
def pkmap_addr(mm: Mm, nr: int) -> int:
    """The address of a slot of kmap."""
    return pkmap_base(mm.boot) + (nr << PAGE_SHIFT)


@kernel("include/linux/page-flags.h", "PageHighMem", traced=False)
def page_highmem(mm: Mm, pfn: int) -> bool:
    """Whether a page has no address of its own in the direct map."""
    if not mm.boot.config.highmem:
        return False
    slot = page_zone_id(mm.page, pfn) - 1
    return slot >= 0 and is_highmem(mm, mm.node_data[slot // MAX_NR_ZONES].node_zones[slot % MAX_NR_ZONES])


@kernel("include/linux/mm.h", "lowmem_page_address", traced=False)
def lowmem_page_address(mm: Mm, pfn: int) -> int:
    """Where the direct map shows a page."""
    return va(mm.boot, pfn << PAGE_SHIFT)


@kernel("include/linux/hash.h", "hash_32", traced=False)
def hash_32(val: int, bits: int) -> int:
    """The upper bits of a product with the golden ratio: neighbours come far apart.

    >>> [hash_32(40 * pfn, 7) for pfn in (1, 2, 3)]
    [35, 71, 106]
    """
    return (val * GOLDEN_RATIO_32 & 0xFFFFFFFF) >> 32 - bits


@kernel("mm/highmem.c", "page_slot", left_out="where mem_map starts: the hash is of the offset in it", traced=False)
def page_slot(addresses: PageAddresses, pfn: int) -> int:
    """The head of the list of the bucket that a page belongs to."""
    offset = pfn * addresses.mm.boot.config.sizeof_page
    return addresses.maps + hash_32(offset & 0xFFFFFFFF, PA_HASH_ORDER)


@invented("the walk that page_address and set_page_address have in common", traced=False)
def find_map(addresses: PageAddresses, pfn: int) -> int | None:
    """The slot that shows a page, or None."""
    for nr in list_for_each(addresses.list, page_slot(addresses, pfn)):
        if addresses.pfn[nr] == pfn:
            return nr
    return None


@kernel("mm/highmem.c", "page_address", lock="pas->lock")
def page_address(addresses: PageAddresses, pfn: int) -> int:
    """The address of a page, or 0 for a page of HighMem that kmap has not mapped."""
    mm = addresses.mm
    if not page_highmem(mm, pfn):
        return lowmem_page_address(mm, pfn)
    nr = find_map(addresses, pfn)
    return 0 if nr is None else pkmap_addr(mm, nr)


@kernel("mm/highmem.c", "set_page_address", lock="pas->lock")
def set_page_address(addresses: PageAddresses, pfn: int, nr: int | None) -> None:
    """Note that slot `nr` shows a page of HighMem, or, with None, that no slot does any more."""
    assert page_highmem(addresses.mm, pfn)
    if nr is not None:
        addresses.pfn[nr] = pfn
        list_add_tail(addresses.list, nr, page_slot(addresses, pfn))
        return
    found = find_map(addresses, pfn)
    if found is not None:
        list_del(addresses.list, found)
