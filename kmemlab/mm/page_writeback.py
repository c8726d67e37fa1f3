"""mm/page-writeback.c: is a page changed, is it being written, and how many may be.

             folio_mark_dirty              writepage                     the disk is done
clean ──────────────────────────▶ dirty ───────────────▶ writeback ───────────────────────▶ clean
                                    tag DIRTY in the mapping    tag WRITEBACK

                  10 % of what could be cache      15 %            20 %
dirty pages  ──────────────┼────────────────────────┼───────────────┼──▶
                           the flusher starts       writers wait    and must never come here
"""

from __future__ import annotations

from kmemlab.mm.address_space import PAGECACHE_TAG_DIRTY, PAGECACHE_TAG_WRITEBACK
from kmemlab.mm.globals import Mm
from kmemlab.mm.highmem import highmem_zones
from kmemlab.mm.lru import folio_rotate_reclaimable
from kmemlab.mm.lru_list import folio_pgdat, folio_zone
from kmemlab.mm.lruvec import LRU_ACTIVE_FILE, LRU_INACTIVE_FILE, NR_ZONE_LRU_BASE
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_has_flag, page_ref_inc, set_page_flag_first, take_page_flag
from kmemlab.mm.rmap_table import folio_mkclean
from kmemlab.mm.vmstat import (
    NR_DIRTIED,
    NR_FILE_DIRTY,
    NR_THROTTLED_WRITTEN,
    NR_WRITEBACK,
    NR_WRITTEN,
    NR_ZONE_WRITE_PENDING,
)
from kmemlab.mm.xarray import xa_clear_mark, xa_set_mark
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH
from kmemlab.mm.zone_watermark_ok import wmark_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_dirty, PG_reclaim, PG_swapbacked, PG_writeback
from kmemlab.types.units import PAGE_SIZE


@invented("C counts node and zone by two calls each time", traced=False)
def count_pending(mm: Mm, pfn: int, item: int, nr_pages: int) -> None:
    """Count a page into a counter of its node, and as one that is still to be written into its zone's."""
    zone = folio_zone(mm, pfn)
    zone.vm_stat[NR_ZONE_WRITE_PENDING] += nr_pages
    mm.node_data[zone.node].vm_stat[item] += nr_pages


@kernel("mm/page-writeback.c", "folio_mark_dirty", formerly=("set_page_dirty", "__set_page_dirty_nobuffers"))
def folio_mark_dirty(mm: Mm, pfn: int) -> bool:
    """What stands in a page of a mapping was changed; whether it was clean before."""
    mm.page.flags[pfn] &= ~(1 << PG_reclaim)  # it would be freed right after the write
    if not set_page_flag_first(mm.page, pfn, PG_dirty):
        return False
    if page_has_flag(mm.page, pfn, PG_swapbacked):
        return True  # only reclaim writes such pages: nobody counts them, or looks for them by a tag
    mapping, index = mm.page.mapping[pfn], mm.page.index[pfn]
    count_pending(mm, pfn, NR_FILE_DIRTY, 1)
    folio_pgdat(mm, pfn).vm_stat[NR_DIRTIED] += 1
    if not mm.mappings.dirtied_when[mapping]:
        mm.mappings.dirtied_when[mapping] = max(1, mm.current.jiffies)
    xa_set_mark(mm.mappings.i_pages, mapping, index, PAGECACHE_TAG_DIRTY)
    return True


@kernel("mm/page-writeback.c", "folio_clear_dirty_for_io", formerly=("clear_page_dirty_for_io",))
def folio_clear_dirty_for_io(mm: Mm, pfn: int) -> bool:
    """A page is about to be written: from now on a change makes it dirty anew. False if it was not dirty.

    A program that has written into its mapping makes the page dirty before it loses the right to do so unnoticed.
    """
    if page_has_flag(mm.page, pfn, PG_swapbacked):
        return take_page_flag(mm.page, pfn, PG_dirty)
    if folio_mkclean(mm, pfn):
        folio_mark_dirty(mm, pfn)
    if not take_page_flag(mm.page, pfn, PG_dirty):
        return False
    count_pending(mm, pfn, NR_FILE_DIRTY, -1)
    return True


