"""Direct compaction: a request for several pages in a row makes its block itself, and judges whether to try once more.

priority   ASYNC ─▶ SYNC_LIGHT ─▶ SYNC_FULL      it tries harder when it was stopped, or has tried too often in vain
           first    after reclaim  at last, and only for up to 8 pages
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.alloc.compaction import try_to_compact_pages
from kmemlab.alloc.freelist import get_page_from_freelist
from kmemlab.alloc.prep_page import prep_new_page
from kmemlab.mm.compact_control import DEF_COMPACT_PRIORITY, MIN_COMPACT_COSTLY_PRIORITY, MIN_COMPACT_PRIORITY
from kmemlab.mm.compaction_defer import compaction_defer_reset
from kmemlab.mm.compaction_suitable import (
    CompactResult,
    compaction_failed,
    compaction_made_progress,
    compaction_needs_reclaim,
    compaction_withdrawn,
)
from kmemlab.mm.context import PF_MEMALLOC
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import folio_zone
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.vm_event import COMPACTFAIL, COMPACTSTALL, COMPACTSUCCESS
from kmemlab.sim.kernel import invented, kernel

MAX_COMPACT_RETRIES = 16


@invented("three local variables of __alloc_pages_slowpath", traced=False)
@dataclass
class CompactAttempts:
    """What compaction came to for one request so far, and how hard it is to try next."""

    priority: int = DEF_COMPACT_PRIORITY
    result: CompactResult = CompactResult.SKIPPED
    retries: int = 0


@kernel("mm/page_alloc.c", "__alloc_pages_direct_compact", left_out="pressure stall times")
def alloc_pages_direct_compact(
    mm: Mm, gfp: int, order: int, alloc_flags: int, nid: int, priority: int
) -> tuple[int | None, CompactResult]:
    """Compact, and take the block if there is one now; the block, and what compaction came to.

    Whoever compacts may use the last pages, and must not free pages for itself meanwhile.
    """
    if not order:
        return None, CompactResult.SKIPPED
    before = mm.current.flags
    mm.current.flags = before | PF_MEMALLOC
    result, pfn = try_to_compact_pages(mm, gfp, order, alloc_flags, nid, priority)
    mm.current.flags = mm.current.flags & ~PF_MEMALLOC | before & PF_MEMALLOC
    if result is CompactResult.SKIPPED:
        return None, result
    mm.vm_event[COMPACTSTALL] += 1
    if pfn is not None:
        prep_new_page(mm, folio_zone(mm, pfn), pfn, order, gfp)
    else:
        pfn = get_page_from_freelist(mm, gfp, order, alloc_flags, nid)
    if pfn is None:
        mm.vm_event[COMPACTFAIL] += 1
        return None, result
    zone = folio_zone(mm, pfn)
    zone.compact_blockskip_flush = 0
    compaction_defer_reset(zone, order, True)
    mm.vm_event[COMPACTSUCCESS] += 1
    return pfn, result


@kernel("mm/page_alloc.c", "should_compact_retry", left_out="signals")
def should_compact_retry(order: int, attempts: CompactAttempts, reclaim_may_help: bool) -> bool:
    """Whether to go round once more for the sake of compaction; `attempts` says how hard it tries then.

    `reclaim_may_help` is compaction_zonelist_suitable.
    """
    if not order:
        return False
    attempts.retries += compaction_made_progress(attempts.result)
    if compaction_needs_reclaim(attempts.result):
        return reclaim_may_help
    costly = order > PAGE_ALLOC_COSTLY_ORDER
    stopped = compaction_failed(attempts.result) or compaction_withdrawn(attempts.result)
    if not stopped and attempts.retries <= (MAX_COMPACT_RETRIES // 4 if costly else MAX_COMPACT_RETRIES):
        return True
    if attempts.priority <= (MIN_COMPACT_COSTLY_PRIORITY if costly else MIN_COMPACT_PRIORITY):
        return False
    attempts.priority -= 1
    attempts.retries = 0
    return True
