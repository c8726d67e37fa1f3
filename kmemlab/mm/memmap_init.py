"""memmap_init: fill in the memory map, one struct page a page frame; most of it can wait.

section        |   128 MiB    |   128 MiB    |   128 MiB    |
memory          ██████ ███████ ██████████████ ██████
memory map     |hhiiiiihiiiiiiidddddddddddddddddddddhhhhhhhhh   h: hole, reserved   i: initialised   d: deferred
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.boot.memblock import for_each_mem_pfn_range
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import PAGES_PER_SECTION, ragged_ends, set_page_links
from kmemlab.mm.node import pgdat_end_pfn
from kmemlab.mm.zone import Zone, set_pageblock_migratetype, set_pageblocks, zone_end_pfn
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from kmemlab.types.units import U64_MAX, round_down, round_up


@kernel("mm/page_alloc.c", "memmap_init")
def memmap_init(mm: Mm) -> None:
    """Go through memory range by range and zone by zone; what lies between is marked as unavailable."""
    hole_pfn = 0
    end_pfn = zone_id = nid = 0
    for start_pfn, end_pfn, nid in for_each_mem_pfn_range(mm.boot.memblock):
        for zone in mm.node_data[nid].node_zones:
            if zone.present_pages:
                hole_pfn = memmap_init_zone_range(mm, zone, start_pfn, end_pfn, hole_pfn)
                zone_id = zone.index
    if mm.boot.config.sparsemem:
        # The memory map exists for whole sections, so there are struct pages behind the last memory.
        end_pfn = round_up(end_pfn, PAGES_PER_SECTION)
    if hole_pfn < end_pfn:
        init_unavailable_range(mm, hole_pfn, end_pfn, zone_id, nid)


@kernel("mm/page_alloc.c", "memmap_init_zone_range", formerly=("memmap_init_zone",))
def memmap_init_zone_range(mm: Mm, zone: Zone, start_pfn: int, end_pfn: int, hole_pfn: int) -> int:
    """The part of a memory range within one zone, and the hole before it; gives where the next hole may start."""
    zone_start, zone_end = zone.zone_start_pfn, zone_end_pfn(zone)
    start_pfn = min(max(start_pfn, zone_start), zone_end)
    end_pfn = min(max(end_pfn, zone_start), zone_end)
    if start_pfn >= end_pfn:
        return hole_pfn
    memmap_init_range(mm, zone, start_pfn, end_pfn)
    if hole_pfn < start_pfn:
        init_unavailable_range(mm, hole_pfn, start_pfn, zone.index, zone.node)
    return end_pfn


@kernel("mm/page_alloc.c", "memmap_init_range", left_out="ZONE_DEVICE, memory hotplug, mirrored memory")
def memmap_init_range(mm: Mm, zone: Zone, start_pfn: int, end_pfn: int) -> None:
    """Make the pages of [start_pfn, end_pfn) the zone's, movable, as far as they don't wait for later.

    Ours writes whole sections, deferred ones too: the columns are zero for a page that nobody touched, and which zone
    a page will belong to is known. So deferring costs nothing here, and only its numbers are kept.
    """
    if mm.boot.config.deferred_struct_page_init:
        defer_init(mm, zone.node, start_pfn, end_pfn, zone_end_pfn(zone))
    init_pages(mm, zone, start_pfn, end_pfn)


@invented("__init_single_page over a range; memory that is plugged in later goes the same way")
def init_pages(mm: Mm, zone: Zone, start_pfn: int, end_pfn: int) -> None:
    """Say in the memory map that these pages are the zone's, and that their pageblocks are movable."""
    set_page_links(mm.page, start_pfn, end_pfn, zone.slot)
    # Whole sections are movable from the start; so is what lies at the ends, except that a pageblock gets its type when
    # its first page is initialised: one that memory starts within stays unmovable.
    pageblock = mm.page.pageblock_nr_pages
    for start, end in ragged_ends(start_pfn, end_pfn):
        for pfn in range(round_up(start, pageblock), end, pageblock):
            set_pageblock_migratetype(mm.page, pfn, MIGRATE_MOVABLE)


