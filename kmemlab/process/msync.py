"""msync: a program wants on the disk what it has written into its mapping of a file.

MS_SYNC    the file's changed pages are written, and waited for
MS_ASYNC   nothing: a changed page is known by its entry, and the flusher comes by
"""

from __future__ import annotations

from kmemlab.alloc.writeback import filemap_write_and_wait
from kmemlab.process.i_mmap import vma_mapping
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import MS_ASYNC, MS_INVALIDATE, MS_SYNC
from kmemlab.process.vma import find_vma
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.units import PAGE_SIZE, round_up
from kmemlab.types.vm_flags import VM_SHARED


@kernel("mm/msync.c", "sys_msync", left_out="the range: the whole file is written", lock="mm->mmap_lock")
def msync(mm: MmStruct, start: int, length: int, flags: int) -> None:
    """Write what was changed in mapped files of [start, start + length).

    Raises `BadRequest`, and `OutOfMemory` where something is not mapped: the rest is done all the same.
    """
    bad = flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or (flags & MS_ASYNC and flags & MS_SYNC)
    if bad or start % PAGE_SIZE or length < 0:
        raise BadRequest(f"EINVAL: {start:#x}, {length} bytes, flags {flags}", where="msync",
                         remedy="align the address, and choose MS_SYNC or MS_ASYNC")  # fmt: skip
    end, vmas, unmapped = start + round_up(length, PAGE_SIZE), mm.common.vmas, False
    while start < end:
        vma = find_vma(mm, start)
        if not vma or vmas.vm_start[vma] >= end:
            unmapped = True
            break
        unmapped = unmapped or start < vmas.vm_start[vma]
        if flags & MS_SYNC and vmas.vm_flags[vma] & VM_SHARED and vmas.vm_file[vma]:
            filemap_write_and_wait(mm.common.mm, vma_mapping(mm.common, vma))
        start = vmas.vm_end[vma]
    if unmapped:
        raise OutOfMemory("ENOMEM: a part is not mapped", where="msync", remedy="name addresses that are mapped")
