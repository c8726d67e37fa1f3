"""SLUB: the way of an object from its cache to its owner, and back.

slab_alloc    this CPU's freelist has an object?      take it: two reads and a write (the fast path)
              the slab's own freelist (others freed)  becomes the CPU's                        ┐
              this CPU's reserve of partial slabs     its first slab becomes the CPU's         │ ___slab_alloc
              the node's partial slabs, other nodes'  the first one becomes the CPU's          │
              a new slab from the page allocator                                               ┘
slab_free     the object is of this CPU's slab?       put it on the CPU's freelist (the fast path)
              else on its slab's own freelist, and the slab perhaps to another place             __slab_free
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import SLAB_STORE_USER
from kmemlab.alloc.slab_pages import slab_nid, virt_to_slab
from kmemlab.alloc.slub_debug import alloc_debug_processing, free_debug_processing
from kmemlab.alloc.slub_def import SlubCache, kmem_cache_debug
from kmemlab.alloc.slub_freelist import get_freepointer, set_freepointer
from kmemlab.alloc.slub_partial import (
    add_full,
    add_partial,
    count_partial_free,
    deactivate_slab,
    get_partial,
    not_frozen,
    put_cpu_partial,
    remove_full,
    remove_partial,
)
from kmemlab.alloc.slub_slab import dec_slabs_node, discard_slab, free_slab, inc_slabs_node, new_slab
from kmemlab.alloc.slub_track import TRACK_ALLOC, set_track
from kmemlab.mm.context import CPU
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.units import PAGE_SHIFT

# -- taking ------------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "slab_alloc_node", left_out="the transaction id that C compares: nothing runs in between")
def slab_alloc(cache: SlubCache, gfp: int, node: int, caller: int, orig_size: int) -> int | None:
    """Take an object: from this CPU's freelist if it has one."""
    per_cpu = cache.per_cpu
    row = cache.cpu_slab + cache.current.cells[CPU]
    obj = per_cpu.freelist[row]
    if obj and (node == NUMA_NO_NODE or node_match(cache, per_cpu.slab[row], node)):
        per_cpu.freelist[row] = get_freepointer(cache, obj)
        return obj
    return slab_alloc_slow(cache, gfp, node, caller, orig_size, row)


@kernel("mm/slub.c", "node_match", traced=False)
def node_match(cache: SlubCache, slab: int, node: int) -> bool:
    """Whether a slab is of the node that is wanted."""
    return node == NUMA_NO_NODE or slab_nid(cache.pages, slab) == node


@kernel("mm/slub.c", "___slab_alloc", formerly=("__slab_alloc",))
def slab_alloc_slow(cache: SlubCache, gfp: int, node: int, caller: int, orig_size: int, row: int) -> int | None:
    """Find this CPU a slab that has objects free, and take the first of them. `row` is the CPU's row of the cache."""
    per_cpu = cache.per_cpu
    if node != NUMA_NO_NODE and not cache.per_node.address[cache.node + node]:
        node = NUMA_NO_NODE
    freelist = freelist_of_cpu_slab(cache, node, row)
    while not freelist and per_cpu.partial[row]:
        slab = per_cpu.partial[row]
        per_cpu.slab[row], per_cpu.partial[row] = slab, cache.pages.next[slab]
        freelist = freelist_of_cpu_slab(cache, node, row)
    if not freelist:
        slab, freelist = get_partial(cache, gfp, node, orig_size)
        if freelist and kmem_cache_debug(cache):
            return note_user(cache, freelist, caller)
        if not freelist:
            slab, freelist = freelist_of_new_slab(cache, gfp, node, orig_size)
            if not slab or kmem_cache_debug(cache):
                return note_user(cache, freelist, caller) if freelist else None
        per_cpu.slab[row] = slab
    per_cpu.freelist[row] = get_freepointer(cache, freelist)
    return freelist


@kernel("mm/slub.c", "get_freelist")
def freelist_of_cpu_slab(cache: SlubCache, node: int, row: int) -> int:
    """What this CPU's slab still has: on the CPU's freelist, or on the slab's own. If it has nothing, or is of the
    wrong node, the CPU leaves it; 0 then.
    """
    per_cpu, pages = cache.per_cpu, cache.pages
    slab = per_cpu.slab[row]
    if not slab:
        return 0
    freelist = per_cpu.freelist[row]
    if not node_match(cache, slab, node):
        per_cpu.slab[row] = per_cpu.freelist[row] = 0
        deactivate_slab(cache, slab, freelist)
        return 0
    if freelist:
        return freelist
    if not pages.frozen[slab]:
        raise not_frozen(cache, slab, "mm/slub.c:2983")
    freelist = pages.freelist[slab]
    pages.inuse[slab], pages.freelist[slab] = pages.objects[slab], 0
    if not freelist:
        # Full: on no list, and nobody's. The first object that comes back will bring it back.
        pages.frozen[slab] = 0
        per_cpu.slab[row] = 0
    return freelist


