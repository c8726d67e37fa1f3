"""mlock: a program wants its pages in memory now, and for ever.

mlock ─▶ apply_vma_lock_flags ─▶ mlock_fixup: the VMA is cut, VM_LOCKED, and what it has is locked
      └▶ __mm_populate: what it does not have yet is faulted in, by a write where a private page would be copied
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry
from kmemlab.mm.lru import lru_add_drain
from kmemlab.mm.mlock import mlock_folio, munlock_page
from kmemlab.process.fault import mm_account_fault
from kmemlab.process.fault_page import FAULT_FLAG_WRITE, VM_FAULT_ERROR, VM_FAULT_OOM
from kmemlab.process.memory import handle_mm_fault
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import pte_present
from kmemlab.process.mprotect import cut_out
from kmemlab.process.pgtable import present_ptes, pte_offset_map
from kmemlab.process.task_struct import current_task
from kmemlab.process.vma import find_vma, find_vma_prev
from kmemlab.process.vma_merge import vma_merge
from kmemlab.process.zap import vm_normal_page
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.pgtable import PAGE_RW
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, round_up
from kmemlab.types.vm_flags import VM_ACCESS_FLAGS, VM_LOCKED, VM_SHARED, VM_WRITE


@kernel("mm/mlock.c", "do_mlock", formerly=("sys_mlock",), left_out="the limit: programs are root's", lock="mmap_lock")
def do_mlock(mm: MmStruct, start: int, length: int) -> None:
    """Lock the pages of [start, start + length) into memory, and bring those that are not there.

    Raises `OutOfMemory` where something is not mapped or there is no page for it, `BadRequest`.
    """
    start, end = whole_pages(mm, start, length, "mlock")
    apply_vma_lock_flags(mm, start, end, VM_LOCKED)
    mm_populate(mm, start, end)


@kernel("mm/mlock.c", "sys_munlock", lock="mm->mmap_lock")
def do_munlock(mm: MmStruct, start: int, length: int) -> None:
    """The pages of [start, start + length) may be reclaimed again. Raises `OutOfMemory`, `BadRequest`."""
    apply_vma_lock_flags(mm, *whole_pages(mm, start, length, "munlock"), 0)


@invented("the first lines of do_mlock and sys_munlock", traced=False)
def whole_pages(mm: MmStruct, start: int, length: int, where: str) -> tuple[int, int]:
    """The pages that have a byte of a range, as [start, end). Raises `BadRequest` for what is no range."""
    end = round_up(start + length, PAGE_SIZE)
    if length < 0 or start < 0 or end > mm.task_size:
        raise BadRequest(f"EINVAL: {start:#x}, {length} bytes", where=where, remedy="stay below TASK_SIZE")
    return start & PAGE_MASK, end


@kernel("mm/mlock.c", "apply_vma_lock_flags")
def apply_vma_lock_flags(mm: MmStruct, start: int, end: int, flags: int) -> None:
    """Give the VMAs of a range VM_LOCKED, or take it. Raises `OutOfMemory` from where on nothing is mapped."""
    vmas = mm.common.vmas
    while start < end:
        vma, prev = find_vma_prev(mm, start)
        if not vma or vmas.vm_start[vma] > start:
            raise OutOfMemory(f"ENOMEM: nothing is mapped at {start:#x}", where="mlock", remedy="map it first")
        stop = min(vmas.vm_end[vma], end)
        newflags = vmas.vm_flags[vma] & ~VM_LOCKED | flags
        mlock_fixup(mm, vma, vma if vmas.vm_start[vma] < start else prev, start, stop, newflags)
        start = stop


@kernel("mm/mlock.c", "mlock_fixup", left_out="special VMAs, locking on fault")
def mlock_fixup(mm: MmStruct, vma: int, prev: int, start: int, end: int, newflags: int) -> None:
    """Lock or unlock a part of a VMA: it joins a neighbour, or is cut out. Raises `OutOfMemory`."""
    vmas = mm.common.vmas
    if newflags == vmas.vm_flags[vma]:
        return
    pgoff = vmas.vm_pgoff[vma] + (start - vmas.vm_start[vma] >> PAGE_SHIFT)
    if not vma_merge(mm, prev, start, end, newflags, vmas.anon_vma[vma], pgoff, vmas.vm_file[vma]):
        cut_out(mm, vma, start, end)
    vma = find_vma(mm, start)
    pages = end - start >> PAGE_SHIFT
    mm.locked_vm += pages if newflags & VM_LOCKED else -pages
    vmas.vm_flags[vma] = newflags
    mlock_vma_pages_range(mm, start, end, newflags)


@kernel("mm/mlock.c", "mlock_vma_pages_range", formerly=("mlock_pte_range", "munlock_vma_pages_range"))
def mlock_vma_pages_range(mm: MmStruct, start: int, end: int, newflags: int) -> None:
    """Lock, or unlock, what is mapped in a range."""
    page_alloc = mm.common.mm
    lru_add_drain(page_alloc)
    for _, entryp in present_ptes(mm.tables, start, end):
        entry = get_entry(mm.tables, entryp)
        pfn = vm_normal_page(mm.tables, entry) if pte_present(entry) else None
        if pfn is not None:
            (mlock_folio if newflags & VM_LOCKED else munlock_page)(page_alloc, pfn)
    lru_add_drain(page_alloc)


@kernel("mm/gup.c", "__mm_populate", formerly=("make_pages_present", "mm_populate"))
def mm_populate(mm: MmStruct, start: int, end: int) -> None:
    """Fault the pages of a range in, as the program would. Raises `OutOfMemory` where there is no page for it, or
    none in the file."""
    vmas = mm.common.vmas
    for address in range(start, end, PAGE_SIZE):
        vma = find_vma(mm, address)
        if not vma or address < vmas.vm_start[vma] or not vmas.vm_flags[vma] & VM_ACCESS_FLAGS:
            raise OutOfMemory(f"ENOMEM: nothing can be touched at {address:#x}", where="mlock", remedy="map it first")
        result = faultin_page(mm, vma, address)
        if result & VM_FAULT_ERROR:
            error = "EAGAIN" if result & VM_FAULT_OOM else "ENOMEM"
            raise OutOfMemory(f"{error}: no page for {address:#x}", where="mlock", remedy="free some memory, or lock "
                              "no more than the file has")  # fmt: skip


@kernel("mm/gup.c", "faultin_page", left_out="all reasons but mlock's", formerly=("get_user_pages",))
def faultin_page(mm: MmStruct, vma: int, address: int) -> int:
    """See that a page is there, and in a private VMA that may be written that it is the process's own; VM_FAULT_…."""
    write = mm.common.vmas.vm_flags[vma] & (VM_WRITE | VM_SHARED) == VM_WRITE
    flags = FAULT_FLAG_WRITE if write else 0
    while True:
        ptep = pte_offset_map(mm.tables, address)
        entry = get_entry(mm.tables, ptep) if ptep is not None else 0
        if pte_present(entry) and (not write or entry & PAGE_RW):
            return 0
        result = handle_mm_fault(mm, vma, address, flags)
        task = current_task(mm.common.mm.processes)
        if task is not None:
            mm_account_fault(task, result, flags)
        if result & VM_FAULT_ERROR:
            return result
