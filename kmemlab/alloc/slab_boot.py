"""SLAB boots: a cache needs memory of other caches, so the first ones are made of what the kernel's image holds.

kmem_cache            the cache of caches: lists from the image, arrays of one entry
kmalloc-128 (i386 64) the cache that struct kmem_cache_node comes from, made the same way
the other kmalloc-…   their nodes come from it
kmem_cache_init_late  all caches get arrays of their proper size
"""

from __future__ import annotations

from kmemlab.alloc.kmalloc import kmalloc
from kmemlab.alloc.kmalloc_caches import (
    KMALLOC_INDICES,
    KMALLOC_NORMAL,
    KMALLOC_SIZES,
    create_boot_cache,
    create_kmalloc_cache,
    create_kmalloc_caches,
    size_name,
)
from kmemlab.alloc.kmem_cache import SLAB_HWCACHE_ALIGN
from kmemlab.alloc.slab_cache import (
    OFFSETOF_KMEM_CACHE_NODE,
    OFFSETOF_KMEM_CACHE_NODE_DEBUG,
    SIZEOF_KMEM_CACHE_NODE,
    SlabCache,
    SlabState,
    get_node,
    online_nodes,
)
from kmemlab.alloc.slab_common import FULL, PARTIAL, PARTIAL_NODE, SlabCommon, enter_cache, new_slot
from kmemlab.alloc.slab_setup import enable_cpucache
from kmemlab.alloc.slab_size import SLAB_MAX_ORDER_HI
from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.setup_percpu import nr_node_ids
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import MIB, PAGE_SHIFT

SMALL_MEMORY = 32 * MIB
"""Machines with less don't get slabs of more than one page: there higher orders are hard to come by."""


@invented("C's variables of mm/slab.c, by way of any cache", traced=False)
def state_of(common: SlabCommon) -> SlabState:
    """What all caches of SLAB share."""
    cache = common.caches[0]
    assert isinstance(cache, SlabCache)
    return cache.state


@kernel("mm/slab.c", "slab_max_order_setup", left_out="noaliencache is read here, too", traced=False)
def parse_slab_params(state: SlabState, cmdline: str) -> None:
    """slab_max_order= says how large slabs may be; noaliencache gives remote objects back at once."""
    for name, value in next_arg(cmdline):
        if parameq(name, "slab_max_order") and (value or "").isdecimal():
            state.slab_max_order = min(int(value or ""), MAX_ORDER - 1)
            state.slab_max_order_set = 1
        elif parameq(name, "noaliencache"):
            state.use_alien_caches = 0


@kernel("mm/slab.c", "kmem_cache_init")
def kmem_cache_init(common: SlabCommon) -> None:
    """Make the cache of caches, the one that nodes come from, and kmalloc's."""
    mm, state = common.mm, state_of(common)
    parse_slab_params(state, mm.boot.spec.cmdline)
    state.cpu_online[mm.current.cpu] = 1
    if not mm.boot.config.numa or sum(mm.numa.node_possible) == 1:
        state.use_alien_caches = 0
    if not state.slab_max_order_set and mm.totalram_pages > SMALL_MEMORY >> PAGE_SHIFT:
        state.slab_max_order = SLAB_MAX_ORDER_HI
    pointer = common.params.pointer
    first = new_slot(common)
    assert isinstance(first, SlabCache)
    offset = (OFFSETOF_KMEM_CACHE_NODE_DEBUG if state.debug else OFFSETOF_KMEM_CACHE_NODE)[pointer]
    create_boot_cache(first, "kmem_cache", offset + nr_node_ids(common.mm.numa) * pointer, SLAB_HWCACHE_ALIGN)
    common.kmem_cache = first.number
    enter_cache(first)
    common.slab_state = PARTIAL
    for_nodes = create_node_cache(common)
    common.slab_state = PARTIAL_NODE
    for nid in online_nodes(mm):
        init_list(first, nid)
        init_list(for_nodes, nid)
    create_kmalloc_caches(common)


@invented("INDEX_NODE, and the call for it in kmem_cache_init", traced=False)
def create_node_cache(common: SlabCommon) -> SlabCache:
    """Make the one of kmalloc's caches that struct kmem_cache_node comes from."""
    needed = SIZEOF_KMEM_CACHE_NODE[common.params.pointer]
    index = min((size, index) for index, size in enumerate(KMALLOC_SIZES) if size >= needed)[1]
    size = KMALLOC_SIZES[index]
    cache = create_kmalloc_cache(common, f"kmalloc-{size_name(size)}", size, common.engine.kmalloc_flags)
    common.kmalloc_caches[KMALLOC_NORMAL * KMALLOC_INDICES + index] = cache.number
    common.kmem_cache_node = cache.number
    assert isinstance(cache, SlabCache)
    return cache


@kernel("mm/slab.c", "init_list", left_out="copying: only the place changes")
def init_list(cache: SlabCache, nid: int) -> None:
    """What a cache keeps for a node moves from the kernel's image into an object of kmalloc's."""
    common = cache.common
    address = kmalloc(common, SIZEOF_KMEM_CACHE_NODE[common.params.pointer], gfp_bits.GFP_NOWAIT, nid)
    assert address is not None
    cache.state.nodes.address[get_node(cache, nid)] = address


@kernel("mm/slab.c", "kmem_cache_init_late", left_out="memory hotplug: nodes that come later")
def kmem_cache_init_late(common: SlabCommon) -> None:
    """Give all caches arrays of their proper size. Raises `KernelPanic` without memory for them."""
    for cache in list(common.existing()):
        assert isinstance(cache, SlabCache)
        if not enable_cpucache(cache, gfp_bits.GFP_NOWAIT):
            raise KernelPanic(
                "kernel BUG at mm/slab.c:1275!", where="kmem_cache_init_late", remedy="give the machine more memory"
            )
    common.slab_state = FULL
