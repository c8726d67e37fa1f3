"""Slabs of SLUB come and go: a block of pages is cut into objects, chained, counted, and given back."""

from __future__ import annotations

from kmemlab.alloc.mempolicy import policy_alloc
from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.slab_common import account_slab, construct, kmalloc_fix_flags
from kmemlab.alloc.slab_pages import PG_SLAB_MASK, prep_compound_page, slab_nid, slab_order
from kmemlab.alloc.slub_debug import check_before_discard, setup_object_debug, setup_slab_debug
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.alloc.slub_freelist import objects_in_order, set_freepointer
from kmemlab.sim.kernel import kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.config import NUMA_NO_NODE


@kernel("mm/slub.c", "alloc_slab_page", left_out="pages from the emergency reserve are not kept apart")
def alloc_slab_page(cache: SlubCache, gfp: int, node: int, order: int) -> int | None:
    """Take a block of pages for a slab, each of which knows the first one and has contents from now on."""
    pages, mm = cache.pages, cache.common.mm
    if node == NUMA_NO_NODE:
        slab = policy_alloc(mm, gfp, order, alloc_pages_inner)
    else:
        slab = alloc_pages_inner(mm, gfp, order, node)
    if slab is None:
        return None
    prep_compound_page(pages, slab, order)
    pages.page.flags[slab] |= PG_SLAB_MASK
    for pfn in range(slab, slab + (1 << order)):
        pages.ram.place_of(pfn)
    return slab


@kernel("mm/slub.c", "allocate_slab")
def allocate_slab(cache: SlubCache, gfp: int, node: int) -> int | None:
    """Make a slab with all its objects free and chained; None if there are no pages."""
    pages = cache.pages
    order, objects = cache.order, cache.objects
    gfp |= cache.allocflags
    # The first try, for the order that is best, must not cost much: a lower one will do.
    cheap = (gfp | gfp_bits.__GFP_NOWARN | gfp_bits.__GFP_NORETRY) & ~gfp_bits.__GFP_NOFAIL
    if cheap & gfp_bits.__GFP_DIRECT_RECLAIM and order > cache.min_order:
        cheap = (cheap | gfp_bits.__GFP_NOMEMALLOC) & ~gfp_bits.__GFP_RECLAIM
    slab = alloc_slab_page(cache, cheap, node, order)
    if slab is None:
        order = cache.min_order
        objects = (4096 << order) // cache.size
        slab = alloc_slab_page(cache, gfp, node, order)
        if slab is None:
            return None
    pages.objects[slab], pages.inuse[slab], pages.frozen[slab] = objects, 0, 0
    account_slab(cache, slab, order, 1)
    for pfn in range(slab, slab + (1 << order)):
        pages.slab_cache[pfn] = cache.number
    setup_slab_debug(cache, slab)
    chain_objects(cache, slab)
    return slab


@kernel("mm/slub.c", "setup_object", traced=False)
def setup_object(cache: SlubCache, obj: int) -> None:
    """Prepare an object of a new slab: what debugging writes, then what the constructor does."""
    setup_object_debug(cache, obj)
    if cache.ctor:
        construct(cache, obj)


@kernel("mm/slub.c", "shuffle_freelist")
def chain_objects(cache: SlubCache, slab: int) -> None:
    """Chain all objects of a new slab to its freelist."""
    last = 0
    for obj in objects_in_order(cache, slab):
        setup_object(cache, obj)
        if last:
            set_freepointer(cache, last, obj)
        else:
            cache.pages.freelist[slab] = obj
        last = obj
    set_freepointer(cache, last, 0)


@kernel("mm/slub.c", "new_slab")
def new_slab(cache: SlubCache, gfp: int, node: int) -> int | None:
    """Make a slab for a request: only those of its flags count that the page allocator may hear."""
    gfp = kmalloc_fix_flags(cache.common, gfp)
    return allocate_slab(cache, gfp & (gfp_bits.GFP_RECLAIM_MASK | gfp_bits.GFP_CONSTRAINT_MASK), node)


@kernel("mm/slub.c", "inc_slabs_node", traced=False)
def inc_slabs_node(cache: SlubCache, nid: int, objects: int) -> None:
    """A slab more on a node."""
    cache.per_node.nr_slabs[cache.node + nid] += 1
    cache.per_node.total_objects[cache.node + nid] += objects


@kernel("mm/slub.c", "dec_slabs_node", traced=False)
def dec_slabs_node(cache: SlubCache, nid: int, objects: int) -> None:
    """A slab less on a node."""
    cache.per_node.nr_slabs[cache.node + nid] -= 1
    cache.per_node.total_objects[cache.node + nid] -= objects


@kernel("mm/slub.c", "__free_slab", left_out="waiting for readers (SLAB_TYPESAFE_BY_RCU): nobody reads in between")
def free_slab(cache: SlubCache, slab: int) -> None:
    """Give the pages of a slab back."""
    pages = cache.pages
    order = slab_order(pages, slab)
    check_before_discard(cache, slab)
    pages.page.flags[slab] &= ~PG_SLAB_MASK
    for pfn in range(slab, slab + (1 << order)):
        pages.slab_cache[pfn] = 0
        pages.compound_head[pfn] = 0
    account_slab(cache, slab, order, -1)
    pages.freelist[slab] = pages.objects[slab] = pages.inuse[slab] = pages.frozen[slab] = 0
    free_pages_inner(cache.common.mm, slab, order)


@kernel("mm/slub.c", "discard_slab", traced=False)
def discard_slab(cache: SlubCache, slab: int) -> None:
    """A slab without objects in use is not needed any more."""
    pages = cache.pages
    dec_slabs_node(cache, slab_nid(pages, slab), pages.objects[slab])
    free_slab(cache, slab)
