"""Several areas of vmalloc at once, at given distances from each other: from the top of vmalloc's range down.

groups        offset 0, 2 MiB          offset 40 MiB, 2 MiB
                 |▓▓▓▓|                    |▓▓▓▓|              slid down together until each lies in a free area
vmalloc  ·····▓▓··············▓▓▓▓▓▓▓····················|
"""

from __future__ import annotations

from kmemlab.alloc.alloc_vmap_area import purge_vmap_area_lazy
from kmemlab.alloc.vm_area import free_vm_area, setup_vmalloc_vm
from kmemlab.mm.free_vmap_area import adjust_va_to_fit_type
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_struct import VM_ALLOC, new_vm_struct
from kmemlab.mm.vmap_area import FREE_VMAP_AREA_ROOT, insert_vmap_area, new_vmap_area, vmap_areas
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import round_down, round_up


@kernel("mm/vmalloc.c", "pcpu_get_vm_areas", left_out="KASAN; running out of structs", lock="free_vmap_area_lock")
def pcpu_get_vm_areas(mm: Mm, groups: list[tuple[int, int]], align: int) -> list[int] | None:
    """A vm_struct for each (offset, size), all moved by the same distance; None if they fit nowhere."""
    base = find_base(mm, groups, align)
    if base is None:
        purge_vmap_area_lazy(mm)
        base = find_base(mm, groups, align)
    if base is None:
        return None
    areas = mm.vmalloc.areas
    vms = []
    for offset, size in groups:
        start = base + offset
        enclosing = pvm_find_va_enclose_addr(mm, start)
        assert enclosing
        adjust_va_to_fit_type(areas, enclosing, start, size)
        va = new_vmap_area(areas, start, start + size)
        insert_vmap_area(areas, va)
        vm = new_vm_struct(mm.vmalloc.vms)
        setup_vmalloc_vm(mm, vm, va, VM_ALLOC, "pcpu_get_vm_areas")
        vms.append(vm)
    return vms


@invented("the search of pcpu_get_vm_areas")
def find_base(mm: Mm, groups: list[tuple[int, int]], align: int) -> int | None:
    """The highest address for offset 0 at which every group lies within a free area of vmalloc's range.

    It slides down: the group that does not fit says how far, and then all others are asked again.
    """
    vmalloc = mm.vmalloc
    lowest, highest = round_up(vmalloc.start, align), round_down(vmalloc.end, align)
    base = highest - max(offset + size for offset, size in groups)
    fitting = 0
    while fitting < len(groups):
        for offset, size in reversed(groups):
            moved = fit_below(mm, base + offset, size, align, highest)
            if moved is None or moved - offset < lowest:
                return None
            fitting = fitting + 1 if moved == base + offset else 1
            base = moved - offset
            if fitting >= len(groups):
                break
    return base


@invented("what one area asks for in the search of pcpu_get_vm_areas", traced=False)
def fit_below(mm: Mm, start: int, size: int, align: int, highest: int) -> int | None:
    """The highest place not above `start` where `size` bytes are free; None if there is none."""
    areas = mm.vmalloc.areas
    for va in reversed(list(vmap_areas(areas, FREE_VMAP_AREA_ROOT))):
        end = min(round_down(areas.va_end[va], align), highest, start + size)
        if end - size >= areas.va_start[va]:
            return end - size
    return None


@kernel("mm/vmalloc.c", "pvm_find_va_enclose_addr", left_out="going down the tree: the list is read", traced=False)
def pvm_find_va_enclose_addr(mm: Mm, addr: int) -> int:
    """The free area that an address lies in, or 0."""
    areas = mm.vmalloc.areas
    for va in vmap_areas(areas, FREE_VMAP_AREA_ROOT):
        if areas.va_start[va] <= addr < areas.va_end[va]:
            return va
    return 0


@kernel("mm/vmalloc.c", "pcpu_free_vm_areas")
def pcpu_free_vm_areas(mm: Mm, vms: list[int]) -> None:
    """Give the areas back, lazily as all of vmalloc's."""
    for vm in vms:
        free_vm_area(mm, vm)
