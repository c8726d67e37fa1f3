"""The laws of all caches together: whose each page is, and that no page of a slab is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.slab_pages import PG_SLAB_MASK, slab_order
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.vmstat import NR_SLAB_RECLAIMABLE, NR_SLAB_UNRECLAIMABLE
from kmemlab.sim.kernel import invented


@invented("a law is code beside the structure it speaks of", traced=False)
def check_slab(common: SlabCommon) -> None:
    """Every object of every cache is free or held exactly once; every page of a slab belongs to one cache.

    Raises `BrokenLaw` that names the first law that does not hold.
    """
    by_cache = slabs_by_cache(common)
    existing = {cache.number for cache in common.existing()}
    for number, slabs in by_cache.items():
        if number not in existing:
            broken(f"slab {slabs[0]} says it is of cache {number}, which does not exist")
    for cache in common.existing():
        cache.engine.check_cache(cache, by_cache.get(cache.number, ()))
        check_struct(common, cache.number)
    check_pages(common, by_cache)


@invented("C has no list of all slabs", traced=False)
def slabs_by_cache(common: SlabCommon) -> Mapping[int, tuple[int, ...]]:
    """The slabs of each cache, by the pages that say so. Every slab's pages have contents: others need no look."""
    pages = common.pages
    found: dict[int, list[int]] = {}
    for pfn in pages.ram.frames():
        marked, number = pages.page.flags[pfn] & PG_SLAB_MASK, pages.slab_cache[pfn]
        if marked and not number:
            broken(f"page {pfn} is marked as a slab's, but is of no cache")
        if number and not pages.page.flags[pfn - pages.compound_head[pfn]] & PG_SLAB_MASK:
            broken(f"page {pfn} says it is of cache {number}, but is not marked as a slab's")
        if marked:
            found.setdefault(number, []).append(pfn)
    return {number: tuple(slabs) for number, slabs in found.items()}


@invented("a cache is an object itself", traced=False)
def check_struct(common: SlabCommon, number: int) -> None:
    """The struct of a cache is an object of kmem_cache that is not free."""
    cache, owner = common.caches[number], common.caches[common.kmem_cache]
    engine = common.engine
    if cache is owner and engine.name == "SLAB":
        return  # SLAB leaves the cache of caches in the kernel's image
    if engine.find_object(owner, cache.address) != cache.address or engine.object_is_free(owner, cache.address):
        broken(f"the struct of cache {cache.name} at {cache.address:#x} is no object of kmem_cache that somebody holds")


@invented("conservation of pages", traced=False)
def check_pages(common: SlabCommon, by_cache: Mapping[int, tuple[int, ...]]) -> None:
    """The nodes' counters are the pages of slabs and of large kmallocs, and the page allocator agrees."""
    pages = common.pages
    slabs = [slab for slabs in by_cache.values() for slab in slabs]
    for slab in slabs:
        if slab_order(pages, slab) < 0:
            broken(f"slab {slab} is in use, but its pages are free")
    held = sum(1 << slab_order(pages, slab) for slab in slabs) + common.nr_large_pages
    items = NR_SLAB_RECLAIMABLE, NR_SLAB_UNRECLAIMABLE
    counted = sum(pgdat.vm_stat[item] for pgdat in common.mm.node_data for item in items)
    if counted != held:
        broken(
            f"nr_slab_reclaimable + nr_slab_unreclaimable is {counted}, but {held} pages are slabs or large kmallocs"
        )


@invented("the error of a broken law", traced=False)
def broken(law: str) -> NoReturn:
    """Raise `BrokenLaw`."""
    raise BrokenLaw(law, where="check_slab")
