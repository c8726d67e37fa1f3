"""The laws of VMAs: ascending, apart, aligned, counted; and of anon_vmas: who is on their lists."""

from __future__ import annotations

from typing import NoReturn

from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.process.mm_struct import MmStruct, ProcessMemory
from kmemlab.process.vma import vma_pages
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each
from kmemlab.types.units import PAGE_SIZE
from kmemlab.types.vm_flags import VM_EXEC, VM_GROWSDOWN, VM_SHARED, VM_WRITE


@invented("a law is code beside the structure it speaks of", traced=False)
def check_vmas(mm: MmStruct) -> None:
    """The VMAs of a process ascend without overlap, are whole pages below task_size, its own, and counted by kind.

    Raises `BrokenLaw` that names the law.
    """
    vmas = mm.common.vmas
    end = 0
    for vma in mm.vmas():
        start = vmas.vm_start[vma]
        if vmas.vm_mm[vma] != 1 + mm.number or not vmas.object[vma]:
            _broken(mm, f"VMA {vma} is not its own")
        if start < end or start >= vmas.vm_end[vma]:
            _broken(mm, f"VMA {vma} at {start:#x} is out of order, overlaps or is empty")
        end = vmas.vm_end[vma]
        if start % PAGE_SIZE or end % PAGE_SIZE or end > mm.task_size:
            _broken(mm, f"VMA {vma} at {start:#x} is no range of pages below {mm.task_size:#x}")
    if len(mm.vma) > mm.map_count and mm.vma[mm.map_count]:
        _broken(mm, f"there are more than {mm.map_count} VMAs")
    _check_sizes(mm)
    if mm.brk < mm.start_brk:
        _broken(mm, "the heap ends before it begins")


def _check_sizes(mm: MmStruct) -> None:
    vmas = mm.common.vmas
    total = code = stack = data = 0
    for vma in mm.vmas():
        flags, pages = vmas.vm_flags[vma], vma_pages(vmas, vma)
        total += pages
        code += pages if flags & VM_EXEC and not flags & (VM_WRITE | VM_GROWSDOWN) else 0
        stack += pages if flags & VM_GROWSDOWN else 0
        data += pages if flags & VM_WRITE and not flags & (VM_SHARED | VM_GROWSDOWN) else 0
    counted = (mm.total_vm, mm.exec_vm, mm.stack_vm, mm.data_vm)
    if counted != (total, code, stack, data):
        _broken(mm, f"its sizes are {(total, code, stack, data)} pages, but {counted} are counted")


@invented("a law is code beside the structure it speaks of", traced=False)
def check_anon_vmas(common: ProcessMemory, mms: list[MmStruct]) -> None:
    """On the list of each anon_vma are the VMAs that name it, and as many as it counts; every VMA in use is some
    process's. Raises `BrokenLaw`."""
    vmas, anon_vmas = common.vmas, common.anon_vmas
    listed = [vma for mm in mms for vma in mm.vmas()]
    in_use = [vma for vma in range(1, vmas.nr_ever + 1) if vmas.vm_mm[vma]]
    if sorted(listed) != in_use:
        raise BrokenLaw("a VMA is no process's, or two have it", where="processes")
    for anon_vma in range(1, anon_vmas.nr_ever + 1):
        if not anon_vmas.object[anon_vma]:
            continue
        members = list(list_for_each(anon_vmas.same_anon_vma, anon_vmas.head(anon_vma)))
        naming = [vma for vma in in_use if vmas.anon_vma[vma] == anon_vma]
        if sorted(members) != naming or len(members) != anon_vmas.degree[anon_vma] or not members:
            raise BrokenLaw(f"the list of anon_vma {anon_vma} is wrong", where="processes")


def _broken(mm: MmStruct, law: str) -> NoReturn:
    raise BrokenLaw(f"address space {mm.number}: {law}", where="VMAs")
