"""A memory block goes off line again: nobody gets its pages any more, then the zone forgets them.

pageblocks     movable … movable    isolated … isolated    (no zone)
free pages     on movable lists     on isolated lists      on no list
counted        free, managed        managed                nowhere
"""

from __future__ import annotations

from kmemlab.machine.kernel import Kernel
from kmemlab.mm.fallback import move_freepages_block
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import PAGES_PER_SECTION, page_zone_id, set_page_links
from kmemlab.mm.page_free import page_zone
from kmemlab.mm.pcp import drain_all_pages
from kmemlab.mm.watermark import init_per_zone_wmark_min
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    Zone,
    del_page_from_free_list,
    populated_zone,
    set_pageblocks,
    zone_end_pfn,
    zone_pcp_init,
)
from kmemlab.mm.zonelist import build_all_zonelists_late
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errno import EBUSY
from kmemlab.types.migratetype import MIGRATE_ISOLATE, MIGRATE_MOVABLE
from kmemlab.types.units import PAGE_SHIFT


@invented("C has a struct memory_block for each; ours follow from the DIMMs and from whose the pages are")
def memory_block_range(kernel: Kernel, nr: int) -> tuple[int, int] | None:
    """The first page frame and the number of page frames of block `nr`; None if it is no block of a DIMM."""
    size = kernel.boot.memory_block_size
    start = nr * size
    if any(first <= start and start + size <= last + 1 for first, last in kernel.boot.spec.dimms):
        return start >> PAGE_SHIFT, size >> PAGE_SHIFT
    return None


@kernel("drivers/base/memory.c", "state_show", left_out="going-offline: nobody can look in between")
def state_show(kernel: Kernel, pfn: int) -> str:
    """What /sys/devices/system/memory/memoryN/state says of the block that starts at a page frame."""
    return "offline" if page_zone(kernel.mm, pfn) is None else "online"


@kernel("mm/memory_hotplug.c", "offline_pages", left_out="moving pages that are in use elsewhere; notifiers")
def offline_pages(mm: Mm, zone: Zone, start_pfn: int, nr_pages: int) -> int:
    """Take a block out of the buddy and out of its zone, then work all limits out anew; -EBUSY if a page is in use."""
    end_pfn = start_pfn + nr_pages
    drain_all_pages(mm, zone)
    isolate_page_range(zone, start_pfn, end_pfn, MIGRATE_ISOLATE)
    if not test_pages_isolated(zone, start_pfn, end_pfn):
        isolate_page_range(zone, start_pfn, end_pfn, MIGRATE_MOVABLE)
        return -EBUSY
    offline_isolated_pages(zone, start_pfn, end_pfn)
    pgdat = mm.node_data[zone.node]
    zone.managed_pages -= nr_pages
    mm.totalram_pages -= nr_pages
    zone.present_pages -= nr_pages
    pgdat.node_present_pages -= nr_pages
    init_per_zone_wmark_min(mm)
    if not populated_zone(zone):
        zone_pcp_init(zone)
        build_all_zonelists_late(mm)
    mm.node_has_memory[zone.node] = int(pgdat.node_present_pages > 0)
    remove_pfn_range_from_zone(mm, zone, start_pfn, nr_pages)
    return 0


@kernel("mm/page_isolation.c", "start_isolate_page_range", left_out="looking for unmovable pages first")
def isolate_page_range(zone: Zone, start_pfn: int, end_pfn: int, migratetype: int) -> None:
    """Isolate pageblocks, so that no free page of theirs is given out; with another type, take that back."""
    set_pageblocks(zone.page, start_pfn, end_pfn, migratetype)
    sign = -1 if migratetype == MIGRATE_ISOLATE else 1
    for pfn in range(start_pfn, end_pfn, zone.page.pageblock_nr_pages):
        zone.vm_stat[NR_FREE_PAGES] += sign * move_freepages_block(zone, pfn, migratetype)


@kernel("mm/page_isolation.c", "test_pages_isolated", left_out="poisoned pages, and those that drivers took off line")
def test_pages_isolated(zone: Zone, start_pfn: int, end_pfn: int) -> bool:
    """Whether every page of the range is free."""
    pfn = start_pfn
    while pfn < end_pfn:
        if not zone.page.buddy[pfn]:
            return False
        pfn += 1 << zone.page.buddy[pfn] - 1
    return True


@kernel("mm/page_alloc.c", "__offline_isolated_pages", left_out="marking the sections as off line")
def offline_isolated_pages(zone: Zone, start_pfn: int, end_pfn: int) -> None:
    """Take the isolated free blocks off their lists."""
    pfn = start_pfn
    while pfn < end_pfn:
        order = zone.page.buddy[pfn] - 1
        del_page_from_free_list(zone, pfn, order)
        pfn += 1 << order


@kernel("mm/memory_hotplug.c", "remove_pfn_range_from_zone", left_out="poisoning the memory map")
def remove_pfn_range_from_zone(mm: Mm, zone: Zone, start_pfn: int, nr_pages: int) -> None:
    """The pages are no zone's any more; zone and node span what is left to them."""
    set_page_links(mm.page, start_pfn, start_pfn + nr_pages, 0)
    set_pageblocks(mm.page, start_pfn, start_pfn + nr_pages, MIGRATE_MOVABLE)
    shrink_zone_span(zone, start_pfn, start_pfn + nr_pages)
    pgdat = mm.node_data[zone.node]
    spans = [(one.zone_start_pfn, zone_end_pfn(one)) for one in pgdat.node_zones if one.spanned_pages]
    pgdat.node_start_pfn = min((start for start, _ in spans), default=0)
    pgdat.node_spanned_pages = max((end for _, end in spans), default=0) - pgdat.node_start_pfn


@kernel("mm/memory_hotplug.c", "shrink_zone_span", lock="zone_span_writelock", left_out="pieces smaller than a section")
def shrink_zone_span(zone: Zone, start_pfn: int, end_pfn: int) -> None:
    """Where the block was an end of the zone, the zone ends at its next section; a hole within it stays."""
    first, behind = zone.zone_start_pfn, zone_end_pfn(zone)
    if first == start_pfn:
        first = end_pfn
        while first < behind and page_zone_id(zone.page, first) != zone.slot:
            first += PAGES_PER_SECTION
    elif behind == end_pfn:
        behind = start_pfn
        while behind > first and page_zone_id(zone.page, behind - 1) != zone.slot:
            behind -= PAGES_PER_SECTION
    zone.zone_start_pfn, zone.spanned_pages = (first, behind - first) if first < behind else (0, 0)
