"""do_swap_page: a program touches a page that was swapped out.

in the swap cache still? ── yes ─▶ a minor fault
   └── no ─▶ read, with its neighbours: a major fault ─▶ VM_FAULT_RETRY while the disk works ─▶ now it is in the cache
then   swap_free: one page table less holds the entry ─▶ nobody else has the page? it may be written at once
                                                      └▶ else it is read-only, and a write copies it
"""

from __future__ import annotations

from functools import partial

from kmemlab.alloc.swap_readahead import swapin_readahead
from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import lru_add_drain
from kmemlab.mm.mlock import mlock_vma_page
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.swap_count import swap_free
from kmemlab.mm.swap_state import folio_free_swap, folio_swap_entry, folio_test_swapcache, vm_swap_full
from kmemlab.mm.swapops import non_swap_entry, pte_swp_exclusive, pte_to_swp_entry
from kmemlab.mm.vm_event import PGMAJFAULT
from kmemlab.mm.wait import folio_lock, folio_trylock, folio_unlock, folio_wait_locked
from kmemlab.process.fault_page import (
    FAULT_FLAG_ALLOW_RETRY,
    FAULT_FLAG_TRIED,
    FAULT_FLAG_WRITE,
    VM_FAULT_MAJOR,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VM_FAULT_WRITE,
    maybe_mkwrite,
)
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_SWAPENTS, MmStruct, add_mm_counter
from kmemlab.process.mman import vma_page_prot
from kmemlab.process.rmap import page_add_anon_rmap
from kmemlab.process.swap_ra import swap_cache_get_folio, vma_entries
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_lru, PG_mlocked, PG_uptodate
from kmemlab.types.pgtable import PAGE_DIRTY
from kmemlab.types.units import PAGE_SHIFT


@kernel(
    "mm/memory.c",
    "do_swap_page",
    left_out="devices that are done at once or want stable pages, KSM, memcg; do_wp_page at its end is the caller's",
    lock="the page table's lock",
)
def do_swap_page(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> tuple[int, bool]:
    """(VM_FAULT_…, whether a write still needs a copy): bring a page back from swap and let the entry name it."""
    page_alloc, pte = mm.common.mm, get_entry(mm.tables, ptep)
    entry = pte_to_swp_entry(mm.tables.layout, pte)
    assert not non_swap_entry(entry), "a page is still on the move"
    pfn = swap_cache_get_folio(mm, vma, address, entry)
    result = 0
    if pfn is None:
        pfn = swapin_readahead(page_alloc, entry, partial(vma_entries, mm, vma, address, ptep))
        if pfn is None:
            return VM_FAULT_OOM, False
        result = VM_FAULT_MAJOR
        page_alloc.vm_event[PGMAJFAULT] += 1
    if not folio_lock_or_retry(page_alloc, pfn, flags):
        put_page(page_alloc, pfn)
        return result | VM_FAULT_RETRY, False
    if not is_still_swapped(mm, pfn, entry, ptep, pte):
        folio_unlock(page_alloc, pfn)
        put_page(page_alloc, pfn)
        return result, False
    assert page_has_flag(page_alloc.page, pfn, PG_uptodate), f"pfn {pfn} was not read"
    if flags & FAULT_FLAG_WRITE and not page_has_flag(page_alloc.page, pfn, PG_lru):
        lru_add_drain(page_alloc)  # a batch may still refer to it
    writable = map_swapped_page(mm, vma, address, ptep, pfn, flags)
    folio_unlock(page_alloc, pfn)
    if flags & FAULT_FLAG_WRITE and writable:
        result |= VM_FAULT_WRITE
    return result, bool(flags & FAULT_FLAG_WRITE) and not writable


@kernel("mm/filemap.c", "__folio_lock_or_retry", formerly=("lock_page_or_retry", "folio_lock_or_retry"))
def folio_lock_or_retry(mm: Mm, pfn: int, flags: int) -> bool:
    """Lock a page; False if it had to be waited for, so that mmap_lock was let go of, and the fault must begin anew."""
    if folio_trylock(mm, pfn):
        return True
    if flags & FAULT_FLAG_ALLOW_RETRY and not flags & FAULT_FLAG_TRIED:
        folio_wait_locked(mm, pfn)
        return False
    folio_lock(mm, pfn)
    return True


@invented("two checks of do_swap_page", traced=False)
def is_still_swapped(mm: MmStruct, pfn: int, entry: int, ptep: int, pte: int) -> bool:
    """Whether, after all waiting, the page is still that of the entry, and the entry still in the page table."""
    page_alloc = mm.common.mm
    in_cache = folio_test_swapcache(page_alloc, pfn) and folio_swap_entry(page_alloc, pfn) == entry
    return in_cache and get_entry(mm.tables, ptep) == pte


@invented("the middle of do_swap_page, under the page table's lock")
def map_swapped_page(mm: MmStruct, vma: int, address: int, ptep: int, pfn: int, flags: int) -> bool:
    """Let the entry name the page again; whether it is this process's alone, so that it may write."""
    common, page_alloc = mm.common, mm.common.mm
    vm_flags = common.vmas.vm_flags[vma]
    exclusive = pte_swp_exclusive(mm.tables.layout, get_entry(mm.tables, ptep))
    swap_free(page_alloc, folio_swap_entry(page_alloc, pfn))
    if should_try_to_free_swap(page_alloc, pfn, flags):
        folio_free_swap(page_alloc, pfn)
    add_mm_counter(mm, MM_ANONPAGES, 1)
    add_mm_counter(mm, MM_SWAPENTS, -1)
    pte = pfn << PAGE_SHIFT | vma_page_prot(page_alloc.boot, vm_flags)
    exclusive = exclusive or page_alloc.page.refcount[pfn] == 1
    if exclusive and flags & FAULT_FLAG_WRITE:
        pte = maybe_mkwrite(pte | PAGE_DIRTY, vm_flags)
    page_add_anon_rmap(common, pfn, vma, address, exclusive)
    mlock_vma_page(page_alloc, pfn, vm_flags)
    set_entry(mm.tables, ptep, pte)
    return exclusive


@kernel("mm/memory.c", "should_try_to_free_swap", left_out="KSM", traced=False)
def should_try_to_free_swap(mm: Mm, pfn: int, flags: int) -> bool:
    """Whether a page that comes back should give up its slot: slots are few, or it is likely to be written at once."""
    if not folio_test_swapcache(mm, pfn):
        return False
    if vm_swap_full(mm) or page_has_flag(mm.page, pfn, PG_mlocked):
        return True
    return bool(flags & FAULT_FLAG_WRITE) and mm.page.refcount[pfn] == 2
