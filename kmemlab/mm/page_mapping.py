"""page.mapping: what a page is a page of, in one cell.

0                              nothing: the page is free, or the kernel's own
1 … 4096                       the mapping with that number: a file, or the disk itself      page.index: place in it
PAGE_MAPPING_ANON | number     the anon_vma with that number: memory of programs             page.index: place in it

In C a pointer stands here, and its lowest bit tells the two apart, since structs are aligned. Numbers are not, so here
it is a bit above all of them.
"""

from __future__ import annotations

from kmemlab.mm.mem_map import MemMap
from kmemlab.sim.kernel import invented, kernel

PAGE_MAPPING_ANON = 1 << 24


@kernel("include/linux/page-flags.h", "PageAnon", formerly=("folio_test_anon",), traced=False)
def page_anon(page: MemMap, pfn: int) -> bool:
    """Whether a page belongs to no file, but to programs."""
    return bool(page.mapping[pfn] & PAGE_MAPPING_ANON)


@kernel("mm/rmap.c", "page_anon_vma", formerly=("page_get_anon_vma",), traced=False)
def page_anon_vma(page: MemMap, pfn: int) -> int:
    """The number of the anon_vma of a page without a file."""
    return page.mapping[pfn] & ~PAGE_MAPPING_ANON


@invented("C sets the lowest bit of a pointer", traced=False)
def anon_mapping(anon_vma: int) -> int:
    """What stands in the `mapping` of a page of an anon_vma."""
    return PAGE_MAPPING_ANON | anon_vma


@kernel("mm/util.c", "folio_mapping", formerly=("page_mapping",), left_out="the swap cache", traced=False)
def folio_mapping(page: MemMap, pfn: int) -> int:
    """The number of the mapping that a page belongs to; 0 if it is of no file."""
    return 0 if page_anon(page, pfn) else page.mapping[pfn]
