"""The laws of locked memory: what a locked VMA has is locked, nothing else is, and both are counted."""

from __future__ import annotations

from collections import Counter
from typing import NoReturn

from kmemlab.boot.pgtable import get_entry
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.vmstat import NR_MLOCK
from kmemlab.process.mm_struct import MmStruct, ProcessMemory
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import present_ptes
from kmemlab.process.vma import vma_pages
from kmemlab.process.zap import vm_normal_page
from kmemlab.sim.kernel import invented
from kmemlab.types.pageflags import PG_lru, PG_mlocked, PG_unevictable
from kmemlab.types.vm_flags import VM_LOCKED


@invented("a law is code beside the structure it speaks of", traced=False)
def check_mlock(common: ProcessMemory, mms: list[MmStruct]) -> None:
    """Each page in a locked VMA has PG_mlocked and is on no LRU list; nr_mlock is the number of such pages, VmLck the
    size of the VMAs. Raises `BrokenLaw`.

    A page that lies in several may have been counted too seldom, and be unlocked too early: reclaim mends that.
    """
    page, locked = common.mm.page, Counter[int]()
    for mm in mms:
        vmas = [vma for vma in mm.vmas() if common.vmas.vm_flags[vma] & VM_LOCKED]
        size = sum(vma_pages(common.vmas, vma) for vma in vmas)
        if mm.locked_vm != size:
            _broken(f"address space {mm.number} counts {mm.locked_vm} locked pages, its VMAs have {size}")
        for vma in vmas:
            locked.update(_pages_in(mm, vma))
    marked = {pfn for pfn in locked if page_has_flag(page, pfn, PG_mlocked)}
    for pfn, times in locked.items():
        if pfn not in marked and times == 1:
            _broken(f"page {pfn:#x} lies in a locked VMA, but is not locked")
        if pfn in marked and page_has_flag(page, pfn, PG_lru) and not page_has_flag(page, pfn, PG_unevictable):
            _broken(f"page {pfn:#x} is locked, but reclaim can find it")
    counted = sum(zone.vm_stat[NR_MLOCK] for zone in common.mm.zones())
    if counted != len(marked):
        _broken(f"nr_mlock is {counted}, but there are {len(marked)}")


def _pages_in(mm: MmStruct, vma: int) -> set[int]:
    vmas, found = mm.common.vmas, set()
    for _, entryp in present_ptes(mm.tables, vmas.vm_start[vma], vmas.vm_end[vma]):
        entry = get_entry(mm.tables, entryp)
        pfn = vm_normal_page(mm.tables, entry) if pte_present(entry) else None
        if pfn is not None:
            found.add(pfn)
    return found


def _broken(law: str) -> NoReturn:
    raise BrokenLaw(law, where="locked memory")
