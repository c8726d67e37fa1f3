"""vm_struct: what an area of kernel addresses is used for, who asked for it, and which pages it has.

vm 1   addr ffffc90000000000   size 5 pages (the last is the guard)   VM_ALLOC   caller kernel_clone   nr_pages 4
       first_page ──▶ pfn 812 ──▶ pfn 77 ──▶ pfn 78 ──▶ pfn 3       threaded through page->lru.next
"""

from __future__ import annotations

from itertools import pairwise

from kmemlab.mm.mem_map import MemMap
from kmemlab.mm.vmap_area import MOST_AREAS
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import TooLarge
from kmemlab.types.units import PAGE_SIZE

VM_IOREMAP = 0x1  # ioremap and its like
VM_ALLOC = 0x2  # vmalloc
VM_MAP = 0x4  # vmap: somebody else's pages
VM_USERMAP = 0x8  # may be shown to programs
VM_DMA_COHERENT = 0x10
VM_UNINITIALIZED = 0x20  # the area is there, its pages are not yet
VM_NO_GUARD = 0x40  # no guard page behind
VM_FLUSH_RESET_PERMS = 0x100
VM_MAP_PUT_PAGES = 0x200  # the pages of vmap are given back by vfree
VM_ALLOW_HUGE_VMAP = 0x400  # large pages may be used
VM_DEFER_KMEMLEAK = 0x800

CALLER_BYTES = 40


@kernel("include/linux/vmalloc.h", "struct vm_struct", left_out="next; the array of pages: they are threaded instead")
class VmStructs(Struct):
    """The structs by number from 1 on; `size` is in bytes, the guard page included.

    C keeps an array of pointers to the pages, and takes a large array by vmalloc: `pages` is its address then.
    """

    nr_used = Cell()
    first_unused = Cell()  # the number freed last; each knows the one freed before it, by `first_page`

    addr: Column
    size: Column
    flags: Column
    pages: Column
    first_page: Column
    nr_pages: Column
    page_order: Column
    phys_addr: Column
    caller: Column
    next_deferred: Column

    def __init__(self, most: int = MOST_AREAS) -> None:
        self.addr = column("Q", 1 + most)
        self.size = column("Q", 1 + most)
        self.flags = column("I", 1 + most)
        self.pages = column("Q", 1 + most)
        self.first_page = column("q", 1 + most)
        self.nr_pages = column("q", 1 + most)
        self.page_order = column("B", 1 + most)
        self.phys_addr = column("Q", 1 + most)
        self.caller = column("B", (1 + most) * CALLER_BYTES)
        self.next_deferred = column("i", 1 + most)


FIRST_UNUSED = VmStructs.first_unused.index  # vms.cells[…]: each area asks for this


@invented("C's kzalloc_node", traced=False)
def new_vm_struct(vms: VmStructs) -> int:
    """The number of a struct, zero but for what the caller sets. Raises `TooLarge` when there are no more."""
    vm = vms.cells[FIRST_UNUSED]
    if vm:
        vms.cells[FIRST_UNUSED] = vms.first_page[vm]
    else:
        vm = 1 + vms.nr_used
        if vm >= len(vms.addr):
            raise TooLarge(
                f"more than {len(vms.addr) - 1} areas of kernel addresses",
                where="get_vm_area",
                remedy="free some, or ask for larger areas",
            )
        vms.nr_used += 1
    vms.pages[vm] = vms.phys_addr[vm] = 0
    vms.nr_pages[vm] = vms.page_order[vm] = 0
    return vm


@invented("C's kfree", traced=False)
def release_vm_struct(vms: VmStructs, vm: int) -> None:
    """The number may be used for another area."""
    vms.flags[vm] = 0
    vms.first_page[vm] = vms.cells[FIRST_UNUSED]
    vms.cells[FIRST_UNUSED] = vm


@invented("C keeps the address of the code that asked, and looks its name up", traced=False)
def set_caller(vms: VmStructs, vm: int, caller: str) -> None:
    """Note the function that asked for an area, in at most 40 bytes."""
    raw = caller.encode("ascii", "replace")[:CALLER_BYTES].ljust(CALLER_BYTES, b"\0")
    vms.caller[vm * CALLER_BYTES : (vm + 1) * CALLER_BYTES] = raw


@invented("%pS of C's printf, without the offset in the function", traced=False)
def vm_caller(vms: VmStructs, vm: int) -> str:
    """The function that asked for an area."""
    return bytes(vms.caller[vm * CALLER_BYTES : (vm + 1) * CALLER_BYTES]).rstrip(b"\0").decode("ascii")


@kernel("include/linux/vmalloc.h", "get_vm_area_size", traced=False)
def get_vm_area_size(vms: VmStructs, vm: int) -> int:
    """The bytes of an area that can be used: all but the guard page."""
    size: int = vms.size[vm]
    return size if vms.flags[vm] & VM_NO_GUARD else size - PAGE_SIZE


@invented("C fills area->pages", traced=False)
def set_vm_pages(page: MemMap, vms: VmStructs, vm: int, pfns: list[int]) -> None:
    """Note the pages of an area, in their order. They are on no list, so their links are free to use."""
    following = page.lru.next
    for pfn, after in pairwise(pfns):
        following[pfn] = after
    vms.first_page[vm] = pfns[0] if pfns else 0
    vms.nr_pages[vm] = len(pfns)


@invented("C reads area->pages", traced=False)
def vm_pages(page: MemMap, vms: VmStructs, vm: int) -> list[int]:
    """The pages that an area holds, in their order."""
    following, pfns, pfn = page.lru.next, [], vms.first_page[vm]
    for _ in range(vms.nr_pages[vm]):
        pfns.append(pfn)
        pfn = following[pfn]
    return pfns
