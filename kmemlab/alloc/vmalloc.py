"""vmalloc: addresses that follow one another, for pages that need not.

vmalloc(10000) ──▶ __get_vm_area_node      3 pages of addresses and a guard page       alloc/vm_area.py
               ──▶ vm_area_alloc_pages     3 pages, from wherever there are any
               ──▶ vmap_pages_range        page-table entries                          alloc/vmap_pages.py

A failure on the way gives back what there is: vfree does it, as it would later.
"""

from __future__ import annotations

from kmemlab.alloc.mempolicy import AllocPages, nodes_in_bulk, policy_alloc
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.alloc.page_api import alloc_pages_bulk
from kmemlab.alloc.prep_page import split_page
from kmemlab.alloc.vfree import vfree_inner
from kmemlab.alloc.vm_area import free_vm_area, get_vm_area_node
from kmemlab.alloc.vmap_huge import vmap_supported
from kmemlab.alloc.vmap_pages import vmap_pages_range
from kmemlab.alloc.warn_alloc import warn_alloc
from kmemlab.boot.numa import nodes_of
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_struct import (
    VM_ALLOC,
    VM_ALLOW_HUGE_VMAP,
    VM_UNINITIALIZED,
    VM_USERMAP,
    get_vm_area_size,
    set_vm_pages,
    vm_caller,
)
from kmemlab.mm.vmalloc import NR_VMALLOC_PAGES
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.pgtable import PMD
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

MOST_IN_BULK = 100
"""So many pages at a time: the bulk allocator keeps the CPU to itself meanwhile."""


@kernel(
    "mm/vmalloc.c",
    "vm_area_alloc_pages",
    left_out="fatal signals; a request that must not fail; cond_resched: nobody else has a turn between the pages",
)
def vm_area_alloc_pages(
    mm: Mm, gfp: int, nid: int, order: int, nr_pages: int, alloc: AllocPages = alloc_pages_inner
) -> list[int]:
    """The page frames of `nr_pages` pages, in blocks of 2**`order` that are split; fewer where no more can be had."""
    pfns: list[int] = []
    if not order:
        while len(pfns) < nr_pages:
            wanted = min(MOST_IN_BULK, nr_pages - len(pfns))
            got = alloc_pages_bulk_array_mempolicy(mm, gfp & ~gfp_bits.__GFP_NOFAIL, nid, wanted, alloc)
            pfns += got
            if len(got) < wanted:
                break
    while len(pfns) < nr_pages:
        pfn = policy_alloc(mm, gfp, order, alloc) if nid == NUMA_NO_NODE else alloc(mm, gfp, order, nid)
        if pfn is None:
            break
        if order:
            split_page(mm.page, pfn, order)
        pfns += range(pfn, pfn + (1 << order))
    return pfns


@kernel(
    "mm/mempolicy.c",
    "alloc_pages_bulk_array_mempolicy",
    formerly=("alloc_pages_bulk_array_interleave",),
    left_out="MPOL_PREFERRED_MANY",
)
def alloc_pages_bulk_array_mempolicy(mm: Mm, gfp: int, nid: int, nr_pages: int, alloc: AllocPages) -> list[int]:
    """Single pages, each node its share; fewer where one has few to give."""
    pfns: list[int] = []
    for node, share in nodes_in_bulk(mm, nid, nr_pages):
        pfns += alloc_pages_bulk(mm, gfp, node, share, alloc)
    return pfns


