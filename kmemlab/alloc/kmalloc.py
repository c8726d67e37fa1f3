"""kmalloc: memory by size. A cache of the next larger size gives it; what is larger than two pages, the page allocator.

kmalloc(100, GFP_KERNEL)             kmalloc-128        28 bytes are lost
kmalloc(100, GFP_KERNEL_ACCOUNT)     kmalloc-cg-128
kmalloc(9000, GFP_KERNEL)            a block of 4 pages: 16384 bytes
kmalloc(0, GFP_KERNEL)               ZERO_SIZE_PTR: no memory, but no failure either
"""

from __future__ import annotations

from kmemlab.alloc.kmalloc_caches import KMALLOC_CGROUP, KMALLOC_DMA, KMALLOC_INDICES, KMALLOC_NORMAL, KMALLOC_RECLAIM
from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.slab_bug import BAD_POINTER, SlabBug
from kmemlab.alloc.slab_common import SlabCommon, give_back, kmalloc_fix_flags, kmem_cache_alloc_node
from kmemlab.alloc.slab_memory import memcpy, memset
from kmemlab.alloc.slab_pages import PG_SLAB_MASK, prep_compound_page, slab_address, slab_nid, slab_order
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.vmstat import NR_SLAB_UNRECLAIMABLE
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, get_order

KMALLOC_MAX_CACHE_SIZE = 2 * PAGE_SIZE
ZERO_SIZE_PTR = 16
"""What kmalloc(0) returns: an address that nobody may use, and that is not NULL."""

# The index for sizes up to 192, by (size - 1) / 8; above, it is the number of bits of size - 1.
SIZE_INDEX = (3, 4, 5, 5, 6, 6, 6, 6, 1, 1, 1, 1, 7, 7, 7, 7, 2, 2, 2, 2, 2, 2, 2, 2)

_NOT_NORMAL = gfp_bits.__GFP_RECLAIMABLE | gfp_bits.GFP_DMA | gfp_bits.__GFP_ACCOUNT


