"""Page faults that give a program what it was promised: a page of zeros, or a page of its own where it shared one.

handle_mm_fault ─▶ handle_pte_fault ┬▶ entry empty:    do_anonymous_page   read: the zero page; write: a new page
                                    │                  do_fault            a page of a file: file_fault.py
                                    ├▶ swap entry:     do_swap_page        back from swap: swap_fault.py
                                    └▶ write, no RW:   do_wp_page ┬▶ nobody else has it: wp_page_reuse
                                                                  ├▶ shared: wp_page_copy
                                                                  └▶ a file's, mapped shared: wp_page_shared
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import lru_add_drain
from kmemlab.mm.mlock import lru_cache_add_inactive_or_unevictable, munlock_vma_page
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.page_state import page_has_flag, page_ref_inc
from kmemlab.mm.swap_state import folio_free_swap, folio_test_swapcache
from kmemlab.mm.vm_event import PGFAULT
from kmemlab.mm.wait import folio_trylock, folio_unlock
from kmemlab.process.fault_page import (
    FAULT_FLAG_WRITE,
    VM_FAULT_OOM,
    VM_FAULT_WRITE,
    copy_user_highpage,
    maybe_mkwrite,
    new_anonymous_page,
    wp_page_reuse,
)
from kmemlab.process.file_fault import do_fault, wp_page_shared
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_FILEPAGES, MmStruct, add_mm_counter
from kmemlab.process.mman import pte_present, vm_get_page_prot
from kmemlab.process.pgtable import flush_tlb_mm_range, pte_alloc
from kmemlab.process.rmap import page_add_new_anon_rmap, page_anon_exclusive, page_move_anon_rmap, page_remove_rmap
from kmemlab.process.swap_fault import do_swap_page
from kmemlab.process.zap import free_page_and_swap_cache, vm_normal_page
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_ZERO
from kmemlab.types.pageflags import PG_lru
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW, PAGE_SPECIAL
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from kmemlab.types.vm_flags import VM_SHARED


@kernel("arch/x86/include/asm/pgtable.h", "ZERO_PAGE", formerly=("empty_zero_page",), traced=False)
def my_zero_pfn(mm: Mm) -> int:
    """The one page of zeros in the kernel's image that all programs may read; here the first of .bss."""
    return mm.boot.spec.image.bss[0] + PAGE_SIZE - 1 >> PAGE_SHIFT


@kernel("mm/memory.c", "handle_mm_fault", left_out="huge pages, control groups", formerly=("__handle_mm_fault",))
def handle_mm_fault(mm: MmStruct, vma: int, address: int, flags: int) -> int:
    """See that the program can do what it tried at an address of a VMA that allows it; VM_FAULT_…."""
    mm.common.mm.vm_event[PGFAULT] += 1
    address &= PAGE_MASK
    try:
        ptep = pte_alloc(mm, address)
    except OutOfMemory:
        return VM_FAULT_OOM
    return handle_pte_fault(mm, vma, address, ptep, flags)