@kernel(
    "mm/vmalloc.c",
    "__vmalloc_area_node",
    left_out="kmalloc of a list of pages no longer than a page, and what stands in it; GFP_NOFS for page tables",
)
def vmalloc_area_node(mm: Mm, vm: int, gfp: int, prot: int, page_shift: int, nid: int, alloc: AllocPages) -> None:
    """Give an area its pages and map them. Raises `OutOfMemory`, and the area is gone then.

    6.1 sets __GFP_NOWARN before anything can fail, so none of these warnings is ever printed.
    """
    vms = mm.vmalloc.vms
    addr, size = vms.addr[vm], get_vm_area_size(vms, vm)
    nr_pages = size >> PAGE_SHIFT
    nested_gfp = gfp & gfp_bits.GFP_RECLAIM_MASK | gfp_bits.__GFP_ZERO
    gfp |= gfp_bits.__GFP_NOWARN
    if not gfp & (gfp_bits.__GFP_DMA | gfp_bits.__GFP_DMA32):
        gfp |= gfp_bits.__GFP_HIGHMEM
    array_size = nr_pages * mm.boot.config.sizeof_pointer
    if array_size > PAGE_SIZE:
        try:
            vms.pages[vm] = vmalloc_node_inner(mm, array_size, 1, nested_gfp, nid, vm_caller(vms, vm), alloc)
        except OutOfMemory:
            free_vm_area(mm, vm)
            raise vmalloc_error(mm, gfp, size, f", failed to allocated page array size {array_size}") from None
    order = page_shift - PAGE_SHIFT
    vms.page_order[vm] = order
    pfns = vm_area_alloc_pages(mm, gfp, nid, order, nr_pages, alloc)
    set_vm_pages(mm.page, vms, vm, pfns)
    mm.vmalloc.cells[NR_VMALLOC_PAGES] += len(pfns)
    if len(pfns) != nr_pages:
        vfree_inner(mm, addr)
        raise vmalloc_error(mm, gfp, len(pfns) << PAGE_SHIFT, f", page order {order}, failed to allocate pages")
    try:
        vmap_pages_range(mm, addr, addr + size, prot, pfns, page_shift)
    except OutOfMemory:
        vfree_inner(mm, addr)
        raise vmalloc_error(mm, gfp, size, ", failed to map pages") from None


@kernel("mm/vmalloc.c", "__vmalloc_node_range", left_out="KASAN; a request that must not fail; saying it once only")
def vmalloc_node_range(
    mm: Mm,
    size: int,
    align: int,
    start: int,
    end: int,
    gfp: int,
    prot: int,
    vm_flags: int,
    nid: int,
    caller: str,
    alloc: AllocPages = alloc_pages_inner,
) -> int:
    """Addresses in [start, end) with pages behind them. Raises `OutOfMemory` with what the kernel says."""
    if not size:
        raise vmalloc_error(mm, gfp | gfp_bits.__GFP_NOWARN, size, ": nothing was asked for")
    if size >> PAGE_SHIFT > mm.totalram_pages:
        raise vmalloc_error(mm, gfp, size, ", exceeds total pages")
    shifts = [PAGE_SHIFT]
    if mm.vmalloc.vmap_allow_huge and vm_flags & VM_ALLOW_HUGE_VMAP and wants_huge(mm, size, nid):
        shifts.insert(0, mm.boot.swapper_pg_dir.layout.levels[PMD].shift)
    for shift in shifts:
        try:
            return vmalloc_by_pages_of(mm, size, align, shift, start, end, gfp, prot, vm_flags, nid, caller, alloc)
        except OutOfMemory:
            if shift == PAGE_SHIFT:
                raise
    raise AssertionError


@kernel("mm/vmalloc.c", "__vmalloc_node_range")
def vmalloc_by_pages_of(
    mm: Mm,
    size: int,
    align: int,
    shift: int,
    start: int,
    end: int,
    gfp: int,
    prot: int,
    vm_flags: int,
    nid: int,
    caller: str,
    alloc: AllocPages,
) -> int:
    """The part of it that is tried again with small pages where large ones can't be had."""
    vms = mm.vmalloc.vms
    flags = VM_ALLOC | VM_UNINITIALIZED | vm_flags
    align = max(align, 1 << shift) if shift > PAGE_SHIFT else align
    vm = get_vm_area_node(mm, size, align, shift, flags, start, end, gfp, caller)
    if vm is None:
        raise vmalloc_error(mm, gfp, size, ", vm_struct allocation failed")
    vmalloc_area_node(mm, vm, gfp, prot, shift, nid, alloc)
    vms.flags[vm] &= ~VM_UNINITIALIZED
    addr: int = vms.addr[vm]
    return addr


@kernel("arch/x86/include/asm/vmalloc.h", "arch_vmap_pmd_supported", traced=False)
def wants_huge(mm: Mm, size: int, nid: int) -> bool:
    """Whether an area is worth large pages: each node's share is one at least."""
    if nid == NUMA_NO_NODE:
        size //= len(nodes_of(mm.numa.node_online))
    return vmap_supported(mm, PMD) and size >= mm.boot.direct_map.pmd_size


