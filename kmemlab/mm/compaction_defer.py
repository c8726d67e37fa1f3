"""Deferral: compaction that has failed is passed over 1, 2, 4 … 64 times before it is tried again.

failed for order 4 ─▶ shift 1: every 2nd attempt ─▶ failed again: every 4th ─▶ …      orders below 4 are not held up
succeeded for order 4 ─▶ shift 0; only orders above 4 count as failed
"""

from __future__ import annotations

from kmemlab.mm.zone import Zone
from kmemlab.sim.kernel import kernel

COMPACT_MAX_DEFER_SHIFT = 6


@kernel("mm/compaction.c", "defer_compaction")
def defer_compaction(zone: Zone, order: int) -> None:
    """Compaction has failed: from now on twice as many attempts are passed over."""
    zone.compact_considered = 0
    zone.compact_defer_shift = min(zone.compact_defer_shift + 1, COMPACT_MAX_DEFER_SHIFT)
    zone.compact_order_failed = min(zone.compact_order_failed, order)


@kernel("mm/compaction.c", "compaction_deferred")
def compaction_deferred(zone: Zone, order: int) -> bool:
    """Whether this attempt is passed over; it counts either way."""
    if order < zone.compact_order_failed:
        return False
    limit = 1 << zone.compact_defer_shift
    zone.compact_considered = min(zone.compact_considered + 1, limit)
    return zone.compact_considered < limit


@kernel("mm/compaction.c", "compaction_defer_reset")
def compaction_defer_reset(zone: Zone, order: int, alloc_success: bool) -> None:
    """Compaction has made a block of the order; if it was got as well (`alloc_success`), nothing is passed over."""
    if alloc_success:
        zone.compact_considered = zone.compact_defer_shift = 0
    zone.compact_order_failed = max(zone.compact_order_failed, order + 1)


@kernel("mm/compaction.c", "compaction_restarting", traced=False)
def compaction_restarting(zone: Zone, order: int) -> bool:
    """Whether compaction is tried again after the longest time that it can be passed over."""
    if order < zone.compact_order_failed:
        return False
    return (
        zone.compact_defer_shift == COMPACT_MAX_DEFER_SHIFT and zone.compact_considered >= 1 << COMPACT_MAX_DEFER_SHIFT
    )
