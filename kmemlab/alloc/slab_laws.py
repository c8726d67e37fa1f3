"""The laws of a cache of SLAB, as code: what is true between any two requests, whatever they were.

each object of each slab is in exactly one place:   held by somebody │ in one array │ on its slab's freelist
each slab is on the list that its objects say       and no slab of the cache is on no list
the counts are what counting finds                  slabs, free slabs, free objects, held objects
"""

from __future__ import annotations

from typing import NoReturn

from kmemlab.alloc.slab_array_cache import entries_of
from kmemlab.alloc.slab_cache import (
    SLABS_FREE,
    SLABS_FULL,
    SLABS_PARTIAL,
    SlabCache,
    for_each_kmem_cache_node,
    get_node,
    is_held,
)
from kmemlab.alloc.slab_freelist import index_to_obj, slab_free_objects
from kmemlab.alloc.slab_pages import PG_SLAB_MASK, slab_address, slab_nid, virt_to_slab
from kmemlab.alloc.slab_size import CFLGS_OBJFREELIST_SLAB, CFLGS_OFF_SLAB
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.zonelist import cpu_to_mem
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each
from kmemlab.types.units import PAGE_SIZE

LIST_NAMES = {SLABS_PARTIAL: "slabs_partial", SLABS_FULL: "slabs_full", SLABS_FREE: "slabs_free"}


@invented("a law is code beside the structure it speaks of", traced=False)
def check_cache(cache: SlabCache, slabs: tuple[int, ...]) -> None:
    """Every object is free or held once, every slab on its list, every count right.

    `slabs` are those whose pages say that they are the cache's. Raises `BrokenLaw` that names the law and the object.
    """
    in_arrays = objects_in_arrays(cache)
    listed: list[int] = []
    for nid in for_each_kmem_cache_node(cache):
        listed += slabs_of_node(cache, nid)
    if sorted(listed) != sorted(slabs):
        odd = min(set(listed) ^ set(slabs), default=max(listed, default=0))
        _broken(cache, f"slab {odd} is on {listed.count(odd)} lists, and its page says that it is {slabs.count(odd)}")
    held = sum(check_one_slab(cache, slab, in_arrays) for slab in listed)
    strays = set(in_arrays) - {objp for slab in listed for objp in slots(cache, slab)}
    if strays:
        _broken(cache, f"{min(strays):#x} is in {in_arrays[min(strays)]}, but it is no object of any slab")
    if held != cache.nr_held:
        _broken(cache, f"{cache.nr_held} objects are counted as held, but {held} are")


@invented("what the laws speak of", traced=False)
def slots(cache: SlabCache, slab: int) -> list[int]:
    """The slots of a slab, first to last."""
    return [index_to_obj(cache, slab, idx) for idx in range(cache.num)]


@invented("C follows pointers", traced=False)
def arrays_of(cache: SlabCache) -> list[tuple[int, str, int]]:
    """Every array cache of a cache: its number, its name, and the node whose objects belong into it."""
    arrays, state = cache.state.arrays, cache.state
    found = []
    for cpu in range(state.nr_cpus):
        found.append((cache.first_cpu_cache + cpu, f"the array of CPU {cpu}", cpu_to_mem(cache.common.mm, cpu)))
    for nid in range(state.nr_nodes):
        found.append((arrays.shared(cache.number, nid), f"the shared array of node {nid}", nid))
        for home in range(state.nr_nodes):
            name = f"node {nid}'s alien array for node {home}"
            found.append((arrays.alien(cache.number, nid, home), name, home))
    return found


@invented("the first law's third place", traced=False)
def objects_in_arrays(cache: SlabCache) -> dict[int, str]:
    """Every object in an array of the cache, with the name of the array; none is there twice."""
    arrays, pages = cache.state.arrays, cache.pages
    found: dict[int, str] = {}
    for ac, name, home in arrays_of(cache):
        if not 0 <= arrays.avail[ac] <= max(arrays.limit[ac], 0):
            _broken(cache, f"{name} holds {arrays.avail[ac]} objects of {arrays.limit[ac]}")
        if arrays.avail[ac] and not arrays.address[ac]:
            _broken(cache, f"{name} holds objects, but there is no such array")
        for objp in entries_of(arrays, ac):
            if objp in found:
                _broken(cache, f"{objp:#x} is in {name} and in {found[objp]}")
            slab = virt_to_slab(pages, objp)
            if slab is not None and slab_nid(pages, slab) != home:
                _broken(cache, f"{objp:#x} is in {name}, but its slab is of node {slab_nid(pages, slab)}")
            found[objp] = name
    return found