@kernel("mm/page-writeback.c", "__folio_start_writeback", formerly=("set_page_writeback",))
def folio_start_writeback(mm: Mm, pfn: int) -> None:
    """The disk was asked to write a page."""
    assert set_page_flag_first(mm.page, pfn, PG_writeback), f"pfn {pfn} is being written already"
    count_pending(mm, pfn, NR_WRITEBACK, 1)
    if page_has_flag(mm.page, pfn, PG_swapbacked):
        return
    mapping, index, trees = mm.page.mapping[pfn], mm.page.index[pfn], mm.mappings.i_pages
    xa_set_mark(trees, mapping, index, PAGECACHE_TAG_WRITEBACK)
    if not page_has_flag(mm.page, pfn, PG_dirty):
        xa_clear_mark(trees, mapping, index, PAGECACHE_TAG_DIRTY)


@kernel("mm/filemap.c", "folio_end_writeback", formerly=("end_page_writeback",))
def folio_end_writeback(mm: Mm, pfn: int) -> None:
    """The disk has written a page; one that reclaim waits for goes where reclaim looks first."""
    if take_page_flag(mm.page, pfn, PG_reclaim):
        folio_rotate_reclaimable(mm, pfn)
    page_ref_inc(mm.page, pfn)
    assert take_page_flag(mm.page, pfn, PG_writeback), f"pfn {pfn} was not being written"
    if not page_has_flag(mm.page, pfn, PG_swapbacked):
        xa_clear_mark(mm.mappings.i_pages, mm.page.mapping[pfn], mm.page.index[pfn], PAGECACHE_TAG_WRITEBACK)
    count_pending(mm, pfn, NR_WRITEBACK, -1)
    pgdat = folio_pgdat(mm, pfn)
    pgdat.vm_stat[NR_WRITTEN] += 1
    if pgdat.nr_writeback_throttled:
        pgdat.vm_stat[NR_THROTTLED_WRITTEN] += 1
    put_page(mm, pfn)


# -- limits ------------------------------------------------------------------------------------------------------------


@invented("global_node_page_state", traced=False)
def global_node_page_state(mm: Mm, item: int) -> int:
    """A counter of all nodes together."""
    return sum(pgdat.vm_stat[item] for pgdat in mm.node_data)


@kernel("mm/page-writeback.c", "highmem_dirtyable_memory", traced=False)
def highmem_dirtyable_memory(mm: Mm, total: int) -> int:
    """How much of `total` pages lies in HighMem, where the kernel can't reach what it must write by itself."""
    pages = 0
    for zone in highmem_zones(mm):
        free = max(0, zone.vm_stat[NR_FREE_PAGES] - wmark_pages(zone, WMARK_HIGH))
        pages += free + sum(zone.vm_stat[NR_ZONE_LRU_BASE + lru] for lru in (LRU_INACTIVE_FILE, LRU_ACTIVE_FILE))
    return min(pages, total)


@kernel("mm/page-writeback.c", "global_dirtyable_memory")
def global_dirtyable_memory(mm: Mm) -> int:
    """How many pages could be dirty at most: free ones without the reserves, and the cache of files.

    HighMem counts only if vm.highmem_is_dirtyable says so.
    """
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.populated_zones())
    cache = sum(global_node_page_state(mm, lru) for lru in (LRU_INACTIVE_FILE, LRU_ACTIVE_FILE))
    total = max(0, free - mm.totalreserve_pages) + cache
    if mm.boot.config.highmem and not mm.vm_highmem_is_dirtyable:
        total -= highmem_dirtyable_memory(mm, total)
    return total + 1


@kernel("mm/page-writeback.c", "domain_dirty_limits", traced=False)
def dirty_limit(available: int, bytes_limit: int, ratio: int) -> int:
    """A limit in pages: the bytes that were set, rounded up, or else a part of what is available.

    >>> dirty_limit(1000, 0, 20), dirty_limit(1000, 5000, 0)  # 20 % are 819/4096
    (199, 2)
    """
    if bytes_limit:
        return -(-bytes_limit // PAGE_SIZE)
    return ratio * PAGE_SIZE // 100 * available // PAGE_SIZE


@kernel("mm/page-writeback.c", "global_dirty_limits", formerly=("get_dirty_limits",), left_out="real-time tasks")
def global_dirty_limits(mm: Mm) -> tuple[int, int]:
    """(from how many dirty pages on the flusher works, how many there may be)."""
    available = global_dirtyable_memory(mm)
    thresh = dirty_limit(available, mm.vm_dirty_bytes, mm.vm_dirty_ratio)
    background = dirty_limit(available, mm.dirty_background_bytes, mm.dirty_background_ratio)
    return background if background < thresh else thresh // 2, thresh
