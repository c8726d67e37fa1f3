"""Taking addresses, and giving them back lazily.

vfree ──▶ busy area becomes lazy ──▶ … ──▶ more than lazy_max_pages wait, or addresses run out
          (its entries are cleared,                        │
          a TLB may remember them)           purge: one TLB flush for all, then they are free

So an address is never used again while some TLB may still lead to the old page: one flush pays for thousands of frees.
"""

from __future__ import annotations

from kmemlab.alloc.vmap_pages import vunmap_range_noflush
from kmemlab.boot.tlbflush import flush_tlb_kernel_range
from kmemlab.mm.context import might_sleep
from kmemlab.mm.free_vmap_area import alloc_vmap_area_inner
from kmemlab.mm.globals import Mm
from kmemlab.mm.vmalloc import VMAP_LAZY_NR
from kmemlab.mm.vmap_area import (
    PURGE_VMAP_AREA_ROOT,
    VMAP_AREA_ROOT,
    insert_vmap_area,
    merge_or_add_vmap_area,
    merge_or_add_vmap_area_augment,
    new_vmap_area,
    unlink_va,
    vmap_areas,
)
from kmemlab.mm.vmap_block import purge_fragmented_blocks_allcpus
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import init_list_head
from kmemlab.types.gfp import __GFP_NOWARN
from kmemlab.types.units import MIB, PAGE_SHIFT, PAGE_SIZE, U64_MAX


@kernel("mm/vmalloc.c", "alloc_vmap_area", left_out="those who are asked to give addresses back (vmap_notify_list)")
def alloc_vmap_area(mm: Mm, size: int, align: int, vstart: int, vend: int, gfp: int) -> int | None:
    """A busy area of `size` bytes in [vstart, vend), at the lowest address that fits; None if there is none.

    If addresses run out, lazily freed ones are purged first.
    """
    assert size % PAGE_SIZE == 0 < size
    assert align & align - 1 == 0
    vmalloc = mm.vmalloc
    if not vmalloc.vmap_initialized:
        return None
    might_sleep(mm.current, "mm/vmalloc.c")
    areas = vmalloc.areas
    addr = alloc_vmap_area_inner(areas, size, align, vstart, vend)
    if addr == vend:
        purge_vmap_area_lazy(mm)
        addr = alloc_vmap_area_inner(areas, size, align, vstart, vend)
    if addr == vend:
        if not gfp & __GFP_NOWARN:
            mm.boot.printk.info(f"vmap allocation for size {size} failed: use vmalloc=<size> to increase size")
        return None
    va = new_vmap_area(areas, addr, addr + size)
    insert_vmap_area(areas, va)
    return va


@kernel("mm/vmalloc.c", "free_vmap_area")
def free_vmap_area(mm: Mm, va: int) -> None:
    """Free an area at once: nothing was ever mapped in it."""
    unlink_va(mm.vmalloc.areas, va, VMAP_AREA_ROOT)
    merge_or_add_vmap_area_augment(mm.vmalloc.areas, va)


@kernel("mm/vmalloc.c", "lazy_max_pages", left_out="CPUs that come and go: C counts them each time", traced=False)
def lazy_max_pages(cpus: int) -> int:
    """How many pages of addresses may wait for a purge: 32 MiB for each binary digit of the number of CPUs.

    >>> [lazy_max_pages(cpus) for cpus in (1, 2, 4)]
    [8192, 16384, 24576]
    """
    return cpus.bit_length() * (32 * MIB >> PAGE_SHIFT)


@kernel("mm/vmalloc.c", "free_vmap_area_noflush", lock="vmap_area_lock")
def free_vmap_area_noflush(mm: Mm, va: int) -> None:
    """Let an area whose entries are cleared wait for a purge; a worker is woken when too many wait."""
    vmalloc = mm.vmalloc
    unlink_va(vmalloc.areas, va, VMAP_AREA_ROOT)
    nr_lazy = vmalloc.cells[VMAP_LAZY_NR] + (vmalloc.areas.node_size(va) >> PAGE_SHIFT)
    vmalloc.cells[VMAP_LAZY_NR] = nr_lazy
    merge_or_add_vmap_area(vmalloc.areas, va, PURGE_VMAP_AREA_ROOT)
    if nr_lazy > vmalloc.lazy_max_pages:
        vmalloc.drain_vmap_work = 1


@kernel("mm/vmalloc.c", "free_unmap_vmap_area", left_out="debug_pagealloc, which flushes at once")
def free_unmap_vmap_area(mm: Mm, va: int) -> None:
    """Clear the page-table entries of an area, and free it lazily."""
    areas = mm.vmalloc.areas
    vunmap_range_noflush(mm, areas.va_start[va], areas.va_end[va])
    free_vmap_area_noflush(mm, va)


@kernel("mm/vmalloc.c", "__purge_vmap_area_lazy", lock="vmap_purge_lock")
def purge_vmap_area_lazy_inner(mm: Mm, start: int, end: int) -> bool:
    """Flush the TLB from the first lazy area to the last, [start, end) included, and free them; False if none waits."""
    vmalloc = mm.vmalloc
    areas = vmalloc.areas
    waiting = list(vmap_areas(areas, PURGE_VMAP_AREA_ROOT))
    if not waiting:
        return False
    areas.left[PURGE_VMAP_AREA_ROOT] = 0
    init_list_head(areas.list, PURGE_VMAP_AREA_ROOT)
    start, end = min(start, areas.va_start[waiting[0]]), max(end, areas.va_end[waiting[-1]])
    flush_tlb_kernel_range(mm.boot.mmu, start, end)
    vmalloc.nr_purges += 1
    for va in waiting:
        nr = areas.node_size(va) >> PAGE_SHIFT
        merge_or_add_vmap_area_augment(areas, va)
        vmalloc.vmap_lazy_nr -= nr
    return True


@kernel("mm/vmalloc.c", "purge_vmap_area_lazy", lock="vmap_purge_lock")
def purge_vmap_area_lazy(mm: Mm) -> None:
    """Free all that waits: lazy areas, and blocks of vm_map_ram that nobody uses any more."""
    for va in purge_fragmented_blocks_allcpus(mm.vmalloc.blocks):
        free_vmap_area_noflush(mm, va)
    purge_vmap_area_lazy_inner(mm, U64_MAX, 0)


@kernel("mm/vmalloc.c", "drain_vmap_area_work", formerly=("try_purge_vmap_area_lazy",))
def drain_vmap_area_work(mm: Mm) -> None:
    """What the worker does: purge until few enough wait."""
    mm.vmalloc.drain_vmap_work = 0
    while purge_vmap_area_lazy_inner(mm, U64_MAX, 0):
        if mm.vmalloc.vmap_lazy_nr <= mm.vmalloc.lazy_max_pages:
            return
