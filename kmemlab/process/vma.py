"""VMAs: ranges of addresses that a program may use, each with its own rights.

address   0 ····|rw [heap]|·······|r--|rw-|····|rw [stack]|···· TASK_SIZE
                 └ vm_start        └───┴─ neighbours that differ only in rights stay two
"""

from __future__ import annotations

from kmemlab.process.i_mmap import vma_link_file
from kmemlab.process.mm_struct import MAX_MAP_COUNT, MmStruct, Vmas, give_slot, take_slot
from kmemlab.process.proc_caches import free_object, new_object
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import TooLarge
from kmemlab.types.units import PAGE_SHIFT
from kmemlab.types.vm_flags import VM_ACCESS_FLAGS, VM_EXEC, VM_GROWSDOWN, VM_SHARED, VM_WRITE

STACK_GUARD_GAP = 256 << PAGE_SHIFT
"""So many bytes below a stack nobody else may map: a stack that grows too far shall fault."""


@invented("C's maple tree answers it", traced=False)
def place_of(mm: MmStruct, addr: int) -> int:
    """How many VMAs of `mm` end at or below `addr`: the place of the first that ends above."""
    low, high = 0, mm.map_count
    order, ends = mm.vma, mm.common.vmas.vm_end
    while low < high:
        middle = (low + high) // 2
        if ends[order[middle]] > addr:
            high = middle
        else:
            low = middle + 1
    return low


@kernel("mm/mmap.c", "find_vma", lock="mm->mmap_lock", traced=False)
def find_vma(mm: MmStruct, addr: int) -> int:
    """The first VMA that ends above `addr`, whether it holds it or begins behind it; 0 if there is none."""
    place = place_of(mm, addr)
    return mm.vma[place] if place < mm.map_count else 0


@kernel("mm/mmap.c", "find_vma_prev", lock="mm->mmap_lock", traced=False)
def find_vma_prev(mm: MmStruct, addr: int) -> tuple[int, int]:
    """What `find_vma` gives, and the VMA before it; 0 for none."""
    place = place_of(mm, addr)
    return mm.vma[place] if place < mm.map_count else 0, mm.vma[place - 1] if place else 0


@kernel("include/linux/mm.h", "find_vma_intersection", lock="mm->mmap_lock", traced=False)
def find_vma_intersection(mm: MmStruct, start: int, end: int) -> int:
    """The first VMA that has an address of [start, end); 0 if there is none."""
    vma = find_vma(mm, start)
    return vma if vma and mm.common.vmas.vm_start[vma] < end else 0


@kernel("include/linux/mm.h", "vm_start_gap", traced=False)
def vm_start_gap(vmas: Vmas, vma: int) -> int:
    """Where a VMA begins, with the gap that must stay free below a stack."""
    start = vmas.vm_start[vma]
    return max(start - STACK_GUARD_GAP, 0) if vmas.vm_flags[vma] & VM_GROWSDOWN else start


@kernel("include/linux/mm.h", "vma_pages", traced=False)
def vma_pages(vmas: Vmas, vma: int) -> int:
    """The length of a VMA in pages."""
    return vmas.vm_end[vma] - vmas.vm_start[vma] >> PAGE_SHIFT


@kernel("include/linux/pagemap.h", "linear_page_index", traced=False)
def linear_page_index(vmas: Vmas, vma: int, address: int) -> int:
    """Which page of what a VMA maps stands at an address. It stays the same when the VMA is cut or grows."""
    return (address - vmas.vm_start[vma] >> PAGE_SHIFT) + vmas.vm_pgoff[vma]


@kernel("kernel/fork.c", "vm_area_alloc")
def vm_area_alloc(mm: MmStruct) -> int:
    """A new VMA, all zeros; 0 if there is no memory."""
    common = mm.common
    vma = take_slot(common.vmas)
    address = new_object(common, common.vm_area_cachep)
    if not address:
        give_slot(common.vmas, vma)
        return 0
    common.vmas.object[vma] = address
    common.vmas.vm_mm[vma] = 1 + mm.number
    common.vmas.vm_pgoff[vma] = 0
    return vma


@kernel("kernel/fork.c", "vm_area_dup", traced=False)
def vm_area_dup(mm: MmStruct, orig: int) -> int:
    """A VMA of `mm` that is as `orig`, which may be another process's, but on no list; 0 if there is no memory."""
    vma = vm_area_alloc(mm)
    if vma:
        vmas = mm.common.vmas
        vmas.vm_start[vma], vmas.vm_end[vma] = vmas.vm_start[orig], vmas.vm_end[orig]
        vmas.vm_flags[vma], vmas.vm_pgoff[vma] = vmas.vm_flags[orig], vmas.vm_pgoff[orig]
        vmas.vm_file[vma] = vmas.vm_file[orig]
        vmas.swap_readahead_info[vma] = vmas.swap_readahead_info[orig]
    return vma


@kernel("kernel/fork.c", "vm_area_free")
def vm_area_free(mm: MmStruct, vma: int) -> None:
    """Give a VMA back that is on no list any more."""
    common = mm.common
    free_object(common, common.vm_area_cachep, common.vmas.object[vma])
    give_slot(common.vmas, vma)


@kernel("mm/mmap.c", "vma_link", formerly=("insert_vm_struct",), lock="mm->mmap_lock")
def vma_link(mm: MmStruct, vma: int) -> None:
    """Put a VMA in its place among the others of the process, and on the list of the file that it maps.

    Raises `TooLarge` when the process has as many as this machine has room for.
    """
    count = mm.map_count
    if count == len(mm.vma):
        raise TooLarge(f"more than {MAX_MAP_COUNT} VMAs of one process", where="vma_link", remedy="unmap some")
    place = place_of(mm, mm.common.vmas.vm_start[vma])
    for at in range(count, place, -1):
        mm.vma[at] = mm.vma[at - 1]
    mm.vma[place] = vma
    mm.map_count = count + 1
    vma_link_file(mm.common, vma)


@kernel("mm/mmap.c", "vma_mas_remove", formerly=("vma_rb_erase",), lock="mm->mmap_lock", traced=False)
def vma_mas_remove(mm: MmStruct, vma: int) -> None:
    """Take a VMA out of its place; those behind it close up."""
    last = mm.map_count - 1
    place = next(at for at in range(last + 1) if mm.vma[at] == vma)
    for at in range(place, last):
        mm.vma[at] = mm.vma[at + 1]
    mm.vma[last] = 0
    mm.map_count = last


@kernel("mm/mmap.c", "vm_stat_account", traced=False)
def vm_stat_account(mm: MmStruct, flags: int, npages: int) -> None:
    """Count pages of address space, and among them those of code, of the stack, and of data."""
    mm.total_vm += npages
    kind = flags & (VM_ACCESS_FLAGS | VM_SHARED | VM_GROWSDOWN)
    if kind & (VM_EXEC | VM_WRITE | VM_GROWSDOWN) == VM_EXEC:
        mm.exec_vm += npages
    elif kind & VM_GROWSDOWN:
        mm.stack_vm += npages
    elif kind & (VM_WRITE | VM_SHARED) == VM_WRITE:
        mm.data_vm += npages
