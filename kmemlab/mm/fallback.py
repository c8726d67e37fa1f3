"""Which mobility type lends a block to which, and when a whole pageblock changes hands.

wants \\ takes from     first          then
UNMOVABLE              RECLAIMABLE    MOVABLE
MOVABLE                RECLAIMABLE    UNMOVABLE
RECLAIMABLE            UNMOVABLE      MOVABLE
"""

from __future__ import annotations

from kmemlab.mm.buddy import rmqueue_smallest
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER, page_zone_id
from kmemlab.mm.zone import (
    WMARK_HIGH,
    ZONE_BOOSTED_WATERMARK,
    Zone,
    get_pageblock_migratetype,
    move_to_free_list,
    set_pageblock_migratetype,
    zone_end_pfn,
)
from kmemlab.mm.zone_watermark_ok import ALLOC_KSWAPD, ALLOC_NOFRAGMENT
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import (
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
)
from kmemlab.types.pageflags import PG_lru

FALLBACKS = {
    MIGRATE_UNMOVABLE: (MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE),
    MIGRATE_MOVABLE: (MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE),
    MIGRATE_RECLAIMABLE: (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE),
}


@kernel("mm/page_alloc.c", "can_steal_fallback")
def can_steal_fallback(mm: Mm, order: int, start_migratetype: int) -> bool:
    """Whether a request may take over more than the pages it needs: for large blocks, or for pages that can't move."""
    if order >= mm.page.pageblock_order // 2:
        return True
    return start_migratetype in (MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE) or bool(mm.page_group_by_mobility_disabled)


@kernel("mm/page_alloc.c", "find_suitable_fallback", left_out="whether it may be stolen: can_steal_fallback tells")
def find_suitable_fallback(zone: Zone, order: int, migratetype: int) -> int | None:
    """The first mobility type that has a free block of exactly this order to lend, or None."""
    if zone.nr_free[order] == 0:
        return None
    following = zone.page.lru.next
    for fallback in FALLBACKS[migratetype]:
        head = zone.free_list[order][fallback]
        if following[head] != head:
            return fallback
    return None


@invented("the half of move_freepages that counts", traced=False)
def movable_pages(zone: Zone, pfn: int) -> int:
    """The pages in use of the pageblock that holds `pfn` which could be moved: those on an LRU list."""
    start = pfn & ~(zone.page.pageblock_nr_pages - 1)
    if start < zone.zone_start_pfn:
        start = pfn
    end = (pfn | (zone.page.pageblock_nr_pages - 1)) + 1
    return sum(flags >> PG_lru & 1 for flags in zone.page.flags[start:end])


@kernel("mm/page_alloc.c", "move_freepages_block", left_out="pages of drivers that can be moved (__PageMovable)")
def move_freepages_block(zone: Zone, pfn: int, migratetype: int) -> int:
    """Move every free block of the pageblock that holds `pfn` to another type's lists; returns how many pages moved."""
    start = pfn & ~(zone.page.pageblock_nr_pages - 1)
    # A pageblock cut by the zone's start is walked from the page at hand; one cut by its end moves nothing.
    if start < zone.zone_start_pfn:
        start = pfn
    end = (pfn | (zone.page.pageblock_nr_pages - 1)) + 1
    if end > zone_end_pfn(zone):
        return 0
    moved = 0
    while start < end:
        order = zone.page.buddy[start] - 1
        # C checks a page's zone only in debug kernels; pageblocks that two nodes share are rare enough.
        if order < 0 or page_zone_id(zone.page, start) != zone.slot:
            start += 1
            continue
        move_to_free_list(zone, start, order, migratetype)
        moved += 1 << order
        start += 1 << order
    return moved


