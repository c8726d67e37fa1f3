"""fork copies page tables, not pages: both processes get entries for the same pages, and neither may write.

parent  pte ─ RW ─▶ page (mapcount 1)          parent  pte ─ R ─▶ page (mapcount 2)
                                     fork ──▶  child   pte ─ R ──────┘        the first write copies
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.page_state import page_ref_inc
from kmemlab.mm.swap_count import swap_duplicate
from kmemlab.mm.swapops import pte_swp_clear_exclusive, pte_swp_exclusive, pte_to_swp_entry
from kmemlab.process.mm_struct import MM_SWAPENTS, MmStruct, add_mm_counter
from kmemlab.process.mman import is_cow_mapping, pte_present
from kmemlab.process.pgtable import present_ptes, pte_alloc
from kmemlab.process.rmap import mm_counter, page_dup_anon_rmap, page_dup_file_rmap
from kmemlab.process.zap import vm_normal_page
from kmemlab.sim.kernel import kernel
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW
from kmemlab.types.vm_flags import VM_SHARED


@kernel("mm/memory.c", "vma_needs_copy", left_out="devices' memory, userfaultfd", traced=False)
def vma_needs_copy(src_mm: MmStruct, src_vma: int) -> bool:
    """Whether the child can't simply fault: there are pages of its parent, which no file has.

    Pages that a file has the child finds in memory when it touches them.
    """
    return bool(src_mm.common.vmas.anon_vma[src_vma])


@kernel("mm/memory.c", "copy_page_range", left_out="huge pages", formerly=("copy_pte_range",))
def copy_page_range(dst_mm: MmStruct, src_mm: MmStruct, src_vma: int) -> None:
    """Give a child the pages of one VMA of its parent. Raises `OutOfMemory` where there is no page for a table."""
    if not vma_needs_copy(src_mm, src_vma):
        return
    vmas = src_mm.common.vmas
    for address, src_ptep in present_ptes(src_mm.tables, vmas.vm_start[src_vma], vmas.vm_end[src_vma]):
        dst_ptep = pte_alloc(dst_mm, address)
        entry = get_entry(src_mm.tables, src_ptep)  # the request for a table may have made reclaim take the page
        if entry and not pte_present(entry):
            copy_nonpresent_pte(dst_mm, src_mm, dst_ptep, src_ptep)
        elif entry:
            copy_present_pte(dst_mm, src_mm, dst_ptep, src_ptep, vmas.vm_flags[src_vma])


@kernel("mm/memory.c", "copy_present_pte", left_out="pages that a device uses: they are copied at once")
def copy_present_pte(dst_mm: MmStruct, src_mm: MmStruct, dst_ptep: int, src_ptep: int, vm_flags: int) -> None:
    """Let both processes map a page; in a private VMA without the right to write into it."""
    entry = get_entry(src_mm.tables, src_ptep)
    pfn = vm_normal_page(src_mm.tables, entry)
    if pfn is not None:
        page = src_mm.common.mm.page
        page_ref_inc(page, pfn)
        (page_dup_anon_rmap if page_anon(page, pfn) else page_dup_file_rmap)(src_mm.common.mm, pfn)
        add_mm_counter(dst_mm, mm_counter(page, pfn), 1)
    if is_cow_mapping(vm_flags) and entry & PAGE_RW:
        entry &= ~PAGE_RW
        set_entry(src_mm.tables, src_ptep, entry)
    if vm_flags & VM_SHARED:
        entry &= ~PAGE_DIRTY  # the parent's entry tells it
    set_entry(dst_mm.tables, dst_ptep, entry & ~PAGE_ACCESSED)


@kernel("mm/memory.c", "copy_nonpresent_pte", left_out="migration, devices' memory", formerly=("copy_one_pte",))
def copy_nonpresent_pte(dst_mm: MmStruct, src_mm: MmStruct, dst_ptep: int, src_ptep: int) -> None:
    """Let both processes hold a swap entry; the page is no longer the parent's alone."""
    layout = src_mm.tables.layout
    pte = get_entry(src_mm.tables, src_ptep)
    swap_duplicate(src_mm.common.mm, pte_to_swp_entry(layout, pte))
    if pte_swp_exclusive(layout, pte):
        pte = pte_swp_clear_exclusive(layout, pte)
        set_entry(src_mm.tables, src_ptep, pte)
    add_mm_counter(dst_mm, MM_SWAPENTS, 1)
    set_entry(dst_mm.tables, dst_ptep, pte)
