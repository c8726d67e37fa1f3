"""Waking kcompactd: kswapd has freed pages, or has nothing to do, and a block of some order is wanted.

It looks round every half second, too: for what it was asked, and whether a node is so fragmented that it should act.
"""

from __future__ import annotations

from kmemlab.mm.compaction_suitable import CompactResult, compaction_suitable
from kmemlab.mm.context import HZ
from kmemlab.mm.extfrag import fill_contig_page_info
from kmemlab.mm.globals import Mm
from kmemlab.mm.node import PglistData
from kmemlab.mm.zone import Zone, populated_zone
from kmemlab.sim.kernel import invented, kernel

HPAGE_FRAG_CHECK_INTERVAL_MSEC = 500
KCOMPACTD_TIMEOUT = HPAGE_FRAG_CHECK_INTERVAL_MSEC * HZ // 1000


@kernel("mm/compaction.c", "kcompactd_node_suitable")
def kcompactd_node_suitable(mm: Mm, pgdat: PglistData) -> bool:
    """Whether in some zone a block of the order asked for is lacking, and could be made."""
    highest, order = pgdat.kcompactd_highest_zoneidx, pgdat.kcompactd_max_order
    return any(
        compaction_suitable(zone, order, highest, threshold=mm.sysctl_extfrag_threshold) is CompactResult.CONTINUE
        for zone in pgdat.node_zones[: highest + 1]
        if populated_zone(zone)
    )


@kernel("mm/compaction.c", "wakeup_kcompactd")
def wakeup_kcompactd(mm: Mm, pgdat: PglistData, order: int, highest_zoneidx: int) -> None:
    """Tell a node what is wanted; wake its kcompactd if it sleeps and could do something."""
    if not order:
        return
    pgdat.kcompactd_max_order = max(pgdat.kcompactd_max_order, order)
    pgdat.kcompactd_highest_zoneidx = min(pgdat.kcompactd_highest_zoneidx, highest_zoneidx)
    if not pgdat.kcompactd_awake and kcompactd_node_suitable(mm, pgdat):
        pgdat.kcompactd_awake = mm.current.need_resched = 1


# -- without being asked -----------------------------------------------------------------------------------------------


@kernel("mm/vmstat.c", "extfrag_for_order", traced=False)
def extfrag_for_order(zone: Zone, order: int) -> int:
    """Which part of the free pages lies in blocks smaller than an order, in per cent."""
    free_pages, _, suitable = fill_contig_page_info(zone.nr_free, order)
    return (free_pages - (suitable << order)) * 100 // free_pages if free_pages else 0


@kernel("mm/compaction.c", "fragmentation_score_zone", traced=False)
def fragmentation_score_zone(zone: Zone) -> int:
    """How fragmented a zone is for huge pages: 0 not at all, 100 wholly."""
    return extfrag_for_order(zone, zone.page.pageblock_order)


@kernel("mm/compaction.c", "fragmentation_score_node", formerly=("fragmentation_score_zone_weighted",), traced=False)
def fragmentation_score_node(pgdat: PglistData) -> int:
    """The same for a node; its zones count by their size."""
    total = pgdat.node_present_pages + 1
    return sum(zone.present_pages * fragmentation_score_zone(zone) // total for zone in pgdat.node_zones)


@kernel("mm/compaction.c", "fragmentation_score_wmark", traced=False)
def fragmentation_score_wmark(mm: Mm, low: bool) -> int:
    """The score at which kcompactd begins by itself, or with `low` that at which it is content.

    >>> from types import SimpleNamespace
    >>> half = SimpleNamespace(sysctl_compaction_proactiveness=20)
    >>> fragmentation_score_wmark(half, low=False), fragmentation_score_wmark(half, low=True)
    (90, 80)
    """
    wmark_low = max(100 - mm.sysctl_compaction_proactiveness, 5)
    return wmark_low if low else min(wmark_low + 10, 100)


@kernel("mm/compaction.c", "should_proactive_compact_node", traced=False)
def should_proactive_compact_node(mm: Mm, pgdat: PglistData) -> bool:
    """Whether kcompactd should act by itself: not while kswapd is at work."""
    if not mm.sysctl_compaction_proactiveness or pgdat.kswapd_awake:
        return False
    return fragmentation_score_node(pgdat) > fragmentation_score_wmark(mm, low=False)


@invented("time with nothing to do is passed over at once", traced=False)
def kcompactd_has_work(mm: Mm, pgdat: PglistData) -> bool:
    """Whether kcompactd would do something when it looks round next."""
    return bool(
        pgdat.kcompactd_awake
        or pgdat.kcompactd_max_order
        or pgdat.proactive_compact_trigger
        or should_proactive_compact_node(mm, pgdat)
    )
