"""The laws of per-CPU lists, as code: what is true of them after every operation."""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.mm.check_zone import broken_law
from kmemlab.mm.mem_map import page_zone_id
from kmemlab.mm.per_cpu_pages import NR_PCP_LISTS, order_to_pindex, pindex_to_order
from kmemlab.mm.zone import Zone, free_block_around
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each
from kmemlab.types.migratetype import MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES


@invented("a law is code beside the structure it speaks of", traced=False)
def check_pcp(zone: Zone) -> None:
    """Every block on a CPU's list is whole, in its zone, on one list only, of that list's order and type, and counted.

    Nobody holds it or refers to it, and the buddy does not have it. Raises `BrokenLaw` that names the law and the
    block.
    """
    pcp = zone.per_cpu_pageset
    where: dict[int, str] = {}
    for cpu in range(pcp.nr_cpus):
        pages = 0
        for pindex, pfn in pcp_blocks(zone, cpu):
            order = pindex_to_order(pcp, pindex)
            _check_block(zone, pfn, order, pindex)
            for page in range(pfn, pfn + (1 << order)):
                if page in where:
                    broken_law(zone, f"pfn {page} is on a list of CPU {cpu} and also on {where[page]}")
                where[page] = f"list {pindex} of CPU {cpu}"
            pages += 1 << order
        if pages != pcp.count[cpu]:
            broken_law(zone, f"CPU {cpu} counts {pcp.count[cpu]} pages on its lists, but they hold {pages}")


@invented("whoever looks at a CPU's lists sees all of them at once", traced=False)
def pcp_blocks(zone: Zone, cpu: int) -> Iterator[tuple[int, int]]:
    """The blocks on a CPU's lists, as (number of the list, first page frame), the next to be taken first."""
    pcp, lru = zone.per_cpu_pageset, zone.page.lru
    for pindex in range(NR_PCP_LISTS):
        head = pcp.head + cpu * NR_PCP_LISTS + pindex
        # Before boot has made the lists, a head points at page 0, which does not point back.
        if lru.next[head] != head and lru.prev[lru.next[head]] == head:
            for pfn in list_for_each(lru, head):
                yield pindex, pfn


def _check_block(zone: Zone, pfn: int, order: int, pindex: int) -> None:
    page = zone.page
    if not 0 <= pfn < page.max_pfn or page_zone_id(page, pfn) != zone.slot:
        broken_law(zone, f"pfn {pfn} is on a per-CPU list of a zone that it does not belong to")
    if pfn & ((1 << order) - 1):
        broken_law(zone, f"pfn {pfn} on per-CPU list {pindex} is not aligned to order {order}")
    if page.owned[pfn] or page.refcount[pfn]:
        broken_law(zone, f"pfn {pfn} is on a per-CPU list, and somebody holds it")
    if free_block_around(zone, pfn) is not None:
        broken_law(zone, f"pfn {pfn} is on a per-CPU list and in a free block of the buddy at once")
    migratetype = page.index[pfn]
    if migratetype >= MIGRATE_ISOLATE or migratetype < 0:
        broken_law(zone, f"pfn {pfn} is on a per-CPU list, but it remembers type {migratetype}")
    if migratetype >= MIGRATE_PCPTYPES:
        migratetype = MIGRATE_MOVABLE
    if order_to_pindex(migratetype, order) != pindex:
        broken_law(zone, f"pfn {pfn} is on list {pindex}, but it remembers type {migratetype}")
