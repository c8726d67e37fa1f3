"""The laws of the page cache, as code: a page and its mapping agree about each other, and the counters with both."""

from __future__ import annotations

from collections import Counter
from typing import NoReturn

from kmemlab.mm.address_space import PAGECACHE_TAG_DIRTY, PAGECACHE_TAG_WRITEBACK, is_swap_space
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.folio_batch import LRU_ADD, folio_batch
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.swap_state import folio_test_swapcache
from kmemlab.mm.vmstat import NODE_STAT_NAMES, NR_FILE_DIRTY, NR_FILE_PAGES, NR_WRITEBACK
from kmemlab.mm.xarray import xa_for_each, xa_get_mark, xa_is_value, xa_to_page
from kmemlab.sim.kernel import invented
from kmemlab.types.pageflags import PG_dirty, PG_lru, PG_swapbacked, PG_writeback


@invented("a law is code beside the structure it speaks of", traced=False)
def check_page_cache(mm: Mm) -> None:
    """Every page of a mapping is held, knows its place there, is on the LRU lists or on its way, and is counted.

    A page of a file that is dirty or being written is tagged so; pages of the swap cache have no tags. Raises
    `BrokenLaw` that names the law and the page.
    """
    there: Counter[tuple[int, int]] = Counter()
    waiting = {pfn for cpu in range(mm.cpu_fbatches.nr_cpus) for pfn in folio_batch(mm.cpu_fbatches, cpu, LRU_ADD)}
    for mapping in range(1, mm.mappings.nr_mappings + 1):
        pages = 0
        for index, entry in xa_for_each(mm.mappings.i_pages, mapping):
            if not xa_is_value(entry):
                pages += 1
                _check_page(mm, mapping, index, xa_to_page(entry), waiting)
                _count(mm, xa_to_page(entry), there)
        if pages != mm.mappings.nrpages[mapping]:
            _broken(mapping, f"it counts {mm.mappings.nrpages[mapping]} pages, but has {pages}")
    for pgdat in mm.node_data:
        for item in (NR_FILE_PAGES, NR_FILE_DIRTY, NR_WRITEBACK):
            counted, found = pgdat.vm_stat[item], there[pgdat.node_id, item]
            if counted != found:
                _broken(0, f"node {pgdat.node_id} counts {counted} in {NODE_STAT_NAMES[item]}, there are {found}")


def _check_page(mm: Mm, mapping: int, index: int, pfn: int, waiting: set[int]) -> None:
    page = mm.page
    swapcache = is_swap_space(mm.mappings, mapping)
    if swapcache and not folio_test_swapcache(mm, pfn):
        _broken(mapping, f"pfn {pfn} is its page {index}, but does not say that it is in the swap cache")
    if not swapcache and (page.mapping[pfn], page.index[pfn]) != (mapping, index):
        _broken(mapping, f"pfn {pfn} is its page {index}, but says page {page.index[pfn]} of {page.mapping[pfn]}")
    if not page.owned[pfn] or page.refcount[pfn] < 1:
        _broken(mapping, f"pfn {pfn} is its page {index}, and nobody holds it")
    if not page_has_flag(page, pfn, PG_lru) and pfn not in waiting:
        _broken(mapping, f"pfn {pfn} is on no LRU list, and not on its way to one")
    for flag, tag in ((PG_dirty, PAGECACHE_TAG_DIRTY), (PG_writeback, PAGECACHE_TAG_WRITEBACK)):
        tagged = swapcache or not page_has_flag(page, pfn, flag)
        if not tagged and not xa_get_mark(mm.mappings.i_pages, mapping, index, tag):
            _broken(mapping, f"pfn {pfn}, its page {index}, has flag {flag}, but is not tagged so")


def _count(mm: Mm, pfn: int, there: Counter[tuple[int, int]]) -> None:
    node = folio_pgdat(mm, pfn).node_id
    there[node, NR_FILE_PAGES] += 1
    there[node, NR_WRITEBACK] += page_has_flag(mm.page, pfn, PG_writeback)
    if not page_has_flag(mm.page, pfn, PG_swapbacked):
        there[node, NR_FILE_DIRTY] += page_has_flag(mm.page, pfn, PG_dirty)


def _broken(mapping: int, law: str) -> NoReturn:
    raise BrokenLaw(law, where=f"mapping {mapping}" if mapping else "the page cache")
