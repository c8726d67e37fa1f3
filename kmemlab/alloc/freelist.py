"""get_page_from_freelist: zone after zone of a node's zonelist is asked for a block.

zone_watermark_fast          may the zone give?
rmqueue ┬▶ rmqueue_pcplist   take a block of this CPU's lists (mm/pcp.py)
        └▶ rmqueue_buddy     or from the buddy (mm/fallback.py, mm/buddy.py)
prep_new_page                make it ready for its new owner

C carries what follows from a request (zonelist, highest zone, type) along in a struct alloc_context. Here each function
works it out from `gfp` and `nid`, so that a call says all there is to say.
"""

from __future__ import annotations

from kmemlab.alloc.prep_page import prep_new_page
from kmemlab.mm.buddy import rmqueue_smallest
from kmemlab.mm.context import CPU
from kmemlab.mm.fallback import rmqueue_inner
from kmemlab.mm.globals import GROUP_BY_MOBILITY_DISABLED, Mm
from kmemlab.mm.highatomic import reserve_highatomic_pageblock
from kmemlab.mm.kswapd_wake import wakeup_kswapd
from kmemlab.mm.node import COUNT, ZONELIST_FALLBACK, ZONELIST_NOFALLBACK, Zonelist
from kmemlab.mm.pcp import rmqueue_pcplist_inner
from kmemlab.mm.per_cpu_pages import pcp_allowed_order, pcp_list
from kmemlab.mm.vm_event import NUMA_FOREIGN, NUMA_HIT, NUMA_LOCAL, NUMA_MISS, NUMA_OTHER, PGALLOC
from kmemlab.mm.zone import NR_FREE_PAGES, ZONE_BOOSTED_WATERMARK, ZONE_FLAGS, Zone
from kmemlab.mm.zone_watermark_ok import (
    ALLOC_HIGHATOMIC,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_MASK,
    wmark_pages,
    zone_watermark_fast,
)
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import __GFP_THISNODE, GFP_ZONEMASK, gfp_migratetype_bits, gfp_zone_name
from kmemlab.types.migratetype import MIGRATE_HIGHATOMIC, MIGRATE_UNMOVABLE


@kernel("include/linux/gfp.h", "gfp_zone", traced=False)
def gfp_zone(mm: Mm, gfp: int) -> int:
    """The highest zone that a request may use; it may also be met from any zone below. Raises `BadRequest` for two."""
    highest = mm.gfp_zone_table[gfp & GFP_ZONEMASK]
    if highest is None:
        gfp_zone_name(gfp)  # says what is wrong
        raise AssertionError
    return highest


@kernel("include/linux/gfp.h", "gfp_migratetype", traced=False)
def gfp_migratetype(mm: Mm, gfp: int) -> int:
    """The mobility type of a request; on a machine too small for grouping everything is unmovable."""
    return MIGRATE_UNMOVABLE if mm.cells[GROUP_BY_MOBILITY_DISABLED] else gfp_migratetype_bits(gfp)


@kernel("include/linux/gfp.h", "node_zonelist", traced=False)
def node_zonelist(mm: Mm, nid: int, gfp: int) -> Zonelist:
    """Where a request for a node looks: all nodes, the nearest first, or this one only."""
    return mm.node_data[nid].node_zonelists[ZONELIST_NOFALLBACK if gfp & __GFP_THISNODE else ZONELIST_FALLBACK]


@kernel("mm/page_alloc.c", "zone_statistics")
def zone_statistics(mm: Mm, preferred_zone: Zone, zone: Zone, nr_account: int) -> None:
    """Count where pages came from: from the node that was wanted, and from the node of the CPU that asked."""
    node, event = zone.node, zone.vm_numa_event
    if node == preferred_zone.node:
        event[NUMA_HIT] += nr_account
    else:
        event[NUMA_MISS] += nr_account
        preferred_zone.vm_numa_event[NUMA_FOREIGN] += nr_account
    is_local = node == mm.numa.cpu_to_node[mm.current.cells[CPU]]
    event[NUMA_LOCAL if is_local else NUMA_OTHER] += nr_account


