"""The laws of the LRU lists, as code: what is true of them between any two commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NoReturn

from kmemlab.mm.check_zone import BrokenLaw, sections_but_runs
from kmemlab.mm.folio_batch import LRU_ADD, NR_FOLIO_BATCHES, folio_batch
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.lruvec import EVICTABLE_LRUS, LRU_UNEVICTABLE, NR_LRU_LISTS, NR_ZONE_LRU_BASE, folio_lru_list
from kmemlab.mm.mem_map import PAGES_PER_SECTION, page_zone_id
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.vmstat import NODE_STAT_NAMES, NR_ISOLATED
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.recording import plain_column
from kmemlab.types.pageflags import PG_active, PG_lru, PG_unevictable


@invented("a law is code beside the structure it speaks of", traced=False)
def check_lru(mm: Mm) -> None:
    """Every page on a list is on one only, which its flags say, held and referred to, and counted; none is lost.

    Pages in a batch are referred to, and nothing stays isolated. Raises `BrokenLaw` that names the law and the page.
    """
    where: dict[int, int] = {}
    for pgdat in mm.node_data:
        if mm.page.lru.next[pgdat.lruvec.head]:  # before boot has made the lists, a head points at page 0
            for lru in EVICTABLE_LRUS:
                _check_list(mm, pgdat, lru, where)
    _check_flagged(mm, where)
    _check_counters(mm, where)
    _check_batches(mm)


def _check_list(mm: Mm, pgdat: PglistData, lru: int, where: dict[int, int]) -> None:
    page = mm.page
    for pfn in list_for_each(page.lru, pgdat.lruvec.head + lru):
        if not 0 <= pfn < page.max_pfn or folio_pgdat(mm, pfn) is not pgdat:
            _broken(pgdat.node_id, f"pfn {pfn} is on list {lru} of a node that it does not belong to")
        if pfn in where:
            _broken(pgdat.node_id, f"pfn {pfn} is on list {lru} and also on list {where[pfn]}")
        if not page_has_flag(page, pfn, PG_lru):
            _broken(pgdat.node_id, f"pfn {pfn} is on list {lru}, but has no PG_lru")
        if folio_lru_list(page, pfn) != lru:
            _broken(pgdat.node_id, f"pfn {pfn} is on list {lru}, but its flags say {folio_lru_list(page, pfn)}")
        where[pfn] = lru


def _check_flagged(mm: Mm, where: dict[int, int]) -> None:
    """Every page with PG_lru is on a list or unevictable; it is held, and somebody refers to it."""
    page = mm.page
    for pfn in _pages_with(mm, 1 << PG_lru):
        if page_has_flag(page, pfn, PG_unevictable) and pfn not in where:
            where[pfn] = LRU_UNEVICTABLE
            if page_has_flag(page, pfn, PG_active):
                _broken(folio_pgdat(mm, pfn).node_id, f"pfn {pfn} is active and unevictable at once")
        if pfn not in where:
            _broken(folio_pgdat(mm, pfn).node_id, f"pfn {pfn} says that it is on a list, but is on none")
        if not page.owned[pfn] or page.refcount[pfn] < 1:
            _broken(folio_pgdat(mm, pfn).node_id, f"pfn {pfn} is on list {where[pfn]}, and nobody holds it")


def _pages_with(mm: Mm, bits: int) -> Iterator[int]:
    """The pages that have some of these flags; sections that nobody touched are passed over."""
    flags = plain_column(mm.page.flags)
    empty = bytes(PAGES_PER_SECTION * 4)
    for first in sorted({first for zone in mm.populated_zones() for first in sections_but_runs(zone)}):
        section = flags[first : first + PAGES_PER_SECTION]
        if mm.page.section_slot[first // PAGES_PER_SECTION] and section.cast("B") != empty:
            yield from (first + at for at, word in enumerate(section) if word & bits)


def _check_counters(mm: Mm, where: dict[int, int]) -> None:
    of_zone: Counter[tuple[int, int]] = Counter((page_zone_id(mm.page, pfn), lru) for pfn, lru in where.items())
    for pgdat in mm.node_data:
        for lru in range(NR_LRU_LISTS):
            for zone in pgdat.node_zones:
                counted, there = zone.vm_stat[NR_ZONE_LRU_BASE + lru], of_zone[zone.slot, lru]
                if counted != there:
                    _broken(pgdat.node_id, f"zone {zone.name} counts {counted} pages on list {lru}, there are {there}")
            total = sum(zone.vm_stat[NR_ZONE_LRU_BASE + lru] for zone in pgdat.node_zones)
            if pgdat.vm_stat[lru] != total:
                _broken(pgdat.node_id, f"the node counts {pgdat.vm_stat[lru]} pages on list {lru}, its zones {total}")
        for item in NR_ISOLATED:
            if pgdat.vm_stat[item]:
                _broken(pgdat.node_id, f"{pgdat.vm_stat[item]} pages are still isolated: {NODE_STAT_NAMES[item]}")


def _check_batches(mm: Mm) -> None:
    adding: set[int] = set()
    for cpu in range(mm.cpu_fbatches.nr_cpus):
        for kind in range(NR_FOLIO_BATCHES):
            for pfn in folio_batch(mm.cpu_fbatches, cpu, kind):
                if not mm.page.owned[pfn] or mm.page.refcount[pfn] < 1:
                    _broken(
                        folio_pgdat(mm, pfn).node_id, f"pfn {pfn} waits in a batch of CPU {cpu}, and nobody holds it"
                    )
                if kind == LRU_ADD and (page_has_flag(mm.page, pfn, PG_lru) or pfn in adding):
                    _broken(folio_pgdat(mm, pfn).node_id, f"pfn {pfn} waits to be added, and is on a list already")
                if kind == LRU_ADD:
                    adding.add(pfn)


def _broken(node: int, law: str) -> NoReturn:
    raise BrokenLaw(law, where=f"LRU lists of node {node}")
