"""A cache of SLAB grows by a slab, and shrinks by one: pages from the buddy, cut into objects, and given back.

colour 0   │ obj │ obj │ obj │ obj │     rest      │      each new slab of a node begins its objects one colour later;
colour 1   │··│ obj │ obj │ obj │ obj │    rest    │      after the last colour comes the first one again
colour 2   │····│ obj │ obj │ obj │ obj │   rest   │
"""

from __future__ import annotations

from collections.abc import Iterable

from kmemlab.alloc import slab_debug_old as debug
from kmemlab.alloc.kmalloc import kfree, kmalloc
from kmemlab.alloc.kmem_cache import SLAB_POISON, SLAB_RED_ZONE
from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.slab_cache import SLABS_FREE, SLABS_FULL, SLABS_PARTIAL, SlabCache, get_node
from kmemlab.alloc.slab_common import account_slab, construct, kmalloc_fix_flags
from kmemlab.alloc.slab_freelist import index_to_obj
from kmemlab.alloc.slab_memory import write_memory
from kmemlab.alloc.slab_pages import PG_SLAB_MASK, prep_compound_page, slab_address, slab_nid
from kmemlab.alloc.slab_size import CFLGS_OBJFREELIST_SLAB, CFLGS_OFF_SLAB
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add, list_add_tail, list_del
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.poison import POISON_FREE
from kmemlab.types.units import PAGE_SIZE


@kernel("mm/slab.c", "kmem_getpages", left_out="pages of the emergency reserve; the report of a kernel with debugging")
def kmem_getpages(cache: SlabCache, gfp: int, nodeid: int) -> int | None:
    """Pages for a slab, from node `nodeid` if it can be; the slab as the number of its first page."""
    pages, order = cache.pages, cache.gfporder
    slab = alloc_pages_inner(cache.common.mm, gfp | cache.allocflags, order, nodeid)
    if slab is None:
        return None
    account_slab(cache, slab, order, 1)
    prep_compound_page(pages, slab, order)
    pages.page.flags[slab] |= PG_SLAB_MASK
    for pfn in range(slab, slab + (1 << order)):
        pages.ram.place_of(pfn)  # its contents count from now on
    return slab


@kernel("mm/slab.c", "kmem_freepages", left_out="telling reclaim of it")
def kmem_freepages(cache: SlabCache, slab: int) -> None:
    """Give the pages of a slab back."""
    pages, order = cache.pages, cache.gfporder
    pages.page.flags[slab] &= ~PG_SLAB_MASK
    for pfn in range(slab, slab + (1 << order)):
        pages.compound_head[pfn] = pages.slab_cache[pfn] = 0
    pages.freelist[slab] = pages.s_mem[slab] = pages.inuse[slab] = 0
    account_slab(cache, slab, order, -1)
    free_pages_inner(cache.common.mm, slab, order)


@kernel("mm/slab.c", "alloc_slabmgmt", formerly=("kmem_cache_slabmgmt",))
def alloc_slabmgmt(cache: SlabCache, slab: int, colour_off: int, gfp: int, nodeid: int) -> int | None:
    """Place a new slab's objects, and find room for the bytes of its freelist: 0 where an object will carry them.

    None: kmalloc has no memory for them.
    """
    pages, start = cache.pages, slab_address(cache.pages, slab)
    pages.s_mem[slab] = start + colour_off
    pages.inuse[slab] = 0
    if cache.flags & CFLGS_OBJFREELIST_SLAB:
        return 0
    if cache.flags & CFLGS_OFF_SLAB:
        return kmalloc(cache.common, cache.freelist_size, gfp, nodeid)
    return start + (PAGE_SIZE << cache.gfporder) - cache.freelist_size


@kernel("mm/slab.c", "cache_init_objs", left_out="CONFIG_SLAB_FREELIST_RANDOM: objects are handed out as they lie")
def cache_init_objs(cache: SlabCache, slab: int) -> None:
    """Construct the objects of a new slab, and write its freelist: 0, 1, 2, …"""
    pages, num = cache.pages, cache.num
    watched = cache.state.debug
    for idx in range(num) if watched or cache.ctor else ():
        objp = index_to_obj(cache, slab, idx)
        if watched:
            debug.init_obj_debug(cache, objp)
        # What is poisoned while it is free is constructed when it is handed out.
        if cache.ctor and not cache.flags & SLAB_POISON:
            construct(cache, objp + cache.obj_offset)
        if watched:
            debug.check_constructed(cache, objp)
    if cache.flags & CFLGS_OBJFREELIST_SLAB:
        pages.freelist[slab] = index_to_obj(cache, slab, num - 1) + cache.obj_offset
    write_memory(pages, pages.freelist[slab], bytes(range(num)))


