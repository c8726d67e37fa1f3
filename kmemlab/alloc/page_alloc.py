"""The page allocator's way from a request to a block, and back.

alloc_pages ──▶ __alloc_pages ──▶ get_page_from_freelist     zone after zone of the node's zonelist:
                                    zone_watermark_fast        may it give?
                                    rmqueue ──▶ __rmqueue      take a block (mm/fallback.py, mm/buddy.py)
free_pages ───▶ __free_pages ──▶ free_pages_prepare          is this a block that somebody holds?
                                 __free_pages_ok ──▶ __free_one_page (mm/buddy.py)
"""

from __future__ import annotations

from kmemlab.alloc.wrong_free import wrong_free
from kmemlab.mm.buddy import FPI_NONE, free_one_page
from kmemlab.mm.fallback import rmqueue_inner
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER, page_zone_id
from kmemlab.mm.node import ZONELIST_FALLBACK, ZONELIST_NOFALLBACK
from kmemlab.mm.zone import NR_FREE_PAGES, Zone, get_pageblock_migratetype
from kmemlab.mm.zone_watermark_ok import (
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MASK,
    ALLOC_WMARK_MIN,
    wmark_pages,
    zone_watermark_fast,
)
from kmemlab.sim.kernel import kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import gfp_migratetype_bits, gfp_zone_name
from kmemlab.types.migratetype import MIGRATE_UNMOVABLE
from kmemlab.types.zone_type import MAX_NR_ZONES


@kernel("include/linux/gfp.h", "gfp_zone", traced=False)
def gfp_zone(mm: Mm, gfp: int) -> int:
    """The highest zone that a request may use; it may also be met from any zone below."""
    names = mm.boot.config.zone_names
    wanted = gfp_zone_name(gfp)
    return names.index(wanted if wanted in names else "Normal")


@kernel("include/linux/gfp.h", "gfp_migratetype", traced=False)
def gfp_migratetype(mm: Mm, gfp: int) -> int:
    """The mobility type of a request; on a machine too small for grouping everything is unmovable."""
    return MIGRATE_UNMOVABLE if mm.page_group_by_mobility_disabled else gfp_migratetype_bits(gfp)


