"""A cache of SLAB is created, tuned, shrunk and released.

    __kmem_cache_create     how large a slot is, how a slab is cut          slab_size.py
    enable_cpucache         how much a CPU may keep                         limit, batchcount, shared
    setup_kmem_cache_node   for each node: its lists, the shared array, an alien array for each other node

What a cache keeps for nodes comes from kmalloc, so making a cache takes objects of other caches.
"""

from __future__ import annotations

from kmemlab.alloc.kmalloc import kfree, kmalloc, kmalloc_slab
from kmemlab.alloc.slab_array_cache import BOOT_CPUCACHE_ENTRIES, ENTRIES, NO_BATCH, entries_of, init_arraycache
from kmemlab.alloc.slab_bug import LEAK
from kmemlab.alloc.slab_cache import (
    BUILT_IN,
    REAPTIMEOUT_NODE,
    SIZEOF_KMEM_CACHE_NODE,
    SLABS_FULL,
    SLABS_PARTIAL,
    SlabCache,
    for_each_kmem_cache_node,
    get_node,
    has_node,
    kmem_cache_node_init,
    nr_cpus_node,
    online_nodes,
)
from kmemlab.alloc.slab_common import FULL, PARTIAL, UP, SlabCommon, report_bug
from kmemlab.alloc.slab_free import drain_alien_array
from kmemlab.alloc.slab_geometry import allocflags
from kmemlab.alloc.slab_grow import slabs_destroy
from kmemlab.alloc.slab_lists import drain_freelist, free_block
from kmemlab.alloc.slab_size import (
    CFLGS_OFF_SLAB,
    SlabRequest,
    array_cache_sizes,
    lay_out_object,
    shape_slab,
)
from kmemlab.mm.zonelist import cpu_to_mem
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import INT_MAX

ALIEN_LIMIT = 12
SIZEOF_ARRAY_CACHE = 16
SIZEOF_ALIEN_CACHE = {8: 24, 4: 20}  # with its lock; by the size of a pointer


@kernel("mm/slab.c", "__kmem_cache_create", formerly=("kmem_cache_create",), left_out="CONFIG_DEBUG_PAGEALLOC")
def kmem_cache_create(cache: SlabCache, flags: int) -> bool:
    """Lay out an object and a slab, then make arrays and nodes. False: no slab can hold it, or there is no memory."""
    common, state = cache.common, cache.state
    layout = lay_out_object(cache.object_size, cache.align, flags, common.params.pointer, state.debug)
    request = SlabRequest(
        cache.object_size,
        layout.size,
        layout.flags,
        bool(cache.ctor),
        state.slab_max_order,
        lambda size: freelist_cache(common, size),
        bool(common.init_on_free),
    )
    shape = shape_slab(request)
    if shape is None:
        return False
    cache.align, cache.obj_offset, cache.size = layout.align, layout.obj_offset, layout.size
    # Colours must not spoil the alignment.
    cache.colour_off = max(common.params.cache_line, layout.align)
    cache.colour = shape.colours(cache.colour_off)
    cache.num, cache.gfporder = shape.num, shape.gfporder
    cache.freelist_size = shape.num
    cache.flags = layout.flags | shape.placement
    cache.allocflags = allocflags(flags) | gfp_bits.__GFP_COMP
    if setup_cpu_cache(cache, gfp_bits.GFP_KERNEL if common.slab_state >= UP else gfp_bits.GFP_NOWAIT):
        return True
    kmem_cache_release(cache)
    return False


@invented("a look that calculate_slab_order takes", traced=False)
def freelist_cache(common: SlabCommon, size: int) -> tuple[int, bool] | None:
    """The cache that kmalloc takes a freelist of `size` bytes from, as `SlabRequest` wants it."""
    cache = kmalloc_slab(common, size, 0)
    if not cache.object_size:
        return None
    return cache.size, bool(cache.flags & CFLGS_OFF_SLAB)