@kernel("mm/page_alloc.c", "rmqueue_buddy", lock="zone->lock")
def rmqueue_buddy(mm: Mm, zone: Zone, order: int, alloc_flags: int, migratetype: int) -> int | None:
    """Take a block from the zone's free lists and count it as no longer free.

    Urgent requests take from their reserve first; a single page, or a victim of the OOM killer, only if all else fails.
    """
    pfn = None
    if alloc_flags & ALLOC_HIGHATOMIC:
        pfn = rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
    if pfn is None:
        pfn = rmqueue_inner(mm, zone, order, migratetype, alloc_flags)
    if pfn is None and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
        pfn = rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
    if pfn is not None:
        zone.vm_stat[NR_FREE_PAGES] -= 1 << order
    return pfn


@kernel("mm/page_alloc.c", "rmqueue_pcplist", left_out="finding the lists locked: then C takes the page from the buddy")
def rmqueue_pcplist(mm: Mm, zone: Zone, order: int, alloc_flags: int, migratetype: int) -> int | None:
    """Take a block from this CPU's lists. A CPU that takes pages gives back fewer at a time later."""
    cpu = mm.current.cells[CPU]
    pcp = zone.per_cpu_pageset
    pcp.free_factor[cpu] >>= 1
    head = pcp_list(pcp, cpu, migratetype, order)
    return rmqueue_pcplist_inner(mm, zone, order, migratetype, alloc_flags, cpu, head)


@kernel("mm/page_alloc.c", "rmqueue", left_out="the warning for __GFP_NOFAIL requests of more than two pages")
def rmqueue(mm: Mm, preferred_zone: Zone, zone: Zone, order: int, alloc_flags: int, migratetype: int) -> int | None:
    """Take a block of the zone, from this CPU's lists if its order has any, and count it."""
    pfn = None
    if pcp_allowed_order(zone.per_cpu_pageset, order):
        pfn = rmqueue_pcplist(mm, zone, order, alloc_flags, migratetype)
    if pfn is None:
        pfn = rmqueue_buddy(mm, zone, order, alloc_flags, migratetype)
    if pfn is not None:
        mm.vm_event[PGALLOC + zone.index] += 1 << order
        if mm.has_numa:
            zone_statistics(mm, preferred_zone, zone, 1)
    if zone.cells[ZONE_FLAGS] & ZONE_BOOSTED_WATERMARK:
        zone.flags &= ~ZONE_BOOSTED_WATERMARK
        wakeup_kswapd(mm, zone, 0, 0, zone.index)
    return pfn


@kernel(
    "mm/page_alloc.c",
    "get_page_from_freelist",
    left_out="cpusets, dirty limits, node_reclaim; growing a zone whose pages are deferred: machine/deferred_init.py",
)
def get_page_from_freelist(mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int) -> int | None:
    """The first zone of the node's zonelist that may give and has a large enough block gives it.

    With ALLOC_NOFRAGMENT types are not mixed as long as another zone of the node can give; then it is tried without.
    """
    highest, migratetype = gfp_zone(mm, gfp), gfp_migratetype(mm, gfp)
    zonelist = node_zonelist(mm, nid, gfp)
    preferred = None
    for at in range(zonelist.cells[COUNT]):
        index = zonelist.zone_idx[at]
        if index > highest:
            continue
        zone = mm.node_data[zonelist.nid[at]].node_zones[index]
        if preferred is None:
            preferred = zone
        elif alloc_flags & ALLOC_NOFRAGMENT and zone.node != preferred.node:
            break  # near memory of mixed types is better than far memory
        mark = wmark_pages(zone, alloc_flags & ALLOC_WMARK_MASK)
        may_give = zone_watermark_fast(zone, order, mark, highest, alloc_flags, gfp)
        if not may_give and not alloc_flags & ALLOC_NO_WATERMARKS:
            continue
        pfn = rmqueue(mm, preferred, zone, order, alloc_flags, migratetype)
        if pfn is not None:
            prep_new_page(mm, zone, pfn, order, gfp)
            if alloc_flags & ALLOC_HIGHATOMIC:
                reserve_highatomic_pageblock(zone, pfn)
            return pfn
    if alloc_flags & ALLOC_NOFRAGMENT:
        return get_page_from_freelist(mm, gfp, order, alloc_flags & ~ALLOC_NOFRAGMENT, nid)
    return None
