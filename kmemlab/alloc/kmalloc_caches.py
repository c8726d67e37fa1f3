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
    SlubParams,
)
from kmemlab.alloc.slab_geometry import calculate_alignment, kmem_cache_open
from kmemlab.alloc.slub_params import kmem_cache_flags
from kmemlab.boot.cmdline import next_arg
from kmemlab.boot.smp import num_possible_cpus, num_present_cpus
from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import KernelPanic

KMALLOC_NORMAL, KMALLOC_CGROUP, KMALLOC_RECLAIM, KMALLOC_DMA = range(4)
KMALLOC_PREFIXES = ("kmalloc", "kmalloc-cg", "kmalloc-rcl", "dma-kmalloc")
KMALLOC_FLAGS = (0, SLAB_ACCOUNT, SLAB_RECLAIM_ACCOUNT, SLAB_CACHE_DMA)
KMALLOC_SHIFT_LOW, KMALLOC_SHIFT_HIGH = 3, 13
ARCH_KMALLOC_MINALIGN = 8
KMALLOC_SIZES = (0, 96, 192, *(1 << shift for shift in range(KMALLOC_SHIFT_LOW, KMALLOC_SHIFT_HIGH + 1)))

# In which order they are made: 96 follows 64, 192 follows 128.
KMALLOC_ORDER_OF_CREATION = (3, 4, 5, 6, 1, 7, 2, 8, 9, 10, 11, 12, 13)

# struct kmem_cache_node, and struct kmem_cache up to its pointers to nodes, in bytes; by the size of a pointer
SIZEOF_KMEM_CACHE_NODE = {8: 64, 4: 32}
OFFSETOF_KMEM_CACHE_NODE = {8: 216, 4: 136}

DOWN, PARTIAL, UP = range(3)


@invented("the size as the name of a cache has it", traced=False)
def size_name(size: int) -> str:
    """A size as kmalloc writes it.

    >>> size_name(192), size_name(8192)
    ('192', '8k')
    """
    return f"{size // 1024}k" if size >= 1024 else str(size)


@kernel("mm/slab_common.c", "kmalloc_caches")
class KmallocCaches(Struct):
    """All caches that exist when kmalloc works; `caches[kind][index]`."""

    slab_state = Cell()

    def __init__(self, mm: Mm) -> None:
        config, cpus = mm.boot.config, mm.boot.spec.cpus
        self.mm = mm
        self.params = SlubParams(mm.boot.spec.cmdline, config.sizeof_pointer, cpus.cache_line)
        self.kmem_cache_node = KmemCache("kmem_cache_node")
        self.kmem_cache = KmemCache("kmem_cache")
        self.caches = tuple(
            tuple(KmemCache(f"{prefix}-{size_name(size)}") for size in KMALLOC_SIZES) for prefix in KMALLOC_PREFIXES
        )

    def existing(self) -> list[KmemCache]:
        """The kmalloc caches that were made, kind by kind, sizes ascending."""
        found = [cache for kind in self.caches for cache in kind if cache.refcount]
        kinds = {cache.name: kind for kind, row in enumerate(self.caches) for cache in row}
        return sorted(found, key=lambda cache: (kinds[cache.name], cache.object_size))

    def newest_first(self) -> list[KmemCache]:
        """C's slab_caches: every cache that was made, the last one first."""
        made = [self.kmem_cache, self.kmem_cache_node]
        made += [kind[index] for kind in self.caches for index in KMALLOC_ORDER_OF_CREATION]
        return [cache for cache in reversed(made) if cache.size]


