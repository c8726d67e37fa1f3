"""Per-CPU lists at work: pages come from the buddy in batches and go back in batches.

        take one                        give one back
           ▲                                 │
head  ──▶ [ 5 ][ 9 ][ 7 ][ 2 ][ 8 ]  …       ▼   at the head: it is still warm in the CPU's cache
                                 │
empty: rmqueue_bulk              └──▶ too many: free_pcppages_bulk, from the tail
"""

from __future__ import annotations

from kmemlab.boot.smp import num_online_cpus
from kmemlab.mm.buddy import free_one_page
from kmemlab.mm.context import CPU
from kmemlab.mm.fallback import rmqueue_inner
from kmemlab.mm.globals import Mm
from kmemlab.mm.per_cpu_pages import (
    NR_PCP_LISTS,
    PAGE_ALLOC_COSTLY_ORDER,
    PerCpuPages,
    order_to_pindex,
    pindex_to_order,
)
from kmemlab.mm.vm_event import PGFREE
from kmemlab.mm.zone import NR_FREE_PAGES, ZONE_FLAGS, ZONE_RECLAIM_ACTIVE, Zone
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import list_add, list_add_tail, list_del

PCP_BATCH_SCALE_MAX = 5  # at most batch << 5 pages go back at a time
IDLE_SECONDS = 3


@kernel("mm/page_alloc.c", "rmqueue_bulk", lock="zone->lock")
def rmqueue_bulk(mm: Mm, zone: Zone, order: int, count: int, head: int, migratetype: int, alloc_flags: int) -> int:
    """Move up to `count` blocks from the buddy to the tail of the list at `head`; returns how many there were.

    Each page remembers in `index` the type it was asked for, which says whose list it goes back on.
    """
    page = zone.page
    moved = 0
    while moved < count:
        pfn = rmqueue_inner(mm, zone, order, migratetype, alloc_flags)
        if pfn is None:
            break
        page.index[pfn] = migratetype
        list_add_tail(page.lru, pfn, head)
        moved += 1
    zone.vm_stat[NR_FREE_PAGES] -= moved << order
    zone.per_cpu_pageset.changed[mm.current.cpu] = 1
    return moved


@kernel("mm/page_alloc.c", "__rmqueue_pcplist")
def rmqueue_pcplist_inner(
    mm: Mm, zone: Zone, order: int, migratetype: int, alloc_flags: int, cpu: int, head: int
) -> int | None:
    """Take the first block of a CPU's list, the one at `head`, which is filled from the buddy if it is empty."""
    pcp, lru = zone.per_cpu_pageset, zone.page.lru
    pfn = lru.next[head]
    if pfn == head:
        batch = pcp.batch[cpu]
        if batch > 1:
            batch = max(batch >> order, 2)
        pcp.count[cpu] += rmqueue_bulk(mm, zone, order, batch, head, migratetype, alloc_flags) << order
        pfn = lru.next[head]
        if pfn == head:
            return None
    list_del(lru, pfn)
    pcp.count[cpu] -= 1 << order
    return pfn


@kernel(
    "mm/page_alloc.c",
    "free_pcppages_bulk",
    left_out="pageblocks that are being isolated: their type is looked up again",
    lock="zone->lock",
)
def free_pcppages_bulk(zone: Zone, cpu: int, count: int, pindex: int) -> None:
    """Give `count` pages of a CPU back to the buddy: list after list from `pindex` on, each from its tail."""
    page, pcp = zone.page, zone.per_cpu_pageset
    first_head = pcp.head + cpu * NR_PCP_LISTS
    count = min(pcp.count[cpu], count)
    pcp.changed[cpu] = 1
    while count > 0:
        head = first_head + pindex
        pfn = page.lru.prev[head]
        if pfn == head:
            pindex = (pindex + 1) % NR_PCP_LISTS
            continue
        order = pindex_to_order(pcp, pindex)
        list_del(page.lru, pfn)
        count -= 1 << order
        pcp.count[cpu] -= 1 << order
        free_one_page(zone, pfn, order, page.index[pfn])


@kernel("mm/page_alloc.c", "nr_pcp_free", traced=False)
def nr_pcp_free(pcp: PerCpuPages, cpu: int, high: int, batch: int, free_high: bool) -> int:
    """How many pages to give back now: twice as many each time, for as long as the CPU only frees."""
    if free_high:
        return pcp.count[cpu]
    if high < batch:  # the lists are switched off, or boot has not made them yet
        return 1
    most = high - batch
    wanted = batch << pcp.free_factor[cpu]
    if wanted < most and pcp.free_factor[cpu] < PCP_BATCH_SCALE_MAX:
        pcp.free_factor[cpu] += 1
    return min(max(wanted, batch), most)


