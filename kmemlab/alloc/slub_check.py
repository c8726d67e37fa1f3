"""The laws of a cache of SLUB: every object is free or held, exactly once, and every slab is where it belongs.

a slab is      frozen      and the slab of one CPU, or in one CPU's reserve
      or       partial     on the list of its node, with free objects on its own freelist
      or       full        on no list (where users are tracked: on the node's list of full slabs)
"""

from __future__ import annotations

from typing import NoReturn

from kmemlab.alloc.kmem_cache import SLAB_STORE_USER
from kmemlab.alloc.slab_bug import Oops
from kmemlab.alloc.slab_pages import slab_nid, slab_order
from kmemlab.alloc.slub_def import FULL, PARTIAL, SlubCache, kmem_cache_debug
from kmemlab.alloc.slub_freelist import free_objects
from kmemlab.alloc.slub_layout import check_valid_pointer
from kmemlab.alloc.slub_partial import nodes_of, slabs_on
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.sim.kernel import invented
from kmemlab.types.units import PAGE_SIZE


@invented("a law is code beside the structure it speaks of", traced=False)
def check_cache(cache: SlubCache, slabs: tuple[int, ...]) -> None:
    """Check every slab of a cache, where it is, and the sums. `slabs` are all whose pages say that they are its own.

    Raises `BrokenLaw` that names the law, the slab and the object.
    """
    places = places_of_slabs(cache)
    for slab in places:
        if slab not in slabs:
            broken(cache, f"slab {slab} is on a list of the cache, but its page says it is none of its slabs")
    free = 0
    for slab in slabs:
        check_counts(cache, slab)
        free += check_freelists(cache, slab)
        check_place(cache, slab, places.get(slab, ""))
    check_sums(cache, slabs, free)


@invented("where a slab is", traced=False)
def places_of_slabs(cache: SlubCache) -> dict[int, str]:
    """Each slab that some list or CPU has, with the place. A slab in two places is a broken law."""
    found: list[tuple[int, str]] = []
    for cpu in range(cache.per_cpu.nr_cpus):
        row = cache.cpu_slab + cpu
        if cache.per_cpu.slab[row]:
            found.append((cache.per_cpu.slab[row], "cpu"))
        found += [(slab, "reserve") for slab in reserve_of(cache, row)]
    for nid in nodes_of(cache):
        for which, name in ((PARTIAL, "partial"), (FULL, "full")):
            on_list = slabs_on(cache, nid, which)
            found += [(slab, name) for slab in on_list]
            if which == PARTIAL and len(on_list) != cache.per_node.nr_partial[cache.node + nid]:
                listed = f"{len(on_list)} slabs are on the list"
                broken(
                    cache, f"nr_partial of node {nid} is {cache.per_node.nr_partial[cache.node + nid]}, but {listed}"
                )
            for slab in on_list:
                if slab_nid(cache.pages, slab) != nid:
                    broken(cache, f"slab {slab} is on a list of node {nid}, but of node {slab_nid(cache.pages, slab)}")
    places = dict(found)
    if len(places) != len(found):
        twice = next(slab for slab, _ in found if [other for other, _ in found].count(slab) > 1)
        broken(cache, f"slab {twice} is in two places: {', '.join(name for slab, name in found if slab == twice)}")
    return places


@invented("a CPU's partial list", traced=False)
def reserve_of(cache: SlubCache, row: int) -> list[int]:
    """The slabs of a CPU's reserve; their counts must fall by one from the first to the last."""
    pages = cache.pages
    slab, found = cache.per_cpu.partial[row], []
    while slab:
        found.append(slab)
        following = pages.next[slab]
        if pages.slabs[slab] != (pages.slabs[following] + 1 if following else 1):
            broken(cache, f"slab {slab} counts {pages.slabs[slab]} slabs in a CPU's reserve from itself on")
        slab = following
    return found


@invented("what is noted about a slab", traced=False)
def check_counts(cache: SlubCache, slab: int) -> None:
    """The pages of a slab are one block that the cache holds, and its counts can be true."""
    pages = cache.pages
    order = slab_order(pages, slab)
    if order not in (cache.order, cache.min_order):
        broken(cache, f"slab {slab} is held with order {order}, but slabs of this cache have order {cache.order}")
    for tail in range(1 << order):
        if pages.slab_cache[slab + tail] != cache.number or pages.compound_head[slab + tail] != tail:
            broken(cache, f"page {slab + tail} of slab {slab} does not belong to it")
    most = (PAGE_SIZE << order) // cache.size
    if pages.objects[slab] != most:
        broken(cache, f"slab {slab} has room for {most} objects, but says {pages.objects[slab]}")
    if pages.inuse[slab] > most:
        broken(cache, f"slab {slab} has {most} objects, but {pages.inuse[slab]} in use")


