"""vm_map_ram: a mapping for a short while. It shares an area, and its TLB flush, with others (mm/vmap_block.py)."""

from __future__ import annotations

from kmemlab.alloc.alloc_vmap_area import (
    alloc_vmap_area,
    free_unmap_vmap_area,
    free_vmap_area_noflush,
    purge_vmap_area_lazy_inner,
)
from kmemlab.alloc.vmap_pages import vmap_pages_range, vunmap_range_noflush
from kmemlab.boot.tlbflush import flush_tlb_kernel_range
from kmemlab.mm.context import might_sleep
from kmemlab.mm.globals import Mm
from kmemlab.mm.vmap_area import find_vmap_area
from kmemlab.mm.vmap_block import (
    add_vmap_block,
    free_vmap_block,
    purge_fragmented_blocks_allcpus,
    queue_of,
    vmap_max_alloc,
)
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import list_del, list_for_each
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, U64_MAX, get_order


@kernel("mm/vmalloc.c", "new_vmap_block")
def new_vmap_block(mm: Mm, order: int) -> int | None:
    """The address of a new block, its first 2**`order` pages taken; None where there are no addresses for it."""
    vmalloc = mm.vmalloc
    size = vmalloc.blocks.pages << PAGE_SHIFT
    va = alloc_vmap_area(mm, size, size, vmalloc.start, vmalloc.end, GFP_KERNEL)
    if va is None:
        return None
    add_vmap_block(vmalloc.blocks, va, mm.current.cpu, 1 << order)
    addr: int = vmalloc.areas.va_start[va]
    return addr


@kernel("mm/vmalloc.c", "vb_alloc", lock="vb->lock")
def vb_alloc(mm: Mm, size: int) -> int | None:
    """Addresses in this CPU's first block that has room, or in a new one. A power of two of pages."""
    blocks = mm.vmalloc.blocks
    order = get_order(size)
    for block in list_for_each(blocks.queue, queue_of(mm.current.cpu)):
        free = blocks.free[block]
        if free < 1 << order:
            continue
        blocks.free[block] = free - (1 << order)
        if free == 1 << order:
            list_del(blocks.queue, block)
        start: int = mm.vmalloc.areas.va_start[blocks.va[block]]
        return start + (blocks.pages - free << PAGE_SHIFT)
    return new_vmap_block(mm, order)


@kernel("mm/vmalloc.c", "vb_free", lock="vb->lock")
def vb_free(mm: Mm, addr: int, size: int) -> None:
    """Clear the entries; the addresses are dirty until the whole block is purged."""
    blocks, areas = mm.vmalloc.blocks, mm.vmalloc.areas
    block = blocks.of_area[find_vmap_area(areas, addr)]
    if not block:
        raise BadRequest(f"{addr:#x} is not mapped by vm_map_ram", where="vm_unmap_ram", remedy="give what it returned")
    vunmap_range_noflush(mm, addr, addr + size)
    pages = 1 << get_order(size)
    offset = (addr - areas.va_start[blocks.va[block]]) >> PAGE_SHIFT
    blocks.dirty_min[block] = min(blocks.dirty_min[block], offset)
    blocks.dirty_max[block] = max(blocks.dirty_max[block], offset + pages)
    blocks.dirty[block] += pages
    if blocks.dirty[block] == blocks.pages:
        assert not blocks.free[block]
        free_vmap_area_noflush(mm, free_vmap_block(blocks, block))


@kernel("mm/vmalloc.c", "vm_map_ram")
def vm_map_ram(mm: Mm, pfns: list[int]) -> int:
    """Map pages, in this order; few of them in a shared block, many in an area of their own. Raises `OutOfMemory`."""
    size = len(pfns) << PAGE_SHIFT
    if len(pfns) <= vmap_max_alloc(mm.boot.config):
        addr = vb_alloc(mm, size)
    else:
        vmalloc = mm.vmalloc
        va = alloc_vmap_area(mm, size, PAGE_SIZE, vmalloc.start, vmalloc.end, GFP_KERNEL)
        addr = None if va is None else vmalloc.areas.va_start[va]
    if addr is None:
        raise OutOfMemory(f"vm_map_ram: no addresses for {size} bytes", where="vm_map_ram", remedy="unmap something")
    try:
        vmap_pages_range(mm, addr, addr + size, mm.vmalloc.page_kernel, pfns)
    except OutOfMemory:
        vm_unmap_ram(mm, addr, len(pfns))
        raise
    return addr


@kernel("mm/vmalloc.c", "vm_unmap_ram")
def vm_unmap_ram(mm: Mm, addr: int, count: int) -> None:
    """Unmap `count` pages that `vm_map_ram` mapped at an address."""
    might_sleep(mm.current, "mm/vmalloc.c")
    if count <= vmap_max_alloc(mm.boot.config):
        vb_free(mm, addr, count << PAGE_SHIFT)
    else:
        free_unmap_vmap_area(mm, find_vmap_area(mm.vmalloc.areas, addr))


@kernel("mm/vmalloc.c", "vm_unmap_aliases", formerly=("_vm_unmap_aliases",), lock="vmap_purge_lock")
def vm_unmap_aliases(mm: Mm) -> None:
    """See that no TLB leads to a page by addresses that are unmapped: before its protection changes, say."""
    blocks, areas = mm.vmalloc.blocks, mm.vmalloc.areas
    start, end = U64_MAX, 0
    for cpu in range(blocks.nr_cpus):
        for block in list_for_each(blocks.queue, queue_of(cpu)):
            if blocks.dirty[block]:
                va_start = areas.va_start[blocks.va[block]]
                start = min(start, va_start + (blocks.dirty_min[block] << PAGE_SHIFT))
                end = max(end, va_start + (blocks.dirty_max[block] << PAGE_SHIFT))
    for va in purge_fragmented_blocks_allcpus(blocks):
        free_vmap_area_noflush(mm, va)
    if not purge_vmap_area_lazy_inner(mm, start, end) and start < end:
        flush_tlb_kernel_range(mm.boot.mmu, start, end)
