"""A cache of SLUB gives up its slabs: all of them when it dies, the empty ones when it shrinks."""

from __future__ import annotations

from kmemlab.alloc.slab_bug import CORRUPT, LEAK, Oops, bug_at
from kmemlab.alloc.slab_common import report_bug
from kmemlab.alloc.slab_pages import slab_address, virt_to_slab
from kmemlab.alloc.slub_def import FULL, SlubCache
from kmemlab.alloc.slub_freelist import free_objects
from kmemlab.alloc.slub_layout import for_each_object, nearest_obj
from kmemlab.alloc.slub_partial import flush_all, list_of, nodes_of, remove_partial, slabs_on
from kmemlab.alloc.slub_report import pointer_text, pr_err, print_slab_info, slab_bug
from kmemlab.alloc.slub_slab import dec_slabs_node, discard_slab, free_slab
from kmemlab.alloc.slub_track import print_tracking, sites
from kmemlab.alloc.taint import taint
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add, list_del

SHRINK_PROMOTE_MAX = 32


@kernel("mm/slub.c", "__kmem_cache_shutdown")
def kmem_cache_shutdown(cache: SlubCache) -> bool:
    """Give all slabs back. True: objects are still held, so the cache must stay."""
    flush_all(cache)
    remain = False
    for nid in nodes_of(cache):
        free_partial(cache, nid)
        row = cache.node + nid
        remain = remain or bool(cache.per_node.nr_partial[row] or cache.per_node.nr_slabs[row])
    if remain:
        report_leak(cache)
    return remain


@kernel("mm/slub.c", "free_partial")
def free_partial(cache: SlubCache, nid: int) -> None:
    """Give back the partial slabs of a node that are empty; list the objects of the others."""
    discard: list[int] = []
    for slab in slabs_on(cache, nid):
        if cache.pages.inuse[slab]:
            list_slab_objects(cache, slab)
        else:
            remove_partial(cache, nid, slab)
            discard.insert(0, slab)
    for slab in discard:
        discard_slab(cache, slab)


@kernel("mm/slub.c", "list_slab_objects", left_out="the stack")
def list_slab_objects(cache: SlubCache, slab: int) -> None:
    """Report the objects of a slab that are still held."""
    slab_bug(cache, f"Objects remaining in {cache.name} on __kmem_cache_shutdown()")
    print_slab_info(cache, slab)
    taint(cache)
    base = slab_address(cache.pages, slab)
    for obj in held_objects(cache, slab):
        pr_err(cache, f"Object 0x{pointer_text(cache, obj)} @offset={obj - base}")
        print_tracking(cache, obj)


@invented("the loop of list_slab_objects", traced=False)
def held_objects(cache: SlubCache, slab: int) -> tuple[int, ...]:
    """The objects of a slab that are on no freelist."""
    free = free_in_slab(cache, slab)
    return tuple(obj for obj in for_each_object(cache, slab) if obj not in free)


@kernel("mm/slub.c", "__fill_map", traced=False)
def free_in_slab(cache: SlubCache, slab: int) -> set[int]:
    """The free objects of a slab: on its own freelist, and on that of the CPU that has it."""
    pages, per_cpu = cache.pages, cache.per_cpu
    free = set(free_objects(cache, pages.freelist[slab], pages.objects[slab]))
    for row in range(cache.cpu_slab, cache.cpu_slab + per_cpu.nr_cpus):
        if per_cpu.slab[row] == slab:
            free |= set(free_objects(cache, per_cpu.freelist[row], pages.objects[slab]))
    return free


@invented("errors that teach: C lists partial slabs only, for it has no list of full ones", traced=False)
def report_leak(cache: SlubCache) -> None:
    """Keep how many objects are left, and which, for the error that the command raises."""
    leaked = [
        (slab, obj) for nid in nodes_of(cache) for which in (0, FULL)
        for slab in slabs_on(cache, nid, which) for obj in held_objects(cache, slab)
    ]  # fmt: skip
    shown = ", ".join(f"{obj:#x}" for _, obj in leaked[:4]) + (", …" if len(leaked) > 4 else "")
    what = f"{cache.nr_held} objects of {cache.name} are still held" + (f": {shown}" if shown else "")
    slab, first = leaked[0] if leaked else (0, 0)
    report_bug(cache, LEAK, what, first, sites(cache, slab, first) if first else "")


# -- shrinking ---------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "__kmem_cache_shrink", formerly=("__kmem_cache_do_shrink",))
def kmem_cache_shrink(cache: SlubCache) -> int:
    """Give empty slabs back, and put those first that are nearly full: they will be used up. 0 if no slab is left."""
    flush_all(cache)
    left = 0
    for nid in nodes_of(cache):
        shrink_node(cache, nid)
        left = left or int(cache.per_node.nr_slabs[cache.node + nid] > 0)
    return left


@invented("the body of a loop of __kmem_cache_do_shrink", traced=False)
def shrink_node(cache: SlubCache, nid: int) -> None:
    """Shrink what a cache has on one node."""
    pages = cache.pages
    discard: list[int] = []
    promote: list[list[int]] = [[] for _ in range(SHRINK_PROMOTE_MAX)]  # by the number of free objects - 1
    for slab in slabs_on(cache, nid):
        free = pages.objects[slab] - pages.inuse[slab]
        if free <= 0:
            raise no_free_object(cache, slab)
        if not pages.inuse[slab]:
            remove_partial(cache, nid, slab)
            dec_slabs_node(cache, nid, pages.objects[slab])
            discard.insert(0, slab)
        elif free <= SHRINK_PROMOTE_MAX:
            promote[free - 1].insert(0, slab)
    for slabs in reversed(promote):
        for slab in reversed(slabs):
            list_del(pages.slab_list, slab)
            list_add(pages.slab_list, slab, list_of(cache, nid, 0))
    for slab in discard:
        free_slab(cache, slab)


@invented("BUG_ON(free <= 0)", traced=False)
def no_free_object(cache: SlubCache, slab: int) -> Oops:
    """What stops the kernel where a slab on a partial list counts no free object: one was freed twice before."""
    what = f"a partial slab of {cache.name} counts {cache.pages.inuse[slab]} objects in use: one was freed twice"
    report_bug(cache, CORRUPT, what, slab_address(cache.pages, slab))
    return bug_at(cache.common.mm.boot.printk, "mm/slub.c:4655", what)


# -- looking things up -------------------------------------------------------------------------------------------------


@invented("which object an address is in", traced=False)
def find_object(cache: SlubCache, address: int) -> int | None:
    """The object in whose slot an address lies; None if in none of this cache."""
    slab = virt_to_slab(cache.pages, address)
    if slab is None or cache.pages.slab_cache[slab] != cache.number:
        return None
    return nearest_obj(cache, slab, address)


@invented("whether a second free is one", traced=False)
def object_is_free(cache: SlubCache, obj: int) -> bool:
    """Whether an object is on its slab's freelist or on that of a CPU."""
    slab = virt_to_slab(cache.pages, obj)
    return slab is not None and obj in free_in_slab(cache, slab)


@invented("both call sites of an object", traced=False)
def call_sites(cache: SlubCache, address: int) -> str:
    """Who took and gave back the object that an address lies in, where users are tracked."""
    slab = virt_to_slab(cache.pages, address)
    obj = find_object(cache, address)
    return sites(cache, slab, obj) if slab is not None and obj is not None else ""
