"""mm/truncate.c: the pages of a file behind its new end go, whatever stands in them.

truncate_inode_pages    each page: locked, written as far as the disk is at it, out of the file; shadows go, too
"""

from __future__ import annotations

from kmemlab.mm.address_space import filemap_get_folio, indices_of
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_cache import filemap_remove_folio
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_ref_inc
from kmemlab.mm.wait import folio_lock, folio_unlock, folio_wait_writeback
from kmemlab.mm.xarray import xa_is_value, xa_load, xa_store
from kmemlab.sim.kernel import kernel


@kernel(
    "mm/truncate.c",
    "truncate_inode_pages_range",
    formerly=("truncate_inode_pages",),
    left_out="ends within a page; a first round that passes over pages which would have to be waited for",
)
def truncate_inode_pages(mm: Mm, mapping: int, start: int) -> None:
    """Drop the pages of a mapping from index `start` on. No page table may map them any more."""
    for index in indices_of(mm.mappings, mapping, start):
        pfn = filemap_get_folio(mm.mappings, mapping, index)
        if pfn is not None:
            page_ref_inc(mm.page, pfn)
            folio_lock(mm, pfn)
            if mm.page.mapping[pfn] == mapping:
                truncate_inode_folio(mm, pfn)
            folio_unlock(mm, pfn)
            put_page(mm, pfn)
        if xa_is_value(xa_load(mm.mappings.i_pages, mapping, index)):
            xa_store(mm.mappings.i_pages, mapping, index, 0)


@kernel("mm/truncate.c", "truncate_inode_folio", formerly=("truncate_inode_page", "truncate_cleanup_folio"))
def truncate_inode_folio(mm: Mm, pfn: int) -> None:
    """Take a locked page out of its file for good; nobody wants what was not written yet."""
    assert not mm.page.mapcount[pfn], f"pfn {pfn} is still mapped"
    folio_wait_writeback(mm, pfn)
    filemap_remove_folio(mm, pfn)
