"""try_to_unmap: take a page out of all page tables, so that reclaim can free it.

page of a file   entry cleared, TLB flushed ─▶ was it written into? the page is dirty ─▶ one mapping, one reference less
anonymous page   the entry says from now on where the contents will be found: in which slot of which swap area
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.mlock import mlock_folio
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.page_state import take_page_flag
from kmemlab.mm.page_writeback import folio_mark_dirty
from kmemlab.mm.rmap_table import TRY_TO_UNMAP
from kmemlab.mm.swap_count import swap_duplicate
from kmemlab.mm.swap_state import folio_swap_entry, folio_test_swapcache
from kmemlab.mm.swapops import pte_swp_mkexclusive, swp_entry_to_pte
from kmemlab.process.mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SWAPENTS,
    MmStruct,
    add_mm_counter,
    update_hiwater_rss,
)
from kmemlab.process.pgtable import flush_tlb_mm_range
from kmemlab.process.rmap import page_remove_rmap
from kmemlab.process.rmap_walk import mapped_entries
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_anon_exclusive
from kmemlab.types.pgtable import PAGE_DIRTY
from kmemlab.types.units import PAGE_SIZE
from kmemlab.types.vm_flags import VM_LOCKED


@kernel("mm/rmap.c", "try_to_unmap", left_out="migration; huge pages", lock="the page's lock")
def unmap_everywhere(mm: Mm, pfn: int) -> None:
    """Take a page out of each page table that maps it, until none does or one can't let go."""
    for space, vma, address, ptep in mapped_entries(mm, pfn):
        if mm.processes.common.vmas.vm_flags[vma] & VM_LOCKED:
            mlock_folio(mm, pfn)
            return
        if not try_to_unmap_one(space, pfn, address, ptep):
            return


@kernel(
    "mm/rmap.c", "try_to_unmap_one", left_out="putting off TLB flushes; poison; huge pages", lock="the table's lock"
)
def try_to_unmap_one(mm: MmStruct, pfn: int, address: int, ptep: int) -> bool:
    """Take a page out of one page table; False if it must stay there."""
    page_alloc = mm.common.mm
    if page_anon(page_alloc.page, pfn):
        return unmap_anon(mm, pfn, address, ptep)
    entry = ptep_clear_flush(mm, address, ptep)
    # Only now is the last word spoken: until the flush the program could still write into the page.
    if entry & PAGE_DIRTY:
        folio_mark_dirty(page_alloc, pfn)
    update_hiwater_rss(mm)
    add_mm_counter(mm, MM_FILEPAGES, -1)
    page_remove_rmap(page_alloc, pfn)
    put_page(page_alloc, pfn)
    return True


@invented("the branch of try_to_unmap_one for anonymous pages")
def unmap_anon(mm: MmStruct, pfn: int, address: int, ptep: int) -> bool:
    """Let an entry name the slot of a page instead of the page; False if it has none, as nothing has its contents."""
    page_alloc, layout = mm.common.mm, mm.tables.layout
    if not folio_test_swapcache(page_alloc, pfn):
        return False
    swap_entry = folio_swap_entry(page_alloc, pfn)
    if ptep_clear_flush(mm, address, ptep) & PAGE_DIRTY:
        folio_mark_dirty(page_alloc, pfn)
    update_hiwater_rss(mm)
    swap_duplicate(page_alloc, swap_entry)
    pte = swp_entry_to_pte(layout, swap_entry)
    if take_page_flag(page_alloc.page, pfn, PG_anon_exclusive):
        pte = pte_swp_mkexclusive(layout, pte)
    add_mm_counter(mm, MM_ANONPAGES, -1)
    add_mm_counter(mm, MM_SWAPENTS, 1)
    set_entry(mm.tables, ptep, pte)
    page_remove_rmap(page_alloc, pfn)
    put_page(page_alloc, pfn)
    return True


@kernel("mm/pgtable-generic.c", "ptep_clear_flush", traced=False)
def ptep_clear_flush(mm: MmStruct, address: int, ptep: int) -> int:
    """Clear an entry and let the CPU forget it; what it was."""
    entry = get_entry(mm.tables, ptep)
    set_entry(mm.tables, ptep, 0)
    flush_tlb_mm_range(mm, address, address + PAGE_SIZE)
    return entry


TRY_TO_UNMAP.append(unmap_everywhere)
