"""mmap, munmap, brk: a program gets addresses, and gives them back. No page is touched until the program does.

mmap  ──▶ do_mmap ──▶ get_unmapped_area ──▶ mmap_region ──▶ vma_merge, or a new VMA
munmap ─▶ do_munmap ─▶ split_vma at both ends ─▶ unmap_region ─▶ VMAs freed
brk   ──▶ do_brk_flags (up), do_munmap (down)
"""

from __future__ import annotations

from kmemlab.process.anon_vma import unlink_anon_vmas
from kmemlab.process.i_mmap import unlink_file_vma
from kmemlab.process.mm_struct import MAX_MAP_COUNT, MmStruct, update_hiwater_vm
from kmemlab.process.mman import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    calc_vm_prot_bits,
)
from kmemlab.process.overcommit import (
    OVERCOMMIT_NEVER,
    accountable_mapping,
    accounted_pages,
    charge,
    vm_unacct_memory,
)
from kmemlab.process.unmapped_area import get_unmapped_area
from kmemlab.process.vma import (
    find_vma,
    find_vma_intersection,
    find_vma_prev,
    vm_area_alloc,
    vm_area_free,
    vm_start_gap,
    vm_stat_account,
    vma_link,
    vma_mas_remove,
    vma_pages,
)
from kmemlab.process.vma_merge import split_vma, vma_merge
from kmemlab.process.zap import unmap_region
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, KmemlabError, OutOfMemory
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, round_up
from kmemlab.types.vm_flags import (
    VM_ACCOUNT,
    VM_DATA_FLAGS,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NORESERVE,
    VM_SHARED,
)


@kernel("mm/mmap.c", "do_mmap", left_out="shared memory; populating or locking at once", lock="mm->mmap_lock")
def do_mmap(mm: MmStruct, addr: int, length: int, prot: int, flags: int, file: int = 0, pgoff: int = 0) -> int:
    """Give a program `length` bytes with the rights PROT_…: zeros, or those of a file from page `pgoff` on; their
    address. The program has opened the file for reading and writing.

    Raises `OutOfMemory` where there is no room, `BadRequest` for arguments that make no sense.
    """
    check_mmap(length, prot, flags, file, pgoff)
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    length = round_up(length, PAGE_SIZE)
    if mm.map_count >= MAX_MAP_COUNT:
        raise too_many_vmas()
    addr = get_unmapped_area(mm, addr, length, flags)
    if flags & MAP_FIXED_NOREPLACE and find_vma_intersection(mm, addr, addr + length):
        raise BadRequest(f"EEXIST: something is mapped at {addr:#x}", where="mmap", remedy="take another address")
    vm_flags = calc_vm_prot_bits(prot) | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    if flags & MAP_SHARED:
        vm_flags |= VM_SHARED | VM_MAYSHARE
    if flags & MAP_NORESERVE and mm.common.mm.sysctl_overcommit_memory != OVERCOMMIT_NEVER:
        vm_flags |= VM_NORESERVE
    return mmap_region(mm, addr, length, vm_flags, file, pgoff if file else addr >> PAGE_SHIFT)


@invented("what do_mmap refuses at once")
def check_mmap(length: int, prot: int, flags: int, file: int, pgoff: int) -> None:
    """Raise `BadRequest` for a length of 0, rights that don't exist, and kinds of mappings that there are not here."""
    if pgoff < 0 or pgoff + length >= 1 << 62:
        raise BadRequest(f"EOVERFLOW: page {pgoff} of a file", where="mmap", remedy="begin at 0 or behind it")
    if length <= 0 or prot & ~7:
        raise BadRequest(f"EINVAL: length {length}, prot {prot:#x}", where="mmap", remedy="ask for a byte at least")
    kind = flags & ~(MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE)
    if kind not in ((MAP_PRIVATE, MAP_SHARED) if file else (MAP_PRIVATE | MAP_ANONYMOUS,)):
        raise BadRequest(
            f"EINVAL: flags {flags:#x}",
            where="mmap",
            remedy="ask for MAP_PRIVATE | MAP_ANONYMOUS, or with a file for MAP_PRIVATE or MAP_SHARED",
        )


@invented("C returns -ENOMEM", traced=False)
def too_many_vmas() -> OutOfMemory:
    """The error of a program that has too many VMAs."""
    return OutOfMemory(f"ENOMEM: {MAX_MAP_COUNT} VMAs are all that a process may have", where="mmap",
                       remedy="unmap some")  # fmt: skip


@kernel("mm/mmap.c", "mmap_region", lock="mm->mmap_lock")
def mmap_region(mm: MmStruct, addr: int, length: int, vm_flags: int, file: int, pgoff: int) -> int:
    """Map [addr, addr + length), whatever was there before; joined with a neighbour where that is possible."""
    end, pages = addr + length, length >> PAGE_SHIFT
    do_munmap(mm, addr, length)
    if accountable_mapping(vm_flags):
        charge(mm, pages, "mmap")
        vm_flags |= VM_ACCOUNT
    _, prev = find_vma_prev(mm, addr)
    try:
        if not vma_merge(mm, prev, addr, end, vm_flags, 0, pgoff, file):
            new_vma(mm, addr, end, vm_flags, file, pgoff)
    except KmemlabError:
        vm_unacct_memory(mm.common.mm, pages if vm_flags & VM_ACCOUNT else 0)
        raise
    vm_stat_account(mm, vm_flags, length >> PAGE_SHIFT)
    return addr


