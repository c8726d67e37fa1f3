"""From a page to the page-table entries that map it.

page 0x1234: mapping = anon_vma 5, or file 3; index = page number within
   └─▶ VMAs on the list of anon_vma 5, or of file 3, that have this index ─▶ address ─▶ entry: is its frame 0x1234?
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.boot.pgtable import PageTables, get_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_mapping import folio_mapping, page_anon, page_anon_vma
from kmemlab.process.anon_vma import vmas_of_anon_vma
from kmemlab.process.i_mmap import vma_interval_tree_foreach
from kmemlab.process.mm_struct import MmStruct, Vmas
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import pte_offset_map
from kmemlab.process.task_struct import Processes
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SHIFT


@kernel("mm/internal.h", "vma_address", traced=False)
def vma_address(vmas: Vmas, vma: int, index: int) -> int:
    """Where a VMA has page number `index` of what it maps."""
    return vmas.vm_start[vma] + (index - vmas.vm_pgoff[vma] << PAGE_SHIFT)


@kernel(
    "mm/page_vma_mapped.c",
    "page_vma_mapped_walk",
    formerly=("page_check_address",),
    left_out="huge pages; entries of pages that are moving",
    lock="the page table's lock",
    traced=False,
)
def page_vma_mapped_walk(tables: PageTables, pfn: int, address: int) -> int | None:
    """Where the entry stands that maps a page at an address; None if what stands there is something else."""
    ptep = pte_offset_map(tables, address)
    if ptep is None:
        return None
    entry = get_entry(tables, ptep)
    return ptep if pte_present(entry) and (entry & tables.layout.address_mask) >> PAGE_SHIFT == pfn else None


@kernel("mm/rmap.c", "rmap_walk_anon", left_out="callbacks: the places are handed out", lock="anon_vma->rwsem")
def rmap_walk_anon(processes: Processes, pfn: int) -> Iterator[tuple[MmStruct, int, int]]:
    """Everywhere a page without a file may be mapped: (address space, VMA, address)."""
    common = processes.common
    page, vmas = common.mm.page, common.vmas
    index = page.index[pfn]
    for vma in vmas_of_anon_vma(common, page_anon_vma(page, pfn), index):
        yield processes.mms[vmas.vm_mm[vma] - 1], vma, vma_address(vmas, vma, index)


@kernel("mm/rmap.c", "rmap_walk_file", left_out="callbacks", lock="mapping->i_mmap_rwsem")
def rmap_walk_file(processes: Processes, pfn: int) -> Iterator[tuple[MmStruct, int, int]]:
    """Everywhere a page of a file may be mapped: (address space, VMA, address)."""
    common = processes.common
    page, vmas = common.mm.page, common.vmas
    index, mapping = page.index[pfn], folio_mapping(page, pfn)
    for vma in vma_interval_tree_foreach(common, mapping, index, index) if mapping else ():
        yield processes.mms[vmas.vm_mm[vma] - 1], vma, vma_address(vmas, vma, index)


@kernel("mm/rmap.c", "rmap_walk", left_out="pages that KSM has made one", traced=False)
def rmap_walk(mm: Mm, pfn: int) -> Iterator[tuple[MmStruct, int, int]]:
    """Everywhere a page may be mapped: (address space, VMA, address). An entry need not be there."""
    walk = rmap_walk_anon if page_anon(mm.page, pfn) else rmap_walk_file
    return walk(mm.processes, pfn)


@invented("each callback of rmap_walk begins with page_vma_mapped_walk", traced=False)
def mapped_entries(mm: Mm, pfn: int) -> Iterator[tuple[MmStruct, int, int, int]]:
    """Every entry that maps a page: (address space, VMA, address, where the entry stands).

    Whoever asks may clear or change the entry, but not the lists of VMAs.
    """
    for space, vma, address in rmap_walk(mm, pfn):
        ptep = page_vma_mapped_walk(space.tables, pfn, address)
        if ptep is not None:
            yield space, vma, address, ptep
