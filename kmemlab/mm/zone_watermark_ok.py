"""May this request have pages of this zone? The test against the watermark, as late 6.1 kernels do it."""

from __future__ import annotations

from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_LOW, WMARK_MIN, Zone
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import MIGRATE_HIGHATOMIC, MIGRATE_PCPTYPES

ALLOC_WMARK_MIN = WMARK_MIN
ALLOC_WMARK_LOW = WMARK_LOW
ALLOC_WMARK_HIGH = WMARK_HIGH
ALLOC_WMARK_MASK = 0x03
ALLOC_NO_WATERMARKS = 0x04
ALLOC_OOM = 0x08
ALLOC_NON_BLOCK = 0x10
ALLOC_MIN_RESERVE = 0x20
ALLOC_CPUSET = 0x40
ALLOC_CMA = 0x80
ALLOC_NOFRAGMENT = 0x100
ALLOC_HIGHATOMIC = 0x200
ALLOC_KSWAPD = 0x800


@kernel("include/linux/mmzone.h", "wmark_pages", traced=False)
def wmark_pages(zone: Zone, wmark: int) -> int:
    """A watermark of the zone in pages, with what fragmentation has lately put on top."""
    return zone.watermark[wmark] + zone.watermark_boost


@kernel(
    "mm/page_alloc.c",
    "__zone_watermark_ok",
    left_out="the high-atomic reserve: nothing is reserved yet",
)
def zone_watermark_ok_inner(
    zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, free_pages: int
) -> bool:
    """A zone may give when it stays above its mark plus the reserve it keeps against requests that could go higher.

    Urgent requests may go deeper: to half of the mark with `__GFP_HIGH`, to three eighths if they can't sleep either.
    Above order 0 there must also be a free block that is large enough.
    """
    free_pages -= (1 << order) - 1
    minimum = mark
    if alloc_flags & ALLOC_MIN_RESERVE:
        minimum -= minimum // 2
        if alloc_flags & ALLOC_NON_BLOCK:
            minimum -= minimum // 4
    if alloc_flags & ALLOC_OOM:
        minimum -= minimum // 2
    if free_pages <= minimum + zone.lowmem_reserve[highest_zoneidx]:
        return False
    return order == 0 or has_free_block(zone, order, alloc_flags)


@kernel("mm/page_alloc.c", "zone_watermark_fast", left_out="the second look without boost for atomic requests")
def zone_watermark_fast(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int) -> bool:
    """The same question with a short cut for single pages, which most requests are for."""
    free_pages = zone.vm_stat[NR_FREE_PAGES]
    if order == 0 and free_pages > mark + zone.lowmem_reserve[highest_zoneidx]:
        return True
    return zone_watermark_ok_inner(zone, order, mark, highest_zoneidx, alloc_flags, free_pages)


@invented("the second half of __zone_watermark_ok", traced=False)
def has_free_block(zone: Zone, order: int, alloc_flags: int) -> bool:
    """Whether some list of an order that is large enough has a block for ordinary use."""
    following = zone.page.lru.next
    for current_order in range(order, MAX_ORDER):
        if zone.nr_free[current_order] == 0:
            continue
        heads = zone.free_list[current_order]
        if any(following[head] != head for head in heads[:MIGRATE_PCPTYPES]):
            return True
        if (
            alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM)
            and following[heads[MIGRATE_HIGHATOMIC]] != heads[MIGRATE_HIGHATOMIC]
        ):
            return True
    return False