@invented("the last part of ___slab_alloc")
def freelist_of_new_slab(cache: SlubCache, gfp: int, node: int, orig_size: int) -> tuple[int, int]:
    """A new slab, all of whose objects go to this CPU: (slab, freelist). Watched: (slab, object). None: (0, 0)."""
    pages = cache.pages
    slab = new_slab(cache, gfp, node)
    if slab is None:
        slab_out_of_memory(cache, gfp, node)
        return 0, 0
    freelist = pages.freelist[slab]
    if kmem_cache_debug(cache):
        return slab, alloc_single_from_new_slab(cache, slab, orig_size)
    pages.freelist[slab] = 0
    pages.inuse[slab], pages.frozen[slab] = pages.objects[slab], 1
    inc_slabs_node(cache, slab_nid(pages, slab), pages.objects[slab])
    return slab, freelist


@kernel("mm/slub.c", "alloc_single_from_new_slab")
def alloc_single_from_new_slab(cache: SlubCache, slab: int, orig_size: int) -> int:
    """Take one object of a new slab whose objects are watched; the slab goes on a list of its node."""
    pages = cache.pages
    obj = pages.freelist[slab]
    pages.freelist[slab] = get_freepointer(cache, obj)
    pages.inuse[slab] = 1
    if not alloc_debug_processing(cache, slab, obj, orig_size):
        return 0
    nid = slab_nid(pages, slab)
    if pages.inuse[slab] == pages.objects[slab]:
        add_full(cache, nid, slab)
    else:
        add_partial(cache, nid, slab, tail=False)
    inc_slabs_node(cache, nid, pages.objects[slab])
    return obj


@invented("set_track(s, freelist, TRACK_ALLOC, addr)", traced=False)
def note_user(cache: SlubCache, obj: int, caller: int) -> int:
    """Note who takes an object, if that is wanted."""
    if cache.flags & SLAB_STORE_USER:
        set_track(cache, obj, TRACK_ALLOC, caller)
    return obj


@kernel("mm/slub.c", "slab_out_of_memory", left_out="the flags by name; the rate limit")
def slab_out_of_memory(cache: SlubCache, gfp: int, node: int) -> None:
    """Say that a cache gets no pages, and what it has."""
    if gfp & gfp_bits.__GFP_NOWARN:
        return
    printk, per_node = cache.common.mm.boot.printk, cache.per_node
    printk.info(f"SLUB: Unable to allocate memory on node {node}, gfp={gfp:#x}")
    printk.info(
        f"  cache: {cache.name}, object size: {cache.object_size}, buffer size: {cache.size}, "
        f"default order: {cache.order}, min order: {cache.min_order}"
    )
    for nid in range(per_node.nr_nodes):
        row = cache.node + nid
        if per_node.address[row]:
            free = count_partial_free(cache, nid)
            slabs, objs = per_node.nr_slabs[row], per_node.total_objects[row]
            printk.info(f"  node {nid}: slabs: {slabs}, objs: {objs}, free: {free}")


# -- giving back -------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "do_slab_free", left_out="the transaction id", formerly=("slab_free",))
def slab_free(cache: SlubCache, obj: int, caller: int) -> bool:
    """Give an object back: to this CPU's freelist if it is of this CPU's slab. False: it was refused."""
    pages, per_cpu = cache.pages, cache.per_cpu
    pfn = obj - pages.page_offset >> PAGE_SHIFT
    slab = pfn - pages.compound_head[pfn]
    row = cache.cpu_slab + cache.current.cells[CPU]
    if slab != per_cpu.slab[row]:
        return slab_free_slow(cache, slab, (obj,), caller)
    set_freepointer(cache, obj, per_cpu.freelist[row])
    per_cpu.freelist[row] = obj
    return True


