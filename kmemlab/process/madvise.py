"""madvise: a program says what it will do with its pages, or won't.

MADV_DONTNEED   never again: the pages go, and a later touch finds zeros, or what the file has
MADV_COLD       not soon: the pages become inactive
MADV_PAGEOUT    not for long: they are reclaimed now, to the file or to swap
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.lru import deactivate_page, folio_isolate_lru, folio_putback_lru, lru_add_drain
from kmemlab.mm.page_state import clear_page_flag, page_has_flag
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import flush_tlb_mm_range, present_ptes
from kmemlab.process.vma import find_vma
from kmemlab.process.zap import vm_normal_page, zap_pte_range
from kmemlab.reclaim.reclaim_pages import reclaim_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.pageflags import PG_lru, PG_referenced, PG_unevictable
from kmemlab.types.pgtable import PAGE_ACCESSED
from kmemlab.types.units import PAGE_SIZE, round_up
from kmemlab.types.vm_flags import VM_LOCKED

MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT = 4, 20, 21


@kernel("mm/madvise.c", "do_madvise", formerly=("sys_madvise",), left_out="all advice but three", lock="mm->mmap_lock")
def do_madvise(mm: MmStruct, start: int, length: int, advice: int) -> None:
    """Take advice on [start, start + length).

    Raises `BadRequest` for arguments that make no sense, and for locked pages; `OutOfMemory` where something in between
    is not mapped: the rest is done all the same.
    """
    end = start + round_up(length, PAGE_SIZE)
    if start % PAGE_SIZE or length < 0 or end > mm.task_size or advice not in (MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT):
        raise BadRequest(
            f"EINVAL: {start:#x}, {length} bytes, advice {advice}",
            where="madvise",
            remedy="align the address; the advice is MADV_DONTNEED, MADV_COLD or MADV_PAGEOUT",
        )
    vmas, at, hole = mm.common.vmas, start, False
    while at < end:
        vma = find_vma(mm, at)
        if not vma or vmas.vm_start[vma] >= end:
            hole = True
            break
        hole = hole or vmas.vm_start[vma] > at
        at = max(at, vmas.vm_start[vma])
        stop = min(vmas.vm_end[vma], end)
        madvise_vma(mm, vma, at, stop, advice)
        at = stop
    if hole:
        raise OutOfMemory("ENOMEM: not all of it is mapped", where="madvise", remedy="what is mapped was done")


@kernel("mm/madvise.c", "madvise_vma_behavior", formerly=("madvise_vma",), traced=False)
def madvise_vma(mm: MmStruct, vma: int, start: int, end: int, advice: int) -> None:
    """Take advice on a part of a VMA. Raises `BadRequest` for one that is locked."""
    vm_flags = mm.common.vmas.vm_flags[vma]
    if vm_flags & VM_LOCKED:
        raise BadRequest("EINVAL: the pages are locked", where="madvise", remedy="munlock them first")
    if advice == MADV_DONTNEED:
        zap_pte_range(mm, start, end, vm_flags)
    else:
        lru_add_drain(mm.common.mm)
        madvise_cold_or_pageout(mm, start, end, advice == MADV_PAGEOUT)


@kernel("mm/madvise.c", "madvise_cold_or_pageout_pte_range", left_out="huge pages", lock="the page table's lock")
def madvise_cold_or_pageout(mm: MmStruct, start: int, end: int, pageout: bool) -> None:
    """Make the pages of a range look unused, and inactive or reclaimed; pages that others map too are left alone."""
    page_alloc = mm.common.mm
    page, taken = page_alloc.page, []
    for _, entryp in present_ptes(mm.tables, start, end):
        entry = get_entry(mm.tables, entryp)
        pfn = vm_normal_page(mm.tables, entry) if pte_present(entry) else None
        if pfn is None or not page_has_flag(page, pfn, PG_lru) or page.mapcount[pfn] != 1:
            continue
        set_entry(mm.tables, entryp, entry & ~PAGE_ACCESSED)
        clear_page_flag(page, pfn, PG_referenced)
        if not pageout:
            deactivate_page(page_alloc, pfn)
        elif isolate_evictable(mm, pfn):
            taken.append(pfn)
    flush_tlb_mm_range(mm, start, end)
    reclaim_pages(page_alloc, taken)


@invented("a part of madvise_cold_or_pageout_pte_range", traced=False)
def isolate_evictable(mm: MmStruct, pfn: int) -> bool:
    """Take a page off its list for reclaim; not one that may never go."""
    page_alloc = mm.common.mm
    if not folio_isolate_lru(page_alloc, pfn):
        return False
    if page_has_flag(page_alloc.page, pfn, PG_unevictable):
        folio_putback_lru(page_alloc, pfn)
        return False
    return True
