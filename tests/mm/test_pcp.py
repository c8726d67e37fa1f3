"""Per-CPU lists against a brute-force model, list by list and page by page, and the fact sheet's figures."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.mm.buddy import FPI_TO_TAIL, free_one_page
from kmemlab.mm.check_pcp import check_pcp, pcp_blocks
from kmemlab.mm.check_zone import check_zone
from kmemlab.mm.fallback import rmqueue_inner
from kmemlab.mm.page_free import free_the_page
from kmemlab.mm.pcp import drain_pages_zone, nr_pcp_free, rmqueue_pcplist_inner
from kmemlab.mm.per_cpu_pages import order_to_pindex, pcp_allowed_order, pcp_list, pindex_to_order
from kmemlab.mm.zone import NR_FREE_PAGES, ZONE_RECLAIM_ACTIVE, Zone, free_blocks, set_pageblock_migratetype
from tests.mm.bare_mm import bare_mm, zone_of_cpus
from tests.mm.pcp_model import MOVABLE, ORDERS, UNMOVABLE, PcpModel

PAGES, BORDER, CPUS = 16 * 1024, 8 * 1024, 2


def both(high: int, batch: int) -> tuple[Zone, PcpModel]:
    zone = zone_of_cpus(PAGES, CPUS, high, batch)
    for pfn in range(BORDER, PAGES, 512):
        set_pageblock_migratetype(zone.page, pfn, UNMOVABLE)
    for pfn in range(0, PAGES, 1024):
        free_one_page(zone, pfn, 10, MOVABLE if pfn < BORDER else UNMOVABLE, FPI_TO_TAIL)
    return zone, PcpModel(PAGES, BORDER, CPUS, high, batch)


def same(zone: Zone, model: PcpModel) -> None:
    for kind in (UNMOVABLE, MOVABLE):
        for order in range(11):
            assert list(free_blocks(zone, order, kind)) == model.free[kind, order]
    for cpu in range(CPUS):
        ours: dict[int, list[int]] = {}
        for pindex, pfn in pcp_blocks(zone, cpu):
            ours.setdefault(pindex, []).append(pfn)
        theirs = {order_to_pindex(kind, order): pfns for (order, kind), pfns in model.lists[cpu].items() if pfns}
        assert ours == theirs
        assert zone.per_cpu_pageset.count[cpu] == model.count(cpu)
        assert zone.per_cpu_pageset.free_factor[cpu] == model.factor[cpu]
    check_zone(zone)
    check_pcp(zone)


def take(mm, zone: Zone, cpu: int, order: int, kind: int) -> int | None:
    if pcp_allowed_order(zone.per_cpu_pageset, order):
        zone.per_cpu_pageset.free_factor[cpu] >>= 1
        return rmqueue_pcplist_inner(mm, zone, order, kind, 0, cpu, pcp_list(zone.per_cpu_pageset, cpu, kind, order))
    pfn = rmqueue_inner(mm, zone, order, kind, 0)
    zone.vm_stat[NR_FREE_PAGES] -= 0 if pfn is None else 1 << order
    return pfn


STEPS = st.lists(
    st.tuples(st.sampled_from("aaafffffdr"), st.integers(0, CPUS - 1), st.integers(0, 4), st.integers(0, 1),
              st.integers(0, 10**6), st.integers(1, 40)),
    max_size=60,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(0, 1), (16, 4), (60, 15), (256, 63), (40, 31)]), STEPS)
def test_lists_are_those_of_a_brute_force_model(limits: tuple[int, int], steps) -> None:
    zone, model = both(*limits)
    mm = bare_mm(zone)
    held: list[tuple[int, int]] = []
    for what, cpu, nth, kind, at, times in steps:
        mm.current.cpu = cpu
        order = (*ORDERS, 5)[nth + (at % 7 == 0)]
        if what == "a" and sum(1 << o for _, o in held) < BORDER // 4:
            for _ in range(times if order < 4 else 1):
                pfn = take(mm, zone, cpu, order, kind)
                assert pfn == model.alloc(cpu, order, kind) is not None
                held.append((pfn, order))
        elif what == "f":
            for _ in range(min(times, len(held))):
                pfn, order = held.pop(at % len(held))
                free_the_page(mm, zone, pfn, order)
                model.give(cpu, pfn, order)
        elif what == "d":
            drain_pages_zone(zone, cpu)
            model.drain(cpu)
        elif what == "r":
            zone.flags ^= ZONE_RECLAIM_ACTIVE
            model.reclaiming = not model.reclaiming
    same(zone, model)


def test_lists_and_orders() -> None:
    pcp = zone_of_cpus(1024, 1, 6, 1).per_cpu_pageset
    assert [order_to_pindex(kind, order) for order in (0, 1, 2, 3) for kind in (0, 1, 2)] == list(range(12))
    assert [order_to_pindex(kind, 9) for kind in (0, 1, 2)] == [12, 13, 12]
    assert [pindex_to_order(pcp, pindex) for pindex in range(14)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 9, 9]
    assert [order for order in range(11) if pcp_allowed_order(pcp, order)] == [0, 1, 2, 3, 9]


def test_more_go_back_each_time_for_as_long_as_a_cpu_only_frees() -> None:
    pcp = zone_of_cpus(1024, 1, 6985, 63).per_cpu_pageset
    assert [nr_pcp_free(pcp, 0, 6985, 63, False) for _ in range(7)] == [63, 126, 252, 504, 1008, 2016, 2016]
    assert pcp.free_factor[0] == 5
    pcp.free_factor[0] = 0
    assert [nr_pcp_free(pcp, 0, 252, 63, False) for _ in range(4)] == [63, 126, 189, 189]
    pcp.count[0] = 17
    assert nr_pcp_free(pcp, 0, 252, 63, True) == 17
    assert nr_pcp_free(pcp, 0, 0, 1, False) == 1


def test_a_refill_comes_in_order_and_is_taken_from_the_front() -> None:
    zone, _ = both(252, 63)
    mm = bare_mm(zone)
    assert [take(mm, zone, 0, 0, MOVABLE) for _ in range(64)] == list(range(64))
    assert zone.per_cpu_pageset.count[0] == 62  # 63 came twice, 64 went
    assert [take(mm, zone, 1, 2, MOVABLE) for _ in range(2)] == [128, 132]
    assert zone.per_cpu_pageset.count[1] == (15 - 2) * 4  # 63 >> 2 blocks at a time


def test_a_page_goes_back_on_the_list_of_the_type_it_had_when_it_was_freed() -> None:
    zone, _ = both(252, 63)
    mm = bare_mm(zone)
    pfn = take(mm, zone, 0, 0, MOVABLE)
    assert pfn is not None
    free_the_page(mm, zone, pfn, 0)
    set_pageblock_migratetype(zone.page, pfn, UNMOVABLE)
    drain_pages_zone(zone, 0)
    assert pfn in [block for order in range(11) for block in free_blocks(zone, order, MOVABLE)]