@kernel("mm/page_alloc.c", "defer_init")
def defer_init(mm: Mm, nid: int, start_pfn: int, end_pfn: int, zone_end: int) -> None:
    """Find the first page of the range that may wait: behind one section's worth of pages of the node's last zone.

    C asks page by page; the answer is worked out here in one step, in closed form.
    """
    if mm.prev_end_pfn != zone_end:
        mm.prev_end_pfn = zone_end
        mm.nr_initialised = 0
    pgdat = mm.node_data[nid]
    # Low zones are always whole: what needs low addresses can't wait.
    if zone_end < pgdat_end_pfn(pgdat) or pgdat.first_deferred_pfn != U64_MAX:
        return
    # Page start_pfn + k is the (nr_initialised + k + 1)th; it may wait when that is above a section and it starts one.
    enough = start_pfn + max(0, PAGES_PER_SECTION - mm.nr_initialised)
    first_deferred = round_up(enough, PAGES_PER_SECTION)
    if first_deferred < end_pfn:
        pgdat.first_deferred_pfn = first_deferred
    else:
        mm.nr_initialised += end_pfn - start_pfn


@kernel("mm/page_alloc.c", "init_unavailable_range", formerly=("zero_resv_unavail",))
def init_unavailable_range(mm: Mm, start_pfn: int, end_pfn: int, zone_id: int, nid: int) -> None:
    """Make the page frames of a hole that have a struct page the zone's, and count them: they are reserved for ever."""
    zone = mm.node_data[nid].node_zones[zone_id]
    pgcnt = 0
    for first, last in parts_with_memory_map(mm, start_pfn, end_pfn):
        set_page_links(mm.page, first, last, zone.slot)
        # A pageblock of nothing but hole never gets a type. (In a section that is partly memory all start without.)
        whole, behind = round_up(first, PAGES_PER_SECTION), round_down(last, PAGES_PER_SECTION)
        if whole < behind:
            set_pageblocks(mm.page, whole, behind, MIGRATE_UNMOVABLE)
        pgcnt += last - first
    if pgcnt:
        name = mm.boot.config.zone_names[zone_id]
        mm.boot.printk.info(f"On node {nid}, zone {name}: {pgcnt} pages in unavailable ranges")


@invented("the loop of init_unavailable_range, where C asks pfn_valid of each pageblock")
def parts_with_memory_map(mm: Mm, start_pfn: int, end_pfn: int) -> Iterator[tuple[int, int]]:
    """The parts of a hole that have struct pages: with FLATMEM what begins below max_pfn, else sections with memory."""
    if not mm.boot.config.sparsemem:
        end_pfn = min(end_pfn, round_up(mm.boot.max_pfn, mm.page.pageblock_nr_pages))
        if start_pfn < end_pfn:
            yield start_pfn, end_pfn
        return
    for section_pfn in sections_between(start_pfn, end_pfn):
        first, last = max(start_pfn, section_pfn), min(end_pfn, section_pfn + PAGES_PER_SECTION)
        if first < last and present_section(mm, section_pfn):
            yield first, last


@invented("a loop over whole sections, where C looks at each pageblock", traced=False)
def sections_between(start_pfn: int, end_pfn: int) -> tuple[int, ...]:
    """The first page frames of the sections at both ends of a hole: those between have no memory, so no memory map."""
    return tuple(sorted({round_down(start_pfn, PAGES_PER_SECTION), round_down(end_pfn - 1, PAGES_PER_SECTION)}))


@kernel("include/linux/mmzone.h", "present_section", traced=False)
def present_section(mm: Mm, section_pfn: int) -> bool:
    """Whether the section that starts at this page frame holds any memory: then it has a memory map."""
    end = section_pfn + PAGES_PER_SECTION
    return any(start < end and section_pfn < stop for start, stop, _ in for_each_mem_pfn_range(mm.boot.memblock))
