"""Huge pages of user programs (hugetlb): one pool for each size of page that the CPU has."""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.units import PAGE_SHIFT

HUGE_MAX_HSTATE = 2  # 2 MiB and 1 GiB
HUGETLB_PAGE_ORDER = 9
GIGANTIC_PAGE_ORDER = 18
MAX_GIGANTIC_PAGES = 1 << 16


@kernel("include/linux/hugetlb.h", "struct hstate", left_out="counts of single nodes, surplus pages, reservations")
class Hstate(Struct):
    """A pool of pages of 2**`order` pages each; `order` 0: not there. At most `max_huge_pages` of them are wanted."""

    order = Cell()
    max_huge_pages = Cell()
    nr_huge_pages = Cell()
    free_huge_pages = Cell()
    next_nid_to_alloc = Cell()

    max_huge_pages_node: Column
    free_page: Column

    def __init__(self, nr_nodes: int, pages: int) -> None:
        """`pages` is the number of huge pages that can be there at most."""
        self.max_huge_pages_node = column("q", nr_nodes)
        self.free_page = column("q", pages)  # hugepage_freelists: the page frames of free ones, the last one put first


@invented("C's global variables are fields here, so that a machine can be copied and rewound")
class Hugetlb(Struct):
    """The pools in the order in which they were registered, and what parsing the command line has come to."""

    hugetlb_max_hstate = Cell()  # pools registered
    default_hstate_idx = Cell()
    default_hstate_max_huge_pages = Cell()  # hugepages= before any size was named
    parsed_hstate = Cell()  # the pool that a following hugepages= is for
    parsed_valid_hugepagesz = Cell()
    parsed_default_hugepagesz = Cell()
    last_mhp = Cell()  # 1 + the pool that the last hugepages= was for; 0: none, -1: before any size was named
    nr_boot_pages = Cell()  # gigantic pages that memblock gave

    default_hugepages_in_node: Column  # the same for single nodes
    boot_page: Column
    boot_page_hstate: Column

    def __init__(self, nr_nodes: int, max_pfn: int) -> None:
        self.hstates = tuple(Hstate(nr_nodes, max_pfn >> HUGETLB_PAGE_ORDER) for _ in range(HUGE_MAX_HSTATE))
        self.default_hugepages_in_node = column("q", nr_nodes)
        self.boot_page = column("q", MAX_GIGANTIC_PAGES)  # huge_boot_pages: page frame and pool
        self.boot_page_hstate = column("B", MAX_GIGANTIC_PAGES)

    def registered(self) -> list[Hstate]:
        """The pools that there are."""
        return list(self.hstates[: self.hugetlb_max_hstate])


@kernel("include/linux/hugetlb.h", "hstate_is_gigantic", traced=False)
def hstate_is_gigantic(h: Hstate) -> bool:
    """Whether the pages are larger than what the page allocator has: they can only be had while memblock is there."""
    return h.order > 10


@kernel("lib/string_helpers.c", "string_get_size", left_out="units of 1000; other sizes", traced=False)
def huge_page_size_text(h: Hstate) -> str:
    """The size of a page as the kernel writes it: 2.00 MiB, 1.00 GiB."""
    size = 1 << (h.order + PAGE_SHIFT)
    return f"{size >> 30}.00 GiB" if size >> 30 else f"{size >> 20}.00 MiB"
