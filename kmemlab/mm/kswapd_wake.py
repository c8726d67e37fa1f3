"""Waking kswapd: who finds a zone low on pages tells its node what is wanted, and wakes the daemon if that makes sense.

kswapd_order, kswapd_highest_zoneidx    the largest order and the highest zone anybody asked for
kswapd_awake                            set here; the daemon clears it when it goes to sleep
need_resched                            it runs as soon as this task waits, or comes to a point where it may be stopped
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.kcompactd_wake import wakeup_kcompactd
from kmemlab.mm.node import PglistData
from kmemlab.mm.zone import WMARK_HIGH, Zone
from kmemlab.mm.zone_watermark_ok import wmark_pages, zone_watermark_ok
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import __GFP_DIRECT_RECLAIM
from kmemlab.types.zone_type import MAX_NR_ZONES

MAX_RECLAIM_RETRIES = 16


@kernel("mm/vmscan.c", "pgdat_balanced", left_out="the mark of memory tiers")
def pgdat_balanced(pgdat: PglistData, order: int, highest_zoneidx: int) -> bool:
    """Whether some zone of the node that the request may use is above its high watermark, or it has none at all."""
    zones = [zone for zone in pgdat.node_zones[: highest_zoneidx + 1] if zone.managed_pages]
    return not zones or any(
        zone_watermark_ok(zone, order, wmark_pages(zone, WMARK_HIGH), highest_zoneidx, 0) for zone in zones
    )


@kernel("mm/vmscan.c", "pgdat_watermark_boosted")
def pgdat_watermark_boosted(pgdat: PglistData, highest_zoneidx: int) -> bool:
    """Whether fragmentation has raised the watermarks of a zone that the request may use."""
    return any(zone.managed_pages and zone.watermark_boost for zone in pgdat.node_zones[: highest_zoneidx + 1])


@kernel("mm/vmscan.c", "wakeup_kswapd")
def wakeup_kswapd(mm: Mm, zone: Zone, gfp: int, order: int, highest_zoneidx: int) -> None:
    """Tell the zone's node what is wanted; wake its kswapd unless that is awake, hopeless, or has nothing to do.

    Then pages may be free, only not in a row: kcompactd is told, if whoever asks won't compact by itself.
    """
    if not zone.managed_pages:
        return
    pgdat = mm.node_data[zone.node]
    asked_before = pgdat.kswapd_highest_zoneidx
    if asked_before == MAX_NR_ZONES or asked_before < highest_zoneidx:
        pgdat.kswapd_highest_zoneidx = highest_zoneidx
    pgdat.kswapd_order = max(pgdat.kswapd_order, order)
    if pgdat.kswapd_awake:
        return
    balanced = pgdat_balanced(pgdat, order, highest_zoneidx) and not pgdat_watermark_boosted(pgdat, highest_zoneidx)
    if pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES or balanced:
        if not gfp & __GFP_DIRECT_RECLAIM:
            wakeup_kcompactd(mm, pgdat, order, highest_zoneidx)
        return
    pgdat.kswapd_awake = 1
    mm.current.need_resched = 1
