"""Into the page cache and out of it: a page joins a mapping, or leaves it, perhaps with a shadow in its place.

references on a page of the cache      1 the mapping   + 1 whoever reads it   + 1 the batch that it waits in
"""

from __future__ import annotations

from kmemlab.mm.address_space import mapping_ops, mapping_store_folio, page_cache_delete
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_add_lru
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.lruvec import folio_is_file_lru
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_has_flag, page_ref_inc, set_page_flag
from kmemlab.mm.page_writeback import count_pending
from kmemlab.mm.swap_count import put_swap_folio
from kmemlab.mm.swap_state import delete_from_swap_cache_inner, folio_swap_entry, folio_test_swapcache
from kmemlab.mm.vmstat import NR_FILE_DIRTY, NR_FILE_PAGES, NR_SHMEM
from kmemlab.mm.workingset import workingset_eviction, workingset_refault
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import __GFP_WRITE
from kmemlab.types.pageflags import PG_dirty, PG_locked, PG_swapbacked, PG_writeback


@kernel("mm/filemap.c", "filemap_add_folio", formerly=("add_to_page_cache_lru",), lock="mapping->i_pages")
def filemap_add_folio(mm: Mm, mapping: int, pfn: int, index: int, gfp: int) -> None:
    """Make a new page page `index` of a mapping, locked, with a reference of its own, and on its way to the LRU lists.

    If it was here before and went too early, it comes as an active page; not if it will be overwritten anyway.
    """
    page = mm.page
    set_page_flag(page, pfn, PG_locked)
    page_ref_inc(page, pfn)
    page.mapping[pfn], page.index[pfn] = mapping, index
    shadow = mapping_store_folio(mm.mappings, mapping, index, pfn)
    folio_pgdat(mm, pfn).vm_stat[NR_FILE_PAGES] += 1
    if shadow is not None and not gfp & __GFP_WRITE:
        workingset_refault(mm, pfn, shadow)
    folio_add_lru(mm, pfn)


@kernel("mm/filemap.c", "__filemap_remove_folio", formerly=("__delete_from_page_cache",), lock="mapping->i_pages")
def filemap_remove_folio_inner(mm: Mm, pfn: int, shadow: int | None) -> None:
    """Take a locked page out of its mapping. The mapping's reference is the caller's now."""
    page = mm.page
    mapping, index = page.mapping[pfn], page.index[pfn]
    pgdat = folio_pgdat(mm, pfn)
    pgdat.vm_stat[NR_FILE_PAGES] -= 1
    if page_has_flag(page, pfn, PG_swapbacked):
        pgdat.vm_stat[NR_SHMEM] -= 1
    if page_has_flag(page, pfn, PG_dirty):  # the file goes too: nobody wants what was not written yet
        count_pending(mm, pfn, NR_FILE_DIRTY, -1)
        page.flags[pfn] &= ~(1 << PG_dirty)
    page_cache_delete(mm.mappings, mapping, index, shadow)
    page.mapping[pfn] = 0


@kernel("mm/filemap.c", "filemap_remove_folio", formerly=("delete_from_page_cache",))
def filemap_remove_folio(mm: Mm, pfn: int) -> None:
    """Take a locked page out of its mapping for good, and drop the mapping's reference."""
    mapping = mm.page.mapping[pfn]
    filemap_remove_folio_inner(mm, pfn, None)
    _tell(mm, mapping)
    put_page(mm, pfn)


@kernel("mm/vmscan.c", "__remove_mapping", lock="mapping->i_pages")
def remove_mapping_inner(mm: Mm, mapping: int, pfn: int, reclaimed: bool) -> bool:
    """Take a locked page out of its mapping if nobody but the mapping and the caller refers to it, and it is clean.

    The swap cache is a mapping, too.

    A page that is reclaimed leaves a shadow. On success nobody refers to the page any more.
    """
    page = mm.page
    if page.refcount[pfn] != 2 or page_has_flag(page, pfn, PG_dirty) or page_has_flag(page, pfn, PG_writeback):
        return False
    if folio_test_swapcache(mm, pfn):
        entry = folio_swap_entry(mm, pfn)
        delete_from_swap_cache_inner(mm, pfn, workingset_eviction(mm, pfn) if reclaimed else None)
        put_swap_folio(mm, entry)
        page.refcount[pfn] = 0
        return True
    shadow = workingset_eviction(mm, pfn) if reclaimed and folio_is_file_lru(page, pfn) else None
    filemap_remove_folio_inner(mm, pfn, shadow)
    _tell(mm, mapping)
    page.refcount[pfn] = 0
    return True


def _tell(mm: Mm, mapping: int) -> None:
    """Tell the kind of file that a page has left."""
    free_folio = mapping_ops(mm.mappings, mapping).free_folio
    if free_folio is not None:
        free_folio(mm, mapping)
