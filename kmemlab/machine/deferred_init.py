"""Struct pages put off: on a large machine most of the memory map is initialised, and its pages freed, late.

memblock_free_all         ██████░░░░░░░░░░░░░░░░░░░░    first_deferred_pfn: what is needed early
deferred_grow_zone        ████████░░░░░░░░░░░░░░░░░░    if that wasn't enough: a section more
page_alloc_init_late      ██████████████████████████    the rest, when there are more CPUs to do it
"""

from __future__ import annotations

from kmemlab.alloc.page_alloc import alloc_pages_inner, gfp_zone
from kmemlab.boot.memblock import for_each_free_mem_range, for_each_mem_pfn_range
from kmemlab.boot.numa import nodes_of
from kmemlab.mm.buddy import FPI_TO_TAIL, free_one_page
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER_NR_PAGES, PAGEBLOCK_ORDER, PAGES_PER_SECTION
from kmemlab.mm.node import ZONELIST_FALLBACK, pgdat_end_pfn
from kmemlab.mm.page_poison import treat_free_pages
from kmemlab.mm.vm_event import PGFREE
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    Zone,
    add_free_run,
    get_pageblock_migratetype,
    set_pageblocks,
    zone_end_pfn,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.migratetype import MIGRATE_UNMOVABLE
from kmemlab.types.units import U64_MAX, pfn_down, pfn_up, round_down


@invented("C reads the zone from the page's flags", traced=False)
def zone_of(mm: Mm, nid: int, pfn: int) -> Zone:
    """The zone of the node that holds a page frame of its memory."""
    for zone in mm.node_data[nid].node_zones:
        if zone.present_pages and zone.zone_start_pfn <= pfn < zone.zone_start_pfn + zone.spanned_pages:
            return zone
    # kernelcore=mirror rounds the start of ZONE_MOVABLE up and leaves ZONE_NORMAL empty; C frees the pages to ZONE_DMA.
    raise KernelPanic(
        f"page frame {pfn:#x} is in no zone of node {nid}",
        where="memblock_free_all",
        remedy="leave kernelcore=mirror out: no memory of this machine is mirrored",
    )


@kernel("mm/page_alloc.c", "__free_pages_core")
def free_pages_core(mm: Mm, zone: Zone, pfn: int, order: int) -> None:
    """The first time that a block becomes free: it is the zone's to manage from now on."""
    zone.managed_pages += 1 << order
    mm.vm_event[PGFREE] += 1 << order
    treat_free_pages(mm, pfn, 1 << order)
    # At the tail: what was there from boot stays whole longest.
    free_one_page(zone, pfn, order, get_pageblock_migratetype(mm.page, pfn), FPI_TO_TAIL)


@kernel("mm/page_alloc.c", "page_alloc_init_late", left_out="the other work of this function; shuffling")
def page_alloc_init_late(mm: Mm) -> None:
    """Free the pages that were deferred, node by node (C: one thread a node, at the same time)."""
    for nid in nodes_of(mm.numa.node_online):
        if mm.node_has_memory[nid]:
            deferred_init_memmap(mm, nid)


@kernel("mm/page_alloc.c", "deferred_init_memmap", left_out="threads; the time that it took")
def deferred_init_memmap(mm: Mm, nid: int) -> None:
    """Free what lies behind the node's first deferred page, up to the end of its last zone."""
    pgdat = mm.node_data[nid]
    first_init_pfn = pgdat.first_deferred_pfn
    if first_init_pfn == U64_MAX:
        return
    pgdat.first_deferred_pfn = U64_MAX
    leave_taken_unmovable(mm, nid, first_init_pfn, pgdat_end_pfn(pgdat))
    for start, end, _ in for_each_free_mem_range(mm.boot.memblock, nid=nid):
        start_pfn, end_pfn = max(pfn_up(start), first_init_pfn), pfn_down(end)
        if start_pfn < end_pfn:
            deferred_free_pages(mm, zone_of(mm, nid, start_pfn), start_pfn, end_pfn)


@invented("C makes a deferred pageblock movable when it frees its first page; ours are movable from the start")
def leave_taken_unmovable(mm: Mm, nid: int, start_pfn: int, end_pfn: int) -> None:
    """Pageblocks of the node within [start_pfn, end_pfn) whose first page somebody took early are unmovable."""
    free = [(pfn_up(start), pfn_down(end)) for start, end, _ in for_each_free_mem_range(mm.boot.memblock, nid=nid)]
    for first, last, _ in for_each_mem_pfn_range(mm.boot.memblock, nid):
        at, stop = max(first, start_pfn), min(last, end_pfn)
        for free_start, free_end in free:
            if at < free_end and free_start < stop:
                set_pageblocks(mm.page, at, free_start, MIGRATE_UNMOVABLE)
                at = free_end
        set_pageblocks(mm.page, at, stop, MIGRATE_UNMOVABLE)


