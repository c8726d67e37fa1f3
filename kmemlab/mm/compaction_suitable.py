"""Would compaction make a block of an order? Then reclaim need not free more. (Compacting itself is not modelled.)"""

from __future__ import annotations

from enum import Enum

from kmemlab.mm.extfrag import fragmentation_index
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_LOW, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import wmark_pages, zone_watermark_ok, zone_watermark_ok_inner
from kmemlab.sim.kernel import kernel

EXTFRAG_THRESHOLD = 500


@kernel("include/linux/compaction.h", "enum compact_result", left_out="results of compacting")
class CompactResult(Enum):
    """What compacting would come to."""

    SUCCESS = "there is such a block already"
    CONTINUE = "there are pages enough to make one"
    SKIPPED = "too few pages are free"
    NOT_SUITABLE = "pages are free, but not so scattered that it would help"


@kernel("include/linux/compaction.h", "compact_gap", traced=False)
def compact_gap(order: int) -> int:
    """How many free pages compaction needs to work with: twice the block."""
    return 2 << order


@kernel("mm/compaction.c", "compaction_suitable", formerly=("__compaction_suitable",))
def compaction_suitable(zone: Zone, order: int, highest_zoneidx: int) -> CompactResult:
    """Judge a zone by its watermarks, and for large blocks by how fragmented it is."""
    if zone_watermark_ok(zone, order, wmark_pages(zone, WMARK_MIN), highest_zoneidx, 0):
        return CompactResult.SUCCESS
    mark = wmark_pages(zone, WMARK_LOW if order > PAGE_ALLOC_COSTLY_ORDER else WMARK_MIN) + compact_gap(order)
    if not zone_watermark_ok_inner(zone, 0, mark, highest_zoneidx, 0, zone.vm_stat[NR_FREE_PAGES]):
        return CompactResult.SKIPPED
    if order > PAGE_ALLOC_COSTLY_ORDER and 0 <= fragmentation_index(zone.nr_free, order) <= EXTFRAG_THRESHOLD:
        return CompactResult.NOT_SUITABLE
    return CompactResult.CONTINUE