@invented("the second law, and the counts of a node", traced=False)
def slabs_of_node(cache: SlabCache, nid: int) -> list[int]:
    """The slabs on a node's lists; each is on the list where its objects say that it belongs, and they are counted."""
    pages, nodes, n = cache.pages, cache.state.nodes, get_node(cache, nid)
    found: list[int] = []
    free_slabs = free_objects = 0
    for which, name in LIST_NAMES.items():
        for slab in list_for_each(pages.slab_list, pages.list_head(cache.number, nid, which)):
            active = pages.inuse[slab]
            belongs = SLABS_FULL if active == cache.num else SLABS_PARTIAL if active else SLABS_FREE
            if belongs != which:
                _broken(cache, f"slab {slab} is on {name}, but {active} of its {cache.num} objects are taken")
            if slab_nid(pages, slab) != nid:
                _broken(cache, f"slab {slab} of node {slab_nid(pages, slab)} is on a list of node {nid}")
            free_slabs += which == SLABS_FREE
            free_objects += cache.num - active
            found.append(slab)
    counted = (nodes.total_slabs[n], nodes.free_slabs[n], nodes.free_objects[n])
    if counted != (len(found), free_slabs, free_objects):
        _broken(
            cache,
            f"node {nid} counts {counted[0]} slabs, {counted[1]} free, with {counted[2]} free objects; "
            f"its lists hold {len(found)}, {free_slabs} free, with {free_objects}",
        )
    return found


@invented("the first law, slab by slab", traced=False)
def check_one_slab(cache: SlabCache, slab: int, in_arrays: dict[int, str]) -> int:
    """Each object of a slab is in one place only; returns how many are held."""
    pages, page = cache.pages, cache.pages.page
    if not page.flags[slab] & PG_SLAB_MASK or page.owned[slab] != 1 + cache.gfporder:
        _broken(cache, f"slab {slab} is no block of order {cache.gfporder} that a cache took")
    if pages.slab_cache[slab] != cache.number:
        _broken(cache, f"slab {slab} says that it belongs to cache {pages.slab_cache[slab]}, not {cache.number}")
    check_colour(cache, slab)
    free = slab_free_objects(cache, slab)
    if sorted(set(free)) != sorted(free) or (free and max(free) >= cache.num):
        _broken(cache, f"the freelist of slab {slab} is damaged: {free}")
    held = 0
    for idx, objp in enumerate(slots(cache, slab)):
        places = ["its slab's freelist"] if idx in free else []
        places += [in_arrays[objp]] if objp in in_arrays else []
        places += ["somebody's hands"] if is_held(cache, objp) else []
        held += is_held(cache, objp)
        if len(places) != 1:
            _broken(cache, f"object {idx} of slab {slab} ({objp:#x}) is in {' and in '.join(places) or 'no place'}")
    return held


@invented("a law of geometry", traced=False)
def check_colour(cache: SlabCache, slab: int) -> None:
    """The objects lie within the slab and begin at a colour; a freelist is where the cache keeps it."""
    pages, start, size = cache.pages, slab_address(cache.pages, slab), PAGE_SIZE << cache.gfporder
    offset = pages.s_mem[slab] - start
    room = size if cache.flags & (CFLGS_OBJFREELIST_SLAB | CFLGS_OFF_SLAB) else size - cache.freelist_size
    if offset % cache.colour_off or offset // cache.colour_off >= max(cache.colour, 1):
        _broken(cache, f"the objects of slab {slab} begin at byte {offset}, which is no colour")
    if offset + cache.num * cache.size > room:
        _broken(cache, f"the objects of slab {slab} end behind its room of {room} bytes")
    full_without_list = cache.flags & CFLGS_OBJFREELIST_SLAB and pages.inuse[slab] == cache.num
    if bool(pages.freelist[slab]) == bool(full_without_list):
        _broken(cache, f"slab {slab} has {'a' if full_without_list else 'no'} freelist")


def _broken(cache: SlabCache, law: str) -> NoReturn:
    raise BrokenLaw(law, where=f"cache {cache.name}")
