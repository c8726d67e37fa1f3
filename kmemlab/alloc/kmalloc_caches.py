"""kmalloc's caches: one for each size and for each kind of request.

index      1   2     3   4   5   6    7    8    9   10   11   12   13
size      96 192     8  16  32  64  128  256  512   1k   2k   4k   8k      larger requests go to the page allocator

kind      kmalloc-N        ordinary requests
          kmalloc-cg-N     charged to a memory control group (GFP_KERNEL_ACCOUNT)
          kmalloc-rcl-N    can be given back under pressure (__GFP_RECLAIMABLE)
          dma-kmalloc-N    below 16 MiB (GFP_DMA)
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import (
    SLAB_ACCOUNT,
    SLAB_CACHE_DMA,
    SLAB_HWCACHE_ALIGN,
    SLAB_KMALLOC,
    SLAB_RECLAIM_ACCOUNT,
    KmemCache,
)
from kmemlab.alloc.slab_common import UP, SlabCommon, enter_cache, kmem_cache_alloc, new_slot
from kmemlab.alloc.slab_geometry import calculate_alignment
from kmemlab.boot.cmdline import next_arg
from kmemlab.boot.setup_percpu import nr_node_ids
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.errors import KernelPanic

KMALLOC_NORMAL, KMALLOC_CGROUP, KMALLOC_RECLAIM, KMALLOC_DMA = range(4)
KMALLOC_PREFIXES = ("kmalloc", "kmalloc-cg", "kmalloc-rcl", "dma-kmalloc")
KMALLOC_FLAGS = (0, SLAB_ACCOUNT, SLAB_RECLAIM_ACCOUNT, SLAB_CACHE_DMA)
KMALLOC_SHIFT_LOW, KMALLOC_SHIFT_HIGH = 3, 13
KMALLOC_INDICES = KMALLOC_SHIFT_HIGH + 1
ARCH_KMALLOC_MINALIGN = 8
KMALLOC_SIZES = (0, 96, 192, *(1 << shift for shift in range(KMALLOC_SHIFT_LOW, KMALLOC_SHIFT_HIGH + 1)))

# In which order they are made: 96 follows 64, 192 follows 128.
KMALLOC_ORDER_OF_CREATION = (3, 4, 5, 6, 1, 7, 2, 8, 9, 10, 11, 12, 13)

# struct kmem_cache_node, and struct kmem_cache up to its pointers to nodes, in bytes; by the size of a pointer
SIZEOF_KMEM_CACHE_NODE = {8: 64, 4: 32}
OFFSETOF_KMEM_CACHE_NODE = {8: 216, 4: 136}


@invented("the size as the name of a cache has it", traced=False)
def size_name(size: int) -> str:
    """A size as kmalloc writes it.

    >>> size_name(192), size_name(8192)
    ('192', '8k')
    """
    return f"{size // 1024}k" if size >= 1024 else str(size)


@kernel("mm/slab_common.c", "create_kmalloc_caches")
def create_kmalloc_caches(common: SlabCommon) -> None:
    """Make kmalloc's caches, kind by kind, those that are not there yet; from now on kmalloc works."""
    for kind in range(len(KMALLOC_PREFIXES)):
        for index in KMALLOC_ORDER_OF_CREATION:
            small = KMALLOC_SIZES[index] < 1 << common.engine.kmalloc_shift_low
            if not small and not common.kmalloc_caches[kind * KMALLOC_INDICES + index]:
                new_kmalloc_cache(common, kind, index)
    setup_kmalloc_cache_index_table(common)
    common.slab_state = UP


@kernel("mm/slab_common.c", "setup_kmalloc_cache_index_table", traced=False)
def setup_kmalloc_cache_index_table(common: SlabCommon) -> None:
    """Where the smallest objects are larger than 8 bytes (SLAB), smaller requests go to them."""
    smallest = common.engine.kmalloc_shift_low
    for kind in range(len(KMALLOC_PREFIXES)):
        for index in range(KMALLOC_SHIFT_LOW, smallest):
            at = kind * KMALLOC_INDICES
            common.kmalloc_caches[at + index] = common.kmalloc_caches[at + smallest]


