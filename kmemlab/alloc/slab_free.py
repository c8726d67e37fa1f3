"""Giving an object back to SLAB: on top of the CPU's array; if that is full, its oldest batch moves on.

kmem_cache_free ──▶ ___cache_free                 avail < limit: on top
                        ├─ cache_flusharray          the oldest batchcount objects ──▶ the node's shared array
                        │                                                          ──▶ their slabs (free_block)
                        └─ cache_free_alien          an object of another node ──▶ the alien array of that node
"""

from __future__ import annotations

from kmemlab.alloc import slab_debug_old as debug
from kmemlab.alloc.kmem_cache import SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER
from kmemlab.alloc.slab_array_cache import ENTRIES, copy_entries, drop_oldest, entries_of, free_one, transfer_objects
from kmemlab.alloc.slab_bug import BAD_POINTER, DOUBLE_FREE, OVERRUN
from kmemlab.alloc.slab_cache import OBJ_OFFSET, SlabCache, cpu_cache_get, get_node, is_held
from kmemlab.alloc.slab_common import report_bug
from kmemlab.alloc.slab_freelist import index_to_obj, obj_to_index
from kmemlab.alloc.slab_grow import slabs_destroy
from kmemlab.alloc.slab_lists import free_block
from kmemlab.alloc.slab_pages import slab_nid, virt_to_slab
from kmemlab.mm.zonelist import numa_mem_id
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.poison import POISON_FREE


@kernel("mm/slab.c", "cache_flusharray", lock="n->list_lock")
def cache_flusharray(cache: SlabCache, ac: int) -> None:
    """Make room in a full array: a batch of the objects that came first goes to the shared array, or to the slabs."""
    arrays = cache.state.arrays
    batchcount, nid = arrays.batchcount[ac], numa_mem_id(cache.common.mm)
    shared = arrays.shared(cache.number, nid)
    room = arrays.limit[shared] - arrays.avail[shared] if arrays.address[shared] else 0
    surplus: list[int] = []
    if room > 0:
        batchcount = min(batchcount, room)
        copy_entries(arrays, shared, arrays.avail[shared], ac, 0, batchcount)
        arrays.avail[shared] += batchcount
    else:
        surplus = free_block(cache, entries_of(arrays, ac)[:batchcount], nid)
    drop_oldest(arrays, ac, batchcount)
    slabs_destroy(cache, surplus)


@kernel("mm/slab.c", "cache_free_alien", traced=False)
def cache_free_alien(cache: SlabCache, objp: int) -> bool:
    """Send an object of another node on its way home; False if it is of this node."""
    pages = cache.pages
    slab = virt_to_slab(pages, objp)
    assert slab is not None
    home, here = slab_nid(pages, slab), numa_mem_id(cache.common.mm)
    if home == here:
        return False
    cache_free_alien_inner(cache, objp, here, home)
    return True


@kernel("mm/slab.c", "__cache_free_alien", lock="alien->lock")
def cache_free_alien_inner(cache: SlabCache, objp: int, node: int, slab_node: int) -> None:
    """Put an object of node `slab_node` into the alien array for it, or give it back to its slab at once."""
    arrays = cache.state.arrays
    alien = arrays.alien(cache.number, node, slab_node)
    if not cache.state.nodes.alien[get_node(cache, node)] or not arrays.address[alien]:
        slabs_destroy(cache, free_block(cache, (objp,), slab_node))
        return
    surplus = drain_alien_array(cache, alien, slab_node) if arrays.avail[alien] == arrays.limit[alien] else []
    free_one(arrays, alien, objp)
    slabs_destroy(cache, surplus)


@kernel("mm/slab.c", "__drain_alien_cache", lock="n->list_lock")
def drain_alien_array(cache: SlabCache, alien: int, home: int) -> list[int]:
    """Send the objects of an alien array home: into the shared array there, the rest into their slabs.

    Returns the slabs that are too many now.
    """
    arrays = cache.state.arrays
    if not arrays.avail[alien]:
        return []
    shared = arrays.shared(cache.number, home)
    if arrays.address[shared]:
        transfer_objects(arrays, shared, alien, arrays.limit[alien])
    surplus = free_block(cache, entries_of(arrays, alien), home)
    arrays.avail[alien] = 0
    return surplus