@invented("every object at most once on a freelist", traced=False)
def check_freelists(cache: SlubCache, slab: int) -> int:
    """The free objects of a slab, each once, are as many as its counts say; how many are free."""
    pages, per_cpu = cache.pages, cache.per_cpu
    own = walk(cache, slab, pages.freelist[slab])
    if len(own) != pages.objects[slab] - pages.inuse[slab]:
        expected = pages.objects[slab] - pages.inuse[slab]
        broken(cache, f"{len(own)} objects are on the freelist of slab {slab}, but {expected} are not in use")
    free = list(own)
    for row in range(cache.cpu_slab, cache.cpu_slab + per_cpu.nr_cpus):
        if per_cpu.slab[row] == slab:
            free += walk(cache, slab, per_cpu.freelist[row])
    if len(set(free)) != len(free):
        broken(cache, f"an object of slab {slab} is free twice: {next(o for o in free if free.count(o) > 1):#x}")
    return len(free)


@invented("a freelist must end", traced=False)
def walk(cache: SlubCache, slab: int, first: int) -> list[int]:
    """The objects of a freelist of a slab."""
    try:
        found = list(free_objects(cache, first, cache.pages.objects[slab]))
    except Oops as oops:
        broken(cache, f"the freelist of slab {slab} leads out of memory: {oops.what}")
    for obj in found:
        if not check_valid_pointer(cache, slab, obj):
            broken(cache, f"the freelist of slab {slab} leads to {obj:#x}, which is none of its objects")
    if len(set(found)) != len(found):
        broken(cache, f"the freelist of slab {slab} is a circle through {found[-1]:#x}")
    return found


@invented("each slab in its place", traced=False)
def check_place(cache: SlubCache, slab: int, place: str) -> None:
    """A slab is frozen, partial or full, and is where such slabs are."""
    pages = cache.pages
    frozen, free = pages.frozen[slab], pages.objects[slab] - pages.inuse[slab]
    if kmem_cache_debug(cache):
        check_place_watched(cache, slab, place)
        return
    if bool(frozen) != (place in ("cpu", "reserve")):
        broken(cache, f"slab {slab} has frozen={frozen}, but its place is {place or 'none'}")
    if place == "partial" and not free:
        broken(cache, f"slab {slab} is on a partial list, but full")
    if not place and free:
        broken(cache, f"slab {slab} has {free} free objects, but nobody will find them: it is on no list")


@invented("each slab in its place, where objects are watched", traced=False)
def check_place_watched(cache: SlubCache, slab: int, place: str) -> None:
    """Where objects are watched no CPU has a slab; a frozen one is set aside for good, after damage."""
    pages = cache.pages
    if pages.frozen[slab]:
        if place:
            broken(cache, f"slab {slab} was set aside after damage, but is still in place {place}")
        return
    is_full = pages.inuse[slab] == pages.objects[slab]
    full_place = "full" if cache.flags & SLAB_STORE_USER else ""
    if place != (full_place if is_full else "partial"):
        broken(cache, f"slab {slab} has {pages.inuse[slab]} objects in use, but its place is {place or 'none'}")


@invented("the sums", traced=False)
def check_sums(cache: SlubCache, slabs: tuple[int, ...], free: int) -> None:
    """Slabs and objects of each node are counted, and what is not free is held."""
    pages, per_node = cache.pages, cache.per_node
    for nid in nodes_of(cache):
        here = [slab for slab in slabs if slab_nid(pages, slab) == nid]
        if per_node.nr_slabs[cache.node + nid] != len(here):
            broken(cache, f"nr_slabs of node {nid} is {per_node.nr_slabs[cache.node + nid]}, but there are {len(here)}")
        objects = sum(pages.objects[slab] for slab in here)
        if per_node.total_objects[cache.node + nid] != objects:
            broken(cache, f"total_objects of node {nid} is {per_node.total_objects[cache.node + nid]}, not {objects}")
    set_aside = [slab for slab in slabs if kmem_cache_debug(cache) and pages.frozen[slab]]
    total = sum(pages.objects[slab] for slab in slabs)
    if not set_aside and total - free != cache.nr_held:
        broken(cache, f"{total} objects - {free} free ≠ {cache.nr_held} held")


@invented("the error of a broken law", traced=False)
def broken(cache: SlubCache, law: str) -> NoReturn:
    """Raise `BrokenLaw`."""
    raise BrokenLaw(law, where=f"cache {cache.name}")