@kernel("mm/slab_common.c", "new_kmalloc_cache")
def new_kmalloc_cache(common: SlabCommon, kind: int, index: int) -> None:
    """Make one cache; those of control groups are the ordinary ones where kernel memory is not accounted."""
    at = kind * KMALLOC_INDICES + index
    if kind == KMALLOC_CGROUP and kmem_accounting_is_off(common.params.cmdline):
        common.kmalloc_caches[at] = common.kmalloc_caches[KMALLOC_NORMAL * KMALLOC_INDICES + index]
        return
    size, flags = KMALLOC_SIZES[index], KMALLOC_FLAGS[kind] | common.engine.kmalloc_flags
    cache = create_kmalloc_cache(common, f"{KMALLOC_PREFIXES[kind]}-{size_name(size)}", size, flags)
    common.kmalloc_caches[at] = cache.number
    # What is charged and what is not must not come to lie in one slab.
    if kind == KMALLOC_NORMAL:
        cache.refcount = -1


@kernel("mm/memcontrol.c", "mem_cgroup_kmem_disabled", traced=False)
def kmem_accounting_is_off(cmdline: str) -> bool:
    """cgroup.memory=nokmem: kernel memory is charged to nobody."""
    values = [value or "" for name, value in next_arg(cmdline) if name == "cgroup.memory"]
    return any("nokmem" in value.split(",") for value in values)


@kernel("mm/slab_common.c", "create_kmalloc_cache")
def create_kmalloc_cache(common: SlabCommon, name: str, size: int, flags: int) -> KmemCache:
    """Make one of kmalloc's caches: all of an object may be copied to user space.

    Raises `KernelPanic` when there is no memory for it.
    """
    address = kmem_cache_alloc(common.caches[common.kmem_cache], gfp_bits.GFP_NOWAIT | gfp_bits.__GFP_ZERO)
    if address is None:
        raise KernelPanic(
            f"Out of memory when creating slab {name}", where="create_kmalloc_cache", remedy="give it more memory"
        )
    cache = new_slot(common)
    cache.address = address
    create_boot_cache(cache, name, size, flags | SLAB_KMALLOC, usersize=size)
    enter_cache(cache)
    cache.refcount = 1
    return cache


@kernel("mm/slab_common.c", "create_boot_cache")
def create_boot_cache(cache: KmemCache, name: str, size: int, flags: int, usersize: int = 0) -> None:
    """Make a cache before there is one to make caches in. Raises `KernelPanic` if no slab can hold its objects."""
    params = cache.common.params
    align = ARCH_KMALLOC_MINALIGN
    # Users of kmalloc count on it: what is as large as a power of two is aligned to it.
    if size & size - 1 == 0:
        align = max(align, size)
    cache.common.names.append(name)
    cache.name_at = cache.common.names.count
    cache.size = cache.object_size = size
    cache.usersize = usersize
    cache.align = calculate_alignment(flags, align, size, params.cache_line, params.pointer)
    if not cache.engine.kmem_cache_create(cache, flags):
        raise KernelPanic(
            f"Creation of kmalloc slab {name} size={size} failed. Reason -22",
            where="create_boot_cache",
            remedy="leave out slub_min_order=, or choose a smaller one; give the machine more memory",
        )
    cache.refcount = -1  # not to be shared, for now


@invented("the flags that kmem_cache_init gives the first two caches", traced=False)
def boot_cache_sizes(common: SlabCommon) -> tuple[int, int]:
    """The sizes of struct kmem_cache_node and of struct kmem_cache, which ends with a pointer for each node."""
    pointer = common.params.pointer
    return SIZEOF_KMEM_CACHE_NODE[pointer], OFFSETOF_KMEM_CACHE_NODE[pointer] + nr_node_ids(common.mm.numa) * pointer


BOOT_CACHE_FLAGS = SLAB_HWCACHE_ALIGN
