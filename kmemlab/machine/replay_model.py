"""The model's page allocator, put where a real machine stood when its trace began.

A machine that has booted gives zones, zonelists and per-CPU lists; free pages, mobility types, watermarks and the
contents of the per-CPU lists are then those of the saved state.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.alloc.freelist import get_page_from_freelist, gfp_migratetype, gfp_zone, node_zonelist, rmqueue
from kmemlab.alloc.page_alloc import alloc_flags_nofragment
from kmemlab.alloc.page_slowpath import gfp_to_alloc_flags, zones_for
from kmemlab.alloc.prep_page import prep_new_page
from kmemlab.machine.replay_memory import ReplayMemory, break_down_buddy_pages, put_free_ranges, set_types
from kmemlab.machine.saved_state import KPF_LRU, SavedState, ranges_with
from kmemlab.machine.trace_reader import TraceEvent
from kmemlab.mm.buddy import FPI_NONE
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.page_free import free_pages_inner, free_pages_ok, free_pages_prepare, held_zone, page_zone
from kmemlab.mm.per_cpu_pages import NR_PCP_LISTS, order_to_pindex
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    Zone,
    del_page_from_free_list,
    free_block_around,
    get_pageblock_migratetype,
    zone_init_free_lists,
)
from kmemlab.mm.zone_watermark_ok import ALLOC_WMARK_LOW, wmark_pages
from kmemlab.mm.zonelist import first_zones_zonelist
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import init_list_head, list_add_tail
from kmemlab.types.errors import BadCapture
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_PCPTYPES
from kmemlab.types.pageflags import PG_lru
from kmemlab.types.zone_type import MAX_NR_ZONES


@invented("a policy replay starts where the real machine stood")
def put_in_state(
    mm: Mm,
    state: SavedState,
    types: dict[int, int],
    waiting: list[TraceEvent],
    turn: Callable[[int, int], float] = lambda pfn, order: 0,
) -> None:
    """Make a booted machine's page allocator stand as a saved state says.

    `types` are the pageblocks' mobility types by number, `waiting` the events whose blocks waited in CPUs' lists,
    `turn` tells of a free block (page frame, order) when it is taken.
    Raises `BadCapture` for a state of another machine.
    """
    zones = {(zone.node, zone.name): zone for zone in mm.populated_zones()}
    if set(zones) != {saved.key for saved in state.populated()}:
        raise BadCapture(
            "the machine of hardware.json has other zones than before/zoneinfo.txt",
            where="before/",
            remedy="put the hardware.json of the traced machine there",
        )
    empty_lists(mm)
    set_types(mm.page, types)
    put_free_ranges(ReplayMemory(mm.page, tuple(zones.values())), state.free_ranges(), turn)
    for saved in state.populated():
        zone = zones[saved.key]
        zone.watermark_boost = saved.numbers.get("boost", 0)
        for mark, name in ((WMARK_MIN, "min"), (WMARK_LOW, "low"), (WMARK_HIGH, "high")):
            zone.watermark[mark] = saved.numbers[name] - zone.watermark_boost
        for index, pages in enumerate(saved.protection[:MAX_NR_ZONES]):
            zone.lowmem_reserve[index] = pages
        for cpu, pageset in enumerate(saved.pagesets[: zone.per_cpu_pageset.nr_cpus]):
            zone.per_cpu_pageset.high[cpu] = pageset.high
            zone.per_cpu_pageset.batch[cpu] = pageset.batch
    for start, end in ranges_with(state.flags, KPF_LRU):
        for pfn in range(start, min(end, mm.page.max_pfn)):
            mm.page.flags[pfn] = 1 << PG_lru
    for event in waiting:
        put_in_pcp(mm, event)
    for zone in zones.values():
        zone.nr_owned = zone.managed_pages - zone.vm_stat[NR_FREE_PAGES] - sum(zone.per_cpu_pageset.count)


@invented("a policy replay starts where the real machine stood")
def empty_lists(mm: Mm) -> None:
    """Take every page off the free lists and the per-CPU lists, as if all were in use."""
    page = mm.page
    page.buddy[:] = memoryview(bytes(len(page.buddy)))
    page.owned[:] = memoryview(bytes(len(page.owned)))
    for zone in mm.populated_zones():
        zone_init_free_lists(zone)
        zone.runs.count = 0
        zone.vm_stat[NR_FREE_PAGES] = 0
        zone.flags = 0
        for order in range(MAX_ORDER):
            zone.nr_free[order] = 0
        pcp = zone.per_cpu_pageset
        for head in range(pcp.head, pcp.head + pcp.nr_cpus * NR_PCP_LISTS):
            init_list_head(page.lru, head)
        for cpu in range(pcp.nr_cpus):
            pcp.count[cpu] = pcp.free_factor[cpu] = pcp.expire[cpu] = 0


@invented("a policy replay starts where the real machine stood", traced=False)
def put_in_pcp(mm: Mm, event: TraceEvent) -> None:
    """Put the block of an event at the end of its CPU's list."""
    pfn, order, migratetype = event.fields[0], event.fields[1], event.fields[2]
    zone = page_zone(mm, pfn)
    if zone is None or event.cpu >= zone.per_cpu_pageset.nr_cpus:
        return
    pcp = zone.per_cpu_pageset
    listed = migratetype if migratetype < MIGRATE_PCPTYPES else MIGRATE_MOVABLE
    mm.page.index[pfn] = migratetype
    list_add_tail(mm.page.lru, pfn, pcp.head + event.cpu * NR_PCP_LISTS + order_to_pindex(listed, order))
    pcp.count[event.cpu] += 1 << order


