"""Where a program's addresses begin and end, and where there is room among them.

0 ──▶ program ─▶ heap (brk) ─▶ ····· ◀─ mmap ◀─ mmap_base ···· gap ···· ◀─ stack   TASK_SIZE
                               room is looked for from mmap_base downwards, then from TASK_SIZE / 3 upwards
"""

from __future__ import annotations

from kmemlab.boot.address_space import task_size as task_size_max
from kmemlab.boot.globals import Boot
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import MAP_FIXED
from kmemlab.process.vma import STACK_GUARD_GAP, find_vma, vm_start_gap
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.units import MIB, PAGE_MASK, PAGE_SIZE, round_up

DEFAULT_MAP_WINDOW = (1 << 47) - PAGE_SIZE
"""With five levels, too, programs get addresses above 2**47 only if they ask for them."""

RLIMIT_STACK = 8 * MIB
MMAP_MIN_ADDR = 65536


@kernel("arch/x86/mm/mmap.c", "task_size_64bit", formerly=("TASK_SIZE",), traced=False)
def task_size(boot: Boot) -> int:
    """The end of the addresses that a program has if it asks for nothing special.

    3 GiB on i386, 128 TiB less a page on amd64, be it with four levels or with five.
    """
    return min(task_size_max(boot), DEFAULT_MAP_WINDOW)


@kernel("arch/x86/mm/mmap.c", "mmap_base", left_out="address randomisation: it is off", traced=False)
def mmap_base(task_size: int) -> int:
    """Where mmap begins to look, downwards: below the room for the stack, which is 128 MiB at least.

    >>> hex(mmap_base(0x7ffffffff000)), hex(mmap_base(0xC0000000))
    ('0x7ffff7fff000', '0xb8000000')
    """
    gap = RLIMIT_STACK + STACK_GUARD_GAP
    return round_up(task_size - min(max(gap, 128 * MIB), task_size // 6 * 5), PAGE_SIZE)


@kernel("mm/mmap.c", "unmapped_area_topdown", left_out="alignment to a colour or a huge page", traced=False)
def unmapped_area_topdown(mm: MmStruct, length: int, low_limit: int, high_limit: int) -> int | None:
    """The highest room of `length` bytes in [low_limit, high_limit); None if there is none.

    Below a stack its gap stays free.
    """
    vmas = mm.common.vmas
    end = high_limit
    for at in range(mm.map_count - 1, -1, -1):
        vma = mm.vma[at]
        if vmas.vm_end[vma] <= end - length:
            break
        end = min(end, vm_start_gap(vmas, vma))
    return end - length if end - length >= low_limit else None


@kernel("mm/mmap.c", "unmapped_area", left_out="alignment to a colour or a huge page", traced=False)
def unmapped_area(mm: MmStruct, length: int, low_limit: int, high_limit: int) -> int | None:
    """The lowest room of `length` bytes in [low_limit, high_limit); None if there is none."""
    vmas = mm.common.vmas
    start = low_limit
    for vma in mm.vmas():
        if vm_start_gap(vmas, vma) >= start + length:
            break
        start = max(start, vmas.vm_end[vma])
    return start if start + length <= high_limit else None


@kernel("arch/x86/kernel/sys_x86_64.c", "arch_get_unmapped_area_topdown", left_out="MAP_32BIT; above 2**47 on demand")
def arch_get_unmapped_area_topdown(mm: MmStruct, addr: int, length: int) -> int | None:
    """The address that is wished for if there is room, else the highest below mmap_base, else the lowest above a
    third of the address space."""
    if addr:
        addr &= PAGE_MASK
        vma = find_vma(mm, addr)
        fits = addr >= MMAP_MIN_ADDR and addr + length <= mm.task_size
        if fits and (not vma or addr + length <= vm_start_gap(mm.common.vmas, vma)):
            return addr
    found = unmapped_area_topdown(mm, length, PAGE_SIZE, mm.mmap_base)
    if found is None:
        found = unmapped_area(mm, length, round_up(mm.task_size // 3, PAGE_SIZE), mm.task_size)
    return found


@kernel("mm/mmap.c", "get_unmapped_area", left_out="files that choose by themselves; security modules")
def get_unmapped_area(mm: MmStruct, addr: int, length: int, flags: int) -> int:
    """An address for `length` bytes. With MAP_FIXED it is `addr`, whatever is there.

    Raises `OutOfMemory` where there is no room, `BadRequest` for an address that is not aligned.
    """
    if length > mm.task_size:
        raise no_room(length)
    if flags & MAP_FIXED:
        if addr > mm.task_size - length:
            raise no_room(length)
        if addr % PAGE_SIZE:
            raise BadRequest(f"EINVAL: {addr:#x} is no multiple of a page", where="mmap", remedy="align the address")
        return addr
    found = arch_get_unmapped_area_topdown(mm, addr, length)
    if found is None:
        raise no_room(length)
    return found


@invented("errors that teach: C returns -ENOMEM", traced=False)
def no_room(length: int) -> OutOfMemory:
    """The error of a mapping that does not fit among the program's addresses."""
    return OutOfMemory(
        f"ENOMEM: the address space has no room for {length} bytes", where="mmap", remedy="unmap some, or ask for less"
    )
