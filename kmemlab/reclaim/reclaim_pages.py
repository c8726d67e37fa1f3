"""reclaim_pages: free these pages, not just any; their owner said that they are cold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from kmemlab.mm.context import PF_MEMALLOC
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_putback_lru
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_state import clear_page_flag
from kmemlab.reclaim.scan_control import ReclaimStat, ScanControl
from kmemlab.reclaim.shrink_list import shrink_folio_list
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.pageflags import PG_active


@kernel("mm/vmscan.c", "reclaim_folio_list", formerly=("reclaim_page_list",))
def reclaim_folio_list(mm: Mm, pgdat: PglistData, folios: Sequence[int]) -> int:
    """Free isolated pages of one node; those that stay go back to their lists. Returns how many were freed."""
    nr_reclaimed, kept = shrink_folio_list(mm, pgdat, folios, ScanControl(GFP_KERNEL), ReclaimStat())
    for pfn in kept:
        folio_putback_lru(mm, pfn)
    return nr_reclaimed


@kernel("mm/vmscan.c", "reclaim_pages")
def reclaim_pages(mm: Mm, folios: Sequence[int]) -> int:
    """Free isolated pages; returns how many. Dirty ones are written now, and can be freed another time."""
    before = mm.current.flags
    mm.current.flags = before | PF_MEMALLOC  # who frees pages must not begin to free pages for itself
    nr_reclaimed = 0

    def node_of(pfn: int) -> int:
        return folio_pgdat(mm, pfn).node_id

    for nid, group in groupby(folios, node_of):
        of_node = list(group)
        for pfn in of_node:
            clear_page_flag(mm.page, pfn, PG_active)
        nr_reclaimed += reclaim_folio_list(mm, mm.node_data[nid], of_node)
    mm.current.flags = before
    return nr_reclaimed
