"""fs/fs-writeback.c: the flusher writes changed pages: old ones each 5 s, and more if they are many.

writer ─▶ balance_dirty_pages ── over the half-way mark ─▶ waits while the flusher works
flusher: more than dirty_background_ratio?  or somebody (reclaim, sync) asked?  or old data, each 5 s?
"""

from __future__ import annotations

from kmemlab.mm.address_space import (
    PAGECACHE_TAG_DIRTY,
    PAGECACHE_TAG_WRITEBACK,
    filemap_get_folio,
    indices_of,
    mapping_ops,
    pages_of,
)
from kmemlab.mm.context import HZ
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_has_flag, page_ref_inc
from kmemlab.mm.page_writeback import folio_clear_dirty_for_io, global_dirty_limits, global_node_page_state
from kmemlab.mm.vmstat import NR_FILE_DIRTY, NR_WRITEBACK
from kmemlab.mm.wait import DAEMONS, folio_lock, folio_trylock, folio_unlock, folio_wait_writeback, io_schedule
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_writeback

MAX_WRITEBACK_PAGES = 1024  # of one file before the next has its turn
CENTISECS = 100


@kernel("mm/page-writeback.c", "write_cache_pages", left_out="ranges, errors, write-back that goes round the file")
def write_cache_pages(mm: Mm, mapping: int, nr_to_write: int, wait: bool) -> int:
    """Ask for up to `nr_to_write` dirty pages of a mapping to be written; returns how many it were.

    With `wait`, pages that are being written already are waited for and then written once more, else passed over.
    """
    writepage = mapping_ops(mm.mappings, mapping).writepage
    assert writepage is not None, f"mapping {mapping} can't be written"
    written = 0
    for index in indices_of(mm.mappings, mapping, tag=PAGECACHE_TAG_DIRTY):
        pfn = filemap_get_folio(mm.mappings, mapping, index)
        if written == nr_to_write:
            break
        if pfn is None:
            continue  # written and reclaimed while we waited for another one
        page_ref_inc(mm.page, pfn)
        written += write_one_page(mm, mapping, pfn, wait)
        put_page(mm, pfn)
    if not any(True for _ in pages_of(mm.mappings, mapping, tag=PAGECACHE_TAG_DIRTY)):
        mm.mappings.dirtied_when[mapping] = 0
    return written


@invented("the body of the loop of write_cache_pages", traced=False)
def write_one_page(mm: Mm, mapping: int, pfn: int, wait: bool) -> bool:
    """Ask for a page to be written, if it is still dirty and still there."""
    if wait:
        folio_lock(mm, pfn)
        folio_wait_writeback(mm, pfn)
    elif page_has_flag(mm.page, pfn, PG_writeback) or not folio_trylock(mm, pfn):
        return False
    if mm.page.mapping[pfn] != mapping or not folio_clear_dirty_for_io(mm, pfn):
        folio_unlock(mm, pfn)
        return False
    writepage = mapping_ops(mm.mappings, mapping).writepage
    assert writepage is not None, f"mapping {mapping} can't be written"
    writepage(mm, pfn)
    return True


@kernel("mm/filemap.c", "filemap_write_and_wait_range", formerly=("filemap_write_and_wait",), left_out="ranges, errors")
def filemap_write_and_wait(mm: Mm, mapping: int) -> None:
    """Write the changed pages of a mapping, and wait until the disk has them."""
    write_cache_pages(mm, mapping, mm.mappings.nrpages[mapping], wait=True)
    for index in indices_of(mm.mappings, mapping, tag=PAGECACHE_TAG_WRITEBACK):
        pfn = filemap_get_folio(mm.mappings, mapping, index)
        if pfn is not None:
            page_ref_inc(mm.page, pfn)
            folio_wait_writeback(mm, pfn)
            put_page(mm, pfn)


@kernel("fs/fs-writeback.c", "wb_over_bg_thresh", formerly=("over_bground_thresh",))
def wb_over_bg_thresh(mm: Mm) -> bool:
    """Whether there are more dirty pages than are left alone."""
    return global_node_page_state(mm, NR_FILE_DIRTY) > global_dirty_limits(mm)[0]


@kernel(
    "fs/fs-writeback.c",
    "wb_writeback",
    left_out="sorting files by age; bandwidth; slices of a file after its first, which wait for the next time",
)
def wb_writeback(mm: Mm, oldest: int | None) -> int:
    """Write a part of each file in turn, all files or those whose first change is not later than jiffy `oldest`."""
    written = 0
    for mapping in range(1, mm.mappings.nr_mappings + 1):
        dirtied_when = mm.mappings.dirtied_when[mapping]
        if dirtied_when and (oldest is None or dirtied_when <= oldest):
            written += write_cache_pages(mm, mapping, MAX_WRITEBACK_PAGES, wait=False)
    return written


@kernel("fs/fs-writeback.c", "wb_workfn", formerly=("bdi_writeback_workfn", "pdflush"))
def wb_workfn(mm: Mm) -> None:
    """What the flusher does this jiffy: what was asked for, else too many dirty pages, else every 5 s old ones."""
    if not global_node_page_state(mm, NR_FILE_DIRTY):
        mm.wb_start_all = 0
        return
    interval = max(1, mm.dirty_writeback_interval * HZ // CENTISECS)
    if mm.wb_start_all or wb_over_bg_thresh(mm):
        mm.wb_start_all = 0
        wb_writeback(mm, None)
    elif mm.dirty_writeback_interval and mm.current.jiffies % interval == 0:
        wb_writeback(mm, mm.current.jiffies - mm.dirty_expire_interval * HZ // CENTISECS)


DAEMONS["flusher"] = wb_workfn


@kernel(
    "mm/page-writeback.c",
    "balance_dirty_pages",
    left_out="how long each writer waits, which C steers by the speed of the disk; limits of each disk",
)
def balance_dirty_pages(mm: Mm) -> None:
    """Who changes pages waits while more than half-way from the lower to the upper limit are dirty or being written."""
    while True:
        background, thresh = global_dirty_limits(mm)
        dirty = global_node_page_state(mm, NR_FILE_DIRTY)
        if dirty + global_node_page_state(mm, NR_WRITEBACK) <= (background + thresh) // 2:
            return
        mm.wb_start_all = 1
        io_schedule(mm)


@kernel("fs/sync.c", "ksys_sync", left_out="file systems' own work")
def ksys_sync(mm: Mm) -> int:
    """Write all dirty pages and wait until the disk has them; returns how many it were."""
    written = sum(
        write_cache_pages(mm, mapping, mm.mappings.nrpages[mapping], wait=True)
        for mapping in range(1, mm.mappings.nr_mappings + 1)
    )
    while global_node_page_state(mm, NR_WRITEBACK):
        io_schedule(mm)
    return written
