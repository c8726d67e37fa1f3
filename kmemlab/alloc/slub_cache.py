"""Caches of SLUB are born, shrink and die; the first two must be made before there is anything to make them from.

kmem_cache_node    its first slab is made by hand: the struct for node 0 is its own first object
kmem_cache         its struct for node 0 comes from kmem_cache_node; its own struct is its first object
kmalloc-…          now everything can be had by asking
"""

from __future__ import annotations

from kmemlab.alloc.kmalloc import kfree, kmalloc
from kmemlab.alloc.kmalloc_caches import (
    BOOT_CACHE_FLAGS,
    boot_cache_sizes,
    create_boot_cache,
    create_kmalloc_caches,
)
from kmemlab.alloc.kmem_cache import SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU
from kmemlab.alloc.slab_common import (
    PARTIAL,
    UP,
    SlabCommon,
    SlabInfo,
    enter_cache,
    kmem_cache_alloc,
    kmem_cache_alloc_node,
    kmem_cache_free,
    new_slot,
)
from kmemlab.alloc.slab_geometry import set_geometry
from kmemlab.alloc.slab_memory import write_number
from kmemlab.alloc.slab_pages import slab_nid
from kmemlab.alloc.slub_debug import SLUB_RED_ACTIVE, init_object
from kmemlab.alloc.slub_def import FULL, SlubCache, kmem_cache_debug
from kmemlab.alloc.slub_def import PARTIAL as PARTIAL_LIST
from kmemlab.alloc.slub_freelist import freelist_randomize, get_freepointer, set_random
from kmemlab.alloc.slub_params import kmem_cache_flags
from kmemlab.alloc.slub_partial import (
    add_partial,
    count_partial_free,
    flush_cpu_slab,
    list_of,
    nodes_of,
)
from kmemlab.alloc.slub_slab import inc_slabs_node, new_slab
from kmemlab.alloc.slub_track import init_tracking
from kmemlab.boot.setup_percpu import nr_node_ids
from kmemlab.boot.smp import num_possible_cpus, num_present_cpus
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import init_list_head
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import round_up

REMOTE_NODE_DEFRAG_RATIO = 1000


# -- boot --------------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "kmem_cache_init", left_out="hotplug of CPUs and memory")
def kmem_cache_init(common: SlabCommon) -> None:
    """Make the first caches: for the per-node data of caches, for caches themselves, then kmalloc's."""
    params, boot = common.params, common.mm.boot
    possible, present = num_possible_cpus(boot.spec), num_present_cpus(boot.spec)
    # Some machines only know the CPUs that are running; if that is just one, ask how many there may be.
    params.nr_cpus = present if present > 1 else possible
    node_size, cache_size = boot_cache_sizes(common)
    node_cache = new_slot(common)
    common.kmem_cache_node = node_cache.number
    create_boot_cache(node_cache, "kmem_cache_node", node_size, BOOT_CACHE_FLAGS)
    common.slab_state = PARTIAL
    cache = new_slot(common)
    common.kmem_cache = cache.number
    create_boot_cache(cache, "kmem_cache", cache_size, BOOT_CACHE_FLAGS)
    bootstrap(common, common.kmem_cache)
    bootstrap(common, common.kmem_cache_node)
    create_kmalloc_caches(common)
    init_freelist_randomization(common)
    boot.printk.info(
        f"SLUB: HWalign={params.cache_line}, Order={params.slub_min_order}-{params.slub_max_order}, "
        f"MinObjects={params.slub_min_objects}, CPUs={possible}, Nodes={nr_node_ids(common.mm.numa)}"
    )


@kernel("mm/slub.c", "bootstrap", left_out="copying the struct out of static memory")
def bootstrap(common: SlabCommon, number: int) -> None:
    """Give a cache that was made by hand a struct of its own, and enter it on the list of all caches."""
    cache = common.caches[number]
    address = kmem_cache_alloc(common.caches[common.kmem_cache], gfp_bits.GFP_NOWAIT | gfp_bits.__GFP_ZERO)
    assert address is not None, "no memory for the cache of caches"
    cache.address = address
    flush_cpu_slab(cache, common.mm.current.cpu)  # type: ignore[arg-type]
    enter_cache(cache)


@kernel("mm/slub.c", "early_kmem_cache_node_alloc")
def early_kmem_cache_node_alloc(cache: SlubCache, nid: int) -> None:
    """Make the first slab of kmem_cache_node on a node; its first object is what the cache itself needs there.

    Raises `KernelPanic` if there is no page.
    """
    slab = new_slab(cache, gfp_bits.GFP_NOWAIT, nid)
    if slab is None:
        raise KernelPanic(
            f"no page for the first slab on node {nid}", where="early_kmem_cache_node_alloc", remedy="give it memory"
        )
    pages = cache.pages
    obj = pages.freelist[slab]
    if kmem_cache_debug(cache):
        init_object(cache, obj, SLUB_RED_ACTIVE)
        init_tracking(cache, obj)
    pages.freelist[slab] = get_freepointer(cache, obj)
    pages.inuse[slab] = 1
    cache.nr_held += 1
    init_kmem_cache_node(cache, nid, obj)
    home = slab_nid(pages, slab)
    inc_slabs_node(cache, home, pages.objects[slab])
    add_partial(cache, home, slab, tail=False)


