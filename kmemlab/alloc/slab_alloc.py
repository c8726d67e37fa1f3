"""Taking an object from SLAB: from the CPU's array; if that is empty, a batch from the shared array or from slabs.

kmem_cache_alloc ──▶ ____cache_alloc          avail > 0: the object on top
                         └─ cache_alloc_refill   batchcount objects   ◀── the node's shared array
                                                                      ◀── slabs_partial, slabs_free
                                                                      ◀── a new slab
                     ____cache_alloc_node     one object of a certain node
                         └─ fallback_alloc       of any node
"""

from __future__ import annotations

from kmemlab.alloc import slab_debug_old as debug
from kmemlab.alloc.kmem_cache import SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER
from kmemlab.alloc.page_alloc import gfp_zone
from kmemlab.alloc.slab_array_cache import ENTRIES, transfer_objects
from kmemlab.alloc.slab_cache import SlabCache, cpu_cache_get, get_node, has_node
from kmemlab.alloc.slab_common import construct
from kmemlab.alloc.slab_free import kmem_cache_free_bulk
from kmemlab.alloc.slab_freelist import obj_to_index, slab_get_obj
from kmemlab.alloc.slab_grow import cache_grow_begin, cache_grow_end, fixup_slab_list, neighbours
from kmemlab.alloc.slab_lists import get_first_slab
from kmemlab.alloc.slab_pages import slab_nid, virt_to_slab
from kmemlab.mm.node import ZONELIST_FALLBACK
from kmemlab.mm.zonelist import numa_mem_id
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.poison import POISON_INUSE

BATCHREFILL_LIMIT = 16


@kernel("mm/slab.c", "gfp_exact_node", traced=False)
def gfp_exact_node(cache: SlabCache, gfp: int) -> int:
    """The same request for this node only, which may fail at once and in silence: there are other nodes."""
    if not cache.common.mm.boot.config.numa:
        return gfp & ~gfp_bits.__GFP_NOFAIL
    exact = gfp | gfp_bits.__GFP_THISNODE | gfp_bits.__GFP_NOWARN
    return exact & ~(gfp_bits.__GFP_RECLAIM | gfp_bits.__GFP_NOFAIL)


@kernel("mm/slab.c", "alloc_block")
def alloc_block(cache: SlabCache, ac: int, slab: int, batchcount: int) -> int:
    """Move objects from a slab into an array, until the slab is full or the batch complete; returns what is wanting."""
    arrays, inuse, num = cache.state.arrays, cache.pages.inuse, cache.num
    assert inuse[slab] < num
    while inuse[slab] < num and batchcount > 0:
        avail = arrays.avail[ac]
        arrays.entry[ac * ENTRIES + avail] = slab_get_obj(cache, slab)
        arrays.avail[ac] = avail + 1
        batchcount -= 1
    return batchcount


@kernel("mm/slab.c", "cache_alloc_refill", left_out="slabs of the emergency reserve", lock="n->list_lock")
def cache_alloc_refill(cache: SlabCache, gfp: int) -> int | None:
    """Fill the CPU's empty array by a batch and take one object; None if the CPU's own node has no memory."""
    arrays, nodes = cache.state.arrays, cache.state.nodes
    ac, nid = cpu_cache_get(cache), numa_mem_id(cache.common.mm)
    n, shared = get_node(cache, nid), arrays.shared(cache.number, nid)
    batchcount = arrays.batchcount[ac]
    # A cache that was quiet for a while is filled a little at first.
    if not arrays.touched[ac] and batchcount > BATCHREFILL_LIMIT:
        batchcount = BATCHREFILL_LIMIT
    assert not arrays.avail[ac]
    if arrays.address[shared] and transfer_objects(arrays, ac, shared, batchcount):
        arrays.touched[shared] = 1
    elif nodes.free_objects[n]:
        batchcount = refill_from_slabs(cache, ac, nid, batchcount)
    if not arrays.avail[ac]:
        slab = cache_grow_begin(cache, gfp_exact_node(cache, gfp), nid)
        if slab is None:
            return None
        alloc_block(cache, ac, slab, batchcount)
        cache_grow_end(cache, slab)
    arrays.touched[ac] = 1
    arrays.avail[ac] -= 1
    return arrays.entry[ac * ENTRIES + arrays.avail[ac]]


@invented("the loop of cache_alloc_refill", traced=False)
def refill_from_slabs(cache: SlabCache, ac: int, nid: int, batchcount: int) -> int:
    """Take a batch from the slabs that a node has; returns how many objects are wanting."""
    while batchcount > 0:
        slab = get_first_slab(cache, nid)
        if slab is None:
            break
        batchcount = alloc_block(cache, ac, slab, batchcount)
        fixup_slab_list(cache, nid, slab)
    cache.state.nodes.free_objects[get_node(cache, nid)] -= cache.state.arrays.avail[ac]
    return batchcount


@kernel("mm/slab.c", "____cache_alloc")
def cache_alloc(cache: SlabCache, gfp: int) -> int | None:
    """Take the object that came back last to this CPU: its memory is most likely still in the processor's cache."""
    arrays = cache.state.arrays
    ac = cpu_cache_get(cache)
    avail = arrays.avail[ac]
    if not avail:
        return cache_alloc_refill(cache, gfp)
    arrays.touched[ac] = 1
    arrays.avail[ac] = avail - 1
    return arrays.entry[ac * ENTRIES + avail - 1]


