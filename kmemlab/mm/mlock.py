"""mm/mlock.c: pages that programs have locked into memory. Reclaim never sees them: they are on no list.

mlock_folio ─▶ PG_mlocked, nr_mlock + 1 ─▶ off its LRU list, PG_unevictable      munlock_page ─▶ and back again

How many VM_LOCKED mappings a page has stands in `lru.prev`, which nobody uses while the page is on no list.
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_add_lru, folio_evictable
from kmemlab.mm.lru_list import folio_zone, lruvec_add_folio, lruvec_del_folio
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, set_page_flag, set_page_flag_first, take_page_flag
from kmemlab.mm.vm_event import (
    UNEVICTABLE_PGCULLED,
    UNEVICTABLE_PGMLOCKED,
    UNEVICTABLE_PGMUNLOCKED,
    UNEVICTABLE_PGRESCUED,
    UNEVICTABLE_PGSTRANDED,
)
from kmemlab.mm.vmstat import NR_MLOCK
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_active, PG_lru, PG_mlocked, PG_unevictable
from kmemlab.types.vm_flags import VM_LOCKED


@kernel("mm/mlock.c", "mlock_folio", formerly=("mlock_page", "mlock_vma_page"), left_out="batches: it is done at once")
def mlock_folio(mm: Mm, pfn: int) -> None:
    """One VM_LOCKED mapping more has a page: it must stay in memory."""
    if set_page_flag_first(mm.page, pfn, PG_mlocked):
        count_mlocked(mm, pfn, 1)
        mm.vm_event[UNEVICTABLE_PGMLOCKED] += 1
    mlock_lru(mm, pfn)


@kernel("mm/mlock.c", "__mlock_page", lock="lruvec->lru_lock")
def mlock_lru(mm: Mm, pfn: int) -> None:
    """Take a locked page off its list; if it is on none, whoever puts it back will see that it is locked."""
    page = mm.page
    if not page_has_flag(page, pfn, PG_lru):
        return
    if page_has_flag(page, pfn, PG_unevictable):
        page.lru.prev[pfn] += 1
        return
    lruvec_del_folio(mm, pfn)
    clear_page_flag(page, pfn, PG_active)
    set_page_flag(page, pfn, PG_unevictable)
    page.lru.prev[pfn] = 1
    lruvec_add_folio(mm, pfn)
    mm.vm_event[UNEVICTABLE_PGCULLED] += 1


@kernel("mm/mlock.c", "mlock_new_page", formerly=("__mlock_new_page",), left_out="batches: it is done at once")
def mlock_new_page(mm: Mm, pfn: int) -> None:
    """A new page of a VM_LOCKED mapping: it comes to no list at all."""
    page = mm.page
    set_page_flag(page, pfn, PG_mlocked)
    count_mlocked(mm, pfn, 1)
    mm.vm_event[UNEVICTABLE_PGMLOCKED] += 1
    set_page_flag(page, pfn, PG_unevictable)
    page.lru.prev[pfn] = 1
    mm.vm_event[UNEVICTABLE_PGCULLED] += 1
    lruvec_add_folio(mm, pfn)
    set_page_flag(page, pfn, PG_lru)


@kernel("mm/mlock.c", "munlock_page", formerly=("munlock_vma_page", "__munlock_page"), left_out="batches")
def munlock_page(mm: Mm, pfn: int) -> None:
    """One VM_LOCKED mapping less has a page; without any it may be reclaimed again."""
    page = mm.page
    isolated = page_has_flag(page, pfn, PG_lru)
    unevictable = page_has_flag(page, pfn, PG_unevictable)
    if isolated and unevictable:
        # Locked while it was on no list, a page may have been counted too seldom: reclaim mends that.
        page.lru.prev[pfn] = max(0, page.lru.prev[pfn] - 1)
        if page.lru.prev[pfn]:
            return
    if take_page_flag(page, pfn, PG_mlocked):
        count_mlocked(mm, pfn, -1)
        mm.vm_event[UNEVICTABLE_PGMUNLOCKED if isolated or not unevictable else UNEVICTABLE_PGSTRANDED] += 1
    if isolated and unevictable and folio_evictable(mm, pfn):
        lruvec_del_folio(mm, pfn)
        clear_page_flag(page, pfn, PG_unevictable)
        lruvec_add_folio(mm, pfn)
        mm.vm_event[UNEVICTABLE_PGRESCUED] += 1


@invented("C counts in each of the three", traced=False)
def count_mlocked(mm: Mm, pfn: int, nr_pages: int) -> None:
    """Count locked pages of the page's zone."""
    folio_zone(mm, pfn).vm_stat[NR_MLOCK] += nr_pages


# -- what those call who map and unmap ---------------------------------------------------------------------------------


@kernel("mm/internal.h", "mlock_vma_page", formerly=("mlock_vma_folio",), traced=False)
def mlock_vma_page(mm: Mm, pfn: int, vm_flags: int) -> None:
    """A page was mapped in a VMA with these flags; C calls it at the end of page_add_file_rmap and its like."""
    if vm_flags & VM_LOCKED:
        mlock_folio(mm, pfn)


@kernel("mm/internal.h", "munlock_vma_page", traced=False)
def munlock_vma_page(mm: Mm, pfn: int, vm_flags: int) -> None:
    """A page is mapped no longer in a VMA with these flags; C calls it at the end of page_remove_rmap."""
    if vm_flags & VM_LOCKED:
        munlock_page(mm, pfn)


@kernel("mm/swap.c", "lru_cache_add_inactive_or_unevictable", formerly=("lru_cache_add_active_or_unevictable",))
def lru_cache_add_inactive_or_unevictable(mm: Mm, pfn: int, vm_flags: int) -> None:
    """A new page of a program is on its way to the lists, or is locked right away."""
    if vm_flags & VM_LOCKED:
        mlock_new_page(mm, pfn)
    else:
        folio_add_lru(mm, pfn)