# -- birth -------------------------------------------------------------------------------------------------------------


@kernel(
    "mm/slub.c",
    "kmem_cache_open",
    formerly=("__kmem_cache_create",),
    left_out="the per-CPU memory that a kmem_cache_cpu takes: here it is a row of a table",
)
def kmem_cache_create(cache: SlubCache, flags: int) -> bool:
    """Work out the geometry of a cache whose object_size and align are set, and make what its nodes need."""
    common = cache.common
    flags = kmem_cache_flags(common.params, flags, cache.name)
    set_random(cache)
    if not set_geometry(common.params, cache, flags):
        return False
    cache.remote_node_defrag_ratio = REMOTE_NODE_DEFRAG_RATIO if common.mm.boot.config.numa else 0
    if common.slab_state >= UP and not init_cache_random_seq(cache):
        return False
    if init_kmem_cache_nodes(cache):
        return True
    kmem_cache_release(cache)
    return False


@kernel("mm/slub.c", "init_kmem_cache_node", traced=False)
def init_kmem_cache_node(cache: SlubCache, nid: int, address: int) -> None:
    """What a cache keeps for a node: two empty lists."""
    row, per_node = cache.node + nid, cache.per_node
    per_node.address[row] = address
    per_node.nr_partial[row] = per_node.nr_slabs[row] = per_node.total_objects[row] = 0
    for which in (PARTIAL_LIST, FULL):
        init_list_head(cache.pages.slab_list, list_of(cache, nid, which))


@kernel("mm/slub.c", "init_kmem_cache_nodes")
def init_kmem_cache_nodes(cache: SlubCache) -> bool:
    """Make what a cache keeps for each node that has memory. False: no memory for that."""
    common = cache.common
    node_cache = common.caches[common.kmem_cache_node]
    for nid, has_memory in enumerate(common.mm.node_has_memory):
        if not has_memory:
            continue
        if common.slab_state < PARTIAL:
            early_kmem_cache_node_alloc(cache, nid)
            continue
        address = kmem_cache_alloc_node(node_cache, gfp_bits.GFP_KERNEL, nid, 0, node_cache.object_size)
        if address is None:
            return False
        init_kmem_cache_node(cache, nid, address)
    return True


@kernel("mm/slub.c", "init_freelist_randomization")
def init_freelist_randomization(common: SlabCommon) -> None:
    """Now that kmalloc works, each cache gets its random order."""
    for cache in tuple(common.existing()):
        init_cache_random_seq(cache)  # type: ignore[arg-type]


@kernel("mm/slub.c", "init_cache_random_seq", formerly=("cache_random_seq_create",))
def init_cache_random_seq(cache: SlubCache) -> bool:
    """Choose the random order in which new slabs chain their objects, as offsets. False: no memory for it."""
    count = cache.objects
    if cache.random_seq or count < 2 or not cache.common.freelist_random:
        return True
    address = kmalloc(cache.common, 4 * count, gfp_bits.GFP_KERNEL | gfp_bits.__GFP_ZERO)
    if address is None:
        cache.common.mm.boot.printk.info(f"SLUB: Unable to initialize free list for {cache.name}")
        return False
    cache.random_seq = address
    for at, index in enumerate(freelist_randomize(cache, count)):
        write_number(cache.pages, address + 4 * at, index * cache.size, 4)
    return True


# -- death -------------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "__kmem_cache_release")
def kmem_cache_release(cache: SlubCache) -> None:
    """Give back what a cache had besides its slabs."""
    common = cache.common
    if cache.random_seq:
        kfree(common, cache.random_seq)
        cache.random_seq = 0
    for nid in tuple(nodes_of(cache)):
        address = cache.per_node.address[cache.node + nid]
        cache.per_node.address[cache.node + nid] = 0
        kmem_cache_free(common.caches[common.kmem_cache_node], address)


@kernel("mm/slub.c", "__kmem_cache_alias", traced=False)
def kmem_cache_alias(cache: SlubCache, size: int) -> None:
    """What follows an object begins behind the largest of those that share the cache."""
    cache.inuse = max(cache.inuse, round_up(size, cache.pages.pointer))


@kernel("mm/slab.h", "slab_ksize", traced=False)
def slab_ksize(cache: SlubCache) -> int:
    """How many bytes of an object its owner may use: the whole slot, unless something else stands there."""
    if cache.flags & (SLAB_RED_ZONE | SLAB_POISON):
        return cache.object_size
    if cache.flags & (SLAB_TYPESAFE_BY_RCU | SLAB_STORE_USER):
        return cache.inuse
    return cache.size


@kernel("mm/slub.c", "get_slabinfo")
def get_slabinfo(cache: SlubCache) -> SlabInfo:
    """What /proc/slabinfo says: objects that are free in CPUs' slabs count as active."""
    per_node = cache.per_node
    rows = [cache.node + nid for nid in nodes_of(cache)]
    slabs = sum(per_node.nr_slabs[row] for row in rows)
    objs = sum(per_node.total_objects[row] for row in rows)
    free = sum(count_partial_free(cache, nid) for nid in nodes_of(cache))
    return SlabInfo(objs - free, objs, slabs, slabs, 0, 0, 0, 0, cache.objects, cache.order)