@invented("C's callers see no more than NULL")
def vmalloc_error(mm: Mm, gfp: int, size: int, text: str) -> OutOfMemory:
    """Warn as C does, and make an error of it."""
    text = f"vmalloc error: size {size}{text}"
    warn_alloc(mm, gfp, text)
    return OutOfMemory(text, where="vmalloc", remedy="ask for less, or free some: `vmallocinfo` tells who has how much")


# -- what everybody calls ----------------------------------------------------------------------------------------------


@kernel("mm/vmalloc.c", "__vmalloc_node")
def vmalloc_node_inner(
    mm: Mm, size: int, align: int, gfp: int, nid: int, caller: str, alloc: AllocPages = alloc_pages_inner
) -> int:
    """Addresses anywhere in vmalloc's area. Raises `OutOfMemory`."""
    vmalloc = mm.vmalloc
    prot = vmalloc.page_kernel
    return vmalloc_node_range(mm, size, align, vmalloc.start, vmalloc.end, gfp, prot, 0, nid, caller, alloc)


@kernel("mm/vmalloc.c", "__vmalloc")
def vmalloc_inner(mm: Mm, size: int, gfp: int, caller: str) -> int:
    """`size` bytes, by the flags of the page allocator. Raises `OutOfMemory`."""
    return vmalloc_node_inner(mm, size, 1, gfp, NUMA_NO_NODE, caller)


@kernel("mm/vmalloc.c", "vmalloc")
def vmalloc(mm: Mm, size: int, caller: str) -> int:
    """`size` bytes whose addresses follow one another. Raises `OutOfMemory`."""
    return vmalloc_node_inner(mm, size, 1, GFP_KERNEL, NUMA_NO_NODE, caller)


@kernel("mm/vmalloc.c", "vzalloc")
def vzalloc(mm: Mm, size: int, caller: str) -> int:
    """The same, all zeros. Raises `OutOfMemory`."""
    return vmalloc_node_inner(mm, size, 1, GFP_KERNEL | gfp_bits.__GFP_ZERO, NUMA_NO_NODE, caller)


@kernel("mm/vmalloc.c", "vmalloc_node")
def vmalloc_node(mm: Mm, size: int, nid: int, caller: str) -> int:
    """The same from a node. Raises `OutOfMemory`."""
    return vmalloc_node_inner(mm, size, 1, GFP_KERNEL, nid, caller)


@kernel("mm/vmalloc.c", "vmalloc_user", left_out="SHMLBA: x86 needs no more than a page's alignment")
def vmalloc_user(mm: Mm, size: int, caller: str) -> int:
    """Zeros that may be shown to programs. Raises `OutOfMemory`."""
    vmalloc, gfp = mm.vmalloc, GFP_KERNEL | gfp_bits.__GFP_ZERO
    prot = vmalloc.page_kernel
    return vmalloc_node_range(
        mm, size, PAGE_SIZE, vmalloc.start, vmalloc.end, gfp, prot, VM_USERMAP, NUMA_NO_NODE, caller
    )


@kernel("mm/vmalloc.c", "vmalloc_32")
def vmalloc_32(mm: Mm, size: int, caller: str) -> int:
    """Pages below 4 GiB: for devices with 32 address lines. Raises `OutOfMemory`."""
    return vmalloc_node_inner(mm, size, 1, gfp_bits.GFP_DMA32 | GFP_KERNEL, NUMA_NO_NODE, caller)


@kernel("mm/vmalloc.c", "vmalloc_huge")
def vmalloc_huge(mm: Mm, size: int, gfp: int, caller: str, alloc: AllocPages = alloc_pages_inner) -> int:
    """Mapped by large pages if that is worth it, and if they can be had. Raises `OutOfMemory`."""
    vmalloc, prot = mm.vmalloc, mm.vmalloc.page_kernel
    flags = VM_ALLOW_HUGE_VMAP
    return vmalloc_node_range(mm, size, 1, vmalloc.start, vmalloc.end, gfp, prot, flags, NUMA_NO_NODE, caller, alloc)
