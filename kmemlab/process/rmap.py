"""Reverse mappings: how many page tables map a page. Which ones they are is found by rmap_walk.py.

mapcount   0 ── page_add_… ─▶ 1 ── page_dup_… ─▶ 2 ── page_remove_rmap ─▶ 1 ─▶ 0
               nr_anon_pages or nr_mapped: + 1                                  - 1
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MemMap
from kmemlab.mm.page_mapping import anon_mapping, page_anon
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, set_page_flag
from kmemlab.mm.vmstat import NR_ANON_MAPPED, NR_FILE_MAPPED
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_FILEPAGES, ProcessMemory
from kmemlab.process.pgtable import mod_lruvec_page_state
from kmemlab.process.vma import linear_page_index
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_anon_exclusive, PG_swapbacked


@kernel("mm/rmap.c", "__page_set_anon_rmap", traced=False)
def page_set_anon_rmap(common: ProcessMemory, pfn: int, vma: int, address: int) -> None:
    """Write into a page which anon_vma it is of, and which page of it."""
    page = common.mm.page
    page.mapping[pfn] = anon_mapping(common.vmas.anon_vma[vma])
    page.index[pfn] = linear_page_index(common.vmas, vma, address)
    set_page_flag(page, pfn, PG_anon_exclusive)


@kernel("mm/rmap.c", "page_add_new_anon_rmap", left_out="huge pages", lock="the page table's lock")
def page_add_new_anon_rmap(common: ProcessMemory, pfn: int, vma: int, address: int) -> None:
    """A new page of this process alone is about to be mapped: one page table will map it."""
    set_page_flag(common.mm.page, pfn, PG_swapbacked)
    common.mm.page.mapcount[pfn] = 1
    mod_lruvec_page_state(common.mm, pfn, NR_ANON_MAPPED, 1)
    page_set_anon_rmap(common, pfn, vma, address)


@kernel("mm/rmap.c", "page_add_anon_rmap", left_out="huge pages, KSM", lock="the page's lock and the table's")
def page_add_anon_rmap(common: ProcessMemory, pfn: int, vma: int, address: int, exclusive: bool) -> None:
    """One page table more is about to map a page that comes back from swap, perhaps as this process's alone.

    If it kept its anon_vma in the swap cache, that is the VMA's.
    """
    page = common.mm.page
    page.mapcount[pfn] += 1
    if page.mapcount[pfn] == 1:
        mod_lruvec_page_state(common.mm, pfn, NR_ANON_MAPPED, 1)
    assert page.mapcount[pfn] == 1 or not exclusive, f"pfn {pfn} is mapped elsewhere, too"
    page.mapping[pfn] = anon_mapping(common.vmas.anon_vma[vma])
    page.index[pfn] = linear_page_index(common.vmas, vma, address)
    if exclusive:
        set_page_flag(page, pfn, PG_anon_exclusive)


@kernel("mm/rmap.c", "page_move_anon_rmap", traced=False)
def page_move_anon_rmap(common: ProcessMemory, pfn: int, vma: int) -> None:
    """A page that was shared is one process's alone again, since the others are gone."""
    common.mm.page.mapping[pfn] = anon_mapping(common.vmas.anon_vma[vma])
    set_page_flag(common.mm.page, pfn, PG_anon_exclusive)


@kernel("include/linux/rmap.h", "page_try_dup_anon_rmap", left_out="pages that a device uses (pinned)", traced=False)
def page_dup_anon_rmap(mm: Mm, pfn: int) -> None:
    """fork: one page table more maps a page, so that it is nobody's alone from now on."""
    clear_page_flag(mm.page, pfn, PG_anon_exclusive)
    mm.page.mapcount[pfn] += 1


@kernel("include/linux/mm.h", "mm_counter", left_out="shared memory", traced=False)
def mm_counter(page: MemMap, pfn: int) -> int:
    """In which of a process's counters (MM_…) a page that it maps is counted."""
    return MM_ANONPAGES if page_anon(page, pfn) else MM_FILEPAGES


@kernel("mm/rmap.c", "page_add_file_rmap", left_out="huge pages", lock="the page table's lock")
def page_add_file_rmap(mm: Mm, pfn: int) -> None:
    """One page table more is about to map a page of a file."""
    mm.page.mapcount[pfn] += 1
    if mm.page.mapcount[pfn] == 1:
        mod_lruvec_page_state(mm, pfn, NR_FILE_MAPPED, 1)


@kernel("include/linux/rmap.h", "page_dup_file_rmap", formerly=("page_dup_rmap",), traced=False)
def page_dup_file_rmap(mm: Mm, pfn: int) -> None:
    """fork: one page table more maps a page of a file that its parent maps already."""
    mm.page.mapcount[pfn] += 1


@kernel("mm/rmap.c", "page_remove_rmap", left_out="huge pages", lock="the page table's lock")
def page_remove_rmap(mm: Mm, pfn: int) -> None:
    """One page table less maps a page."""
    mm.page.mapcount[pfn] -= 1
    if not mm.page.mapcount[pfn]:
        mod_lruvec_page_state(mm, pfn, NR_ANON_MAPPED if page_anon(mm.page, pfn) else NR_FILE_MAPPED, -1)


@invented("C asks the flag PG_anon_exclusive by its macro", traced=False)
def page_anon_exclusive(page: MemMap, pfn: int) -> bool:
    """Whether a page without a file is one process's alone, so that this may write into it."""
    return page_has_flag(page, pfn, PG_anon_exclusive)
