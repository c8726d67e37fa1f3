"""Would compaction make a block of an order? Then reclaim need not free more; and if not, compaction need not begin.

free pages     0 ───── min or low + twice the block ─────────────────────────▶
               SKIPPED │ CONTINUE, unless memory is lacking more than order    │ SUCCESS: there is such a block
"""

from __future__ import annotations

from enum import IntEnum

from kmemlab.mm.extfrag import fragmentation_index
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_LOW, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import ALLOC_WMARK_MASK, wmark_pages, zone_watermark_ok, zone_watermark_ok_inner
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import __GFP_IO

EXTFRAG_THRESHOLD = 500


@kernel("include/linux/compaction.h", "enum compact_result")
class CompactResult(IntEnum):
    """What compacting came to, or would come to. Of several zones the largest number counts."""

    NOT_SUITABLE_ZONE = 0  # pages are free, but not so scattered that it would help; told as SKIPPED
    SKIPPED = 1  # too few pages are free
    DEFERRED = 2  # it failed lately
    NO_SUITABLE_PAGE = 3  # no such block yet; told as CONTINUE
    CONTINUE = 4  # there are pages enough to make one
    COMPLETE = 5  # all of the zone was scanned, and there is no such block
    PARTIAL_SKIPPED = 6  # a part of the zone was scanned, and there is no such block
    CONTENDED = 7  # it was stopped
    SUCCESS = 8  # there is such a block

    def __repr__(self) -> str:
        return f"COMPACT_{self.name}"


@kernel("include/linux/compaction.h", "compact_gap", traced=False)
def compact_gap(order: int) -> int:
    """How many free pages compaction needs to work with: twice the block."""
    return 2 << order


@kernel("include/linux/gfp.h", "gfp_compaction_allowed", traced=False)
def gfp_compaction_allowed(gfp: int) -> bool:
    """Whether pages may be moved for a request: who must not begin I/O could wait for ever."""
    return bool(gfp & __GFP_IO)


@kernel("mm/compaction.c", "is_via_compact_memory", traced=False)
def is_via_compact_memory(order: int) -> bool:
    """Whether all is to be compacted for nobody in particular: vm.compact_memory, and kcompactd by itself."""
    return order == -1


@kernel("mm/compaction.c", "__compaction_suitable")
def compaction_suitable_inner(
    zone: Zone, order: int, alloc_flags: int, highest_zoneidx: int, wmark_target: int
) -> CompactResult:
    """Judge a zone by its watermarks, if it had `wmark_target` free pages to work with."""
    if is_via_compact_memory(order):
        return CompactResult.CONTINUE
    mark = wmark_pages(zone, alloc_flags & ALLOC_WMARK_MASK)
    if zone_watermark_ok(zone, order, mark, highest_zoneidx, alloc_flags):
        return CompactResult.SUCCESS
    mark = wmark_pages(zone, WMARK_LOW if order > PAGE_ALLOC_COSTLY_ORDER else WMARK_MIN) + compact_gap(order)
    if not zone_watermark_ok_inner(zone, 0, mark, highest_zoneidx, 0, wmark_target):
        return CompactResult.SKIPPED
    return CompactResult.CONTINUE


@kernel("mm/compaction.c", "compaction_suitable")
def compaction_suitable(
    zone: Zone, order: int, highest_zoneidx: int, alloc_flags: int = WMARK_MIN, threshold: int = EXTFRAG_THRESHOLD
) -> CompactResult:
    """Judge a zone by its watermarks, and for large blocks by how fragmented it is (vm.extfrag_threshold).

    SUCCESS, SKIPPED or CONTINUE.
    """
    free_pages = zone.vm_stat[NR_FREE_PAGES]
    result = compaction_suitable_inner(zone, order, alloc_flags, highest_zoneidx, free_pages)
    if result is not CompactResult.CONTINUE or order <= PAGE_ALLOC_COSTLY_ORDER:
        return result
    lacks_memory = 0 <= fragmentation_index(zone.nr_free, order) <= threshold
    return CompactResult.SKIPPED if lacks_memory else result


# -- what a result means for who asked ---------------------------------------------------------------------------------


@kernel("include/linux/compaction.h", "compaction_made_progress", traced=False)
def compaction_made_progress(result: CompactResult) -> bool:
    """Whether a block was made, though somebody else may have taken it."""
    return result is CompactResult.SUCCESS


@kernel("include/linux/compaction.h", "compaction_failed", traced=False)
def compaction_failed(result: CompactResult) -> bool:
    """Whether all that could be moved was."""
    return result is CompactResult.COMPLETE


@kernel("include/linux/compaction.h", "compaction_needs_reclaim", traced=False)
def compaction_needs_reclaim(result: CompactResult) -> bool:
    """Whether too few pages were free to begin with."""
    return result is CompactResult.SKIPPED


@kernel("include/linux/compaction.h", "compaction_withdrawn", traced=False)
def compaction_withdrawn(result: CompactResult) -> bool:
    """Whether it was not done, or not to the end, so that trying harder may help."""
    return result in (CompactResult.DEFERRED, CompactResult.CONTENDED, CompactResult.PARTIAL_SKIPPED)
