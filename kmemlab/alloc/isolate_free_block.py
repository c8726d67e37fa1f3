"""Free blocks leave the buddy for compaction's own list, are split into single pages, and go back if not needed.

free_list[2] ── __isolate_free_page ─▶ cc.freepages: [block of 4] ── split_map_pages ─▶ [3][2][1][0] ─▶ compaction_alloc
"""

from __future__ import annotations

from kmemlab.alloc.prep_page import compound_order, split_page
from kmemlab.mm.compact_control import CompactControl
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_free import free_pages_inner
from kmemlab.mm.page_poison import post_alloc_hook
from kmemlab.mm.pageblock_skip import buddy_order
from kmemlab.mm.vm_event import COMPACTISOLATED
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    NR_OWNED,
    WMARK_MIN,
    Zone,
    del_page_from_free_list,
    get_pageblock_migratetype,
    set_pageblock_migratetype,
)
from kmemlab.mm.zone_watermark_ok import ALLOC_CMA, zone_watermark_ok
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import list_add, list_add_tail, list_del, list_for_each
from kmemlab.types.gfp import __GFP_MOVABLE
from kmemlab.types.migratetype import MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES


@kernel("mm/page_alloc.c", "__isolate_free_page", lock="zone->lock")
def isolate_free_page(zone: Zone, pfn: int, order: int) -> int:
    """Take a free block out of the buddy as if it were handed out; how many pages it has, or 0 below the min watermark.

    A pageblock of which half or more goes is movable from now on: movable pages will fill it.
    """
    page = zone.page
    if get_pageblock_migratetype(page, pfn) != MIGRATE_ISOLATE:
        if not zone_watermark_ok(zone, 0, zone.watermark[WMARK_MIN] + (1 << order), 0, ALLOC_CMA):
            return 0
        zone.vm_stat[NR_FREE_PAGES] -= 1 << order
    del_page_from_free_list(zone, pfn, order)
    page.owned[pfn] = 1 + order
    zone.cells[NR_OWNED] += 1 << order
    if order >= page.pageblock_order - 1:
        for at in range(pfn, pfn + (1 << order), page.pageblock_nr_pages):
            if get_pageblock_migratetype(page, at) < MIGRATE_PCPTYPES:
                set_pageblock_migratetype(page, at, MIGRATE_MOVABLE)
    return 1 << order


@kernel("mm/compaction.c", "isolate_freepages_block", left_out="the strict mode of CMA; contended locks, signals")
def isolate_freepages_block(
    mm: Mm, cc: CompactControl, zone: Zone, start_pfn: int, end_pfn: int, stride: int
) -> tuple[int, int]:
    """Take free blocks of [start_pfn, end_pfn) until there are pages enough; where it stopped, and how many were taken.

    With a stride only every so manieth page is looked at, for a start.
    """
    page, pfn, nr_scanned, taken = zone.page, start_pfn, 0, 0
    while pfn < end_pfn:
        nr_scanned += 1
        order = buddy_order(zone, pfn)
        if order is None:
            pfn += (1 << compound_order(page, pfn)) - 1 + stride
            continue
        isolated = isolate_free_page(zone, pfn, order)
        if not isolated:
            break
        list_add_tail(page.lru, pfn, cc.freepages)
        nr_scanned += isolated - 1
        taken += isolated
        cc.nr_freepages += isolated
        if cc.nr_migratepages <= cc.nr_freepages:
            pfn += isolated
            break
        pfn += isolated - 1 + stride
    cc.total_free_scanned += nr_scanned
    mm.vm_event[COMPACTISOLATED] += taken
    return min(pfn, end_pfn), taken


@kernel("mm/compaction.c", "split_map_pages", formerly=("map_pages",), traced=False)
def split_map_pages(mm: Mm, zone: Zone, head: int) -> None:
    """Split the blocks of a list into single pages, each held with a reference; the last one comes first."""
    page = zone.page
    pages: list[int] = []
    for pfn in list(list_for_each(page.lru, head)):
        list_del(page.lru, pfn)
        order = page.owned[pfn] - 1
        page.refcount[pfn] = 1
        post_alloc_hook(mm, pfn, order, __GFP_MOVABLE)
        split_page(page, pfn, order)
        pages += range(pfn, pfn + (1 << order))
    for pfn in pages:
        list_add(page.lru, pfn, head)


@kernel("mm/compaction.c", "release_freepages")
def release_freepages(mm: Mm, head: int) -> int:
    """Free the pages of a list that were not needed; the highest one, or 0."""
    high_pfn = 0
    for pfn in list(list_for_each(mm.page.lru, head)):
        list_del(mm.page.lru, pfn)
        free_pages_inner(mm, pfn, 0)
        high_pfn = max(high_pfn, pfn)
    return high_pfn