@kernel("mm/page_alloc.c", "change_pageblock_range")
def change_pageblock_range(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    """Give every pageblock of a large block the same type."""
    for start in range(pfn, pfn + (1 << order), zone.page.pageblock_nr_pages):
        set_pageblock_migratetype(zone.page, start, migratetype)


@kernel("mm/page_alloc.c", "boost_watermark")
def boost_watermark(mm: Mm, zone: Zone) -> bool:
    """Types got mixed: raise the watermarks by a pageblock for a while, so that kswapd frees more; whether it did.

    The boost ends at a multiple (`watermark_boost_factor`, in 1/10000) of the high watermark.
    """
    if not mm.watermark_boost_factor or 4 * zone.page.pageblock_nr_pages > zone.managed_pages:
        return False
    max_boost = zone.watermark[WMARK_HIGH] * mm.watermark_boost_factor // 10000
    if not max_boost:  # so early in boot that there are no watermarks
        return False
    max_boost = max(zone.page.pageblock_nr_pages, max_boost)
    zone.watermark_boost = min(zone.watermark_boost + zone.page.pageblock_nr_pages, max_boost)
    return True


@kernel("mm/page_alloc.c", "steal_suitable_fallback", lock="zone->lock")
def steal_suitable_fallback(
    mm: Mm, zone: Zone, pfn: int, alloc_flags: int, start_migratetype: int, whole_block: bool
) -> None:
    """Move a free block to the type that needs it, and its pageblock with it when that is mostly free."""
    order = zone.page.buddy[pfn] - 1
    old_type = get_pageblock_migratetype(zone.page, pfn)
    if old_type == MIGRATE_HIGHATOMIC:
        move_to_free_list(zone, pfn, order, start_migratetype)
        return
    if order >= zone.page.pageblock_order:
        change_pageblock_range(zone, pfn, order, start_migratetype)
        move_to_free_list(zone, pfn, order, start_migratetype)
        return
    if boost_watermark(mm, zone) and alloc_flags & ALLOC_KSWAPD:
        zone.flags |= ZONE_BOOSTED_WATERMARK
    movable = movable_pages(zone, pfn) if whole_block else 0
    free_pages = move_freepages_block(zone, pfn, start_migratetype) if whole_block else 0
    if free_pages == 0:
        move_to_free_list(zone, pfn, order, start_migratetype)
        return
    # Pages in use that are of the kind that now wants the block count for it; in a movable pageblock those that can't
    # be moved are of the other kind. (Of an unmovable or reclaimable one nobody knows which it has.)
    alike = movable if start_migratetype == MIGRATE_MOVABLE else 0
    if start_migratetype != MIGRATE_MOVABLE and old_type == MIGRATE_MOVABLE:
        alike = zone.page.pageblock_nr_pages - (free_pages + movable)
    if free_pages + alike >= zone.page.pageblock_nr_pages // 2 or mm.page_group_by_mobility_disabled:
        set_pageblock_migratetype(zone.page, pfn, start_migratetype)


@kernel("mm/page_alloc.c", "__rmqueue_fallback", lock="zone->lock")
def rmqueue_fallback(mm: Mm, zone: Zone, order: int, start_migratetype: int, alloc_flags: int) -> bool:
    """Bring a block of another type to this type's list: the largest there is, so that few pageblocks get mixed.

    With ALLOC_NOFRAGMENT only whole pageblocks may change hands.
    """
    min_order = order
    if alloc_flags & ALLOC_NOFRAGMENT and order < zone.page.pageblock_order:
        min_order = zone.page.pageblock_order
    for current_order in range(MAX_ORDER - 1, min_order - 1, -1):
        fallback = find_suitable_fallback(zone, current_order, start_migratetype)
        if fallback is None:
            continue
        can_steal = can_steal_fallback(mm, current_order, start_migratetype)
        if not can_steal and start_migratetype == MIGRATE_MOVABLE and current_order > order:
            current_order, fallback = find_smallest(zone, order, start_migratetype)
        pfn = zone.page.lru.next[zone.free_list[current_order][fallback]]
        steal_suitable_fallback(mm, zone, pfn, alloc_flags, start_migratetype, can_steal)
        return True
    return False


@invented("the find_smallest label inside C's __rmqueue_fallback")
def find_smallest(zone: Zone, order: int, start_migratetype: int) -> tuple[int, int]:
    """The smallest block of another type: movable pages may sit anywhere, so they take what spoils least."""
    for current_order in range(order, MAX_ORDER):
        fallback = find_suitable_fallback(zone, current_order, start_migratetype)
        if fallback is not None:
            return current_order, fallback
    raise AssertionError("a larger block was seen a moment ago")


@kernel("mm/page_alloc.c", "__rmqueue", left_out="CMA", lock="zone->lock")
def rmqueue_inner(mm: Mm, zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int | None:
    """Take a block of the wanted type, else of a type that may lend one; None when the zone has none large enough."""
    pfn = rmqueue_smallest(zone, order, migratetype)
    while pfn is None and rmqueue_fallback(mm, zone, order, migratetype, alloc_flags):
        pfn = rmqueue_smallest(zone, order, migratetype)
    return pfn
