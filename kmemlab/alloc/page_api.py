"""What kernel code calls to get pages: by page frame, or by the address at which the kernel sees them.

alloc_pages, alloc_page            a page frame            __free_pages
__get_free_pages, get_zeroed_page  an address              free_pages, free_page
alloc_pages_exact                  an address, any size    free_pages_exact
alloc_pages_bulk                   many single pages       free_unref_page_list
"""

from __future__ import annotations

from kmemlab.alloc.freelist import gfp_migratetype, gfp_zone, node_zonelist, zone_statistics
from kmemlab.alloc.mempolicy import AllocPages, policy_alloc
from kmemlab.alloc.page_address import lowmem_page_address
from kmemlab.alloc.page_alloc import alloc_pages_inner, current_gfp_context, might_alloc
from kmemlab.alloc.prep_page import prep_new_page, split_page
from kmemlab.boot.address_space import pa
from kmemlab.mm.buddy import FPI_TO_TAIL
from kmemlab.mm.context import CPU
from kmemlab.mm.globals import GFP_ALLOWED_MASK, Mm
from kmemlab.mm.page_free import free_pages_inner, free_pages_ok, free_pages_prepare, held_zone, page_zone
from kmemlab.mm.pcp import rmqueue_pcplist_inner
from kmemlab.mm.per_cpu_pages import pcp_list
from kmemlab.mm.vm_event import PGALLOC
from kmemlab.mm.zone import WMARK_LOW, Zone
from kmemlab.mm.zone_watermark_ok import ALLOC_WMARK_LOW, wmark_pages, zone_watermark_fast
from kmemlab.mm.zonelist import for_each_zone_zonelist
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import __GFP_COMP, __GFP_HIGHMEM, __GFP_ZERO
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, get_order, round_up


@kernel("mm/mempolicy.c", "alloc_pages", left_out="policies other than the local one and boot's interleave")
def alloc_pages(mm: Mm, gfp: int, order: int) -> int | None:
    """A block of 2**order pages, as near to the running CPU as can be; its first page frame, or None."""
    return policy_alloc(mm, gfp, order, alloc_pages_inner)


@kernel("include/linux/gfp.h", "alloc_page")
def alloc_page(mm: Mm, gfp: int) -> int | None:
    """A single page, or None."""
    return alloc_pages(mm, gfp, 0)


@kernel("mm/page_alloc.c", "__get_free_pages", formerly=("get_free_pages",))
def get_free_pages(mm: Mm, gfp: int, order: int) -> int:
    """A block that the kernel sees at all times, so not of HighMem; its address, or 0."""
    pfn = alloc_pages(mm, gfp & ~__GFP_HIGHMEM, order)
    return 0 if pfn is None else lowmem_page_address(mm, pfn)


@kernel("mm/page_alloc.c", "get_zeroed_page")
def get_zeroed_page(mm: Mm, gfp: int) -> int:
    """The address of a single page full of zeros, or 0."""
    return get_free_pages(mm, gfp | __GFP_ZERO, 0)


@kernel("arch/x86/include/asm/page.h", "virt_to_page", left_out="addresses of vmalloc: C gives nonsense for them")
def virt_to_page(mm: Mm, addr: int) -> int:
    """The page frame behind an address of the direct map. Raises `BadRequest` for another address."""
    pfn = pa(mm.boot, addr) >> PAGE_SHIFT
    if page_zone(mm, pfn) is None:
        raise BadRequest(
            f"{addr:#x} is the address of no page", where="virt_to_page", remedy="give what __get_free_pages returned"
        )
    return pfn


@kernel("mm/page_alloc.c", "free_pages")
def free_pages(mm: Mm, addr: int, order: int) -> None:
    """Drop a reference on the block at an address; 0 is no block, and freeing it does nothing."""
    if addr:
        free_pages_inner(mm, virt_to_page(mm, addr), order)


@kernel("include/linux/gfp.h", "free_page")
def free_page(mm: Mm, addr: int) -> None:
    """Drop a reference on the page at an address."""
    free_pages(mm, addr, 0)


