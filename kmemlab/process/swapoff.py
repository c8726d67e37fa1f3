"""swapoff: no page may be on a swap area any more, so all that are come back into memory, process by process.

the area takes no more pages ─▶ each process: each swap entry of this area ─▶ its page is read, and mapped again
                             ─▶ pages that are only in the swap cache leave it ─▶ the area is gone
"""

from __future__ import annotations

from functools import partial

from kmemlab.alloc.swap_readahead import swapin_readahead
from kmemlab.alloc.vfree import vfree
from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.mlock import mlock_vma_page
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_ref_inc
from kmemlab.mm.swap_cluster import cluster_of, first_free_cluster, swapfile_cluster
from kmemlab.mm.swap_count import swap_free
from kmemlab.mm.swap_info import (
    SWAP_MAP_BAD,
    SWP_SOLIDSTATE,
    SWP_WRITEOK,
    SwapInfo,
    active_areas,
    swap_count,
)
from kmemlab.mm.swap_range import add_to_avail_list
from kmemlab.mm.swap_slots import disable_swap_slots_cache, enable_swap_slots_cache
from kmemlab.mm.swap_state import folio_free_swap, swap_cache_page
from kmemlab.mm.swapops import is_swap_pte, pte_swp_exclusive, pte_to_swp_entry, swp_entry, swp_type
from kmemlab.mm.wait import folio_lock, folio_unlock, folio_wait_writeback
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_SWAPENTS, MmStruct, add_mm_counter
from kmemlab.process.mman import vma_page_prot
from kmemlab.process.mmput import mmput
from kmemlab.process.pgtable import present_ptes
from kmemlab.process.rmap import page_add_anon_rmap
from kmemlab.process.swap_ra import swap_cache_get_folio, vma_entries
from kmemlab.process.task_struct import Processes
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_del
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.pgtable import PAGE_ACCESSED
from kmemlab.types.units import PAGE_SHIFT


@kernel("mm/swapfile.c", "unuse_pte", left_out="KSM, errors", lock="the page table's lock")
def unuse_pte(mm: MmStruct, vma: int, address: int, ptep: int, pfn: int) -> None:
    """Let an entry name its page again; whether it may be written is for the first write to find out."""
    page_alloc, layout = mm.common.mm, mm.tables.layout
    pte = get_entry(mm.tables, ptep)
    add_mm_counter(mm, MM_SWAPENTS, -1)
    add_mm_counter(mm, MM_ANONPAGES, 1)
    page_ref_inc(page_alloc.page, pfn)
    page_add_anon_rmap(mm.common, pfn, vma, address, pte_swp_exclusive(layout, pte))
    mlock_vma_page(page_alloc, pfn, mm.common.vmas.vm_flags[vma])
    prot = vma_page_prot(page_alloc.boot, mm.common.vmas.vm_flags[vma])
    set_entry(mm.tables, ptep, pfn << PAGE_SHIFT | prot & ~PAGE_ACCESSED)
    swap_free(page_alloc, pte_to_swp_entry(layout, pte))


@invented("the body of the loop of unuse_pte_range")
def unuse_entry(mm: MmStruct, vma: int, address: int, ptep: int, type: int) -> None:
    """Bring the page of one entry back, if it is one of the area. Raises `OutOfMemory`."""
    page_alloc, layout = mm.common.mm, mm.tables.layout
    pte = get_entry(mm.tables, ptep)
    entry = pte_to_swp_entry(layout, pte)
    if not is_swap_pte(pte) or swp_type(entry) != type:
        return
    pfn = swap_cache_get_folio(mm, vma, address, entry)
    if pfn is None:
        pfn = swapin_readahead(page_alloc, entry, partial(vma_entries, mm, vma, address, ptep))
    if pfn is None:
        raise OutOfMemory(
            "ENOMEM: there is no page for what is swapped out",
            where="swapoff",
            remedy="free some memory, or make another swap area first",
        )
    folio_lock(page_alloc, pfn)
    folio_wait_writeback(page_alloc, pfn)
    if get_entry(mm.tables, ptep) == pte:
        unuse_pte(mm, vma, address, ptep, pfn)
    folio_free_swap(page_alloc, pfn)
    folio_unlock(page_alloc, pfn)
    put_page(page_alloc, pfn)


@kernel("mm/swapfile.c", "unuse_mm", formerly=("unuse_process", "unuse_vma", "unuse_pte_range"), lock="mm->mmap_lock")
def unuse_mm(mm: MmStruct, type: int) -> None:
    """Bring all pages of a process back that are on an area. Raises `OutOfMemory`."""
    vmas = mm.common.vmas
    for vma in mm.vmas():
        if vmas.anon_vma[vma]:
            for address, ptep in present_ptes(mm.tables, vmas.vm_start[vma], vmas.vm_end[vma]):
                unuse_entry(mm, vma, address, ptep, type)


