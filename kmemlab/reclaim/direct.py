"""Direct reclaim: a request that finds no page frees some itself, 32 at least, before it goes on.

__alloc_pages_slowpath ─▶ try_to_free_pages ─▶ is kswapd so late that I must wait? ─▶ priority 12 … 0
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.mm.compaction_suitable import CompactResult, compact_gap, compaction_suitable, gfp_compaction_allowed
from kmemlab.mm.context import HZ, PF_KTHREAD, PF_MEMALLOC_NOFS, PF_MEMALLOC_NOIO
from kmemlab.mm.globals import Mm
from kmemlab.mm.kswapd_wake import MAX_RECLAIM_RETRIES
from kmemlab.mm.node import ZONELIST_FALLBACK, ZONELIST_NOFALLBACK, PglistData
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.reclaim_table import TRY_TO_FREE_PAGES
from kmemlab.mm.vm_event import ALLOCSTALL, PGSCAN_DIRECT_THROTTLE
from kmemlab.mm.wait import io_schedule
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import wmark_pages, zone_watermark_ok
from kmemlab.mm.zonelist import for_each_zone_zonelist
from kmemlab.reclaim.scan_control import DEF_PRIORITY, ScanControl, zone_reclaimable_pages
from kmemlab.reclaim.scan_count import snapshot_refaults
from kmemlab.reclaim.shrink_node import shrink_node
from kmemlab.reclaim.throttle import Throttle, consider_reclaim_throttle, note_wait
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import __GFP_FS, __GFP_IO, __GFP_THISNODE, GFP_ZONEMASK


@invented("for_each_zone_zonelist for one request", traced=False)
def zones_in_reach(mm: Mm, sc: ScanControl, nid: int) -> Iterator[Zone]:
    """The zones that pages of could help a request, best first."""
    which = ZONELIST_NOFALLBACK if sc.gfp_mask & __GFP_THISNODE else ZONELIST_FALLBACK
    return for_each_zone_zonelist(mm, mm.node_data[nid].node_zonelists[which], sc.reclaim_idx)


@invented("each node once, however many of its zones a list has", traced=False)
def nodes_in_reach(mm: Mm, sc: ScanControl, nid: int) -> list[PglistData]:
    """The nodes of those zones, each once."""
    return [mm.node_data[node] for node in dict.fromkeys(zone.node for zone in zones_in_reach(mm, sc, nid))]


@kernel("mm/vmscan.c", "allow_direct_reclaim", formerly=("pfmemalloc_watermark_ok",))
def allow_direct_reclaim(mm: Mm, pgdat: PglistData) -> bool:
    """Whether more than half of what lies below the min watermarks is free; if not, kswapd must be awake."""
    if pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES:
        return True
    normal = mm.boot.config.zone_normal
    zones = [zone for zone in pgdat.node_zones[: normal + 1] if zone.managed_pages]
    zones = [zone for zone in zones if zone_reclaimable_pages(mm, zone)]
    reserve = sum(wmark_pages(zone, WMARK_MIN) for zone in zones)
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in zones)
    if not reserve or free > reserve // 2:
        return True
    if not pgdat.kswapd_awake:
        pgdat.kswapd_highest_zoneidx = min(pgdat.kswapd_highest_zoneidx, normal)
        pgdat.kswapd_awake = mm.current.need_resched = 1
    return False


@kernel(
    "mm/vmscan.c",
    "throttle_direct_reclaim",
    left_out="signals; waiting for longer than a second, which C does for requests that may enter file systems",
)
def throttle_direct_reclaim(mm: Mm, sc: ScanControl, nid: int) -> None:
    """A task waits while the last reserve is half used up, so that kswapd, which needs it, gets on."""
    if mm.current.flags & PF_KTHREAD:
        return
    normal = mm.boot.config.zone_normal
    first = next((zone for zone in zones_in_reach(mm, sc, nid) if zone.index <= normal), None)
    if first is None or allow_direct_reclaim(mm, mm.node_data[first.node]):
        return
    mm.vm_event[PGSCAN_DIRECT_THROTTLE] += 1
    start = mm.current.jiffies
    while mm.current.jiffies < start + HZ:
        io_schedule(mm)
        if allow_direct_reclaim(mm, mm.node_data[first.node]):
            break
    note_wait(mm, Throttle.PFMEMALLOC, mm.current.jiffies - start)


@kernel("mm/vmscan.c", "compaction_ready", traced=False)
def compaction_ready(zone: Zone, sc: ScanControl) -> bool:
    """Whether a large block can be had of the zone without freeing more: now, or by compaction with pages to spare."""
    if not gfp_compaction_allowed(sc.gfp_mask):
        return False
    suitable = compaction_suitable(zone, sc.order, sc.reclaim_idx)
    spare = wmark_pages(zone, WMARK_HIGH) + compact_gap(sc.order)
    return suitable is CompactResult.SUCCESS or (
        suitable is CompactResult.CONTINUE and zone_watermark_ok(zone, 0, spare, sc.reclaim_idx, 0)
    )


@kernel("mm/vmscan.c", "shrink_zones", formerly=("shrink_caches",), left_out="cpusets; buffer heads in low memory")
def shrink_zones(mm: Mm, sc: ScanControl, nid: int) -> None:
    """Free pages of each node in reach; not of one whose zones are ready to give the large block."""
    shrunk: list[int] = []
    for zone in zones_in_reach(mm, sc, nid):
        if sc.order > PAGE_ALLOC_COSTLY_ORDER and compaction_ready(zone, sc):
            sc.compaction_ready = True
        elif zone.node not in shrunk:
            shrunk.append(zone.node)
            shrink_node(mm, mm.node_data[zone.node], sc)
    if shrunk:
        consider_reclaim_throttle(mm, mm.node_data[shrunk[0]], sc)


@kernel("mm/vmscan.c", "do_try_to_free_pages", left_out="memcg; vmpressure")
def do_try_to_free_pages(mm: Mm, sc: ScanControl, nid: int) -> int:
    """Raise the pressure until 32 pages are free; in vain, do it once more and let active pages go, too.

    Returns how many were freed, or 1 where a block can be had without.
    """
    while True:
        for sc.priority in range(DEF_PRIORITY, -1, -1):
            sc.nr_scanned = 0
            shrink_zones(mm, sc, nid)
            if sc.nr_reclaimed >= sc.nr_to_reclaim or sc.compaction_ready:
                break
            sc.may_writepage = sc.may_writepage or sc.priority < DEF_PRIORITY - 2
        for pgdat in nodes_in_reach(mm, sc, nid):
            snapshot_refaults(pgdat)
        if sc.nr_reclaimed or sc.compaction_ready:
            return sc.nr_reclaimed or 1
        if not sc.skipped_deactivate:
            return 0
        sc.force_deactivate, sc.skipped_deactivate = True, False
        mm.vm_event[ALLOCSTALL + sc.reclaim_idx] += 1


@kernel("mm/vmscan.c", "try_to_free_pages", left_out="signals; the count of stalls: the caller keeps it")
def try_to_free_pages(mm: Mm, gfp: int, order: int, nid: int) -> int:
    """Free pages for a request that waits; returns how many, or 1 where that is not what it lacks."""
    highest = mm.gfp_zone_table[gfp & GFP_ZONEMASK]
    assert highest is not None, "the request was checked before"
    if mm.current.flags & PF_MEMALLOC_NOIO:
        gfp &= ~(__GFP_IO | __GFP_FS)
    elif mm.current.flags & PF_MEMALLOC_NOFS:
        gfp &= ~__GFP_FS
    sc = ScanControl(gfp, order, highest)
    throttle_direct_reclaim(mm, sc, nid)
    return do_try_to_free_pages(mm, sc, nid)


TRY_TO_FREE_PAGES.append(try_to_free_pages)
