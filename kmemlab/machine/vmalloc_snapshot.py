"""What vmalloc's areas hold now, frozen for a view: each area's addresses, and the page frames behind them."""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.alloc.check_vmalloc import mapped_pages
from kmemlab.machine.snapshot import FROZEN
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_struct import VM_ALLOC, VM_IOREMAP, VM_NO_GUARD, get_vm_area_size, vm_caller
from kmemlab.mm.vmalloc import busy_areas
from kmemlab.mm.vmap_area import PURGE_VMAP_AREA_ROOT, vmap_areas
from kmemlab.sim.kernel import invented
from kmemlab.types.units import PAGE_SIZE

NOT_MAPPED = -1
LAZY = "lazy"


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class VmallocArea:
    """An area [start, end): `pfns` are behind its usable pages, in order; `NOT_MAPPED` where nothing is.

    `kind` is vmalloc, vmap, ioremap, vm_map_ram, or lazy for one that is freed and waits for a purge.
    """

    start: int
    end: int
    kind: str
    caller: str
    pfns: tuple[int, ...]
    guard: bool

    @property
    def mapped(self) -> int:
        """How many of its pages are mapped."""
        return sum(pfn != NOT_MAPPED for pfn in self.pfns)


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class VmallocSnapshot:
    """All areas by address, how many pages of addresses wait for a purge, how many may, and how often one was."""

    start: int
    end: int
    areas: tuple[VmallocArea, ...]
    lazy_pages: int
    lazy_max: int
    purges: int
    max_pfn: int


@invented(FROZEN)
def vmalloc_snapshot(mm: Mm) -> VmallocSnapshot:
    """The areas as they are now: which page is behind which address is read from the page tables."""
    vmalloc = mm.vmalloc
    mapped = dict(mapped_pages(mm.boot.swapper_pg_dir, vmalloc.start, vmalloc.end)) if vmalloc.start else {}
    areas = [busy_area(mm, va, mapped) for va in busy_areas(vmalloc)]
    if vmalloc.vmap_initialized:
        starts, ends = vmalloc.areas.va_start, vmalloc.areas.va_end
        areas += [
            VmallocArea(starts[va], ends[va], LAZY, "", (), False)
            for va in vmap_areas(vmalloc.areas, PURGE_VMAP_AREA_ROOT)
        ]
    return VmallocSnapshot(
        vmalloc.start,
        vmalloc.end,
        tuple(sorted(areas, key=lambda area: area.start)),
        vmalloc.vmap_lazy_nr,
        vmalloc.lazy_max_pages,
        vmalloc.nr_purges,
        mm.page.max_pfn,
    )


@invented(FROZEN)
def busy_area(mm: Mm, va: int, mapped: dict[int, int]) -> VmallocArea:
    """One busy area; an area that has just been taken has no vm_struct yet, and no page either."""
    areas, vms = mm.vmalloc.areas, mm.vmalloc.vms
    start, end, vm = areas.va_start[va], areas.va_end[va], areas.vm[va]
    kind, guard, usable = "vm_map_ram", False, end
    if vm:
        flags = vms.flags[vm]
        kind = "ioremap" if flags & VM_IOREMAP else "vmalloc" if flags & VM_ALLOC else "vmap"
        guard, usable = not flags & VM_NO_GUARD, start + get_vm_area_size(vms, vm)
    pfns = tuple(mapped.get(addr, NOT_MAPPED) for addr in range(start, usable, PAGE_SIZE))
    return VmallocArea(start, end, kind, vm_caller(vms, vm) if vm else "", pfns, guard)
