"""Page faults that give a program what it was promised: a page of zeros, or a page of its own where it shared one.

handle_mm_fault ─▶ handle_pte_fault ┬▶ entry empty:    do_anonymous_page   read: the zero page; write: a new page
                                    └▶ write, no RW:   do_wp_page ┬▶ nobody else has it: wp_page_reuse
                                                                  └▶ shared: wp_page_copy
"""

from __future__ import annotations

from kmemlab.alloc.page_api import alloc_page
from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_add_lru, lru_add_drain
from kmemlab.mm.page_state import page_has_flag, set_page_flag
from kmemlab.mm.vm_event import PGFAULT
from kmemlab.process.anon_vma import anon_vma_prepare
from kmemlab.process.mm_struct import MM_ANONPAGES, MmStruct, add_mm_counter
from kmemlab.process.mman import VM_WRITE, pte_present, vm_get_page_prot
from kmemlab.process.pgtable import flush_tlb_mm_range, pte_alloc
from kmemlab.process.rmap import page_add_new_anon_rmap, page_anon_exclusive, page_move_anon_rmap, page_remove_rmap
from kmemlab.process.zap import free_page_and_swap_cache, vm_normal_page
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_ZERO, GFP_HIGHUSER_MOVABLE
from kmemlab.types.pageflags import PG_lru, PG_uptodate
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW, PAGE_SPECIAL
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

FAULT_FLAG_WRITE = 0x01
FAULT_FLAG_USER = 0x40
FAULT_FLAG_INSTRUCTION = 0x100

# What a handler says; VM_FAULT_WRITE comes where a page was copied or reused.
VM_FAULT_OOM = 0x1
VM_FAULT_SIGSEGV = 0x40
VM_FAULT_WRITE = 0x8


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


@kernel("mm/memory.c", "handle_pte_fault", left_out="files, swap, NUMA hints", lock="the page table's lock")
def handle_pte_fault(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> int:
    """What is to be done depends on the entry: empty, or there but not for writing, or good already."""
    entry = get_entry(mm.tables, ptep)
    if not entry:
        return do_anonymous_page(mm, vma, address, ptep, flags)
    assert pte_present(entry), "an entry of another kind than pages that are present"
    if flags & FAULT_FLAG_WRITE:
        if not entry & PAGE_RW:
            return do_wp_page(mm, vma, address, ptep, entry)
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
    folio_add_lru(common.mm, pfn)
    set_entry(mm.tables, ptep, pfn << PAGE_SHIFT | maybe_mkwrite(prot | PAGE_DIRTY, vm_flags))
    return 0


@kernel("include/linux/highmem.h", "alloc_zeroed_user_highpage_movable", left_out="control groups")
def new_anonymous_page(mm: MmStruct, vma: int, gfp: int) -> int | None:
    """A page for a program, movable and from HighMem if there is any; None if there is no memory, or no anon_vma."""
    if not anon_vma_prepare(mm, vma):
        return None
    pfn = alloc_page(mm.common.mm, GFP_HIGHUSER_MOVABLE | gfp)
    if pfn is not None:
        set_page_flag(mm.common.mm.page, pfn, PG_uptodate)
    return pfn


@kernel("include/linux/mm.h", "maybe_mkwrite", traced=False)
def maybe_mkwrite(entry: int, vm_flags: int) -> int:
    """The entry with RW, if the VMA may be written."""
    return entry | PAGE_RW if vm_flags & VM_WRITE else entry


@kernel("mm/memory.c", "do_wp_page", left_out="shared memory, KSM, the swap cache", lock="the page table's lock")
def do_wp_page(mm: MmStruct, vma: int, address: int, ptep: int, entry: int) -> int:
    """A write to a page that is there, read-only, in a VMA that may be written: copy on write.

    A page that is this process's alone, or that nobody else refers to any more, needs no copy.
    """
    page = mm.common.mm.page
    pfn = vm_normal_page(mm.tables, entry)
    if pfn is None:
        return wp_page_copy(mm, vma, address, ptep, None)
    if not page_anon_exclusive(page, pfn):
        if page.refcount[pfn] <= 3 and not page_has_flag(page, pfn, PG_lru):
            lru_add_drain(mm.common.mm)  # a batch may still refer to it
        if page.refcount[pfn] != 1:
            return wp_page_copy(mm, vma, address, ptep, pfn)
        page_move_anon_rmap(mm.common, pfn, vma)
    wp_page_reuse(mm, vma, address, ptep, entry)
    return VM_FAULT_WRITE


@kernel("mm/memory.c", "wp_page_reuse")
def wp_page_reuse(mm: MmStruct, vma: int, address: int, ptep: int, entry: int) -> None:
    """Let the process write into the page that it has."""
    vm_flags = mm.common.vmas.vm_flags[vma]
    set_entry(mm.tables, ptep, maybe_mkwrite(entry | PAGE_ACCESSED | PAGE_DIRTY, vm_flags))
    flush_tlb_mm_range(mm, address, address + PAGE_SIZE)
    mm.common.pgreuse += 1


@kernel("mm/memory.c", "wp_page_copy", left_out="files, control groups, being overtaken by another CPU")
def wp_page_copy(mm: MmStruct, vma: int, address: int, ptep: int, old_pfn: int | None) -> int:
    """Give the process a copy of a shared page, or a page of zeros instead of the zero page."""
    common = mm.common
    pfn = new_anonymous_page(mm, vma, __GFP_ZERO if old_pfn is None else 0)
    if pfn is None:
        return VM_FAULT_OOM
    if old_pfn is None:
        add_mm_counter(mm, MM_ANONPAGES, 1)
    else:
        copy_user_highpage(common.mm, pfn, old_pfn)
    vm_flags = common.vmas.vm_flags[vma]
    # Cleared and flushed first: no CPU may see the old page through one entry and the new one through another.
    set_entry(mm.tables, ptep, 0)
    flush_tlb_mm_range(mm, address, address + PAGE_SIZE)
    page_add_new_anon_rmap(common, pfn, vma, address)
    folio_add_lru(common.mm, pfn)
    prot = vm_get_page_prot(common.mm.boot, vm_flags)
    set_entry(mm.tables, ptep, pfn << PAGE_SHIFT | maybe_mkwrite(prot | PAGE_DIRTY, vm_flags))
    if old_pfn is not None:
        page_remove_rmap(common.mm, old_pfn)
        free_page_and_swap_cache(common.mm, old_pfn)
    return VM_FAULT_WRITE


@kernel("include/linux/highmem.h", "copy_user_highpage", left_out="kmap_local: we copy by physical addresses")
def copy_user_highpage(mm: Mm, to: int, source: int) -> None:
    """Copy a page."""
    ram = mm.boot.ram
    if ram.place[source]:
        ram.write_bytes(to << PAGE_SHIFT, ram.read_bytes(source << PAGE_SHIFT, PAGE_SIZE))
    else:
        ram.fill_pages(to, 1, ram.filled[source])