@kernel("mm/slab.c", "setup_cpu_cache")
def setup_cpu_cache(cache: SlabCache, gfp: int) -> bool:
    """Make a cache's arrays and nodes; while the kernel boots, arrays of a single entry. False: no memory."""
    common = cache.common
    if common.slab_state >= FULL:
        return enable_cpucache(cache, gfp)
    init_cpu_arrays(cache, BOOT_CPUCACHE_ENTRIES, 1)
    for nid in online_nodes(common.mm):
        address: int | None = BUILT_IN
        # The first two caches make kmalloc possible; what they keep for nodes can't come from it yet.
        if common.slab_state > PARTIAL:
            address = kmalloc(common, SIZEOF_KMEM_CACHE_NODE[common.params.pointer], gfp, nid)
        if address is None:
            return False
        kmem_cache_node_init(cache, nid, address)
        set_next_reap(cache, nid)
    cache.batchcount, cache.limit = 1, BOOT_CPUCACHE_ENTRIES
    return True


@invented("per_cpu_ptr for each CPU: alloc_kmem_cache_cpus, without the per-CPU memory that it takes")
def init_cpu_arrays(cache: SlabCache, limit: int, batchcount: int) -> None:
    """Make the array of each possible CPU empty, with room for `limit` objects."""
    for cpu in range(cache.state.nr_cpus):
        init_arraycache(cache.state.arrays, cache.first_cpu_cache + cpu, BUILT_IN, limit, batchcount)


@invented("a line of three functions", traced=False)
def set_next_reap(cache: SlabCache, nid: int) -> None:
    """Not all caches are looked at in the same moment: the address of each decides when its turn is."""
    nodes, jiffies = cache.state.nodes, cache.common.mm.current.jiffies
    nodes.next_reap[get_node(cache, nid)] = jiffies + REAPTIMEOUT_NODE + cache.address % REAPTIMEOUT_NODE


# -- tuning ------------------------------------------------------------------------------------------------------------


@kernel("mm/slab.c", "enable_cpucache", left_out="CONFIG_SLAB_FREELIST_RANDOM", formerly=("kmem_tune_cpucache",))
def enable_cpucache(cache: SlabCache, gfp: int) -> bool:
    """Give a cache the arrays that suit the size of its objects. False: no memory."""
    limit, batchcount, shared = array_cache_sizes(cache.size, cache.state.nr_cpus, cache.state.debug)
    if do_tune_cpucache(cache, limit, batchcount, shared, gfp):
        return True
    cache.common.mm.current.printk.info(f"enable_cpucache failed for {cache.name}, error 12")
    return False


@kernel("mm/slab.c", "do_tune_cpucache", left_out="per-CPU memory: our arrays have room for 512 objects each")
def do_tune_cpucache(cache: SlabCache, limit: int, batchcount: int, shared: int, gfp: int) -> bool:
    """Give every CPU an empty array of `limit` entries; what was in the old ones goes back. False: no memory.

    Raises `BadRequest` for arrays that are longer than ours can be.
    """
    if max(limit, shared * batchcount) > ENTRIES:
        raise BadRequest(
            f"an array of {max(limit, shared * batchcount)} objects is too long",
            where="do_tune_cpucache",
            remedy=f"keep limit and sharedfactor * batchcount within {ENTRIES}",
        )
    arrays, mm = cache.state.arrays, cache.common.mm
    old = [entries_of(arrays, cache.first_cpu_cache + cpu) for cpu in range(cache.state.nr_cpus)]
    init_cpu_arrays(cache, limit, batchcount)
    cache.limit, cache.batchcount, cache.shared = limit, batchcount, shared
    for cpu, objects in enumerate(old):
        if objects:
            slabs_destroy(cache, free_block(cache, objects, cpu_to_mem(mm, cpu)))
    return setup_kmem_cache_nodes(cache, gfp)


@kernel("mm/slab.c", "setup_kmem_cache_nodes", formerly=("alloc_kmemlist",), left_out="rolling back: release does it")
def setup_kmem_cache_nodes(cache: SlabCache, gfp: int) -> bool:
    """Make what a cache keeps for each node that is online. False: no memory."""
    return all(setup_kmem_cache_node(cache, nid, gfp, force_change=True) for nid in online_nodes(cache.common.mm))


