"""A short cut for the free scanner: the free lists themselves tell where free pages are.

free_pfn ────────────────────────── low_pfn ────────────────── min_pfn ──────────── … ────── migrate_pfn
   the upper quarter: take at once     down to the half: if nothing better is found
Each list is read from its tail; what was looked at is turned away, so that the next search sees other blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.alloc.fast_find_migrateblock import freelist_scan_limit, move_freelist_head
from kmemlab.alloc.isolate_free_block import isolate_free_page, isolate_freepages_block
from kmemlab.mm.compact_control import MIGRATE_ASYNC, CompactControl
from kmemlab.mm.globals import Mm
from kmemlab.mm.pageblock_skip import pageblock_end_pfn, pageblock_in_zone, pageblock_start_pfn, set_pageblock_skip
from kmemlab.mm.vm_event import COMPACTISOLATED
from kmemlab.mm.zone import Zone, zone_end_pfn
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add_tail
from kmemlab.types.migratetype import MIGRATE_MOVABLE


@kernel("mm/compaction.c", "fast_isolate_around")
def fast_isolate_around(mm: Mm, cc: CompactControl, zone: Zone, pfn: int) -> None:
    """A block was found: take what else is free in its pageblock, unless that is enough, or nobody may wait."""
    if cc.nr_freepages >= cc.nr_migratepages or (cc.direct_compaction and cc.mode == MIGRATE_ASYNC):
        return
    page = zone.page
    start_pfn = max(pageblock_start_pfn(page, pfn), zone.zone_start_pfn)
    end_pfn = min(pageblock_end_pfn(page, pfn), zone_end_pfn(zone))
    if not pageblock_in_zone(zone, start_pfn, end_pfn):
        return
    isolate_freepages_block(mm, cc, zone, start_pfn, end_pfn, 1)
    if cc.nr_freepages < cc.nr_migratepages:
        set_pageblock_skip(page, start_pfn)


@kernel("mm/compaction.c", "next_search_order", traced=False)
def next_search_order(cc: CompactControl, order: int) -> int:
    """The order to search next, in a ring; -1 after all of them. Then the next search begins one order lower."""
    order = order - 1 if order > 0 else cc.order - 1
    if order != cc.search_order:
        return order
    cc.search_order = cc.search_order - 1 if cc.search_order > 0 else cc.order - 1
    return -1


@invented("the local variables of fast_isolate_freepages", traced=False)
@dataclass
class FastSearch:
    """One search through the free lists."""

    low_pfn: int  # a block from here on is good
    min_pfn: int  # a block from here on will do
    limit: int  # entries of a list to look at
    nr_scanned: int = 0
    highest: int = 0  # the highest pageblock that was seen


@invented("the loop over one free list in fast_isolate_freepages", traced=False)
def search_high(cc: CompactControl, zone: Zone, order: int, search: FastSearch) -> int | None:
    """The last block of a free list that lies high enough, or else the highest one that will do. The list is turned."""
    lru, head = zone.page.lru, zone.free_list[order][MIGRATE_MOVABLE]
    pfn, order_scanned, high_pfn, found = lru.prev[head], 0, 0, None
    while pfn != head:
        order_scanned += 1
        if pfn >= search.highest:
            search.highest = max(pageblock_start_pfn(zone.page, pfn), zone.zone_start_pfn)
        if pfn >= search.low_pfn:
            cc.fast_search_fail, cc.search_order, found = 0, order, pfn
            break
        if pfn >= search.min_pfn and pfn > high_pfn:
            high_pfn = pfn
            search.limit >>= 1
        if order_scanned >= search.limit:
            break
        pfn = lru.prev[pfn]
    if found is None and high_pfn:
        found = pfn = high_pfn
    move_freelist_head(zone, head, pfn)
    search.nr_scanned += order_scanned
    if order_scanned >= search.limit:
        search.limit = max(1, search.limit >> 1)
    return found


@kernel("mm/compaction.c", "fast_isolate_freepages", lock="zone->lock")
def fast_isolate_freepages(mm: Mm, cc: CompactControl, zone: Zone) -> None:
    """Take a free block that lies high in the zone, found in the free lists, and what is free around it.

    At the start of a scan it also moves the free scanner to where blocks are, if none lies high enough.
    """
    if cc.order <= 0:
        return
    scan_start = cc.free_pfn >= zone.compact_init_free_pfn
    limit = zone.page.pageblock_nr_pages >> 1 if scan_start else max(1, freelist_scan_limit(cc) >> 1)
    distance = cc.free_pfn - cc.migrate_pfn
    search = FastSearch(
        low_pfn=pageblock_start_pfn(zone.page, cc.free_pfn - (distance >> 2)),
        min_pfn=pageblock_start_pfn(zone.page, cc.free_pfn - (distance >> 1)),
        limit=limit,
    )
    pfn = search_orders(mm, cc, zone, search)
    if pfn is None:
        cc.fast_search_fail += 1
        if scan_start:
            pfn = start_lower(cc, zone, search)
    if search.highest and search.highest >= zone.compact_cached_free_pfn:
        zone.compact_cached_free_pfn = search.highest - zone.page.pageblock_nr_pages
    cc.total_free_scanned += search.nr_scanned
    if pfn is not None:
        fast_isolate_around(mm, cc, zone, pfn)


@invented("the loop of fast_isolate_freepages", traced=False)
def search_orders(mm: Mm, cc: CompactControl, zone: Zone, search: FastSearch) -> int | None:
    """Search the lists of all orders below the wanted one, beginning with the one that served last; the block taken."""
    order = cc.search_order = min(cc.order - 1, cc.search_order)
    while order >= 0:
        pfn = search_high(cc, zone, order, search) if zone.nr_free[order] else None
        if pfn is not None:
            isolated = isolate_free_page(zone, pfn, order)
            if isolated:
                search.nr_scanned += isolated - 1
                cc.nr_freepages += isolated
                list_add_tail(zone.page.lru, pfn, cc.freepages)
                mm.vm_event[COMPACTISOLATED] += isolated
                return pfn
            order = cc.search_order + 1  # below the watermark: this was the last one
        order = next_search_order(cc, order)
    return None


@invented("a part of fast_isolate_freepages", traced=False)
def start_lower(cc: CompactControl, zone: Zone, search: FastSearch) -> int | None:
    """No block lies high enough: begin at the highest pageblock that was seen, or half-way if somebody waits."""
    if search.highest >= search.min_pfn:
        cc.free_pfn = search.highest
        return search.highest
    if not cc.direct_compaction:
        return None
    cc.free_pfn = search.min_pfn
    end_pfn = min(pageblock_end_pfn(zone.page, search.min_pfn), zone_end_pfn(zone))
    return search.min_pfn if pageblock_in_zone(zone, search.min_pfn, end_pfn) else None