@kernel("mm/slab.c", "cache_grow_begin", formerly=("cache_grow",))
def cache_grow_begin(cache: SlabCache, gfp: int, nodeid: int) -> int | None:
    """A new slab that is on no list yet; None if there is no memory for it."""
    pages, nodes = cache.pages, cache.state.nodes
    local_flags = kmalloc_fix_flags(cache.common, gfp) & (gfp_bits.GFP_CONSTRAINT_MASK | gfp_bits.GFP_RECLAIM_MASK)
    slab = kmem_getpages(cache, local_flags, nodeid)
    if slab is None:
        return None
    slab_node = slab_nid(pages, slab)
    colour = next_colour(cache, get_node(cache, slab_node))
    mgmt_flags = local_flags & ~gfp_bits.GFP_CONSTRAINT_MASK
    freelist = alloc_slabmgmt(cache, slab, colour * cache.colour_off, mgmt_flags, slab_node)
    if freelist is None:
        kmem_freepages(cache, slab)
        return None
    for pfn in range(slab, slab + (1 << cache.gfporder)):
        pages.slab_cache[pfn] = cache.number
    pages.freelist[slab] = freelist
    cache_init_objs(cache, slab)
    assert nodes.address[get_node(cache, slab_node)], "a slab of a node that the cache knows nothing of"
    return slab


@invented("the lines of cache_grow_begin on colours", traced=False)
def next_colour(cache: SlabCache, n: int) -> int:
    """The colour of a node's next slab: one more than the last one's, and after the last colour the first."""
    nodes = cache.state.nodes
    colour = nodes.colour_next[n] + 1
    if colour >= cache.colour:
        colour = 0
    nodes.colour_next[n] = colour
    return colour


@kernel("mm/slab.c", "cache_grow_end", lock="n->list_lock")
def cache_grow_end(cache: SlabCache, slab: int | None) -> None:
    """Put a new slab on the list where it belongs; some of its objects may be taken already."""
    if slab is None:
        return
    pages, nodes = cache.pages, cache.state.nodes
    nid = slab_nid(pages, slab)
    n = get_node(cache, nid)
    nodes.total_slabs[n] += 1
    active = pages.inuse[slab]
    if active:
        put_slab_where_it_belongs(cache, nid, slab)
    else:
        list_add_tail(pages.slab_list, slab, pages.list_head(cache.number, nid, SLABS_FREE))
        nodes.free_slabs[n] += 1
    nodes.free_objects[n] += cache.num - active


@kernel("mm/slab.c", "fixup_slab_list", lock="n->list_lock", traced=False)
def fixup_slab_list(cache: SlabCache, nid: int, slab: int) -> None:
    """Move a slab that gave objects to the list where it belongs now."""
    list_del(cache.pages.slab_list, slab)
    put_slab_where_it_belongs(cache, nid, slab)


@invented("the second half of fixup_slab_list: our new slabs are on no list, C's on one of their own", traced=False)
def put_slab_where_it_belongs(cache: SlabCache, nid: int, slab: int) -> None:
    """Full slabs to slabs_full, others to the head of slabs_partial: they will be asked next."""
    pages = cache.pages
    if pages.inuse[slab] < cache.num:
        list_add(pages.slab_list, slab, pages.list_head(cache.number, nid, SLABS_PARTIAL))
        return
    list_add(pages.slab_list, slab, pages.list_head(cache.number, nid, SLABS_FULL))
    if cache.flags & CFLGS_OBJFREELIST_SLAB:
        carrier, pages.freelist[slab] = pages.freelist[slab], 0
        # The object that carried the list was taken last. What the list left in it must not look like corruption.
        if cache.flags & SLAB_POISON:
            debug.poison_obj(cache, carrier - cache.obj_offset, POISON_FREE)


@kernel("mm/slab.c", "slab_destroy", left_out="RCU: pages go back at once")
def slab_destroy(cache: SlabCache, slab: int) -> None:
    """Give a slab without any object taken back to the page allocator."""
    pages = cache.pages
    freelist = pages.freelist[slab]
    if cache.state.debug:
        slab_destroy_debugcheck(cache, slab)
    kmem_freepages(cache, slab)
    if cache.flags & CFLGS_OFF_SLAB:
        kfree(cache.common, freelist)


@kernel("mm/slab.c", "slab_destroy_debugcheck")
def slab_destroy_debugcheck(cache: SlabCache, slab: int) -> None:
    """Look once more at every object of a slab that is given back."""
    if cache.flags & CFLGS_OBJFREELIST_SLAB and cache.flags & SLAB_POISON:
        debug.poison_obj(cache, cache.pages.freelist[slab] - cache.obj_offset, POISON_FREE)
    for idx in range(cache.num):
        objp = index_to_obj(cache, slab, idx)
        if cache.flags & SLAB_POISON:
            debug.check_poison_obj(cache, objp, neighbours(cache, slab, idx))
        if cache.flags & SLAB_RED_ZONE:
            what = "{} of a freed object was overwritten"
            debug.check_red_zones(cache, objp, "slab_destroy_debugcheck", (what.format("start"), what.format("end")))


@invented("the end of check_poison_obj", traced=False)
def neighbours(cache: SlabCache, slab: int, idx: int) -> tuple[int | None, int | None]:
    """The slots before and behind one in its slab."""
    before = index_to_obj(cache, slab, idx - 1) if idx else None
    return before, index_to_obj(cache, slab, idx + 1) if idx + 1 < cache.num else None


@kernel("mm/slab.c", "slabs_destroy")
def slabs_destroy(cache: SlabCache, slabs: Iterable[int]) -> None:
    """Give back slabs that are on no list any more."""
    for slab in slabs:
        slab_destroy(cache, slab)
