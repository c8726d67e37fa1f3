"""Reverse mappings: how many page tables map a page, and which ones.

page 0x1234: mapping = anon_vma 5, index = page number within, mapcount 2
   └─▶ VMAs on the list of anon_vma 5 that have this index ─▶ their address of it ─▶ two entries with frame 0x1234
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.boot.pgtable import get_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MemMap
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, set_page_flag
from kmemlab.mm.vmstat import NODE_STAT_NAMES
from kmemlab.process.anon_vma import vmas_of_anon_vma
from kmemlab.process.mm_struct import MmStruct, ProcessMemory
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import mod_lruvec_page_state, pte_offset_map
from kmemlab.process.vma import linear_page_index
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_anon_exclusive, PG_swapbacked
from kmemlab.types.units import PAGE_SHIFT

PAGE_MAPPING_ANON = 1
"""The lowest bit of `mapping`: the rest is the number of an anon_vma, not of a file."""

NR_ANON_MAPPED = NODE_STAT_NAMES.index("nr_anon_pages")


@kernel("include/linux/page-flags.h", "PageAnon", traced=False)
def page_anon(page: MemMap, pfn: int) -> bool:
    """Whether a page belongs to no file."""
    return bool(page.mapping[pfn] & PAGE_MAPPING_ANON)


@kernel("mm/rmap.c", "page_anon_vma", formerly=("page_get_anon_vma",), traced=False)
def page_anon_vma(page: MemMap, pfn: int) -> int:
    """The number of the anon_vma of a page without a file."""
    return page.mapping[pfn] >> 1


@kernel("mm/rmap.c", "__page_set_anon_rmap", traced=False)
def page_set_anon_rmap(common: ProcessMemory, pfn: int, vma: int, address: int) -> None:
    """Write into a page which anon_vma it is of, and which page of it."""
    page = common.mm.page
    page.mapping[pfn] = common.vmas.anon_vma[vma] << 1 | PAGE_MAPPING_ANON
    page.index[pfn] = linear_page_index(common.vmas, vma, address)
    set_page_flag(page, pfn, PG_anon_exclusive)


@kernel("mm/rmap.c", "page_add_new_anon_rmap", left_out="huge pages", lock="the page table's lock")
def page_add_new_anon_rmap(common: ProcessMemory, pfn: int, vma: int, address: int) -> None:
    """A new page of this process alone is about to be mapped: one page table will map it."""
    set_page_flag(common.mm.page, pfn, PG_swapbacked)
    common.mm.page.mapcount[pfn] = 1
    mod_lruvec_page_state(common.mm, pfn, NR_ANON_MAPPED, 1)
    page_set_anon_rmap(common, pfn, vma, address)


@kernel("mm/rmap.c", "page_move_anon_rmap", traced=False)
def page_move_anon_rmap(common: ProcessMemory, pfn: int, vma: int) -> None:
    """A page that was shared is one process's alone again, since the others are gone."""
    common.mm.page.mapping[pfn] = common.vmas.anon_vma[vma] << 1 | PAGE_MAPPING_ANON
    set_page_flag(common.mm.page, pfn, PG_anon_exclusive)


@kernel("include/linux/rmap.h", "page_try_dup_anon_rmap", left_out="pages that a device uses (pinned)", traced=False)
def page_dup_anon_rmap(mm: Mm, pfn: int) -> None:
    """fork: one page table more maps a page, so that it is nobody's alone from now on."""
    clear_page_flag(mm.page, pfn, PG_anon_exclusive)
    mm.page.mapcount[pfn] += 1


@kernel("mm/rmap.c", "page_remove_rmap", left_out="huge pages, files", lock="the page table's lock")
def page_remove_rmap(mm: Mm, pfn: int) -> None:
    """One page table less maps a page."""
    mm.page.mapcount[pfn] -= 1
    if not mm.page.mapcount[pfn]:
        mod_lruvec_page_state(mm, pfn, NR_ANON_MAPPED, -1)


@invented("C asks the flag PG_anon_exclusive by its macro", traced=False)
def page_anon_exclusive(page: MemMap, pfn: int) -> bool:
    """Whether a page without a file is one process's alone, so that this may write into it."""
    return page_has_flag(page, pfn, PG_anon_exclusive)


@kernel("mm/rmap.c", "rmap_walk_anon", left_out="callbacks: the places are handed out", lock="anon_vma->rwsem")
def rmap_walk_anon(
    common: ProcessMemory, mms: tuple[MmStruct, ...], pfn: int
) -> Iterator[tuple[MmStruct, int, int, int]]:
    """Every page-table entry that maps a page without a file: (process memory, VMA, address, where the entry is)."""
    page, vmas = common.mm.page, common.vmas
    index = page.index[pfn]
    for vma in vmas_of_anon_vma(common, page_anon_vma(page, pfn), index):
        mm = mms[vmas.vm_mm[vma] - 1]
        address = vmas.vm_start[vma] + (index - vmas.vm_pgoff[vma] << PAGE_SHIFT)
        ptep = pte_offset_map(mm.tables, address)
        if ptep is None:
            continue
        entry = get_entry(mm.tables, ptep)
        if pte_present(entry) and (entry & mm.tables.layout.address_mask) >> PAGE_SHIFT == pfn:
            yield mm, vma, address, ptep