@kernel("mm/slab.c", "setup_kmem_cache_node", lock="n->list_lock")
def setup_kmem_cache_node(cache: SlabCache, nid: int, gfp: int, force_change: bool) -> bool:
    """Make a node's lists, shared array and alien arrays, where they are not there yet. False: no memory.

    With `force_change` a shared array that is there is emptied and replaced, for its size may have changed.
    """
    common, arrays, nodes = cache.common, cache.state.arrays, cache.state.nodes
    new_alien: tuple[int, ...] | None = ()
    new_shared: int | None = 0
    if cache.state.use_alien_caches:
        new_alien = alloc_alien_cache(cache, nid, gfp)
    if new_alien is not None and cache.shared:
        entries = cache.shared * cache.batchcount
        new_shared = kmalloc(common, common.params.pointer * entries + SIZEOF_ARRAY_CACHE, gfp, nid)
    done = new_alien is not None and new_shared is not None and init_cache_node(cache, nid, gfp)
    if done:
        shared = arrays.shared(cache.number, nid)
        if not arrays.address[shared] or force_change:
            new_shared = replace_shared(cache, nid, new_shared or 0)
        if not nodes.alien[get_node(cache, nid)]:
            install_alien(cache, nid, new_alien or ())
            new_alien = ()
    # What is not used, or not used any more.
    kfree(common, new_shared or 0)
    kfree_all(common, new_alien or ())
    return done


@invented("the middle of setup_kmem_cache_node", traced=False)
def replace_shared(cache: SlabCache, nid: int, address: int) -> int:
    """Put an empty shared array (or none: 0) in the place of a node's old one; returns where the old one lies."""
    arrays = cache.state.arrays
    shared = arrays.shared(cache.number, nid)
    old, objects = arrays.address[shared], entries_of(arrays, shared)
    init_arraycache(arrays, shared, address, cache.shared * cache.batchcount, NO_BATCH)
    slabs_destroy(cache, free_block(cache, objects, nid))
    return old


@kernel("mm/slab.c", "init_cache_node", lock="n->list_lock")
def init_cache_node(cache: SlabCache, nid: int, gfp: int) -> bool:
    """Make a node's lists, if there are none, and say how many free objects it may keep. False: no memory."""
    common, nodes = cache.common, cache.state.nodes
    if not has_node(cache, nid):
        address = kmalloc(common, SIZEOF_KMEM_CACHE_NODE[common.params.pointer], gfp, nid)
        if address is None:
            return False
        kmem_cache_node_init(cache, nid, address)
        set_next_reap(cache, nid)
    batches = 1 + nr_cpus_node(cache.state, common.mm, nid)
    nodes.free_limit[get_node(cache, nid)] = batches * cache.batchcount + cache.num
    return True


@kernel("mm/slab.c", "alloc_alien_cache")
def alloc_alien_cache(cache: SlabCache, nid: int, gfp: int) -> tuple[int, ...] | None:
    """Memory for a table of alien arrays and for each of them, in the order of the nodes; None: there is none.

    All aliens are short: they only collect a few objects for one journey.
    """
    common, pointer = cache.common, cache.common.params.pointer
    limit = ALIEN_LIMIT if cache.limit > 1 else cache.limit
    sizes = [cache.state.nr_nodes * pointer]
    sizes += [SIZEOF_ALIEN_CACHE[pointer] + limit * pointer for home in online_nodes(common.mm) if home != nid]
    found: list[int] = []
    for size in sizes:
        address = kmalloc(common, size, gfp, nid)
        if address is None:
            kfree_all(common, tuple(reversed(found)))
            return None
        found.append(address)
    return tuple(found)


@invented("the lines of setup_kmem_cache_node that set n->alien", traced=False)
def install_alien(cache: SlabCache, nid: int, addresses: tuple[int, ...]) -> None:
    """Make a node's alien arrays, all empty, in the memory that alloc_alien_cache took."""
    if not addresses:
        return
    arrays = cache.state.arrays
    limit = ALIEN_LIMIT if cache.limit > 1 else cache.limit
    cache.state.nodes.alien[get_node(cache, nid)] = addresses[0]
    homes = [home for home in online_nodes(cache.common.mm) if home != nid]
    for home, address in zip(homes, addresses[1:], strict=True):
        init_arraycache(arrays, arrays.alien(cache.number, nid, home), address, limit, NO_BATCH)


@kernel("mm/slab.c", "free_alien_cache")
def free_alien_cache(cache: SlabCache, nid: int) -> None:
    """Give the memory of a node's alien arrays, which are empty, back."""
    nodes, arrays, n = cache.state.nodes, cache.state.arrays, get_node(cache, nid)
    table, nodes.alien[n] = nodes.alien[n], 0
    for home in range(cache.state.nr_nodes):
        alien = arrays.alien(cache.number, nid, home)
        address, arrays.address[alien] = arrays.address[alien], 0
        kfree(cache.common, address)
    kfree(cache.common, table)


