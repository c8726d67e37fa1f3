"""get_vm_area: addresses for somebody, with a guard page behind them.

|◀──────── size ────────▶|◀ 4 KiB ▶|
|  pages will be mapped  |  guard  |  nothing is ever mapped here: who writes too far meets a page fault,
                                      and not the next area
"""

from __future__ import annotations

from kmemlab.alloc.alloc_vmap_area import alloc_vmap_area, free_unmap_vmap_area
from kmemlab.mm.context import HARDIRQ, might_sleep
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_struct import VM_IOREMAP, VM_NO_GUARD, new_vm_struct, release_vm_struct, set_caller
from kmemlab.mm.vmap_area import find_vmap_area
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.pgtable import PMD, PUD
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, round_up


@kernel("arch/x86/include/asm/page_types.h", "IOREMAP_MAX_ORDER", traced=False)
def ioremap_max_order(mm: Mm) -> int:
    """The binary logarithm of ioremap's largest alignment: a page of 1 GiB, or of 2 or 4 MiB on i386."""
    levels = mm.boot.swapper_pg_dir.layout.levels
    return levels[PMD].shift if mm.boot.config.highmem else levels[PUD].shift


@invented("C's get_count_order_long, within bounds", traced=False)
def ioremap_align(mm: Mm, size: int) -> int:
    """The power of two from `size` up, so that large pages may be used; at least a page."""
    return 1 << min(max((size - 1).bit_length(), PAGE_SHIFT), ioremap_max_order(mm))


@kernel("mm/vmalloc.c", "__get_vm_area_node", left_out="KASAN", formerly=("get_vm_area_node",))
def get_vm_area_node(
    mm: Mm, size: int, align: int, shift: int, flags: int, start: int, end: int, gfp: int, caller: str
) -> int | None:
    """A vm_struct with `size` bytes of addresses in [start, end) and a guard page behind; None where there is no room.

    The size is rounded up to pages of 2**`shift` bytes.
    """
    assert not mm.current.cells[HARDIRQ], "vmalloc in an interrupt handler"
    vmalloc = mm.vmalloc
    size = round_up(size, 1 << shift)
    if not size:
        return None
    if flags & VM_IOREMAP:
        align = ioremap_align(mm, size)
    if not flags & VM_NO_GUARD:
        size += PAGE_SIZE
    va = alloc_vmap_area(mm, size, align, start, end, gfp)
    if va is None:
        return None
    vm = new_vm_struct(vmalloc.vms)
    setup_vmalloc_vm(mm, vm, va, flags, caller)
    return vm


@kernel("mm/vmalloc.c", "setup_vmalloc_vm", lock="vmap_area_lock", traced=False)
def setup_vmalloc_vm(mm: Mm, vm: int, va: int, flags: int, caller: str) -> None:
    """Tie a vm_struct to its area."""
    vms, areas = mm.vmalloc.vms, mm.vmalloc.areas
    start = areas.va_start[va]
    vms.flags[vm] = flags
    vms.addr[vm] = start
    vms.size[vm] = areas.va_end[va] - start
    set_caller(vms, vm, caller)
    areas.vm[va] = vm


@kernel("mm/vmalloc.c", "get_vm_area_caller", formerly=("get_vm_area",))
def get_vm_area_caller(mm: Mm, size: int, flags: int, caller: str) -> int | None:
    """Addresses anywhere in vmalloc's area."""
    vmalloc = mm.vmalloc
    return get_vm_area_node(mm, size, 1, PAGE_SHIFT, flags, vmalloc.start, vmalloc.end, GFP_KERNEL, caller)


@kernel("mm/vmalloc.c", "remove_vm_area", lock="vmap_area_lock")
def remove_vm_area(mm: Mm, addr: int) -> int:
    """Unmap the area that an address lies in and free it lazily; gives its vm_struct, or 0 where there is no area."""
    might_sleep(mm.current, "mm/vmalloc.c")
    areas = mm.vmalloc.areas
    va = find_vmap_area(areas, addr)
    vm: int = areas.vm[va]
    if vm:
        areas.vm[va] = 0
        free_unmap_vmap_area(mm, va)
    return vm


@kernel("mm/vmalloc.c", "free_vm_area")
def free_vm_area(mm: Mm, vm: int) -> None:
    """Give addresses back that hold no pages of their own."""
    removed = remove_vm_area(mm, mm.vmalloc.vms.addr[vm])
    assert removed == vm
    release_vm_struct(mm.vmalloc.vms, vm)