@kernel("include/linux/slab.h", "__kmalloc_index", traced=False)
def kmalloc_index(size: int) -> int:
    """The index of the cache for `size` bytes (1 … 8192).

    >>> kmalloc_index(8), kmalloc_index(65), kmalloc_index(193), kmalloc_index(8192)
    (3, 1, 8, 13)
    """
    return SIZE_INDEX[(size - 1) // 8] if size <= 192 else (size - 1).bit_length()


@kernel("include/linux/slab.h", "kmalloc_type", traced=False)
def kmalloc_type(gfp: int) -> int:
    """Which kind of cache a request goes to: DMA before reclaimable before charged."""
    if not gfp & _NOT_NORMAL:
        return KMALLOC_NORMAL
    if gfp & gfp_bits.GFP_DMA:
        return KMALLOC_DMA
    return KMALLOC_RECLAIM if gfp & gfp_bits.__GFP_RECLAIMABLE else KMALLOC_CGROUP


@kernel("mm/slab_common.c", "kmalloc_slab", traced=False)
def kmalloc_slab(common: SlabCommon, size: int, gfp: int) -> KmemCache:
    """The cache that gives `size` bytes (1 … 8192)."""
    index = SIZE_INDEX[size - 1 >> 3] if size <= 192 else (size - 1).bit_length()
    if gfp & _NOT_NORMAL:
        index += KMALLOC_INDICES * kmalloc_type(gfp)
    return common.caches[common.kmalloc_caches[index]]


@kernel("mm/slab_common.c", "__do_kmalloc_node", formerly=("__kmalloc", "kmalloc"))
def kmalloc(common: SlabCommon, size: int, gfp: int, node: int = NUMA_NO_NODE, caller: int = 0) -> int | None:
    """Take `size` bytes; their address, or None if there is no memory. Zero bytes are at `ZERO_SIZE_PTR`."""
    if size > KMALLOC_MAX_CACHE_SIZE:
        return kmalloc_large(common, size, gfp, node)
    if size == 0:
        return ZERO_SIZE_PTR
    return kmem_cache_alloc_node(kmalloc_slab(common, size, gfp), gfp, node, caller, size)


@kernel("include/linux/slab.h", "kzalloc")
def kzalloc(common: SlabCommon, size: int, gfp: int, node: int = NUMA_NO_NODE, caller: int = 0) -> int | None:
    """Take `size` bytes, all 0."""
    return kmalloc(common, size, gfp | gfp_bits.__GFP_ZERO, node, caller)


@kernel("mm/slab_common.c", "__kmalloc_large_node", formerly=("kmalloc_order", "kmalloc_large"))
def kmalloc_large(common: SlabCommon, size: int, gfp: int, node: int = NUMA_NO_NODE) -> int | None:
    """Take a block of pages for `size` bytes; None if there is none, or if it would be larger than 4 MiB."""
    mm, pages = common.mm, common.pages
    order = get_order(size)
    gfp = kmalloc_fix_flags(common, gfp) | gfp_bits.__GFP_COMP
    if order >= MAX_ORDER:
        return None
    pfn = alloc_pages_inner(mm, gfp, order, mm.numa.cpu_to_node[mm.current.cpu] if node == NUMA_NO_NODE else node)
    if pfn is None:
        return None
    prep_compound_page(pages, pfn, order)
    mm.node_data[slab_nid(pages, pfn)].vm_stat[NR_SLAB_UNRECLAIMABLE] += 1 << order
    common.nr_large_pages += 1 << order
    address = slab_address(pages, pfn)
    if common.init_on_alloc or gfp & gfp_bits.__GFP_ZERO:
        clear_pages(common, pfn, order)
    return address


@invented("kernel_init_pages, where it is not done by the page allocator", traced=False)
def clear_pages(common: SlabCommon, pfn: int, order: int) -> None:
    """Clear the pages of a block; those that were never written are 0 already."""
    for page in range(pfn, pfn + (1 << order)):
        common.pages.ram.clear_page(page)


@kernel("mm/slab_common.c", "kfree")
def kfree(common: SlabCommon, address: int, caller: int = 0) -> None:
    """Give back what kmalloc gave; NULL and `ZERO_SIZE_PTR` are nothing to give back."""
    if address <= ZERO_SIZE_PTR:
        return
    pages = common.pages
    pfn = address - pages.page_offset >> PAGE_SHIFT
    if not 0 <= pfn < pages.max_pfn:
        bad_pointer(common, address, "is no address of the direct map")
        return
    head = pfn - pages.compound_head[pfn]
    if pages.page.flags[head] & PG_SLAB_MASK:
        give_back(common.caches[pages.slab_cache[head]], address, caller)
    else:
        free_large_kmalloc(common, head, address)


@kernel("mm/slab_common.c", "free_large_kmalloc")
def free_large_kmalloc(common: SlabCommon, head: int, address: int) -> None:
    """Give a block of pages back."""
    pages = common.pages
    order = slab_order(pages, head)
    if order <= 0:
        common.mm.boot.printk.info(f"object pointer: 0x{address:0{2 * pages.pointer}x}")
        bad_pointer(common, address, "is not from kmalloc: its page belongs to no slab and to no larger block")
        return
    for pfn in range(head, head + (1 << order)):
        pages.compound_head[pfn] = 0
    common.mm.node_data[slab_nid(pages, head)].vm_stat[NR_SLAB_UNRECLAIMABLE] -= 1 << order
    common.nr_large_pages -= 1 << order
    free_pages_inner(common.mm, head, order)


@invented("errors that teach", traced=False)
def bad_pointer(common: SlabCommon, address: int, why: str) -> None:
    """Keep that an address can't be given back."""
    common.bugs.add(SlabBug(BAD_POINTER, f"{address:#x} {why}", "kmalloc", address))


@kernel("mm/slab_common.c", "__ksize", formerly=("ksize",))
def ksize(common: SlabCommon, address: int) -> int:
    """How many bytes the owner of an address may use; 0 for one that is not from kmalloc."""
    if address <= ZERO_SIZE_PTR:
        return 0
    pages = common.pages
    pfn = address - pages.page_offset >> PAGE_SHIFT
    if not 0 <= pfn < pages.max_pfn:
        return 0
    head = pfn - pages.compound_head[pfn]
    if pages.page.flags[head] & PG_SLAB_MASK:
        cache = common.caches[pages.slab_cache[head]]
        return cache.engine.slab_ksize(cache)
    order = slab_order(pages, head)
    return PAGE_SIZE << order if order > 0 and address == slab_address(pages, head) else 0


@kernel("mm/slab_common.c", "__do_krealloc", formerly=("krealloc",))
def krealloc(common: SlabCommon, address: int, size: int, gfp: int, caller: int = 0) -> int | None:
    """More or less room for the same contents; the address may change. None: no memory, and nothing has changed."""
    if size == 0:
        kfree(common, address, caller)
        return ZERO_SIZE_PTR
    room = ksize(common, address)
    if room >= size:
        if common.init_on_alloc or gfp & gfp_bits.__GFP_ZERO:
            memset(common.pages, address + size, 0, room - size)
        return address
    larger = kmalloc(common, size, gfp, NUMA_NO_NODE, caller)
    if larger is not None and address > ZERO_SIZE_PTR:
        memcpy(common.pages, larger, address, room)
        kfree(common, address, caller)
    return larger