@invented("kfree, several times", traced=False)
def kfree_all(common: SlabCommon, addresses: tuple[int, ...]) -> None:
    """Give several objects of kmalloc back."""
    for address in addresses:
        kfree(common, address)


# -- shrinking ---------------------------------------------------------------------------------------------------------


@kernel("mm/slab.c", "do_drain", lock="n->list_lock", left_out="the interrupt that makes each CPU do it")
def do_drain(cache: SlabCache, cpu: int) -> None:
    """Empty the array of a CPU into the slabs."""
    arrays, ac = cache.state.arrays, cache.first_cpu_cache + cpu
    surplus = free_block(cache, entries_of(arrays, ac), cpu_to_mem(cache.common.mm, cpu))
    arrays.avail[ac] = 0
    slabs_destroy(cache, surplus)


@kernel("mm/slab.c", "drain_alien_cache", lock="alien->lock")
def drain_alien_cache(cache: SlabCache, nid: int) -> None:
    """Send everything in a node's alien arrays home."""
    arrays = cache.state.arrays
    for home in online_nodes(cache.common.mm):
        alien = arrays.alien(cache.number, nid, home)
        if arrays.address[alien]:
            slabs_destroy(cache, drain_alien_array(cache, alien, home))


@kernel("mm/slab.c", "drain_cpu_caches")
def drain_cpu_caches(cache: SlabCache) -> None:
    """Empty all arrays into the slabs: those of CPUs, the aliens, the shared ones."""
    arrays = cache.state.arrays
    for cpu in range(cache.state.nr_cpus):
        if cache.state.cpu_online[cpu]:
            do_drain(cache, cpu)
    nodes = for_each_kmem_cache_node(cache)
    for nid in nodes:
        drain_alien_cache(cache, nid)
    for nid in nodes:
        shared = arrays.shared(cache.number, nid)
        if arrays.address[shared]:
            surplus = free_block(cache, entries_of(arrays, shared), nid)
            arrays.avail[shared] = 0
            slabs_destroy(cache, surplus)


@kernel("mm/slab.c", "__kmem_cache_shrink")
def kmem_cache_shrink(cache: SlabCache) -> int:
    """Give every slab back that has no object taken; 0 if none is left."""
    drain_cpu_caches(cache)
    left = 0
    for nid in for_each_kmem_cache_node(cache):
        drain_freelist(cache, nid, INT_MAX)
        left |= not (list_is_empty(cache, nid, SLABS_FULL) and list_is_empty(cache, nid, SLABS_PARTIAL))
    return left


@invented("list_empty(&n->slabs_…)", traced=False)
def list_is_empty(cache: SlabCache, nid: int, which: int) -> bool:
    """Whether one of a node's lists has no slab."""
    pages = cache.pages
    head = pages.list_head(cache.number, nid, which)
    return pages.slab_list.next[head] == head


@kernel("mm/slab.c", "__kmem_cache_shutdown")
def kmem_cache_shutdown(cache: SlabCache) -> bool:
    """Give all slabs back. True if objects are left in some: then the cache can't go."""
    if not kmem_cache_shrink(cache):
        return False
    report_bug(cache, LEAK, f"{cache.nr_held} objects of {cache.name} are still held", cache.address)
    return True


@kernel("mm/slab.c", "__kmem_cache_release")
def kmem_cache_release(cache: SlabCache) -> None:
    """Give back what the cache had for nodes and CPUs; it has no slab any more."""
    arrays, nodes = cache.state.arrays, cache.state.nodes
    for cpu in range(cache.state.nr_cpus):
        init_arraycache(arrays, cache.first_cpu_cache + cpu, 0, 0, 0)
    for nid in for_each_kmem_cache_node(cache):
        shared, n = arrays.shared(cache.number, nid), get_node(cache, nid)
        address, arrays.address[shared] = arrays.address[shared], 0
        kfree(cache.common, address)
        free_alien_cache(cache, nid)
        address, nodes.address[n] = nodes.address[n], 0
        kfree(cache.common, address)
