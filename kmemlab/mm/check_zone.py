"""The laws of a zone's free lists, as code: what is true after every operation, whatever it was."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kmemlab.mm.buddy import find_buddy_pfn, pageblocks_may_join
from kmemlab.mm.free_run import within_run
from kmemlab.mm.mem_map import MAX_ORDER, MIXED, PAGEBLOCK_ORDER, PAGES_PER_SECTION, page_zone_id
from kmemlab.mm.zone import NR_FREE_PAGES, Zone, free_blocks, zone_end_pfn
from kmemlab.sim.kernel import invented
from kmemlab.sim.recording import plain_column
from kmemlab.types.errors import KmemlabError
from kmemlab.types.migratetype import MIGRATE_TYPES

_SET = re.compile(rb"[^\0]", re.DOTALL)


class BrokenLaw(KmemlabError):
    """A law of the memory's state does not hold."""


@invented("a law is code beside the structure it speaks of", traced=False)
def check_zone(zone: Zone) -> None:
    """Every free block is on one list, whole, aligned, in its zone, counted, and joined with its buddy if that is free.

    Raises `BrokenLaw` that names the law and the block.
    """
    blocks = {}
    for order in range(MAX_ORDER):
        on_lists = 0
        for migratetype in range(MIGRATE_TYPES):
            for pfn in free_blocks(zone, order, migratetype):
                _check_block(zone, pfn, order)
                blocks[pfn] = order
                on_lists += 1
        if on_lists != zone.nr_free[order]:
            broken_law(zone, f"nr_free[{order}] is {zone.nr_free[order]}, but {on_lists} blocks are on the lists")
    _check_whole(zone, blocks)


def _check_block(zone: Zone, pfn: int, order: int) -> None:
    page = zone.page
    if not zone.zone_start_pfn <= pfn <= zone_end_pfn(zone) - (1 << order):
        broken_law(zone, f"the block at pfn {pfn}, order {order}, is not within the zone")
    if pfn & ((1 << order) - 1):
        broken_law(zone, f"the block at pfn {pfn} is not aligned to order {order}")
    if page.buddy[pfn] != 1 + order and not within_run(zone.runs, pfn):
        broken_law(
            zone, f"the block at pfn {pfn} is on a list of order {order}, but its page says {page.buddy[pfn] - 1}"
        )
    if page.owned[pfn]:
        broken_law(zone, f"the block at pfn {pfn} is free and held at once")
    if order < MAX_ORDER - 1:
        buddy_pfn = find_buddy_pfn(pfn, order)
        joinable = page.buddy[buddy_pfn] == 1 + order and page_zone_id(page, buddy_pfn) == zone.slot
        if joinable and (order < PAGEBLOCK_ORDER or pageblocks_may_join(zone, pfn, buddy_pfn)):
            broken_law(zone, f"pfn {pfn} and its buddy {buddy_pfn} are both free at order {order}, but not joined")


def _check_whole(zone: Zone, blocks: dict[int, int]) -> None:
    """The blocks don't overlap, no page claims to head one that is on no list, and the zone's counter is their sum."""
    end = zone.zone_start_pfn
    for pfn in sorted(blocks):
        if pfn < end:
            broken_law(zone, f"the block at pfn {pfn} overlaps the one before it")
        end = pfn + (1 << blocks[pfn])
    lost = set(_marked(zone)) - set(blocks)
    if lost:
        broken_law(zone, f"pfn {min(lost)} says it heads a free block, but it is on no list")
    pages = sum(1 << order for order in blocks.values())
    if zone.vm_stat[NR_FREE_PAGES] != pages:
        broken_law(zone, f"NR_FREE_PAGES is {zone.vm_stat[NR_FREE_PAGES]}, but the lists hold {pages} pages")


def _marked(zone: Zone) -> Iterator[int]:
    """The pages of the zone that say they head a free block; stretches without a memory map are passed over."""
    buddy, slots = plain_column(zone.page.buddy), plain_column(zone.page.section_slot)
    for first in range(zone.zone_start_pfn & -PAGES_PER_SECTION, zone_end_pfn(zone), PAGES_PER_SECTION):
        if slots[first // PAGES_PER_SECTION] in (zone.slot, MIXED):
            for found in _SET.finditer(bytes(buddy[first : first + PAGES_PER_SECTION])):
                if page_zone_id(zone.page, first + found.start()) == zone.slot:
                    yield first + found.start()


@invented("conservation: an expand() that loses pages passes every check of structure", traced=False)
def check_conservation(zone: Zone) -> None:
    """Every managed page is free, or on a CPU's list, or held by somebody: none is lost, none is there twice.

    Raises `BrokenLaw` with the four figures.
    """
    free, pcp, owned = zone.vm_stat[NR_FREE_PAGES], sum(zone.per_cpu_pageset.count), zone.nr_owned
    lost = zone.managed_pages - free - pcp - owned
    if lost:
        broken_law(
            zone,
            f"managed {zone.managed_pages} ≠ free {free} + on per-CPU lists {pcp} + held {owned}: {lost} lost",
        )


@invented("errors that teach", traced=False)
def broken_law(zone: Zone, law: str) -> None:
    """Raise `BrokenLaw` for a law of this zone."""
    raise BrokenLaw(
        law,
        where=f"zone {zone.name} of node {zone.node}",
        remedy="step back through the timeline to the write that broke it",
    )