@kernel("mm/swapfile.c", "find_next_to_unuse", traced=False)
def find_next_to_unuse(mm: Mm, si: SwapInfo, prev: int) -> int:
    """The next slot behind `prev` that is in use; 0 if there is none."""
    for offset in range(prev + 1, si.max):
        usage = mm.swap.swap_map[si.first_block + offset]
        if usage and swap_count(usage) != SWAP_MAP_BAD:
            return offset
    return 0


@kernel("mm/swapfile.c", "try_to_unuse", left_out="shared memory; signals")
def try_to_unuse(processes: Processes, si: SwapInfo) -> None:
    """Bring all pages back that are on an area, until none is. Raises `OutOfMemory`."""
    page_alloc = processes.common.mm
    while si.inuse_pages:
        before = si.inuse_pages
        for mm in processes.mms:
            if si.inuse_pages and mm.mm_users:
                mm.mm_users += 1
                try:
                    unuse_mm(mm, si.type)
                finally:
                    mmput(mm)
        offset = find_next_to_unuse(page_alloc, si, 0)
        while offset:
            free_cached(page_alloc, swp_entry(si.type, offset))
            offset = find_next_to_unuse(page_alloc, si, offset)
        assert si.inuse_pages < before, f"{before} slots of {si.name} are in use, and nobody has them"


@invented("the second loop of try_to_unuse")
def free_cached(mm: Mm, entry: int) -> None:
    """Take a page out of the swap cache that nobody has swapped out any more."""
    pfn = swap_cache_page(mm, entry)
    if pfn is None:
        return
    page_ref_inc(mm.page, pfn)
    folio_lock(mm, pfn)
    folio_wait_writeback(mm, pfn)
    folio_free_swap(mm, pfn)
    folio_unlock(mm, pfn)
    put_page(mm, pfn)


@invented("the first part of sys_swapoff, under swap_lock")
def take_off_lists(mm: Mm, si: SwapInfo) -> None:
    """An area gets no more pages; those below it that nobody gave a priority move up."""
    swap = mm.swap
    areas = active_areas(swap)
    if si.prio < 0:
        for below in areas[areas.index(si) + 1 :]:
            below.prio += 1
        swap.least_priority += 1
    si.turn = 0
    mm.nr_swap_pages -= si.pages
    mm.total_swap_pages -= si.pages
    si.flags &= ~SWP_WRITEOK


@kernel("mm/swapfile.c", "reinsert_swap_info", lock="swap_lock")
def reinsert_swap_info(mm: Mm, si: SwapInfo) -> None:
    """The area could not be emptied: it goes on as before, but one without a priority is the last now."""
    swap = mm.swap
    if si.prio < 0:
        swap.least_priority -= 1
        si.prio = swap.least_priority
    si.flags |= SWP_WRITEOK
    mm.nr_swap_pages += si.pages
    mm.total_swap_pages += si.pages
    if si.inuse_pages < si.pages:
        add_to_avail_list(swap, si)


@kernel("mm/swapfile.c", "sys_swapoff", left_out="rights; how much memory may be promised", lock="swap_lock")
def swapoff(processes: Processes, si: SwapInfo) -> None:
    """Bring all pages of an area back into memory, and forget it. Raises `OutOfMemory`; then it stays as it is."""
    mm = processes.common.mm
    take_off_lists(mm, si)
    disable_swap_slots_cache(mm)
    try:
        try_to_unuse(processes, si)
    except OutOfMemory:
        reinsert_swap_info(mm, si)
        enable_swap_slots_cache(mm)
        raise
    enable_swap_slots_cache(mm)
    if not si.flags & SWP_SOLIDSTATE:
        mm.swap.nr_rotate_swap -= 1
    forget_area(mm, si)


@invented("the last part of sys_swapoff")
def forget_area(mm: Mm, si: SwapInfo) -> None:
    """Let go of what was kept for an area; its partition is free for something else."""
    swap = mm.swap
    swap.swap_map[si.first_block] = 0
    if si.flags & SWP_SOLIDSTATE:
        cluster = first_free_cluster(swap, si)
        while cluster is not None:
            list_del(swap.free_clusters, cluster)
            cluster = first_free_cluster(swap, si)
        first = cluster_of(mm, si, 0)
        for cluster in range(first, first + -(-si.max // swapfile_cluster(mm))):
            swap.cluster_count[cluster] = swap.cluster_flags[cluster] = 0
    vfree(mm, si.map_address)
    for cell in range(len(si.cells)):
        si.cells[cell] = 0
