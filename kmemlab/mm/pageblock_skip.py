"""Skip bits and cached positions: what compaction remembers of pageblocks in which it found nothing to do.

pageblock        0    1    2    3    4    5    6    7
skip             1    1    0    0    0    0    1    1
                           ▲ compact_cached_migrate_pfn   ▲ compact_cached_free_pfn
The scanners begin at the cached positions. When they have met, both are set back to the ends of the zone; the bits are
cleared when kswapd goes to sleep, or when compaction begins anew after it was passed over for long.
"""

from __future__ import annotations

from kmemlab.mm.free_run import run_of
from kmemlab.mm.mem_map import MemMap, page_zone_id
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.zone import (
    TOP_ORDER,
    Zone,
    block_around,
    get_pageblock_migratetype,
    populated_zone,
    zone_end_pfn,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import MIGRATE_MOVABLE
from kmemlab.types.pageflags import PG_head, PG_lru

_WITHIN_TOP = (1 << TOP_ORDER) - 1


@kernel("include/linux/pageblock-flags.h", "get_pageblock_skip", traced=False)
def get_pageblock_skip(page: MemMap, pfn: int) -> bool:
    """Whether compaction found nothing to do in the pageblock of a page lately."""
    return bool(page.pageblock_skip[pfn >> page.pageblock_order])


@kernel("include/linux/pageblock-flags.h", "set_pageblock_skip", traced=False)
def set_pageblock_skip(page: MemMap, pfn: int) -> None:
    """Compaction found nothing to do in this pageblock."""
    page.pageblock_skip[pfn >> page.pageblock_order] = 1


@kernel("include/linux/pageblock-flags.h", "clear_pageblock_skip", traced=False)
def clear_pageblock_skip(page: MemMap, pfn: int) -> None:
    """Compaction is to look at this pageblock again."""
    page.pageblock_skip[pfn >> page.pageblock_order] = 0


@kernel("include/linux/pageblock-flags.h", "pageblock_start_pfn", traced=False)
def pageblock_start_pfn(page: MemMap, pfn: int) -> int:
    """The first page of a pageblock."""
    return pfn & -page.pageblock_nr_pages


@kernel("include/linux/pageblock-flags.h", "pageblock_end_pfn", traced=False)
def pageblock_end_pfn(page: MemMap, pfn: int) -> int:
    """The page behind a pageblock."""
    return (pfn & -page.pageblock_nr_pages) + page.pageblock_nr_pages


@kernel("include/linux/page-flags.h", "PageBuddy", left_out="the flag: the order tells", traced=False)
def buddy_order(zone: Zone, pfn: int) -> int | None:
    """The order of the free block that begins with a page; None if none does."""
    order = zone.page.buddy[pfn]
    if order:
        return order - 1
    # Of blocks that were handed over as a run only the first says that it is free.
    return TOP_ORDER if not pfn & _WITHIN_TOP and zone.runs.count and run_of(zone.runs, pfn) is not None else None


@invented("PageCompound and compound_order of the head", traced=False)
def compound_block(page: MemMap, pfn: int) -> tuple[int, int] | None:
    """(first page, order) of the large page that holds a page; None for pages by themselves."""
    block = block_around(page.owned, pfn)
    return block if block is not None and page_has_flag(page, block[0], PG_head) else None


@kernel("mm/compaction.c", "pageblock_skip_persistent", traced=False)
def pageblock_skip_persistent(page: MemMap, pfn: int) -> bool:
    """Whether a page is part of a large page that fills a pageblock: nothing is to be had there until it goes."""
    block = compound_block(page, pfn)
    return block is not None and block[1] >= page.pageblock_order


@kernel("mm/page_alloc.c", "__pageblock_pfn_to_page", formerly=("pageblock_pfn_to_page",), traced=False)
def pageblock_in_zone(zone: Zone, start_pfn: int, end_pfn: int) -> bool:
    """Whether the first and the last page of [start_pfn, end_pfn) are the zone's; then all are taken to be."""
    page = zone.page
    if not 0 <= start_pfn < end_pfn <= page.max_pfn:
        return False
    return page_zone_id(page, start_pfn) == zone.slot == page_zone_id(page, end_pfn - 1)


# -- setting back ------------------------------------------------------------------------------------------------------


@kernel("mm/compaction.c", "reset_cached_positions")
def reset_cached_positions(zone: Zone) -> None:
    """Let the next run begin at both ends of the zone."""
    zone.compact_cached_migrate_pfn[0] = zone.compact_cached_migrate_pfn[1] = zone.zone_start_pfn
    zone.compact_cached_free_pfn = pageblock_start_pfn(zone.page, zone_end_pfn(zone) - 1)


@kernel("mm/compaction.c", "__reset_isolation_pfn", traced=False)
def reset_isolation_pfn(zone: Zone, pfn: int, check_source: bool, check_target: bool) -> bool:
    """Clear the skip bit of a pageblock if a look at every eighth page finds something to move, or room to move to.

    Whether there was, or the bit was clear already.
    """
    page = zone.page
    if page_zone_id(page, pfn) != zone.slot or pageblock_skip_persistent(page, pfn):
        return False
    if check_source and check_target and not get_pageblock_skip(page, pfn):
        return True
    if not check_source and check_target and get_pageblock_migratetype(page, pfn) != MIGRATE_MOVABLE:
        return False
    start = max(pageblock_start_pfn(page, pfn), zone.zone_start_pfn)
    end = min(pageblock_end_pfn(page, start), zone_end_pfn(zone))
    for at in range(start, end, 1 << PAGE_ALLOC_COSTLY_ORDER):
        if (check_source and page_has_flag(page, at, PG_lru)) or (check_target and buddy_order(zone, at) is not None):
            clear_pageblock_skip(page, at)
            return True
    return False


@kernel("mm/compaction.c", "__reset_isolation_suitable")
def reset_zone_isolation_suitable(zone: Zone) -> None:
    """Clear the skip bits of a zone where that makes sense, from both ends inwards; the first ones found are where the
    scanners begin next. Nothing is done unless the scanners have met since the last time."""
    if not zone.compact_blockskip_flush:
        return
    zone.compact_blockskip_flush = 0
    step = zone.page.pageblock_nr_pages
    migrate_pfn, free_pfn = zone.zone_start_pfn, zone_end_pfn(zone) - 1
    reset_migrate, reset_free = free_pfn, migrate_pfn
    source_set = free_set = False
    while migrate_pfn < free_pfn:
        if reset_isolation_pfn(zone, migrate_pfn, True, source_set) and migrate_pfn < reset_migrate:
            source_set, reset_migrate = True, migrate_pfn
            zone.compact_init_migrate_pfn = migrate_pfn
            zone.compact_cached_migrate_pfn[0] = zone.compact_cached_migrate_pfn[1] = migrate_pfn
        if reset_isolation_pfn(zone, free_pfn, free_set, True) and free_pfn > reset_free:
            free_set, reset_free = True, free_pfn
            zone.compact_init_free_pfn = zone.compact_cached_free_pfn = free_pfn
        migrate_pfn += step
        free_pfn -= step
    if reset_migrate >= reset_free:
        zone.compact_cached_migrate_pfn[0] = zone.compact_cached_migrate_pfn[1] = migrate_pfn
        zone.compact_cached_free_pfn = free_pfn


@kernel("mm/compaction.c", "reset_isolation_suitable")
def reset_isolation_suitable(pgdat: PglistData) -> None:
    """kswapd goes to sleep: clear the skip bits of those zones where the scanners have met."""
    for zone in pgdat.node_zones:
        if populated_zone(zone) and zone.compact_blockskip_flush:
            reset_zone_isolation_suitable(zone)
