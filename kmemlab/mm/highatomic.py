"""The high-atomic reserve: whole pageblocks kept for urgent requests of several pages by code that can't wait.

A request that got one page of a pageblock reserves the rest of it; memory pressure takes the reserve back.
"""

from __future__ import annotations

from collections.abc import Iterable

from kmemlab.mm.fallback import move_freepages_block
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import Zone, get_pageblock_migratetype, set_pageblock_migratetype
from kmemlab.sim.kernel import kernel
from kmemlab.types.migratetype import MIGRATE_HIGHATOMIC, MIGRATE_PCPTYPES


@kernel("mm/page_alloc.c", "reserve_highatomic_pageblock", lock="zone->lock")
def reserve_highatomic_pageblock(zone: Zone, pfn: int) -> None:
    """Keep the pageblock of `pfn` for urgent requests, unless a hundredth of the zone is kept already."""
    page = zone.page
    if zone.nr_reserved_highatomic >= zone.managed_pages // 100 + page.pageblock_nr_pages:
        return
    if get_pageblock_migratetype(page, pfn) < MIGRATE_PCPTYPES:  # not reserved or isolated already
        zone.nr_reserved_highatomic += page.pageblock_nr_pages
        set_pageblock_migratetype(page, pfn, MIGRATE_HIGHATOMIC)
        move_freepages_block(zone, pfn, MIGRATE_HIGHATOMIC)


@kernel("mm/page_alloc.c", "unreserve_highatomic_pageblock", lock="zone->lock")
def unreserve_highatomic_pageblock(zones: Iterable[Zone], migratetype: int, force: bool) -> bool:
    """Give a reserved pageblock to the type that needs pages; whether any page moved.

    Without `force` the last one of a zone stays reserved.
    """
    for zone in zones:
        page = zone.page
        if not force and zone.nr_reserved_highatomic <= page.pageblock_nr_pages:
            continue
        for order in range(MAX_ORDER):
            head = zone.free_list[order][MIGRATE_HIGHATOMIC]
            pfn = page.lru.next[head]
            if pfn == head:
                continue
            if get_pageblock_migratetype(page, pfn) == MIGRATE_HIGHATOMIC:
                zone.nr_reserved_highatomic -= min(page.pageblock_nr_pages, zone.nr_reserved_highatomic)
            set_pageblock_migratetype(page, pfn, migratetype)
            if move_freepages_block(zone, pfn, migratetype):
                return True
    return False