@kernel("mm/slab.c", "___cache_free", left_out="slabs of the emergency reserve", formerly=("__cache_free",))
def cache_free(cache: SlabCache, objp: int) -> None:
    """Put a slot on top of the CPU's array, where the next request finds it."""
    if cache.state.nr_nodes > 1 and cache_free_alien(cache, objp):
        return
    arrays = cache.state.arrays
    ac = cpu_cache_get(cache)
    if arrays.avail[ac] >= arrays.limit[ac]:
        cache_flusharray(cache, ac)
    avail = arrays.avail[ac]
    arrays.entry[ac * ENTRIES + avail] = objp
    arrays.avail[ac] = avail + 1


@kernel("mm/slab.c", "__do_kmem_cache_free", left_out="init_on_free", traced=False)
def slab_free(cache: SlabCache, address: int, caller: int) -> bool:
    """Give an object back. False: nobody holds an object there; what is wrong was reported."""
    objp = address - cache.cells[OBJ_OFFSET]
    bit = objp - cache.pages.page_offset >> 4
    held = cache.state.held
    byte, mask = held[bit >> 3], 1 << (bit & 7)
    if not byte & mask or address & 7:
        refuse(cache, address)
        return False
    if cache.state.debug:
        cache_free_debugcheck(cache, objp, caller)
    held[bit >> 3] = byte & ~mask
    cache_free(cache, objp)
    return True


@kernel("mm/slab.c", "cache_free_debugcheck")
def cache_free_debugcheck(cache: SlabCache, objp: int, caller: int) -> None:
    """Look whether anything was written around an object that comes back, mark it as free, and poison it."""
    if cache.flags & SLAB_RED_ZONE:
        if not debug.verify_redzone_free(cache, objp):
            debug.report_write(cache, OVERRUN, objp, "somebody wrote around")
        debug.set_redzones(cache, objp, debug.RED_INACTIVE)
    if cache.flags & SLAB_STORE_USER:
        debug.set_user(cache, objp, caller)
    if cache.flags & SLAB_POISON:
        debug.poison_obj(cache, objp, POISON_FREE)


@invented("C puts it into the array all the same, and hands it out twice", traced=False)
def refuse(cache: SlabCache, address: int) -> None:
    """Report a free of something that nobody holds: no object begins there, or it was given back before."""
    found = find_object(cache, address)
    if found != address:
        near = "in no object" if found is None else f"inside the object at {found:#x}"
        report_bug(cache, BAD_POINTER, f"{address:#x} lies {near} of cache {cache.name}", address)
        return
    if cache.state.debug and cache.flags & SLAB_RED_ZONE:
        debug.verify_redzone_free(cache, address - cache.obj_offset)
    what = f"object {address:#x} of cache {cache.name} is free already"
    report_bug(cache, DOUBLE_FREE, what, address, debug.call_sites(cache, address))


@kernel("include/linux/slab_def.h", "nearest_obj", left_out="what lies behind the last object belongs to it in C")
def find_object(cache: SlabCache, address: int) -> int | None:
    """The object that an address of a slab lies in; None if it lies in no object."""
    pages = cache.pages
    slab = virt_to_slab(pages, address)
    if slab is None or address < pages.s_mem[slab]:
        return None
    index = obj_to_index(cache, slab, address)
    objp = index_to_obj(cache, slab, index) + cache.obj_offset
    return objp if index < cache.num and objp <= address < objp + cache.object_size else None


@invented("the array is not asked: our mark is as good, and at hand", traced=False)
def object_is_free(cache: SlabCache, address: int) -> bool:
    """Whether nobody holds an object."""
    return not is_held(cache, address - cache.obj_offset)


@kernel("mm/slab.c", "kmem_cache_free_bulk", traced=False)
def kmem_cache_free_bulk(cache: SlabCache, addresses: tuple[int, ...], caller: int) -> int:
    """Give several objects back; how many were taken."""
    return sum(slab_free(cache, address, caller) for address in addresses)
