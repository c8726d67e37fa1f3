"""The free scanner: it goes down through the zone, pageblock by pageblock, and takes free pages to move others to.

pageblock   [unmovable]  [movable, skip]  [movable: free 4, ●, free 1, ●, … ]  [one free block]
                no            no             ✓ until there are as many as wanted    no: it is whole
"""

from __future__ import annotations

from kmemlab.alloc.fast_isolate_freepages import fast_isolate_freepages
from kmemlab.alloc.isolate_free_block import isolate_freepages_block, split_map_pages
from kmemlab.alloc.isolate_migratepages import isolation_suitable
from kmemlab.mm.compact_control import COMPACT_CLUSTER_MAX, MIGRATE_ASYNC, CompactControl
from kmemlab.mm.globals import Mm
from kmemlab.mm.pageblock_skip import (
    buddy_order,
    pageblock_end_pfn,
    pageblock_in_zone,
    pageblock_start_pfn,
    set_pageblock_skip,
)
from kmemlab.mm.zone import Zone, get_pageblock_migratetype, zone_end_pfn
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add, list_del
from kmemlab.types.migratetype import MIGRATE_MOVABLE


@kernel("mm/compaction.c", "suitable_migration_target", traced=False)
def suitable_migration_target(cc: CompactControl, zone: Zone, pfn: int) -> bool:
    """Whether pages may move into a pageblock: it holds movable pages, and is not free as a whole."""
    order = buddy_order(zone, pfn)
    if order is not None and order >= zone.page.pageblock_order:
        return False
    return bool(cc.ignore_block_suitable) or get_pageblock_migratetype(zone.page, pfn) == MIGRATE_MOVABLE


@kernel("mm/compaction.c", "update_pageblock_skip", traced=False)
def update_pageblock_skip(cc: CompactControl, zone: Zone, pfn: int) -> None:
    """All of a pageblock was scanned: skip it from now on, and let the next run begin below it."""
    set_pageblock_skip(zone.page, pfn)
    zone.compact_cached_free_pfn = min(zone.compact_cached_free_pfn, pfn)


@kernel("mm/compaction.c", "isolate_freepages")
def isolate_freepages(mm: Mm, cc: CompactControl, zone: Zone) -> None:
    """Take as many free pages as there are pages that want to move, from as high in the zone as can be."""
    fast_isolate_freepages(mm, cc, zone)
    if not cc.nr_freepages:
        scan_down(mm, cc, zone)
    split_map_pages(mm, zone, cc.freepages)


@invented("the loop of isolate_freepages", traced=False)
def scan_down(mm: Mm, cc: CompactControl, zone: Zone) -> None:
    """Go down from where the scanner stands to the migrate scanner's pageblock, or until enough pages are taken.

    A run that must not wait looks at every 32nd page only, until it finds a pageblock in which pages are free.
    """
    page = zone.page
    step = page.pageblock_nr_pages
    start_pfn = pageblock_start_pfn(page, cc.free_pfn)
    end_pfn = min(start_pfn + step, zone_end_pfn(zone))
    isolate_start_pfn, low_pfn = cc.free_pfn, pageblock_end_pfn(page, cc.migrate_pfn)
    stride = COMPACT_CLUSTER_MAX if cc.mode == MIGRATE_ASYNC else 1
    while start_pfn >= low_pfn:
        if (
            pageblock_in_zone(zone, start_pfn, end_pfn)
            and suitable_migration_target(cc, zone, start_pfn)
            and isolation_suitable(cc, zone, start_pfn)
        ):
            isolate_start_pfn, taken = isolate_freepages_block(mm, cc, zone, isolate_start_pfn, end_pfn, stride)
            if isolate_start_pfn == end_pfn:
                update_pageblock_skip(cc, zone, start_pfn)
            if cc.nr_freepages >= cc.nr_migratepages:
                if isolate_start_pfn >= end_pfn:
                    isolate_start_pfn = start_pfn - step
                break
            if isolate_start_pfn < end_pfn:
                break
            stride = 1 if taken else min(COMPACT_CLUSTER_MAX, stride << 1)
        end_pfn = start_pfn
        isolate_start_pfn = start_pfn = start_pfn - step
    cc.free_pfn = isolate_start_pfn


@kernel("mm/compaction.c", "compaction_alloc")
def compaction_alloc(mm: Mm, cc: CompactControl, zone: Zone) -> int | None:
    """A page to move to, from the list of free pages, which is filled if it is empty; None if there are no more."""
    lru = mm.page.lru
    if lru.next[cc.freepages] == cc.freepages:
        isolate_freepages(mm, cc, zone)
        if lru.next[cc.freepages] == cc.freepages:
            return None
    pfn = lru.next[cc.freepages]
    list_del(lru, pfn)
    cc.nr_freepages -= 1
    return pfn


@kernel("mm/compaction.c", "compaction_free")
def compaction_free(mm: Mm, cc: CompactControl, pfn: int) -> None:
    """A page to move to was not needed: back to the list of free pages."""
    list_add(mm.page.lru, pfn, cc.freepages)
    cc.nr_freepages += 1