@kernel("mm/slub.c", "kmem_cache_init", left_out="moving the first two caches out of static memory; hotplug")
def kmem_cache_init(slab: KmallocCaches) -> None:
    """Make the first caches: for the per-node data of caches, for caches themselves, then kmalloc's."""
    params, boot = slab.params, slab.mm.boot
    possible, present = num_possible_cpus(boot.spec), num_present_cpus(boot.spec)
    # Some machines only know the CPUs that are running; if that is just one, ask how many there may be.
    params.nr_cpus = present if present > 1 else possible
    nodes = nr_node_ids(slab.mm)
    pointer = params.pointer
    create_boot_cache(params, slab.kmem_cache_node, SIZEOF_KMEM_CACHE_NODE[pointer], SLAB_HWCACHE_ALIGN)
    slab.slab_state = PARTIAL
    size = OFFSETOF_KMEM_CACHE_NODE[pointer] + nodes * pointer
    create_boot_cache(params, slab.kmem_cache, size, SLAB_HWCACHE_ALIGN)
    create_kmalloc_caches(slab)
    boot.printk.info(
        f"SLUB: HWalign={params.cache_line}, Order={params.slub_min_order}-{params.slub_max_order}, "
        f"MinObjects={params.slub_min_objects}, CPUs={possible}, Nodes={nodes}"
    )


@invented("C keeps nr_node_ids in a variable, set by setup_nr_node_ids", traced=False)
def nr_node_ids(mm: Mm) -> int:
    """One more than the highest node that is possible."""
    return max((nid + 1 for nid, possible in enumerate(mm.numa.node_possible) if possible), default=1)


@kernel("mm/slab_common.c", "create_kmalloc_caches")
def create_kmalloc_caches(slab: KmallocCaches) -> None:
    """Make kmalloc's caches, kind by kind; from now on kmalloc works."""
    for kind in range(len(KMALLOC_PREFIXES)):
        for index in KMALLOC_ORDER_OF_CREATION:
            new_kmalloc_cache(slab, kind, index)
    slab.slab_state = UP


@kernel("mm/slab_common.c", "new_kmalloc_cache")
def new_kmalloc_cache(slab: KmallocCaches, kind: int, index: int) -> None:
    """Make one cache; those of control groups are the ordinary ones where kernel memory is not accounted."""
    if kind == KMALLOC_CGROUP and kmem_accounting_is_off(slab.params.cmdline):
        return
    create_kmalloc_cache(slab.params, slab.caches[kind][index], KMALLOC_SIZES[index], KMALLOC_FLAGS[kind])


@kernel("mm/memcontrol.c", "mem_cgroup_kmem_disabled", traced=False)
def kmem_accounting_is_off(cmdline: str) -> bool:
    """cgroup.memory=nokmem: kernel memory is charged to nobody."""
    values = [value or "" for name, value in next_arg(cmdline) if name == "cgroup.memory"]
    return any("nokmem" in value.split(",") for value in values)


@kernel("mm/slab_common.c", "create_kmalloc_cache")
def create_kmalloc_cache(params: SlubParams, cache: KmemCache, size: int, flags: int) -> None:
    """Make one of kmalloc's caches: all of an object may be copied to user space."""
    create_boot_cache(params, cache, size, flags | SLAB_KMALLOC, usersize=size)


@kernel("mm/slab_common.c", "create_boot_cache")
def create_boot_cache(params: SlubParams, cache: KmemCache, size: int, flags: int, usersize: int = 0) -> None:
    """Make a cache before there is one to make caches in. Raises `KernelPanic` if no slab can hold its objects."""
    align = ARCH_KMALLOC_MINALIGN
    # Users of kmalloc count on it: what is as large as a power of two is aligned to it.
    if size & size - 1 == 0:
        align = max(align, size)
    cache.object_size, cache.usersize = size, usersize
    cache.align = calculate_alignment(flags, align, size, params.cache_line, params.pointer)
    if not kmem_cache_open(params, cache, kmem_cache_flags(params, flags, cache.name)):
        raise KernelPanic(
            f"Creation of kmalloc slab {cache.name} size={size} failed. Reason -22",
            where="create_boot_cache",
            remedy="leave out slub_min_order=, or choose a smaller one",
        )
    cache.refcount = 1
