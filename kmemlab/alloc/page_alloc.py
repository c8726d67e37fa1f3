"""The page allocator's way from a request to a block.

alloc_pages ──▶ __alloc_pages ──▶ get_page_from_freelist     zone after zone of the node's zonelist:
                                    zone_watermark_fast        may it give?
                                    rmqueue ┬▶ rmqueue_pcplist   take a block of this CPU's lists (mm/pcp.py)
                                            └▶ rmqueue_buddy     or from the buddy (mm/fallback.py, mm/buddy.py)
"""

from __future__ import annotations

from kmemlab.alloc.page_free import free_pages_inner, page_zone
from kmemlab.mm.fallback import rmqueue_inner
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.node import ZONELIST_FALLBACK, ZONELIST_NOFALLBACK
from kmemlab.mm.pcp import rmqueue_pcplist_inner
from kmemlab.mm.per_cpu_pages import pcp_allowed_order
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
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

__all__ = ["alloc_pages_inner", "free_pages_inner", "page_zone"]


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


@kernel("mm/page_alloc.c", "rmqueue_buddy", lock="zone->lock")
def rmqueue_buddy(mm: Mm, zone: Zone, order: int, alloc_flags: int, migratetype: int) -> int | None:
    """Take a block from the zone's free lists and count it as no longer free."""
    pfn = rmqueue_inner(mm, zone, order, migratetype, alloc_flags)
    if pfn is not None:
        zone.vm_stat[NR_FREE_PAGES] -= 1 << order
    return pfn


@kernel("mm/page_alloc.c", "rmqueue_pcplist", left_out="finding the lists locked: then C takes the page from the buddy")
def rmqueue_pcplist(mm: Mm, zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int | None:
    """Take a block from this CPU's lists. A CPU that takes pages gives back fewer at a time later."""
    cpu = mm.current.cpu
    zone.per_cpu_pageset.free_factor[cpu] >>= 1
    return rmqueue_pcplist_inner(mm, zone, cpu, order, migratetype, alloc_flags)


@kernel("mm/page_alloc.c", "rmqueue")
def rmqueue(mm: Mm, zone: Zone, order: int, alloc_flags: int, migratetype: int) -> int | None:
    """Take a block of the zone: from this CPU's lists if its order has any, else from the buddy."""
    pfn = None
    if pcp_allowed_order(zone.per_cpu_pageset, order):
        pfn = rmqueue_pcplist(mm, zone, order, migratetype, alloc_flags)
    return rmqueue_buddy(mm, zone, order, alloc_flags, migratetype) if pfn is None else pfn


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
        pfn = rmqueue(mm, zone, order, alloc_flags, migratetype)
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
