"""The watermark test, at the very page where each kind of request begins to fail."""

from __future__ import annotations

import pytest

from kmemlab.mm.buddy import example_zone
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import (
    ALLOC_HIGHATOMIC,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MIN,
    wmark_pages,
    zone_watermark_fast,
    zone_watermark_ok_inner,
)
from kmemlab.types.gfp import GFP_ATOMIC, GFP_KERNEL

MARK, RESERVE = 800, 56


@pytest.fixture
def zone() -> Zone:
    zone = example_zone(order=10, blocks=2)
    zone.lowmem_reserve[2] = RESERVE
    return zone


@pytest.mark.parametrize(
    ("flags", "depth"),
    [
        (0, 800),
        (ALLOC_NON_BLOCK, 800),  # not sleeping alone gives nothing in late 6.1
        (ALLOC_MIN_RESERVE, 400),  # __GFP_HIGH: half
        (ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK, 300),  # GFP_ATOMIC: three eighths
        (ALLOC_OOM, 400),
    ],
)
def test_how_deep_each_kind_may_go(zone: Zone, flags: int, depth: int) -> None:
    for index, reserve in ((0, 0), (2, RESERVE)):
        assert not zone_watermark_ok_inner(zone, 0, MARK, index, flags, depth + reserve)
        assert zone_watermark_ok_inner(zone, 0, MARK, index, flags, depth + reserve + 1)


def test_the_short_cut_gives_the_same_answer(zone: Zone) -> None:
    for free in range(MARK - 3, MARK + RESERVE + 3):
        zone.vm_stat[NR_FREE_PAGES] = free
        for index in (0, 2):
            assert zone_watermark_fast(zone, 0, MARK, index, 0, GFP_KERNEL) == (free > MARK + (RESERVE if index else 0))


def test_a_large_request_needs_a_block_that_is_large_enough(zone: Zone) -> None:
    assert zone_watermark_ok_inner(zone, 10, MARK, 0, 0, 4000)
    small = example_zone(order=3, blocks=8)
    assert zone_watermark_ok_inner(small, 3, MARK, 0, 0, 4000)
    assert not zone_watermark_ok_inner(small, 4, MARK, 0, 0, 4000)


def test_the_reserve_of_urgent_requests_does_not_count_for_others(zone: Zone) -> None:
    zone.nr_reserved_highatomic = 512
    for free, ordinary in ((MARK + 512, False), (MARK + 513, True)):
        zone.vm_stat[NR_FREE_PAGES] = free
        assert zone_watermark_fast(zone, 0, MARK, 0, 0, GFP_KERNEL) == ordinary
        assert zone_watermark_ok_inner(zone, 0, MARK, 0, 0, free) == ordinary
    for flags in (ALLOC_HIGHATOMIC, ALLOC_NON_BLOCK, ALLOC_OOM, ALLOC_MIN_RESERVE):
        assert zone_watermark_ok_inner(zone, 0, MARK, 0, flags, MARK + 1)


def test_an_atomic_request_for_one_page_is_judged_without_the_boost(zone: Zone) -> None:
    zone.watermark[WMARK_MIN] = MARK
    zone.watermark_boost = 512
    mark = wmark_pages(zone, WMARK_MIN)
    atomic = ALLOC_WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK
    for free, boosted, plain in ((492, False, False), (MARK * 3 // 8 + 1, False, True), (493, True, True)):
        zone.vm_stat[NR_FREE_PAGES] = free
        assert zone_watermark_ok_inner(zone, 0, mark, 0, atomic, free) == boosted or free == 492
        assert zone_watermark_fast(zone, 0, mark, 0, atomic, GFP_ATOMIC) == (plain or free > MARK * 3 // 8)
        assert zone_watermark_fast(zone, 0, mark, 0, ALLOC_WMARK_LOW | atomic, GFP_ATOMIC) == (free > 492)
