"""fork copies page tables, not pages: both processes get entries for the same pages, and neither may write.

parent  pte ─ RW ─▶ page (mapcount 1)          parent  pte ─ R ─▶ page (mapcount 2)
                                     fork ──▶  child   pte ─ R ──────┘        the first write copies
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.page_state import page_ref_inc
from kmemlab.process.mm_struct import MM_ANONPAGES, MmStruct, add_mm_counter
from kmemlab.process.pgtable import present_ptes, pte_alloc
from kmemlab.process.rmap import page_dup_anon_rmap
from kmemlab.process.zap import vm_normal_page
from kmemlab.sim.kernel import kernel
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_RW


@kernel("mm/memory.c", "vma_needs_copy", left_out="devices' memory, userfaultfd", traced=False)
def vma_needs_copy(src_mm: MmStruct, src_vma: int) -> bool:
    """Whether the child can't simply fault: there are pages of its parent, which no file has."""
    return bool(src_mm.common.vmas.anon_vma[src_vma])


@kernel("mm/memory.c", "copy_page_range", left_out="huge pages, swap entries, files", formerly=("copy_pte_range",))
def copy_page_range(dst_mm: MmStruct, src_mm: MmStruct, src_vma: int) -> None:
    """Give a child the pages of one VMA of its parent. Raises `OutOfMemory` where there is no page for a table."""
    if not vma_needs_copy(src_mm, src_vma):
        return
    vmas = src_mm.common.vmas
    for address, src_ptep in present_ptes(src_mm.tables, vmas.vm_start[src_vma], vmas.vm_end[src_vma]):
        copy_present_pte(dst_mm, src_mm, pte_alloc(dst_mm, address), src_ptep)


@kernel("mm/memory.c", "copy_present_pte", left_out="pages that a device uses: they are copied at once")
def copy_present_pte(dst_mm: MmStruct, src_mm: MmStruct, dst_ptep: int, src_ptep: int) -> None:
    """Let both processes map a page, without the right to write into it."""
    entry = get_entry(src_mm.tables, src_ptep)
    pfn = vm_normal_page(src_mm.tables, entry)
    if pfn is not None:
        page_ref_inc(src_mm.common.mm.page, pfn)
        page_dup_anon_rmap(src_mm.common.mm, pfn)
        add_mm_counter(dst_mm, MM_ANONPAGES, 1)
    if entry & PAGE_RW:
        entry &= ~PAGE_RW
        set_entry(src_mm.tables, src_ptep, entry)
    set_entry(dst_mm.tables, dst_ptep, entry & ~PAGE_ACCESSED)
