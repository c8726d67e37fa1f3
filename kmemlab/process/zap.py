"""Taking pages away from a range of addresses: entries cleared, the CPU told, the pages let go of.

unmap_region ──▶ zap_pte_range, entry by entry ──▶ page_remove_rmap
             │                                └─▶ free_pages_and_swap_cache, many at a time ──▶ release_pages
             └─▶ free_pgd_range: tables that cover nothing any more
"""

from __future__ import annotations

from collections.abc import Sequence

from kmemlab.boot.pgtable import PageTables, get_entry, set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_mark_accessed, lru_add_drain
from kmemlab.mm.mlock import munlock_vma_page
from kmemlab.mm.page_free import put_page, release_pages
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.page_writeback import folio_mark_dirty
from kmemlab.mm.swap_state import folio_test_swapcache, free_swap_and_cache, free_swap_cache
from kmemlab.mm.swapops import pte_to_swp_entry
from kmemlab.process.mm_struct import MM_SWAPENTS, MmStruct, add_mm_counter, update_hiwater_rss
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import flush_tlb_mm_range, free_pgd_range, present_ptes
from kmemlab.process.rmap import mm_counter, page_remove_rmap
from kmemlab.process.vma import find_vma, find_vma_prev
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_SPECIAL
from kmemlab.types.units import PAGE_SHIFT

NO_CEILING = 1 << 64
MOST_AT_ONCE = 512  # pages that are let go of together


@kernel("mm/memory.c", "vm_normal_page", left_out="devices' memory", traced=False)
def vm_normal_page(tables: PageTables, entry: int) -> int | None:
    """The page frame that an entry maps, if it is one that is counted; None for the zero page."""
    if entry & PAGE_SPECIAL:
        return None
    return (entry & tables.layout.address_mask) >> PAGE_SHIFT


@kernel("mm/swap_state.c", "free_page_and_swap_cache", traced=False)
def free_page_and_swap_cache(mm: Mm, pfn: int) -> None:
    """Let go of a page that one page table less maps, and of its slot on a swap area if nobody else wants it.

    If this was the last use, it is of no anon_vma any more; it is free as soon as no batch on its way to the LRU lists
    refers to it.
    """
    leave_anon_vma(mm, pfn)
    put_page(mm, pfn)


@invented("a part of free_page_and_swap_cache; C forgets the anon_vma when the page is freed", traced=False)
def leave_anon_vma(mm: Mm, pfn: int) -> None:
    """A page that no page table maps any more loses its slot, if nobody else wants it, and its anon_vma."""
    free_swap_cache(mm, pfn)
    if not mm.page.mapcount[pfn] and page_anon(mm.page, pfn) and not folio_test_swapcache(mm, pfn):
        mm.page.mapping[pfn] = 0
        mm.page.index[pfn] = 0


@kernel("mm/swap_state.c", "free_pages_and_swap_cache")
def free_pages_and_swap_cache(mm: Mm, pfns: Sequence[int]) -> None:
    """Let go of many pages at once, also those that wait in a batch to come to an LRU list."""
    lru_add_drain(mm)
    for pfn in pfns:
        leave_anon_vma(mm, pfn)
    release_pages(mm, pfns)


@kernel(
    "mm/memory.c",
    "zap_pte_range",
    left_out="huge pages; gathering the pages of several areas",
    formerly=("zap_page_range",),
)
def zap_pte_range(mm: MmStruct, addr: int, end: int, vm_flags: int) -> None:
    """Clear every entry of a part of a VMA with these flags, flush, and let go of the pages."""
    pages = []
    for _, entryp in present_ptes(mm.tables, addr, end):
        entry = get_entry(mm.tables, entryp)
        set_entry(mm.tables, entryp, 0)
        if not pte_present(entry):
            add_mm_counter(mm, MM_SWAPENTS, -1)
            free_swap_and_cache(mm.common.mm, pte_to_swp_entry(mm.tables.layout, entry))
            continue
        pfn = vm_normal_page(mm.tables, entry)
        if pfn is not None:
            keep_what_the_cpu_noted(mm.common.mm, pfn, entry)
            add_mm_counter(mm, mm_counter(mm.common.mm.page, pfn), -1)
            page_remove_rmap(mm.common.mm, pfn)
            munlock_vma_page(mm.common.mm, pfn, vm_flags)
            pages.append(pfn)
    flush_tlb_mm_range(mm, addr, end)
    # Only now: as long as the CPU remembers an entry, the program could still write into the page.
    for start in range(0, len(pages), MOST_AT_ONCE):
        free_pages_and_swap_cache(mm.common.mm, pages[start : start + MOST_AT_ONCE])


@invented("a part of zap_pte_range")
def keep_what_the_cpu_noted(mm: Mm, pfn: int, entry: int) -> None:
    """An entry of a file's page goes: that it was written or read is the page's affair from now on."""
    if not page_anon(mm.page, pfn):
        if entry & PAGE_DIRTY:
            folio_mark_dirty(mm, pfn)
        if entry & PAGE_ACCESSED:
            folio_mark_accessed(mm, pfn)


@kernel("mm/mmap.c", "unmap_region", lock="mm->mmap_lock")
def unmap_region(mm: MmStruct, vmas_gone: list[int], start: int, end: int) -> None:
    """Take all pages of [start, end) away, and the tables that only they needed; its VMAs are off the list already."""
    vmas = mm.common.vmas
    lru_add_drain(mm.common.mm)
    update_hiwater_rss(mm)
    for vma in vmas_gone:
        zap_pte_range(mm, vmas.vm_start[vma], vmas.vm_end[vma], vmas.vm_flags[vma])
    _, prev = find_vma_prev(mm, start)
    after = find_vma(mm, start)
    floor = vmas.vm_end[prev] if prev else 0
    ceiling = vmas.vm_start[after] if after else NO_CEILING
    free_pgd_range(mm, start, end, floor, ceiling)