@kernel("mm/memory.c", "handle_pte_fault", left_out="NUMA hints", lock="the page table's lock")
def handle_pte_fault(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> int:
    """What is to be done depends on the entry: empty, or there but not for writing, or good already."""
    entry = get_entry(mm.tables, ptep)
    if not entry:
        missing = do_fault if mm.common.vmas.vm_file[vma] else do_anonymous_page
        return missing(mm, vma, address, ptep, flags)
    if not pte_present(entry):
        result, shared = do_swap_page(mm, vma, address, ptep, flags)
        return result | do_wp_page(mm, vma, address, ptep, get_entry(mm.tables, ptep), flags) if shared else result
    if flags & FAULT_FLAG_WRITE:
        if not entry & PAGE_RW:
            return do_wp_page(mm, vma, address, ptep, entry, flags)
        entry |= PAGE_DIRTY
    set_entry(mm.tables, ptep, entry | PAGE_ACCESSED)
    flush_tlb_mm_range(mm, address, address + PAGE_SIZE)
    return 0


@kernel("mm/memory.c", "do_anonymous_page", left_out="shared memory, userfaultfd, control groups")
def do_anonymous_page(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> int:
    """The first touch of a page: a read gets the zero page, a write a page of its own."""
    common = mm.common
    vm_flags = common.vmas.vm_flags[vma]
    prot = vm_get_page_prot(common.mm.boot, vm_flags)
    if not flags & FAULT_FLAG_WRITE:
        set_entry(mm.tables, ptep, my_zero_pfn(common.mm) << PAGE_SHIFT | prot | PAGE_SPECIAL)
        return 0
    pfn = new_anonymous_page(mm, vma, __GFP_ZERO)
    if pfn is None:
        return VM_FAULT_OOM
    add_mm_counter(mm, MM_ANONPAGES, 1)
    page_add_new_anon_rmap(common, pfn, vma, address)
    lru_cache_add_inactive_or_unevictable(common.mm, pfn, vm_flags)
    set_entry(mm.tables, ptep, pfn << PAGE_SHIFT | maybe_mkwrite(prot | PAGE_DIRTY, vm_flags))
    return 0


@kernel("mm/memory.c", "do_wp_page", left_out="KSM", lock="the page table's lock")
def do_wp_page(mm: MmStruct, vma: int, address: int, ptep: int, entry: int, flags: int) -> int:
    """A write to a page that is there, read-only, in a VMA that may be written: copy on write.

    A page that is this process's alone, or that nobody else refers to any more, needs no copy; nor does a page of a
    file that is mapped to be shared.
    """
    page = mm.common.mm.page
    pfn = vm_normal_page(mm.tables, entry)
    if pfn is None:
        return wp_page_copy(mm, vma, address, ptep, None)
    if page_anon(page, pfn):
        if not page_anon_exclusive(page, pfn):
            if not nobody_else_has(mm.common.mm, pfn):
                return wp_page_copy(mm, vma, address, ptep, pfn)
            page_move_anon_rmap(mm.common, pfn, vma)
        wp_page_reuse(mm, vma, address, ptep, entry)
        return VM_FAULT_WRITE
    if mm.common.vmas.vm_flags[vma] & VM_SHARED:
        return wp_page_shared(mm, vma, address, ptep, pfn, flags)
    return wp_page_copy(mm, vma, address, ptep, pfn)


@invented("a part of do_wp_page")
def nobody_else_has(mm: Mm, pfn: int) -> bool:
    """Whether an anonymous page that was shared is one process's alone again: nobody else refers to it any more.

    It gives its slot on a swap area up for that.
    """
    page = mm.page
    if page.refcount[pfn] > 3:
        return False
    if not page_has_flag(page, pfn, PG_lru):
        lru_add_drain(mm)  # a batch may still refer to it
    if page.refcount[pfn] > 1 + folio_test_swapcache(mm, pfn) or not folio_trylock(mm, pfn):
        return False
    folio_free_swap(mm, pfn)
    folio_unlock(mm, pfn)
    return page.refcount[pfn] == 1


@kernel("mm/memory.c", "wp_page_copy", left_out="control groups; devices' memory")
def wp_page_copy(mm: MmStruct, vma: int, address: int, ptep: int, old_pfn: int | None) -> int:
    """Give the process a copy of a shared page, or a page of zeros instead of the zero page."""
    page_alloc = mm.common.mm
    entry = get_entry(mm.tables, ptep)
    if old_pfn is not None:
        page_ref_inc(page_alloc.page, old_pfn)
    pfn = new_anonymous_page(mm, vma, __GFP_ZERO if old_pfn is None else 0)
    result = VM_FAULT_OOM if pfn is None else 0
    if pfn is not None and old_pfn is not None:
        copy_user_highpage(page_alloc, pfn, old_pfn)
    # The request for a page may have made reclaim take the old page out of this very table.
    if pfn is not None and get_entry(mm.tables, ptep) == entry:
        replace_page(mm, vma, address, ptep, old_pfn, pfn)
        result = VM_FAULT_WRITE
    elif pfn is not None:
        put_page(page_alloc, pfn)
    if old_pfn is not None:
        put_page(page_alloc, old_pfn)
    return result


@invented("the middle of wp_page_copy, under the page table's lock")
def replace_page(mm: MmStruct, vma: int, address: int, ptep: int, old_pfn: int | None, pfn: int) -> None:
    """Let an entry name a new page of this process instead of an old one."""
    common = mm.common
    if old_pfn is None or not page_anon(common.mm.page, old_pfn):
        add_mm_counter(mm, MM_ANONPAGES, 1)
    if old_pfn is not None and not page_anon(common.mm.page, old_pfn):
        add_mm_counter(mm, MM_FILEPAGES, -1)
    # Cleared and flushed first: no CPU may see the old page through one entry and the new one through another.
    set_entry(mm.tables, ptep, 0)
    flush_tlb_mm_range(mm, address, address + PAGE_SIZE)
    vm_flags = common.vmas.vm_flags[vma]
    page_add_new_anon_rmap(common, pfn, vma, address)
    lru_cache_add_inactive_or_unevictable(common.mm, pfn, vm_flags)
    prot = vm_get_page_prot(common.mm.boot, vm_flags)
    set_entry(mm.tables, ptep, pfn << PAGE_SHIFT | maybe_mkwrite(prot | PAGE_DIRTY, vm_flags))
    if old_pfn is not None:
        page_remove_rmap(common.mm, old_pfn)
        munlock_vma_page(common.mm, old_pfn, vm_flags)
        free_page_and_swap_cache(common.mm, old_pfn)