@invented("__alloc_pages without its reclaim: that is the trace's")
def request_pages(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
    """A block as Linux would choose it: above LOW, else as far down as the request may go, else from the fullest zone.

    The last is for requests that Linux served after it had reclaimed: the frees are in the trace, in another order.
    """
    preferred = first_zones_zonelist(mm, node_zonelist(mm, nid, gfp), gfp_zone(mm, gfp))
    pfn = get_page_from_freelist(mm, gfp, order, ALLOC_WMARK_LOW | alloc_flags_nofragment(mm, preferred, gfp), nid)
    if pfn is None:
        pfn = get_page_from_freelist(mm, gfp, order, gfp_to_alloc_flags(gfp, order), nid)
    return fullest_zone_gives(mm, gfp, order, nid) if pfn is None else pfn


@invented("a part of request_pages")
def fullest_zone_gives(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
    """A block of the zone that is least below its MIN mark."""
    highest = gfp_zone(mm, gfp)

    def above_min(zone: Zone) -> int:
        return zone.vm_stat[NR_FREE_PAGES] - wmark_pages(zone, WMARK_MIN) - zone.lowmem_reserve[highest]

    for zone in sorted(zones_for(mm, gfp, nid), key=above_min, reverse=True):
        pfn = rmqueue(mm, zone, zone, order, 0, gfp_migratetype(mm, gfp))
        if pfn is not None:
            prep_new_page(mm, zone, pfn, order, gfp)
            return pfn
    return None


@invented("compaction chooses its targets by place, not by asking")
def isolate_page(mm: Mm, memory: ReplayMemory, pfn: int) -> bool:
    """Take one free page out of the lists, as compaction does with its targets; False if it is not free."""
    zone = memory.zone_of(pfn)
    block = free_block_around(zone, pfn) if zone is not None else None
    if zone is None or block is None:
        return False
    del_page_from_free_list(zone, *block)
    break_down_buddy_pages(zone, block[0], pfn, 0, block[1], get_pageblock_migratetype(mm.page, pfn))
    zone.vm_stat[NR_FREE_PAGES] -= 1
    prep_new_page(mm, zone, pfn, 0, 0)
    return True


@invented("the trace says who frees, not who holds: pages from before the trace have no holder yet", traced=False)
def free_held(mm: Mm, pfn: int, order: int, to_buddy: bool) -> bool:
    """Give a block back that is held, past the per-CPU lists if `to_buddy`; False where its order is another."""
    if mm.page.owned[pfn] != 1 + order:
        return False
    if to_buddy:
        zone = held_zone(mm, pfn, order)
        free_pages_prepare(mm, zone, pfn, order)
        free_pages_ok(mm, zone, pfn, order, FPI_NONE)
    else:
        free_pages_inner(mm, pfn, order)
    return True
