"""Off the tail of an LRU list into reclaim's hands, and back to the lists what could not go."""

from __future__ import annotations

from collections.abc import Sequence

from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_evictable, folio_putback_lru
from kmemlab.mm.lru_list import folio_clear_lru_flags, folio_zone, lruvec_add_folio, update_lru_size
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_free import free_unref_page_list
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, page_ref_dec_and_test, page_ref_inc, set_page_flag
from kmemlab.mm.vm_event import PGSCAN_SKIP
from kmemlab.mm.workingset import workingset_age_nonresident
from kmemlab.reclaim.scan_control import ScanControl
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add, list_del
from kmemlab.types.pageflags import PG_active, PG_lru


@invented("folio_zonenum for pages whose zone is known to be there", traced=False)
def zone_index(mm: Mm, pfn: int) -> int:
    """The index of a page's zone within its node."""
    return folio_zone(mm, pfn).index


@kernel("mm/vmscan.c", "isolate_lru_folios", formerly=("isolate_lru_pages",), lock="lruvec->lru_lock")
def isolate_lru_folios(mm: Mm, pgdat: PglistData, nr_to_scan: int, lru: int, sc: ScanControl) -> tuple[list[int], int]:
    """Take up to `nr_to_scan` pages off the tail of a list; returns them, oldest first, and how many were looked at.

    Pages of zones that don't help go to the head of the list, uncounted; mapped ones only if they may not be unmapped.
    """
    page, links, head = mm.page, mm.page.lru, pgdat.lruvec.head + lru
    taken: list[int] = []
    skipped: list[int] = []
    scan = 0
    while scan < nr_to_scan and links.prev[head] != head:
        pfn = links.prev[head]
        list_del(links, pfn)
        if zone_index(mm, pfn) > sc.reclaim_idx:
            skipped.append(pfn)
            continue
        scan += 1
        if not sc.may_unmap and page.mapcount[pfn]:
            list_add(links, pfn, head)
            continue
        page_ref_inc(page, pfn)
        update_lru_size(mm, pfn, lru, -1)
        clear_page_flag(page, pfn, PG_lru)
        taken.append(pfn)
    for pfn in skipped:
        list_add(links, pfn, head)
        mm.vm_event[PGSCAN_SKIP + zone_index(mm, pfn)] += 1
    return taken, scan + len(skipped)


@kernel("mm/vmscan.c", "move_folios_to_lru", formerly=("move_pages_to_lru",), lock="lruvec->lru_lock")
def move_folios_to_lru(mm: Mm, pgdat: PglistData, folios: Sequence[int]) -> int:
    """Give isolated pages back to the heads of their lists, in this order; returns how many came there.

    A page that nobody but reclaim refers to any more is freed.
    """
    page, moved, to_free = mm.page, 0, []
    for pfn in folios:
        if not folio_evictable(mm, pfn):
            folio_putback_lru(mm, pfn)
            continue
        if page_ref_dec_and_test(page, pfn):
            folio_clear_lru_flags(page, pfn)
            to_free.append(pfn)
            continue
        set_page_flag(page, pfn, PG_lru)
        lruvec_add_folio(mm, pfn)
        moved += 1
        if page_has_flag(page, pfn, PG_active):
            workingset_age_nonresident(pgdat.lruvec, 1)
    free_unref_page_list(mm, to_free[::-1])  # C puts each before the others
    return moved
