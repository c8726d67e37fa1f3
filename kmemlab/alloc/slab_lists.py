"""The three lists of slabs that a cache has on each node, and how objects come back to them.

slabs_partial   ●─●─●     taken from at the head; a slab that gets an object back goes to the tail: by the time it
                          is taken from again, perhaps all its objects are back
slabs_free      ●─●       all objects are there; the next to be given back stands at the tail
slabs_full      ●─●─●     nothing to be had
"""

from __future__ import annotations

from kmemlab.alloc.slab_cache import SLABS_FREE, SLABS_PARTIAL, SlabCache, get_node
from kmemlab.alloc.slab_freelist import slab_put_obj
from kmemlab.alloc.slab_grow import slab_destroy
from kmemlab.alloc.slab_pages import virt_to_slab
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add, list_add_tail, list_del


@kernel("mm/slab.c", "get_first_slab", left_out="keeping slabs of the emergency reserve for those who may use it")
def get_first_slab(cache: SlabCache, nid: int) -> int | None:
    """The slab that the next objects come from: a partial one, else a free one, or None. It stays on its list."""
    pages, nodes, n = cache.pages, cache.state.nodes, get_node(cache, nid)
    following = pages.slab_list.next
    partial = pages.list_head(cache.number, nid, SLABS_PARTIAL)
    if following[partial] != partial:
        return following[partial]
    nodes.free_touched[n] = 1
    free = pages.list_head(cache.number, nid, SLABS_FREE)
    if following[free] == free:
        return None
    nodes.free_slabs[n] -= 1
    return following[free]


@kernel("mm/slab.c", "free_block", lock="n->list_lock")
def free_block(cache: SlabCache, objects: tuple[int, ...], nid: int) -> list[int]:
    """Give objects back to their slabs, which are all of node `nid`.

    Returns the free slabs that are too many now; they are on no list, and the caller destroys them.
    """
    pages, nodes, n = cache.pages, cache.state.nodes, get_node(cache, nid)
    partial = pages.list_head(cache.number, nid, SLABS_PARTIAL)
    free = pages.list_head(cache.number, nid, SLABS_FREE)
    links, inuse = pages.slab_list, pages.inuse
    nodes.free_objects[n] += len(objects)
    for objp in objects:
        slab = virt_to_slab(pages, objp)
        assert slab is not None
        list_del(links, slab)
        slab_put_obj(cache, slab, objp)
        if inuse[slab]:
            list_add_tail(links, slab, partial)
        else:
            list_add(links, slab, free)
            nodes.free_slabs[n] += 1
    return surplus_slabs(cache, nid)


@invented("the loop at the end of free_block", traced=False)
def surplus_slabs(cache: SlabCache, nid: int) -> list[int]:
    """Take free slabs off their list, from its tail, while the node has more free objects than it may keep."""
    nodes, n = cache.state.nodes, get_node(cache, nid)
    surplus: list[int] = []
    while nodes.free_objects[n] > nodes.free_limit[n]:
        slab = take_last_free(cache, nid)
        if slab is None:
            break
        surplus.insert(0, slab)  # C puts each before the others: what is found last is destroyed first
    return surplus


@invented("what free_block and drain_freelist do to a free slab", traced=False)
def take_last_free(cache: SlabCache, nid: int) -> int | None:
    """Take the last free slab off the node's list and count it as gone; None if there is none."""
    pages, nodes, n = cache.pages, cache.state.nodes, get_node(cache, nid)
    head = pages.list_head(cache.number, nid, SLABS_FREE)
    slab = pages.slab_list.prev[head]
    if slab == head:
        return None
    list_del(pages.slab_list, slab)
    nodes.free_slabs[n] -= 1
    nodes.total_slabs[n] -= 1
    nodes.free_objects[n] -= cache.num
    return slab


@kernel("mm/slab.c", "drain_freelist", lock="n->list_lock")
def drain_freelist(cache: SlabCache, nid: int, tofree: int) -> int:
    """Destroy free slabs of a node, at most `tofree`; returns how many there were."""
    nr_freed = 0
    while nr_freed < tofree:
        slab = take_last_free(cache, nid)
        if slab is None:
            break
        slab_destroy(cache, slab)
        nr_freed += 1
    return nr_freed