@kernel("mm/slab.c", "____cache_alloc_node", lock="n->list_lock")
def cache_alloc_node(cache: SlabCache, gfp: int, nodeid: int) -> int | None:
    """Take one object of node `nodeid`, past all arrays; where it has no memory, of any node that may be asked."""
    nodes, n = cache.state.nodes, get_node(cache, nodeid)
    slab = get_first_slab(cache, nodeid)
    if slab is not None:
        objp = slab_get_obj(cache, slab)
        nodes.free_objects[n] -= 1
        fixup_slab_list(cache, nodeid, slab)
        return objp
    slab = cache_grow_begin(cache, gfp_exact_node(cache, gfp), nodeid)
    if slab is None:
        return fallback_alloc(cache, gfp)
    objp = slab_get_obj(cache, slab)
    cache_grow_end(cache, slab)
    return objp


@kernel("mm/slab.c", "fallback_alloc", left_out="cpusets, memory policies")
def fallback_alloc(cache: SlabCache, gfp: int) -> int | None:
    """Take an object of any node that has free ones; else let the page allocator find pages, by all its means."""
    if gfp & gfp_bits.__GFP_THISNODE:
        return None
    mm, nodes = cache.common.mm, cache.state.nodes
    zonelist = mm.node_data[numa_mem_id(mm)].node_zonelists[ZONELIST_FALLBACK]
    highest = gfp_zone(mm, gfp)
    for entry in range(zonelist.count):
        nid = zonelist.nid[entry]
        if zonelist.zone_idx[entry] <= highest and has_node(cache, nid) and nodes.free_objects[get_node(cache, nid)]:
            objp = cache_alloc_node(cache, gfp_exact_node(cache, gfp), nid)
            if objp is not None:
                return objp
    slab = cache_grow_begin(cache, gfp, numa_mem_id(mm))
    if slab is None:
        return None
    cache_grow_end(cache, slab)
    return cache_alloc_node(cache, gfp_exact_node(cache, gfp), slab_nid(cache.pages, slab))


@kernel("mm/slab.c", "__do_cache_alloc", left_out="memory policies, cpusets that spread slabs", traced=False)
def do_cache_alloc(cache: SlabCache, gfp: int, nodeid: int) -> int | None:
    """Take a slot by way of the CPU's array, if any node will do or its own is wanted, else from node `nodeid`."""
    if nodeid == NUMA_NO_NODE:
        objp = cache_alloc(cache, gfp)
        if objp is not None or not cache.common.mm.boot.config.numa:
            return objp
        # The array gets objects of its own node only. Others may have some.
        nodeid = numa_mem_id(cache.common.mm)
    elif nodeid == numa_mem_id(cache.common.mm):
        objp = cache_alloc(cache, gfp)
        if objp is not None:
            return objp
    elif not has_node(cache, nodeid):
        return fallback_alloc(cache, gfp)
    return cache_alloc_node(cache, gfp, nodeid)


@kernel("mm/slab.c", "slab_alloc_node", formerly=("__cache_alloc",), traced=False)
def slab_alloc(cache: SlabCache, gfp: int, node: int, caller: int, orig_size: int) -> int | None:
    """Take an object; its address, or None if there is no memory."""
    objp = do_cache_alloc(cache, gfp, node)
    if objp is None:
        return None
    state = cache.state
    bit = objp - cache.pages.page_offset >> 4
    state.held[bit >> 3] |= 1 << (bit & 7)
    return cache_alloc_debugcheck_after(cache, objp, caller) if state.debug else objp


@kernel("mm/slab.c", "cache_alloc_debugcheck_after")
def cache_alloc_debugcheck_after(cache: SlabCache, objp: int, caller: int) -> int:
    """Look whether the free object is as it was left, mark it as held, and construct it; its address."""
    if cache.flags & SLAB_POISON:
        slab = virt_to_slab(cache.pages, objp)
        assert slab is not None
        debug.check_poison_obj(cache, objp, neighbours(cache, slab, obj_to_index(cache, slab, objp)))
        debug.poison_obj(cache, objp, POISON_INUSE)
    if cache.flags & SLAB_STORE_USER:
        debug.set_user(cache, objp, caller)
    if cache.flags & SLAB_RED_ZONE:
        debug.verify_redzone_alloc(cache, objp)
        debug.set_redzones(cache, objp, debug.RED_ACTIVE)
    if cache.ctor and cache.flags & SLAB_POISON:
        construct(cache, objp + cache.obj_offset)
    return objp + cache.obj_offset


@kernel("mm/slab.c", "kmem_cache_alloc_bulk")
def kmem_cache_alloc_bulk(cache: SlabCache, gfp: int, nr: int, caller: int) -> tuple[int, ...]:
    """Take `nr` objects; () if there are not so many, and then none is taken."""
    taken: list[int] = []
    for _ in range(nr):
        address = slab_alloc(cache, gfp, NUMA_NO_NODE, caller, cache.object_size)
        if address is None:
            kmem_cache_free_bulk(cache, tuple(taken), caller)
            return ()
        taken.append(address)
    return tuple(taken)
