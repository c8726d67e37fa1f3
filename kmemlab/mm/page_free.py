"""The way back of a block: from whoever held it to the lists of this CPU, or to the buddy.

__free_pages ──▶ free_the_page ┬▶ free_unref_page ──▶ free_unref_page_commit    orders that have per-CPU lists
                               └▶ __free_pages_ok ──▶ __free_one_page           the others
"""

from __future__ import annotations

from collections.abc import Sequence

from kmemlab.mm.buddy import FPI_NONE, free_one_page
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import page_cache_release
from kmemlab.mm.mem_map import page_zone_id
from kmemlab.mm.page_poison import treat_free_pages
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.pcp import free_unref_page_commit
from kmemlab.mm.per_cpu_pages import pcp_allowed_order
from kmemlab.mm.vm_event import PGFREE
from kmemlab.mm.wrong_free import wrong_free
from kmemlab.mm.zone import NR_OWNED, Zone, get_pageblock_migratetype
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES
from kmemlab.types.pageflags import PG_head


@kernel("include/linux/mm.h", "page_zone", traced=False)
def page_zone(mm: Mm, pfn: int) -> Zone | None:
    """The zone that a page frame belongs to, or None where there is no memory map."""
    page = mm.page
    return mm.zone_table[page_zone_id(page, pfn)] if 0 <= pfn < page.max_pfn else None


@invented("C trusts its callers", traced=False)
def held_zone(mm: Mm, pfn: int, order: int) -> Zone:
    """The zone of a block that somebody holds with this order.

    Raises `BadRequest` for a block that was never handed out or has another order, `DoubleFree` for one that is free.
    """
    page = mm.page
    if not 0 <= pfn < page.max_pfn or page.owned[pfn] != 1 + order:
        raise wrong_free(page, page_zone(mm, pfn), pfn, order)
    zone = mm.zone_table[page_zone_id(page, pfn)]
    assert zone is not None, "what is held lies in a zone"
    return zone


@kernel("mm/page_alloc.c", "free_pages_prepare", left_out="memcg, page_owner, KASAN")
def free_pages_prepare(mm: Mm, zone: Zone, pfn: int, order: int) -> None:
    """From now on nobody holds the block: its flags are gone, and perhaps its contents."""
    page, nr_pages = zone.page, 1 << order
    page.refcount[pfn] = page.owned[pfn] = page.flags[pfn] = 0
    zone.cells[NR_OWNED] -= nr_pages
    treat_free_pages(mm, pfn, nr_pages)


@kernel("mm/page_alloc.c", "free_unref_page", left_out="finding the lists locked: then C gives the page to the buddy")
def free_unref_page(mm: Mm, zone: Zone, pfn: int, order: int) -> None:
    """Put a block on this CPU's list of its pageblock's type; the page remembers that type until it leaves the list.

    Urgent requests' reserve goes among the movable pages there, and an isolated pageblock's pages to the buddy at once.
    """
    page = zone.page
    page.index[pfn] = migratetype = get_pageblock_migratetype(page, pfn)
    if migratetype >= MIGRATE_PCPTYPES:
        if migratetype == MIGRATE_ISOLATE:
            free_one_page(zone, pfn, order, migratetype)
            return
        migratetype = MIGRATE_MOVABLE
    free_unref_page_commit(mm, zone, pfn, migratetype, order)


@kernel("mm/page_alloc.c", "__free_pages_ok")
def free_pages_ok(mm: Mm, zone: Zone, pfn: int, order: int, fpi_flags: int) -> None:
    """Give a block back to the buddy, on the list of its pageblock's type."""
    mm.vm_event[PGFREE] += 1 << order
    free_one_page(zone, pfn, order, get_pageblock_migratetype(zone.page, pfn), fpi_flags)


@kernel("mm/page_alloc.c", "free_the_page")
def free_the_page(mm: Mm, zone: Zone, pfn: int, order: int) -> None:
    """Give a block back that nobody refers to any more."""
    if pcp_allowed_order(zone.per_cpu_pageset, order):
        free_unref_page(mm, zone, pfn, order)
    else:
        free_pages_ok(mm, zone, pfn, order, FPI_NONE)


@kernel("mm/page_alloc.c", "__free_pages")
def free_pages_inner(mm: Mm, pfn: int, order: int) -> None:
    """Drop a reference on a block; if it was the last, the block is free again.

    If somebody else still refers to its first page, only the other pages are freed, unless all are one large page.
    """
    zone = held_zone(mm, pfn, order)
    if mm.page.refcount[pfn] > 1:
        free_unshared_pages(mm, zone, pfn, order)
    else:
        free_pages_prepare(mm, zone, pfn, order)
        free_the_page(mm, zone, pfn, order)


@invented("the second half of __free_pages", traced=False)
def free_unshared_pages(mm: Mm, zone: Zone, pfn: int, order: int) -> None:
    """Drop one of several references on a block; the pages behind its first one go, if they are pages of their own."""
    page = zone.page
    page.refcount[pfn] -= 1
    if page_has_flag(page, pfn, PG_head):
        return
    page.owned[pfn] = 1  # what is left of the block; who drops the last reference frees it
    zone.cells[NR_OWNED] -= (1 << order) - 1
    while order > 0:
        order -= 1
        treat_free_pages(mm, pfn + (1 << order), 1 << order)
        free_the_page(mm, zone, pfn + (1 << order), order)


@kernel("include/linux/mm.h", "put_page", left_out="pages of devices; large pages by one of their parts")
def put_page(mm: Mm, pfn: int) -> None:
    """Drop a reference on a page, large or not; the last one takes it off its LRU list and frees it.

    Raises as `free_pages_inner` does.
    """
    if mm.page.owned[pfn] and mm.page.refcount[pfn] > 1:
        mm.page.refcount[pfn] -= 1
    else:
        if 0 <= pfn < mm.page.max_pfn:
            page_cache_release(mm, pfn)
        free_pages_inner(mm, pfn, max(mm.page.owned[pfn] - 1, 0))


@kernel(
    "mm/swap.c", "release_pages", left_out="pages of devices; large pages wait for nobody, but are freed one by one"
)
def release_pages(mm: Mm, pfns: Sequence[int]) -> None:
    """Drop a reference on each of many pages; those that nobody refers to any more go together, the last one first."""
    page, to_free = mm.page, []
    for pfn in pfns:
        if page.refcount[pfn] == 1 and page.owned[pfn] == 1:
            page_cache_release(mm, pfn)
            to_free.append(pfn)
        else:
            put_page(mm, pfn)
    free_unref_page_list(mm, to_free[::-1])


@kernel("mm/page_alloc.c", "free_unref_page_list", left_out="letting go of the lists' lock after each 32 pages")
def free_unref_page_list(mm: Mm, pfns: Sequence[int]) -> None:
    """Free many single pages that nobody refers to any more: all are made ready first, then they go on the lists."""
    zones = []
    for pfn in pfns:
        zone = held_zone(mm, pfn, 0)
        free_pages_prepare(mm, zone, pfn, 0)
        zones.append(zone)
    for zone, pfn in zip(zones, pfns, strict=True):
        free_unref_page(mm, zone, pfn, 0)
