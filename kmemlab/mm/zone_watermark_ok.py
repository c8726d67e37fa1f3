"""May this request have pages of this zone? The test against the watermark, as late 6.1 kernels do it."""

from __future__ import annotations

from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    NR_RESERVED_HIGHATOMIC,
    WATERMARK_BOOST,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    Zone,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import __GFP_ATOMIC
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
ALLOC_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM


@kernel("include/linux/mmzone.h", "wmark_pages", traced=False)
def wmark_pages(zone: Zone, wmark: int) -> int:
    """A watermark of the zone in pages, with what fragmentation has lately put on top."""
    return zone.watermark[wmark] + zone.cells[WATERMARK_BOOST]


@kernel("mm/page_alloc.c", "__zone_watermark_unusable_free", left_out="CMA", traced=False)
def zone_watermark_unusable_free(zone: Zone, order: int, alloc_flags: int) -> int:
    """Free pages that don't count for this request: the last ones of its own block, and reserves it has no right to."""
    unusable_free = (1 << order) - 1
    return unusable_free if alloc_flags & ALLOC_RESERVES else unusable_free + zone.cells[NR_RESERVED_HIGHATOMIC]


@kernel("mm/page_alloc.c", "__zone_watermark_ok", left_out="CMA")
def zone_watermark_ok_inner(
    zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, free_pages: int
) -> bool:
    """A zone may give when it stays above its mark plus the reserve it keeps against requests that could go higher.

    Urgent requests may go deeper: to half of the mark with `__GFP_HIGH`, to three eighths if they can't sleep either.
    Above order 0 there must also be a free block that is large enough.
    """
    free_pages -= zone_watermark_unusable_free(zone, order, alloc_flags)
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


@kernel(
    "mm/page_alloc.c",
    "zone_watermark_ok",
    formerly=("zone_watermark_ok_safe",),
    left_out="counts that CPUs have not added up yet",
)
def zone_watermark_ok(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int) -> bool:
    """The question for the free pages that the zone has now."""
    return zone_watermark_ok_inner(zone, order, mark, highest_zoneidx, alloc_flags, zone.vm_stat[NR_FREE_PAGES])


@kernel("mm/page_alloc.c", "zone_watermark_fast")
def zone_watermark_fast(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, gfp: int) -> bool:
    """The same question with a short cut for single pages, which most requests are for.

    A single page for an urgent request that can't sleep is judged without the boost: that is there for kswapd.
    """
    free_pages = zone.vm_stat[NR_FREE_PAGES]
    if order == 0:
        usable_free = free_pages - zone_watermark_unusable_free(zone, 0, alloc_flags)
        if usable_free > mark + zone.lowmem_reserve[highest_zoneidx]:
            return True
    if zone_watermark_ok_inner(zone, order, mark, highest_zoneidx, alloc_flags, free_pages):
        return True
    if order == 0 and gfp & __GFP_ATOMIC and zone.watermark_boost and alloc_flags & ALLOC_WMARK_MASK == ALLOC_WMARK_MIN:
        mark = zone.watermark[WMARK_MIN]
        return zone_watermark_ok_inner(zone, order, mark, highest_zoneidx, alloc_flags, free_pages)
    return False


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
