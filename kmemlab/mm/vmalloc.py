"""The global variables of mm/vmalloc.c: the areas, what they are used for, and how much waits to be purged."""

from __future__ import annotations

from kmemlab.mm.vm_struct import VmStructs
from kmemlab.mm.vmap_area import VMAP_AREA_ROOT, VmapAreas, find_vmap_area, vmap_areas
from kmemlab.mm.vmap_block import VmapBlocks
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell


@invented("C's global variables are fields here, so that a machine can be copied and rewound")
class Vmalloc(Struct):
    """All that vmalloc knows. `start` and `end` are C's VMALLOC_START and VMALLOC_END, known once lowmem is."""

    start = U64Cell()
    end = U64Cell()
    vmap_initialized = Cell()
    vmap_allow_huge = Cell()
    page_kernel = U64Cell()  # the protection of an ordinary page
    vmap_lazy_nr = Cell()  # pages of addresses that are freed and not purged
    lazy_max_pages = Cell()  # so many may wait
    nr_vmalloc_pages = Cell()
    drain_vmap_work = Cell()  # 1: a worker shall purge
    vfree_deferred = Cell()  # the first vm_struct that waits to be freed by a worker, or 0
    warned_of_mtrr = Cell()  # said once that the MTRRs forbid a large page
    nr_purges = Cell()  # ours, to be looked at: how often the TLB was flushed for all lazy areas at once

    def __init__(self, nr_cpus: int, block_pages: int) -> None:
        self.areas = VmapAreas()
        self.vms = VmStructs()
        self.blocks = VmapBlocks(nr_cpus, block_pages, len(self.areas.va_start))


# vmalloc.cells[…]: each area asks for these, as it comes and as it goes.
VMAP_LAZY_NR, NR_VMALLOC_PAGES = Vmalloc.vmap_lazy_nr.index, Vmalloc.nr_vmalloc_pages.index


@kernel("mm/vmalloc.c", "is_vmalloc_addr", traced=False)
def is_vmalloc_addr(vmalloc: Vmalloc, addr: int) -> bool:
    """Whether an address lies where vmalloc's areas are, taken or not."""
    return vmalloc.start <= addr < vmalloc.end


@kernel("mm/vmalloc.c", "find_vm_area", traced=False)
def find_vm_area(vmalloc: Vmalloc, addr: int) -> int:
    """The vm_struct of the area that an address lies in, or 0."""
    areas = vmalloc.areas
    vm: int = areas.vm[find_vmap_area(areas, addr)]
    return vm


@invented("what C's s_show goes through", traced=False)
def busy_areas(vmalloc: Vmalloc) -> list[int]:
    """The busy areas by address; none before vmalloc_init."""
    return list(vmap_areas(vmalloc.areas, VMAP_AREA_ROOT))
