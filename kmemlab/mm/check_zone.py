"""The laws of a zone's free lists, as code: what is true after every operation, whatever it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

from kmemlab.mm.buddy import find_buddy_pfn, pageblocks_may_join
from kmemlab.mm.free_run import run_of
from kmemlab.mm.mem_map import (
    MAX_ORDER,
    MAX_ORDER_NR_PAGES,
    MIXED,
    PAGEBLOCK_ORDER,
    PAGES_PER_SECTION,
    page_zone_id,
)
from kmemlab.mm.zone import NR_FREE_PAGES, Zone, zone_end_pfn
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.recording import plain_column
from kmemlab.types.errors import KmemlabError
from kmemlab.types.units import round_down, round_up

_SET = re.compile(rb"[^\0]", re.DOTALL)


class BrokenLaw(KmemlabError):
    """A law of the memory's state does not hold: a write before this moment broke it, here in `where`."""

    def __init__(self, law: str, *, where: str) -> None:
        super().__init__(
            law, where=where, remedy="record, and step back through the timeline to the write that broke it"
        )


@invented("a law is code beside the structure it speaks of", traced=False)
def check_zone(zone: Zone) -> None:
    """Every free block is on one list, whole, aligned, in its zone, counted, and joined with its buddy if that is free.

    Raises `BrokenLaw` that names the law and the block.
    """
    free: dict[int, int] = {}  # page frames in a row that are free as one: the first, and how many
    for order in range(MAX_ORDER):
        on_lists = 0
        for head in zone.free_list[order]:
            for pfn in list_for_each(zone.page.lru, head):
                _check_block(zone, pfn, order)
                free[pfn] = _check_run(zone, pfn) if order == MAX_ORDER - 1 else 1 << order
                on_lists += free[pfn] >> order
        if on_lists != zone.nr_free[order]:
            broken_law(zone, f"nr_free[{order}] is {zone.nr_free[order]}, but {on_lists} blocks are on the lists")
    _check_whole(zone, free)


def _check_run(zone: Zone, pfn: int) -> int:
    """How many pages are free from a block of the largest order on: its own, or those of the run that it heads."""
    number = run_of(zone.runs, pfn)
    if number is None:
        return MAX_ORDER_NR_PAGES
    start, end = zone.runs.start[number], zone.runs.end[number]
    if start != pfn:
        broken_law(zone, f"the block at pfn {pfn} is threaded, but lies within the run from {start} on")
    if end % MAX_ORDER_NR_PAGES or end > zone_end_pfn(zone):
        broken_law(zone, f"the run from pfn {start} to {end} is not whole blocks of the zone")
    return end - start


def _check_block(zone: Zone, pfn: int, order: int) -> None:
    page = zone.page
    if not zone.zone_start_pfn <= pfn <= zone_end_pfn(zone) - (1 << order):
        broken_law(zone, f"the block at pfn {pfn}, order {order}, is not within the zone")
    if pfn & ((1 << order) - 1):
        broken_law(zone, f"the block at pfn {pfn} is not aligned to order {order}")
    if page.buddy[pfn] != 1 + order:
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


def _check_whole(zone: Zone, free: dict[int, int]) -> None:
    """No two overlap, no page claims to head a block that is on no list, and the zone's counter is their sum."""
    end = zone.zone_start_pfn
    for pfn in sorted(free):
        if pfn < end:
            broken_law(zone, f"the block at pfn {pfn} overlaps the one before it")
        end = pfn + free[pfn]
    lost = set(_marked(zone)) - set(free)
    if lost:
        broken_law(zone, f"pfn {min(lost)} says it heads a free block, but it is on no list")
    pages = sum(free.values())
    if zone.vm_stat[NR_FREE_PAGES] != pages:
        broken_law(zone, f"NR_FREE_PAGES is {zone.vm_stat[NR_FREE_PAGES]}, but the lists hold {pages} pages")


def _marked(zone: Zone) -> Iterator[int]:
    """The pages of the zone that say they head a free block.

    Stretches without a memory map are passed over, and sections that a run holds whole: nobody has touched those.
    """
    buddy, slots = plain_column(zone.page.buddy), plain_column(zone.page.section_slot)
    for first in sections_but_runs(zone):
        if slots[first // PAGES_PER_SECTION] in (zone.slot, MIXED):
            for found in _SET.finditer(bytes(buddy[first : first + PAGES_PER_SECTION])):
                if page_zone_id(zone.page, first + found.start()) == zone.slot:
                    yield first + found.start()


@invented("lazy hand-over: laws that look at every page need not look where nobody was", traced=False)
def sections_but_runs(zone: Zone) -> Iterator[int]:
    """The first page frames of the zone's sections, without those that lie in a run behind its first block."""
    at = round_down(zone.zone_start_pfn, PAGES_PER_SECTION)
    runs = sorted((zone.runs.start[nth] + MAX_ORDER_NR_PAGES, zone.runs.end[nth]) for nth in range(zone.runs.count))
    for start, end in [*runs, (zone_end_pfn(zone), zone_end_pfn(zone))]:
        yield from range(at, round_up(start, PAGES_PER_SECTION), PAGES_PER_SECTION)
        at = max(at, round_up(start, PAGES_PER_SECTION), round_down(end, PAGES_PER_SECTION))


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
def broken_law(zone: Zone, law: str) -> NoReturn:
    """Raise `BrokenLaw` for a law of this zone."""
    raise BrokenLaw(law, where=f"zone {zone.name} of node {zone.node}")