@invented("lazy hand-over: a terabyte costs no more than a gigabyte until it is used")
def hand_over_run(mm: Mm, zone: Zone, pfn: int, end_pfn: int) -> bool:
    """Free whole blocks of the largest order as one run, in the order in which they would follow one another."""
    if not add_free_run(zone, pfn, end_pfn, get_pageblock_migratetype(mm.page, pfn)):
        return False
    zone.managed_pages += end_pfn - pfn
    treat_free_pages(mm, pfn, end_pfn - pfn)
    mm.vm_event[PGFREE] += end_pfn - pfn
    return True


@kernel("mm/page_alloc.c", "deferred_free_pages", formerly=("deferred_free_range",))
def deferred_free_pages(mm: Mm, zone: Zone, pfn: int, end_pfn: int) -> None:
    """Free whole pageblocks at once, and the ragged ends page by page."""
    whole = 1 << PAGEBLOCK_ORDER
    while pfn < end_pfn:
        if pfn % MAX_ORDER_NR_PAGES == 0 and pfn + MAX_ORDER_NR_PAGES < end_pfn:
            untouched = round_down(end_pfn, MAX_ORDER_NR_PAGES)
            if hand_over_run(mm, zone, pfn, untouched):
                pfn = untouched
                continue
        order = PAGEBLOCK_ORDER if pfn % whole == 0 and pfn + whole <= end_pfn else 0
        free_pages_core(mm, zone, pfn, order)
        pfn += 1 << order


@invented("get_page_from_freelist grows zones in between; only boot ever needs that, so it stands before it here")
def alloc_pages_early(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
    """A block for boot, as `alloc_pages_inner`: zones asked before one that can give are grown first."""
    zonelist, highest = mm.node_data[nid].node_zonelists[ZONELIST_FALLBACK], gfp_zone(mm, gfp)
    for entry in range(zonelist.count):
        if zonelist.zone_idx[entry] <= highest:
            zone = mm.node_data[zonelist.nid[entry]].node_zones[zonelist.zone_idx[entry]]
            if zone.vm_stat[NR_FREE_PAGES] >> order or deferred_grow_zone(mm, zone, order):
                break
    return alloc_pages_inner(mm, gfp, order, nid)


@kernel("mm/page_alloc.c", "deferred_grow_zone", lock="pgdat->node_size_lock")
def deferred_grow_zone(mm: Mm, zone: Zone, order: int) -> bool:
    """Free a section's worth of the zone's deferred pages; False if it has none."""
    pgdat = mm.node_data[zone.node]
    first = pgdat.first_deferred_pfn
    if zone_end_pfn(zone) != pgdat_end_pfn(pgdat) or first == U64_MAX:
        return False
    ranges = free_pfn_ranges(mm, zone, first)
    if not ranges:
        pgdat.first_deferred_pfn = U64_MAX
        return True
    leave_taken_unmovable(mm, zone.node, first, zone_end_pfn(zone))
    needed = -(-(1 << order) // PAGES_PER_SECTION) * PAGES_PER_SECTION
    nr_pages = 0
    followers = [start for start, _ in ranges[1:]] + [U64_MAX]
    for (start, end), next_start in zip(ranges, followers, strict=True):
        while start < end:
            step = min((start // MAX_ORDER_NR_PAGES + 1) * MAX_ORDER_NR_PAGES, end)
            deferred_free_pages(mm, zone, start, step)
            nr_pages += step - start
            following = step if step < end else next_start
            if start // PAGES_PER_SECTION != following // PAGES_PER_SECTION and nr_pages >= needed:
                pgdat.first_deferred_pfn = following
                return True
            start = step
    pgdat.first_deferred_pfn = U64_MAX
    return nr_pages > 0


@kernel("mm/page_alloc.c", "deferred_init_mem_pfn_range_in_zone", traced=False)
def free_pfn_ranges(mm: Mm, zone: Zone, first: int) -> list[tuple[int, int]]:
    """The free ranges of the zone from page frame `first` on."""
    ranges = []
    for start, end, _ in for_each_free_mem_range(mm.boot.memblock, nid=zone.node):
        start_pfn, end_pfn = max(pfn_up(start), first, zone.zone_start_pfn), min(pfn_down(end), zone_end_pfn(zone))
        if start_pfn < end_pfn:
            ranges.append((start_pfn, end_pfn))
    return ranges
