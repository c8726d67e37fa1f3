"""vfree: the entries are cleared, the pages go back at once, the addresses later.

vfree ──▶ in an interrupt handler? a worker does it ──▶ __vunmap ──▶ remove_vm_area      addresses: lazily
                                                                └──▶ __free_pages        pages: now
"""

from __future__ import annotations

from kmemlab.alloc.alloc_vmap_area import drain_vmap_area_work
from kmemlab.alloc.vm_area import remove_vm_area
from kmemlab.mm.context import HARDIRQ, may_sleep, might_sleep
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_free import free_pages_inner
from kmemlab.mm.vm_struct import VM_MAP_PUT_PAGES, release_vm_struct, vm_pages
from kmemlab.mm.vmalloc import NR_VMALLOC_PAGES, find_vm_area
from kmemlab.mm.vmap_area import PURGE_VMAP_AREA_ROOT, find_vmap_area
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, DoubleFree
from kmemlab.types.units import PAGE_SIZE


@kernel("mm/vmalloc.c", "vfree", formerly=("__vfree",))
def vfree(mm: Mm, addr: int) -> None:
    """Free what vmalloc gave; from an interrupt handler, let a worker do it. 0 is nothing.

    Raises `BadRequest` for an address where no area begins.
    """
    if not mm.current.cells[HARDIRQ]:
        might_sleep(mm.current, "mm/vmalloc.c")
    if addr:
        vfree_inner(mm, addr)


@kernel("mm/vmalloc.c", "__vfree")
def vfree_inner(mm: Mm, addr: int) -> None:
    """The part of vfree that failing allocations use, too."""
    if mm.current.cells[HARDIRQ]:
        vfree_deferred(mm, addr)
    else:
        vunmap_inner(mm, addr, deallocate_pages=True)


@kernel("mm/vmalloc.c", "__vfree_deferred", formerly=("vfree_atomic",), left_out="a list for each CPU")
def vfree_deferred(mm: Mm, addr: int) -> None:
    """Leave an area to a worker. C threads the list through the memory itself: who still uses it then, spoils it."""
    vm = checked_area(mm, addr)
    mm.vmalloc.vms.next_deferred[vm] = mm.vmalloc.vfree_deferred
    mm.vmalloc.vfree_deferred = vm


@kernel("mm/vmalloc.c", "free_work")
def free_work(mm: Mm) -> None:
    """What the worker does: free what interrupt handlers left, the last one first."""
    vmalloc = mm.vmalloc
    vm, vmalloc.vfree_deferred = vmalloc.vfree_deferred, 0
    while vm:
        following = vmalloc.vms.next_deferred[vm]
        vunmap_inner(mm, vmalloc.vms.addr[vm], deallocate_pages=True)
        vm = following


@kernel("kernel/workqueue.c", "process_scheduled_works", left_out="workqueues: only vmalloc's two kinds of work")
def run_vmap_work(mm: Mm) -> None:
    """A worker gets the CPU, if there is work for it and sleeping is allowed."""
    if not may_sleep(mm.current):
        return
    if mm.vmalloc.vfree_deferred:
        free_work(mm)
    if mm.vmalloc.drain_vmap_work:
        drain_vmap_area_work(mm)


@kernel("mm/vmalloc.c", "__vunmap", left_out="VM_FLUSH_RESET_PERMS; KASAN, memcg")
def vunmap_inner(mm: Mm, addr: int, deallocate_pages: bool) -> None:
    """Unmap an area; `deallocate_pages`: its pages are freed, too. Raises `BadRequest` where no area begins."""
    vmalloc = mm.vmalloc
    vms = vmalloc.vms
    vm = checked_area(mm, addr)
    remove_vm_area(mm, addr)
    if deallocate_pages:
        for pfn in vm_pages(mm.page, vms, vm):
            free_pages_inner(mm, pfn, 0)
        if not vms.flags[vm] & VM_MAP_PUT_PAGES:
            vmalloc.cells[NR_VMALLOC_PAGES] -= vms.nr_pages[vm]
        if vms.pages[vm]:
            vunmap_inner(mm, vms.pages[vm], deallocate_pages=True)
    release_vm_struct(vms, vm)


@invented("the checks at the head of __vunmap: C warns and goes on")
def checked_area(mm: Mm, addr: int) -> int:
    """The vm_struct of the area that begins at an address.

    C takes any page-aligned address within an area; what it then does to the rest is not worth imitating.
    """
    vmalloc = mm.vmalloc
    vm = find_vm_area(vmalloc, addr)
    if addr % PAGE_SIZE == 0 and vm and vmalloc.vms.addr[vm] == addr:
        return vm
    kind = "bad address" if addr % PAGE_SIZE else "nonexistent vm area"
    what = f"Trying to vfree() {kind} ({addr:0{16 if addr >> 32 else 8}x})"
    mm.boot.printk.info(what)
    was_freed = find_vmap_area(vmalloc.areas, addr, PURGE_VMAP_AREA_ROOT) != 0
    error = DoubleFree if was_freed else BadRequest
    raise error(what, where=f"vfree({addr:#x})", remedy="free the address that vmalloc gave, once")