@kernel("mm/slub.c", "__slab_free")
def slab_free_slow(cache: SlubCache, slab: int, objects: tuple[int, ...], caller: int) -> bool:
    """Put objects on their slab's own freelist, and the slab where it belongs now. False: they were refused."""
    if kmem_cache_debug(cache):
        return free_to_partial_list(cache, slab, objects, caller)
    pages = cache.pages
    prior = push_objects(cache, slab, objects)
    if pages.frozen[slab]:
        return True  # a CPU's; it will find them
    if not prior:
        # It was full, so on no list: this CPU keeps it in reserve.
        pages.frozen[slab] = 1
        put_cpu_partial(cache, slab, drain=True)
        return True
    nid = slab_nid(pages, slab)
    if not pages.inuse[slab] and cache.per_node.nr_partial[cache.node + nid] >= cache.min_partial:
        remove_partial(cache, nid, slab)
        discard_slab(cache, slab)
    return True


@invented("the cmpxchg loop of __slab_free", traced=False)
def push_objects(cache: SlubCache, slab: int, objects: tuple[int, ...]) -> int:
    """Put objects on a slab's own freelist; its first object before."""
    pages = cache.pages
    prior = first = pages.freelist[slab]
    for obj in objects:
        set_freepointer(cache, obj, first)
        first = obj
    pages.freelist[slab] = first
    pages.inuse[slab] = (pages.inuse[slab] - len(objects)) & 0xFFFF  # 16 bits, as in C: a double free wraps it
    return prior


@kernel("mm/slub.c", "free_to_partial_list", lock="n->list_lock")
def free_to_partial_list(cache: SlubCache, slab: int, objects: tuple[int, ...], caller: int) -> bool:
    """Give watched objects back, if nothing is wrong with them. False: something is, and they stay as they are."""
    if not free_debug_processing(cache, slab, objects, caller):
        return False
    pages = cache.pages
    nid = slab_nid(pages, slab)
    prior = push_objects(cache, slab, objects)
    discard = not pages.inuse[slab] and cache.per_node.nr_partial[cache.node + nid] >= cache.min_partial
    if not prior:
        remove_full(cache, slab)
        if not discard:
            add_partial(cache, nid, slab, tail=True)
    elif discard:
        remove_partial(cache, nid, slab)
    if discard:
        dec_slabs_node(cache, nid, pages.objects[slab])
        free_slab(cache, slab)
    return True


# -- many at a time ----------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "kmem_cache_alloc_bulk")
def alloc_bulk(cache: SlubCache, gfp: int, count: int, caller: int) -> tuple[int, ...]:
    """Take objects one after the other without leaving this CPU; give all back if one is not to be had."""
    taken: list[int] = []
    for _ in range(count):
        obj = slab_alloc(cache, gfp, NUMA_NO_NODE, caller, cache.object_size)
        if obj is None:
            free_bulk(cache, tuple(taken), caller)
            return ()
        taken.append(obj)
    return tuple(taken)


@kernel("mm/slub.c", "kmem_cache_free_bulk")
def free_bulk(cache: SlubCache, objects: tuple[int, ...], caller: int) -> int:
    """Give objects back, those of one slab together; how many were taken."""
    left = list(objects)
    taken = 0
    while left:
        slab, same, left = build_detached_freelist(cache, left)
        row = cache.cpu_slab + cache.current.cells[CPU]
        if slab == cache.per_cpu.slab[row]:
            for obj in same:
                taken += slab_free(cache, obj, caller)
        elif slab_free_slow(cache, slab, same, caller):
            taken += len(same)
    return taken


@kernel("mm/slub.c", "build_detached_freelist", left_out="the list itself: they are chained when they are pushed")
def build_detached_freelist(cache: SlubCache, objects: list[int]) -> tuple[int, tuple[int, ...], list[int]]:
    """From the last object on, those of its slab, passing over at most two others: (slab, they, what is left).

    They come in the order in which they are pushed: the last object of all will be the first to be handed out. An
    object that is passed over changes places with the one that was taken before it.
    """
    pages = cache.pages
    slab = virt_to_slab(pages, objects[-1]) or 0
    same, lookahead = [objects[-1]], 3
    left = objects[:-1]
    end = len(left)
    for at in range(len(left) - 1, -1, -1):
        if virt_to_slab(pages, left[at]) == slab:
            same.append(left[at])
            end -= 1
            left[at], left[end] = left[end], left[at]
            continue
        lookahead -= 1
        if not lookahead:
            break
    return slab, tuple(reversed(same)), left[:end]