@invented("the middle part of mmap_region, of do_brk_flags and of __bprm_mm_init")
def new_vma(mm: MmStruct, start: int, end: int, vm_flags: int, file: int = 0, pgoff: int = 0) -> int:
    """A VMA of its own for [start, end), perhaps of a file from page `pgoff` on. Raises `OutOfMemory`."""
    if mm.map_count >= MAX_MAP_COUNT:
        raise too_many_vmas()
    vma = vm_area_alloc(mm)
    if not vma:
        raise no_object()
    vmas = mm.common.vmas
    vmas.vm_start[vma], vmas.vm_end[vma], vmas.vm_flags[vma] = start, end, vm_flags
    vmas.vm_file[vma], vmas.vm_pgoff[vma] = file, pgoff if file else start >> PAGE_SHIFT
    vma_link(mm, vma)
    return vma


@invented("C returns -ENOMEM", traced=False)
def no_object() -> OutOfMemory:
    """The error where the kernel has no memory for a VMA."""
    return OutOfMemory("ENOMEM: there is no memory for a VMA", where="vm_area_alloc", remedy="free some memory")


@kernel("mm/mmap.c", "do_mas_align_munmap", formerly=("do_munmap",), lock="mm->mmap_lock")
def do_munmap(mm: MmStruct, start: int, length: int) -> None:
    """Unmap [start, start + length), whatever is there; VMAs that reach beyond are cut. Raises `OutOfMemory`."""
    vmas = mm.common.vmas
    end = start + length
    vma = find_vma_intersection(mm, start, end)
    if not vma:
        return
    if vmas.vm_start[vma] < start:
        if end < vmas.vm_end[vma] and mm.map_count >= MAX_MAP_COUNT:
            raise too_many_vmas()
        if not split_vma(mm, vma, start, new_below=False):
            raise no_object()
    last = find_vma(mm, end - 1)
    if last and vmas.vm_start[last] < end < vmas.vm_end[last] and not split_vma(mm, last, end, new_below=True):
        raise no_object()
    inside = [vma for vma in mm.vmas() if start <= vmas.vm_start[vma] and vmas.vm_end[vma] <= end]
    for vma in inside:
        vma_mas_remove(mm, vma)
        mm.locked_vm -= vma_pages(vmas, vma) if vmas.vm_flags[vma] & VM_LOCKED else 0
    unmap_region(mm, inside, start, end)
    remove_mt(mm, inside)


@kernel("mm/mmap.c", "remove_mt", formerly=("remove_vma_list",))
def remove_mt(mm: MmStruct, vmas_gone: list[int]) -> None:
    """Count VMAs out that are off the list, and free them."""
    vmas = mm.common.vmas
    update_hiwater_vm(mm)
    for vma in vmas_gone:
        vm_stat_account(mm, vmas.vm_flags[vma], -vma_pages(vmas, vma))
        vm_unacct_memory(mm.common.mm, accounted_pages(mm, vma))
        unlink_anon_vmas(mm.common, vma)
        unlink_file_vma(mm.common, vma)
        vm_area_free(mm, vma)


@kernel("mm/mmap.c", "__vm_munmap", formerly=("sys_munmap",), lock="mm->mmap_lock")
def vm_munmap(mm: MmStruct, start: int, length: int) -> None:
    """munmap. Raises `BadRequest` for addresses that are not the program's or not aligned."""
    if start % PAGE_SIZE or length <= 0 or start + length > mm.task_size:
        raise BadRequest(
            f"EINVAL: {start:#x}, {length} bytes", where="munmap", remedy="align the address, and stay below TASK_SIZE"
        )
    do_munmap(mm, start, round_up(length, PAGE_SIZE))


@kernel("mm/mmap.c", "sys_brk", left_out="the limit of data (RLIMIT_DATA)", lock="mm->mmap_lock")
def brk(mm: MmStruct, brk: int) -> int:
    """Move the end of the heap to `brk` if that can be done; where it is then.

    The system call never fails: whoever asked sees that the end is where it was.
    """
    if brk < mm.start_brk:
        return mm.brk
    newbrk, oldbrk = round_up(brk, PAGE_SIZE), round_up(mm.brk, PAGE_SIZE)
    try:
        if newbrk < oldbrk:
            do_munmap(mm, newbrk, oldbrk - newbrk)
        elif newbrk > oldbrk:
            do_brk_flags(mm, oldbrk, newbrk - oldbrk)
    except OutOfMemory:
        return mm.brk
    mm.brk = brk
    return brk


@kernel("mm/mmap.c", "do_brk_flags", formerly=("do_brk",))
def do_brk_flags(mm: MmStruct, addr: int, length: int) -> None:
    """Let the heap grow by [addr, addr + length). Raises `OutOfMemory` where something else is in the way."""
    vmas = mm.common.vmas
    above, prev = find_vma_prev(mm, addr)
    if addr + length > mm.task_size or (above and addr + length + PAGE_SIZE > vm_start_gap(vmas, above)):
        raise OutOfMemory(f"ENOMEM: the heap can't grow at {addr:#x}", where="brk", remedy="use mmap")
    pages = length >> PAGE_SHIFT
    charge(mm, pages, "brk")
    try:
        if not vma_merge(mm, prev, addr, addr + length, VM_DATA_FLAGS, 0, addr >> PAGE_SHIFT):
            new_vma(mm, addr, addr + length, VM_DATA_FLAGS)
    except KmemlabError:
        vm_unacct_memory(mm.common.mm, pages)
        raise
    mm.total_vm += pages
    mm.data_vm += pages