@kernel("include/linux/mm.h", "page_zone", traced=False)
def page_zone(mm: Mm, pfn: int) -> Zone | None:
    """The zone that a page frame belongs to, or None where there is no memory map."""
    page = mm.page
    if not 0 <= pfn < page.max_pfn:
        return None
    slot = page_zone_id(page, pfn) - 1
    return mm.node_data[slot // MAX_NR_ZONES].node_zones[slot % MAX_NR_ZONES] if slot >= 0 else None


@kernel("mm/page_alloc.c", "rmqueue", left_out="per-CPU lists: every block comes from the buddy", lock="zone->lock")
def rmqueue(mm: Mm, zone: Zone, order: int, migratetype: int) -> int | None:
    """Take a block from the zone's free lists and count it as no longer free."""
    pfn = rmqueue_inner(zone, order, migratetype, mm.page_group_by_mobility_disabled)
    if pfn is not None:
        zone.vm_stat[NR_FREE_PAGES] -= 1 << order
    return pfn


@kernel(
    "mm/page_alloc.c",
    "get_page_from_freelist",
    left_out="cpusets, dirty limits, ALLOC_NOFRAGMENT, deferred zones, node_reclaim",
)
def get_page_from_freelist(mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int) -> int | None:
    """The first zone of the node's zonelist that may give and has a large enough block gives it."""
    kind = ZONELIST_NOFALLBACK if gfp & gfp_bits.__GFP_THISNODE else ZONELIST_FALLBACK
    zonelist = mm.node_data[nid].node_zonelists[kind]
    highest = gfp_zone(mm, gfp)
    migratetype = gfp_migratetype(mm, gfp)
    for entry in range(zonelist.count):
        if zonelist.zone_idx[entry] > highest:
            continue
        zone = mm.node_data[zonelist.nid[entry]].node_zones[zonelist.zone_idx[entry]]
        if not zone_watermark_fast(
            zone, order, wmark_pages(zone, alloc_flags & ALLOC_WMARK_MASK), highest, alloc_flags
        ):
            continue
        pfn = rmqueue(mm, zone, order, migratetype)
        if pfn is not None:
            prep_new_page(zone, pfn, order)
            return pfn
    return None


@kernel("mm/page_alloc.c", "prep_new_page", left_out="zeroing, poisoning, compound pages")
def prep_new_page(zone: Zone, pfn: int, order: int) -> None:
    """Hand a block to its new owner with one reference on its first page."""
    page = zone.page
    page.refcount[pfn] = 1
    page.owned[pfn] = 1 + order
    zone.nr_owned += 1 << order


@kernel("mm/page_alloc.c", "gfp_to_alloc_flags", left_out="cpusets, real-time tasks, the high-atomic reserve")
def gfp_to_alloc_flags(gfp: int) -> int:
    """How deep the slow path may go: to MIN, and below it for urgent requests and for those that can't sleep."""
    flags = ALLOC_WMARK_MIN
    if gfp & gfp_bits.__GFP_HIGH:
        flags |= ALLOC_MIN_RESERVE
    if not gfp & gfp_bits.__GFP_DIRECT_RECLAIM and not gfp & gfp_bits.__GFP_NOMEMALLOC:
        flags |= ALLOC_NON_BLOCK
    return flags


@kernel(
    "mm/page_alloc.c", "__alloc_pages_slowpath", left_out="kswapd, compaction, direct reclaim, OOM: it only goes to MIN"
)
def alloc_pages_slowpath(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
    """What is tried when no zone is above its low watermark."""
    return get_page_from_freelist(mm, gfp, order, gfp_to_alloc_flags(gfp), nid)


@kernel("mm/page_alloc.c", "__alloc_pages", left_out="memory policies, memcg charging, the error of a failing order")
def alloc_pages_inner(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
    """A block of 2**order pages as near to node `nid` as it can be had, or None.

    Raises `BadRequest` for an order that the buddy system does not have.
    """
    if not 0 <= order < MAX_ORDER:
        raise BadRequest(
            f"order {order} can't be allocated",
            where=f"alloc_pages(gfp={gfp:#x}, order={order})",
            remedy=f"choose an order from 0 (one page) to {MAX_ORDER - 1} ({1 << MAX_ORDER - 1} pages, 4 MiB)",
        )
    pfn = get_page_from_freelist(mm, gfp, order, ALLOC_WMARK_LOW, nid)
    return alloc_pages_slowpath(mm, gfp, order, nid) if pfn is None else pfn


@kernel("mm/page_alloc.c", "free_pages_prepare", left_out="memcg, poisoning, page_owner")
def free_pages_prepare(mm: Mm, pfn: int, order: int) -> Zone:
    """Check that the block is one that somebody holds, of this order; returns its zone.

    Raises `BadRequest` for a block that was never handed out or has another order, `DoubleFree` for one that is free.
    """
    zone = page_zone(mm, pfn)
    if zone is None or zone.page.owned[pfn] != 1 + order:
        raise wrong_free(mm.page, zone, pfn, order)
    return zone


@kernel("mm/page_alloc.c", "__free_pages_ok", left_out="per-CPU lists, the PGFREE counter")
def free_pages_ok(zone: Zone, pfn: int, order: int, fpi_flags: int) -> None:
    """Give a block back to the buddy, on the list of its pageblock's type."""
    page = zone.page
    page.refcount[pfn] = 0
    page.owned[pfn] = 0
    zone.nr_owned -= 1 << order
    free_one_page(zone, pfn, order, get_pageblock_migratetype(page, pfn), fpi_flags)


@kernel("mm/page_alloc.c", "__free_pages", left_out="compound pages, a reference that somebody else still holds")
def free_pages_inner(mm: Mm, pfn: int, order: int) -> None:
    """Drop the reference on a block; it was the last, so the block is free again."""
    free_pages_ok(free_pages_prepare(mm, pfn, order), pfn, order, FPI_NONE)