@kernel("mm/page_alloc.c", "nr_pcp_high", traced=False)
def nr_pcp_high(zone: Zone, cpu: int, free_high: bool) -> int:
    """From how many pages on the CPU's lists are cut; while kswapd works on the zone that is sooner."""
    pcp = zone.per_cpu_pageset
    high = pcp.high[cpu]
    if high == 0 or free_high:
        return 0
    if zone.cells[ZONE_FLAGS] & ZONE_RECLAIM_ACTIVE:
        return min(pcp.batch[cpu] << 2, high)
    return high


@kernel("mm/page_alloc.c", "free_unref_page_commit")
def free_unref_page_commit(mm: Mm, zone: Zone, pfn: int, migratetype: int, order: int) -> None:
    """Put a block at the head of this CPU's list; if the lists are too long now, give some pages back."""
    cpu, nr_pages = mm.current.cells[CPU], 1 << order
    pcp = zone.per_cpu_pageset
    pindex = order_to_pindex(migratetype, order)
    mm.vm_event[PGFREE] += nr_pages
    list_add(zone.page.lru, pfn, pcp.head + cpu * NR_PCP_LISTS + pindex)
    count = pcp.count[cpu] + nr_pages
    pcp.count[cpu] = count
    # Small blocks that only come back would keep larger ones from forming: then all of them go.
    free_high = 0 < order <= PAGE_ALLOC_COSTLY_ORDER and pcp.free_factor[cpu] > 0
    high = nr_pcp_high(zone, cpu, free_high)
    if count >= high:
        free_pcppages_bulk(zone, cpu, nr_pcp_free(pcp, cpu, high, pcp.batch[cpu], free_high), pindex)


@kernel("mm/page_alloc.c", "drain_pages_zone")
def drain_pages_zone(zone: Zone, cpu: int) -> None:
    """Give back all that a CPU holds of a zone, without keeping the zone's lock for too long at a time."""
    pcp = zone.per_cpu_pageset
    while pcp.count[cpu]:
        free_pcppages_bulk(zone, cpu, pcp.batch[cpu] << PCP_BATCH_SCALE_MAX, 0)


@kernel("mm/page_alloc.c", "drain_local_pages", formerly=("drain_pages",))
def drain_local_pages(mm: Mm, zone: Zone | None = None) -> None:
    """Empty this CPU's lists, of one zone or of all."""
    for one in mm.populated_zones() if zone is None else [zone]:
        drain_pages_zone(one, mm.current.cpu)


@kernel("mm/page_alloc.c", "drain_all_pages", lock="pcpu_drain_mutex")
def drain_all_pages(mm: Mm, zone: Zone | None = None) -> None:
    """Empty the lists of all CPUs, of one zone or of all zones: somebody needs every free page to be seen."""
    zones = mm.populated_zones() if zone is None else [zone]
    for cpu in range(num_online_cpus(mm.boot)):
        for one in zones:
            drain_pages_zone(one, cpu)


@kernel("mm/page_alloc.c", "drain_zone_pages")
def drain_zone_pages(zone: Zone, cpu: int) -> None:
    """Give back a batch of what an idle CPU holds of a zone."""
    pcp = zone.per_cpu_pageset
    if pcp.count[cpu]:
        free_pcppages_bulk(zone, cpu, min(pcp.count[cpu], pcp.batch[cpu]), 0)


@kernel("mm/vmstat.c", "refresh_cpu_vm_stats", left_out="adding up a CPU's own counts: ours are always exact")
def refresh_cpu_vm_stats(mm: Mm) -> int:
    """Once a second on each CPU: what it holds of another node and has not used for three seconds goes back.

    Lists of its own node it keeps. Returns how many zones got pages back. Without NUMA there is nothing to do.
    """
    given_back = 0
    cpu = mm.current.cpu
    for zone in mm.populated_zones() if mm.boot.config.numa else []:
        pcp = zone.per_cpu_pageset
        if pcp.changed[cpu]:
            pcp.changed[cpu], pcp.expire[cpu] = 0, IDLE_SECONDS
        if not pcp.expire[cpu] or not pcp.count[cpu]:
            continue
        if zone.node == mm.numa.cpu_to_node[cpu]:
            pcp.expire[cpu] = 0
            continue
        pcp.expire[cpu] -= 1
        if not pcp.expire[cpu]:
            drain_zone_pages(zone, cpu)
            given_back += 1
    return given_back
