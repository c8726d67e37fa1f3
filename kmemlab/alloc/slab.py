"""SLAB, the classic allocator (mm/slab.c, by Bonwick's paper of 1994; removed in Linux 6.8), as an engine of the front.

slab_size.py         how pages are cut into objects
slab_array_cache.py  the stacks of free objects
slab_cache.py        what is kept of a cache
slab_freelist.py     one slab: which objects are free
slab_grow.py         slabs come and go
slab_lists.py        full, partial, free
slab_alloc.py        taking an object
slab_free.py         giving it back
slab_setup.py        caches come and go
slab_boot.py         the first ones
slab_tune.py         /proc/slabinfo, written
slab_reap.py         what happens from time to time, and when CPUs come and go
slab_debug_old.py    red zones and poison
slab_laws.py         the laws
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import SLAB_HWCACHE_ALIGN
from kmemlab.alloc.slab_alloc import kmem_cache_alloc_bulk, slab_alloc
from kmemlab.alloc.slab_boot import kmem_cache_init, kmem_cache_init_late
from kmemlab.alloc.slab_cache import SlabCache, SlabState, for_each_kmem_cache_node, get_node
from kmemlab.alloc.slab_common import SlabCommon, SlabEngine, SlabInfo
from kmemlab.alloc.slab_debug_old import call_sites
from kmemlab.alloc.slab_free import find_object, kmem_cache_free_bulk, object_is_free, slab_free
from kmemlab.alloc.slab_laws import check_cache
from kmemlab.alloc.slab_pages import NR_CACHES
from kmemlab.alloc.slab_reap import run_reap_timers, smp_init
from kmemlab.alloc.slab_setup import (
    kmem_cache_create,
    kmem_cache_release,
    kmem_cache_shrink,
    kmem_cache_shutdown,
)
from kmemlab.sim.kernel import invented, kernel


@kernel("mm/slab.c", "get_slabinfo")
def get_slabinfo(cache: SlabCache) -> SlabInfo:
    """What /proc/slabinfo says of a cache. Objects in arrays count as active: nobody but their CPU can take them."""
    nodes, arrays = cache.state.nodes, cache.state.arrays
    total_slabs = free_slabs = free_objs = shared_avail = 0
    for nid in for_each_kmem_cache_node(cache):
        n, shared = get_node(cache, nid), arrays.shared(cache.number, nid)
        total_slabs += nodes.total_slabs[n]
        free_slabs += nodes.free_slabs[n]
        free_objs += nodes.free_objects[n]
        shared_avail += arrays.avail[shared] if arrays.address[shared] else 0
    num_objs = total_slabs * cache.num
    return SlabInfo(
        active_objs=num_objs - free_objs,
        num_objs=num_objs,
        active_slabs=total_slabs - free_slabs,
        num_slabs=total_slabs,
        shared_avail=shared_avail,
        limit=cache.limit,
        batchcount=cache.batchcount,
        shared=cache.shared,
        objects_per_slab=cache.num,
        cache_order=cache.gfporder,
    )


@kernel("mm/slab.h", "slab_ksize", traced=False)
def slab_ksize(cache: SlabCache) -> int:
    """How many bytes of an object its owner may use: what was asked for when the cache was made."""
    return cache.object_size


@invented("C's compiler makes them when struct kmem_cache is; ours exist before boot")
def new_caches(common: SlabCommon) -> tuple[SlabCache, ...]:
    """The slots for caches, and what they share."""
    return caches_with(SlabState(common.mm, debug=False), common)


@invented("the same for a kernel with CONFIG_DEBUG_SLAB")
def new_watched_caches(common: SlabCommon) -> tuple[SlabCache, ...]:
    """The slots for caches whose objects are all watched."""
    return caches_with(SlabState(common.mm, debug=True), common)


@invented("what both have in common", traced=False)
def caches_with(state: SlabState, common: SlabCommon) -> tuple[SlabCache, ...]:
    """The slots for caches that share a state."""
    return tuple(SlabCache(common, common.engine, number, state) for number in range(NR_CACHES))


SLAB = SlabEngine(
    name="SLAB",
    kmalloc_shift_low=5,
    kmalloc_flags=SLAB_HWCACHE_ALIGN,
    new_caches=new_caches,
    kmem_cache_init=kmem_cache_init,
    kmem_cache_create=kmem_cache_create,
    slab_alloc=slab_alloc,
    slab_free=slab_free,
    kmem_cache_alloc_bulk=kmem_cache_alloc_bulk,
    kmem_cache_free_bulk=kmem_cache_free_bulk,
    kmem_cache_shutdown=kmem_cache_shutdown,
    kmem_cache_release=kmem_cache_release,
    kmem_cache_shrink=kmem_cache_shrink,
    get_slabinfo=get_slabinfo,
    slab_ksize=slab_ksize,
    find_object=find_object,
    object_is_free=object_is_free,
    call_sites=call_sites,
    check_cache=check_cache,
    kmem_cache_init_late=kmem_cache_init_late,
    smp_init=smp_init,
    run_timers=run_reap_timers,
)

SLAB_DEBUG = SLAB._replace(new_caches=new_watched_caches)
"""SLAB of a kernel with CONFIG_DEBUG_SLAB: every object is watched, all the time."""
