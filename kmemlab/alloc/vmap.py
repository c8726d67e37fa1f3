"""vmap: pages that somebody has already get addresses that follow one another. And vmalloc_init, the beginning."""

from __future__ import annotations

from kmemlab.alloc.alloc_vmap_area import lazy_max_pages
from kmemlab.alloc.vfree import vunmap_inner
from kmemlab.alloc.vm_area import get_vm_area_caller
from kmemlab.alloc.vmap_pages import vmap_pages_range
from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.smp import num_online_cpus
from kmemlab.boot.swapper_pg_dir import page_kernel
from kmemlab.boot.vmalloc_area import vmalloc_range
from kmemlab.mm.context import might_sleep
from kmemlab.mm.free_vmap_area import vmap_init_free_space
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_struct import VM_MAP_PUT_PAGES, VM_NO_GUARD, set_vm_pages
from kmemlab.mm.vmap_area import init_vmap_area_lists
from kmemlab.mm.vmap_block import init_vmap_block_queues
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.pgtable import PAGE_NX
from kmemlab.types.units import PAGE_SHIFT, U64_MAX


@kernel("mm/vmalloc.c", "vmalloc_init", left_out="areas that were registered before (vmlist); the cache of vmap_area")
def vmalloc_init(mm: Mm) -> None:
    """All addresses are free; from now on they can be had."""
    vmalloc = mm.vmalloc
    vmalloc.start, vmalloc.end = vmalloc_range(mm.boot)
    vmalloc.page_kernel = page_kernel(mm.boot)
    refused = any(parameq(name, "nohugevmalloc") for name, _ in next_arg(mm.boot.spec.cmdline))
    vmalloc.vmap_allow_huge = int(not (refused or mm.boot.config.highmem))
    vmalloc.lazy_max_pages = lazy_max_pages(num_online_cpus(mm.boot))
    init_vmap_area_lists(vmalloc.areas)
    init_vmap_block_queues(vmalloc.blocks)
    vmap_init_free_space(vmalloc.areas, 0xFFFFFFFF if mm.boot.config.highmem else U64_MAX)
    vmalloc.vmap_initialized = 1


@kernel("include/linux/pgtable.h", "pgprot_nx", traced=False)
def pgprot_nx(mm: Mm, prot: int) -> int:
    """The same protection, but nothing is executed there; unless the CPU can't tell."""
    return prot | mm.vmalloc.page_kernel & PAGE_NX


@kernel("mm/vmalloc.c", "vmap")
def vmap(mm: Mm, pfns: list[int], flags: int, prot: int, caller: str) -> int:
    """Map pages, in this order, by addresses that follow one another. Raises `OutOfMemory`.

    With VM_MAP_PUT_PAGES in `flags` the pages belong to the area from now on, and `vfree` frees them.
    """
    might_sleep(mm.current, "mm/vmalloc.c")
    # What lies above would lose its lower guard, so all have one.
    flags &= ~VM_NO_GUARD
    size = len(pfns) << PAGE_SHIFT
    vm = get_vm_area_caller(mm, size, flags, caller) if len(pfns) <= mm.totalram_pages else None
    if vm is None:
        raise OutOfMemory(f"vmap: no addresses for {size} bytes", where="vmap", remedy="unmap something first")
    addr: int = mm.vmalloc.vms.addr[vm]
    try:
        vmap_pages_range(mm, addr, addr + size, pgprot_nx(mm, prot), pfns)
    except OutOfMemory:
        vunmap(mm, addr)
        raise
    if flags & VM_MAP_PUT_PAGES:
        set_vm_pages(mm.page, mm.vmalloc.vms, vm, pfns)
    return addr


@kernel("mm/vmalloc.c", "vunmap")
def vunmap(mm: Mm, addr: int) -> None:
    """Unmap what `vmap` mapped; the pages stay with whoever has them. 0 is nothing."""
    assert not mm.current.hardirq_count, "vunmap in an interrupt handler"
    might_sleep(mm.current, "mm/vmalloc.c")
    if addr:
        vunmap_inner(mm, addr, deallocate_pages=False)
