"""The law of the per-CPU lists is shown seeded defects of the allocator: it must catch each of them."""

from __future__ import annotations

import random

import pytest

from kmemlab.mm import pcp as pcp_room
from kmemlab.mm.buddy import FPI_TO_TAIL, free_one_page
from kmemlab.mm.check_pcp import check_pcp
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.page_free import free_the_page, free_unref_page
from kmemlab.mm.pcp import free_pcppages_bulk, free_unref_page_commit, rmqueue_bulk, rmqueue_pcplist_inner
from kmemlab.mm.per_cpu_pages import NR_PCP_LISTS, order_to_pindex, pcp_list, pindex_to_order
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.sim.list_head import list_add
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE
from tests.mm.bare_mm import bare_mm, zone_of_cpus


def commits_uncounted(mm, zone, pfn, migratetype, order):
    head = zone.per_cpu_pageset.head + mm.current.cpu * NR_PCP_LISTS
    list_add(zone.page.lru, pfn, head + order_to_pindex(migratetype, order))


def counts_blocks(mm, zone, pfn, migratetype, order):
    free_unref_page_commit.original(mm, zone, pfn, migratetype, order)
    zone.per_cpu_pageset.count[mm.current.cpu] -= (1 << order) - 1


def commits_for_another_cpu(mm, zone, pfn, migratetype, order):
    head = zone.per_cpu_pageset.head + (1 - mm.current.cpu) * NR_PCP_LISTS
    list_add(zone.page.lru, pfn, head + order_to_pindex(migratetype, order))
    zone.per_cpu_pageset.count[mm.current.cpu] += 1 << order


def takes_and_leaves_it_listed(mm, zone, order, migratetype, alloc_flags, cpu, head):
    pfn = rmqueue_pcplist_inner.original(mm, zone, order, migratetype, alloc_flags, cpu, head)
    if pfn is not None:
        list_add(zone.page.lru, pfn, head)
        zone.per_cpu_pageset.count[cpu] += 1 << order
    return pfn


def gives_back_uncounted(zone, cpu, count, pindex):
    before = zone.per_cpu_pageset.count[cpu]
    free_pcppages_bulk.original(zone, cpu, count, pindex)
    zone.per_cpu_pageset.count[cpu] = before


def gives_back_without_delisting(zone, cpu, count, pindex):
    pcp, page = zone.per_cpu_pageset, zone.page
    head = pcp.head + cpu * NR_PCP_LISTS + pindex
    page.buddy[page.lru.prev[head]] = 1 + pindex_to_order(pcp, pindex)


def refills_with_the_wrong_type(mm, zone, order, count, head, migratetype, alloc_flags):
    before = zone.vm_stat[NR_FREE_PAGES]
    moved = rmqueue_bulk.original(mm, zone, order, count, head, migratetype, alloc_flags)
    assert zone.vm_stat[NR_FREE_PAGES] == before - (moved << order)
    for pfn in range(zone.page.max_pfn):
        zone.page.index[pfn] = MIGRATE_RECLAIMABLE
    return moved


def frees_what_is_still_referred_to(mm, zone, pfn, order):
    zone.page.refcount[pfn] = 1
    free_unref_page.original(mm, zone, pfn, order)


def frees_twice(mm, zone, pfn, order):
    free_unref_page.original(mm, zone, pfn, order)
    free_unref_page.original(mm, zone, pfn, order)


def lists_of_the_next_order(migratetype, order):
    return min(3 * (order + 1) + migratetype, 13)


DEFECTS = [
    (free_unref_page_commit, commits_uncounted),
    (free_unref_page_commit, counts_blocks),
    (free_unref_page_commit, commits_for_another_cpu),
    (rmqueue_pcplist_inner, takes_and_leaves_it_listed),
    (free_pcppages_bulk, gives_back_uncounted),
    (free_pcppages_bulk, gives_back_without_delisting),
    (rmqueue_bulk, refills_with_the_wrong_type),
    (free_unref_page, frees_what_is_still_referred_to),
    (free_unref_page, frees_twice),
    (pcp_room.order_to_pindex, lists_of_the_next_order),
]


def work() -> None:
    """Two CPUs take and give for a while; the law is asked after each step."""
    zone: Zone = zone_of_cpus(2048, 2, 24, 6)
    mm = bare_mm(zone)
    for pfn in (0, 1024):
        free_one_page(zone, pfn, 10, MIGRATE_MOVABLE, FPI_TO_TAIL)
    rng = random.Random(5)
    held: list[tuple[int, int]] = []
    for _ in range(120):
        mm.current.cpu = rng.randrange(2)
        if held and rng.random() < 0.5:
            pfn, order = held.pop(rng.randrange(len(held)))
            zone.page.owned[pfn] = zone.page.refcount[pfn] = 0
            free_the_page(mm, zone, pfn, order)
        else:
            order = rng.choice((0, 0, 0, 1, 2))
            head = pcp_list(zone.per_cpu_pageset, mm.current.cpu, MIGRATE_MOVABLE, order)
            found = rmqueue_pcplist_inner(mm, zone, order, MIGRATE_MOVABLE, 0, mm.current.cpu, head)
            assert found is not None
            zone.page.owned[found], zone.page.refcount[found] = 1 + order, 1
            held.append((found, order))
        check_pcp(zone)


def test_without_a_defect_the_law_holds() -> None:
    work()


@pytest.mark.parametrize(("function", "mutant"), DEFECTS, ids=lambda f: f.__name__)
def test_check_pcp_catches(function, mutant) -> None:
    with livepatch(function, mutant), pytest.raises((BrokenLaw, KmemlabError)):
        work()