@kernel("mm/page_alloc.c", "alloc_pages_exact", formerly=("make_alloc_exact",))
def alloc_pages_exact(mm: Mm, size: int, gfp: int) -> int:
    """As many pages in a row as hold `size` bytes and not more: the rest of the block is freed at once. 0: none."""
    order = get_order(size)
    addr = get_free_pages(mm, gfp & ~__GFP_COMP, order)
    if addr:
        pfn = virt_to_page(mm, addr)
        split_page(mm.page, pfn, order)
        zone = held_zone(mm, pfn, 0)
        for surplus in range(pfn + (round_up(size, PAGE_SIZE) >> PAGE_SHIFT), pfn + (1 << order)):
            free_pages_prepare(mm, zone, surplus, 0)
            free_pages_ok(mm, zone, surplus, 0, FPI_TO_TAIL)  # not soon used again: its buddies may come, too
    return addr


@kernel("mm/page_alloc.c", "free_pages_exact")
def free_pages_exact(mm: Mm, addr: int, size: int) -> None:
    """Free what `alloc_pages_exact` gave, page by page."""
    for page in range(addr, addr + round_up(size, PAGE_SIZE), PAGE_SIZE):
        free_page(mm, page)


@invented("the first half of __alloc_pages_bulk", traced=False)
def zone_for_bulk(mm: Mm, gfp: int, nid: int, nr_pages: int, alloc_flags: int) -> Zone | None:
    """The zone of the nearest node that stays above LOW if it gives `nr_pages`; None if none does."""
    preferred = None
    for zone in for_each_zone_zonelist(mm, node_zonelist(mm, nid, gfp), gfp_zone(mm, gfp)):
        preferred = preferred or zone
        if zone.node != preferred.node:
            return None
        mark = wmark_pages(zone, WMARK_LOW) + nr_pages
        if zone_watermark_fast(zone, 0, mark, preferred.index, alloc_flags, gfp):
            return zone
    return None


@invented("the loop of __alloc_pages_bulk", traced=False)
def take_in_bulk(mm: Mm, zone: Zone, nr_pages: int, gfp: int) -> list[int]:
    """Up to `nr_pages` pages of one list of this CPU, which is found once; fewer if the zone has no more."""
    cpu, migratetype = mm.current.cells[CPU], gfp_migratetype(mm, gfp)
    head = pcp_list(zone.per_cpu_pageset, cpu, migratetype, 0)
    pages: list[int] = []
    for _ in range(nr_pages):
        pfn = rmqueue_pcplist_inner(mm, zone, 0, migratetype, ALLOC_WMARK_LOW, cpu, head)
        if pfn is None:
            break
        prep_new_page(mm, zone, pfn, 0, gfp)
        pages.append(pfn)
    return pages


@kernel("mm/page_alloc.c", "__alloc_pages_bulk", left_out="arrays that are filled in part; memcg, page_owner")
def alloc_pages_bulk(mm: Mm, gfp: int, nid: int, nr_pages: int, alloc: AllocPages = alloc_pages_inner) -> list[int]:
    """Up to `nr_pages` single pages, all of one zone and straight from this CPU's list; one at least, if there is any.

    Where no zone of the node has so many to spare, a single page is taken in the usual way, by `alloc`.
    """
    gfp = current_gfp_context(mm.current, gfp & mm.cells[GFP_ALLOWED_MASK])
    might_alloc(mm.current, gfp)
    zone = zone_for_bulk(mm, gfp, nid, nr_pages, ALLOC_WMARK_LOW) if nr_pages > 1 else None
    pages = [] if zone is None else take_in_bulk(mm, zone, nr_pages, gfp)
    if zone is not None and pages:
        mm.vm_event[PGALLOC + zone.index] += len(pages)
        if mm.has_numa:
            zone_statistics(mm, zone, zone, len(pages))
    elif nr_pages > 0:
        single = alloc(mm, gfp, 0, nid)
        pages = [] if single is None else [single]
    return pages
