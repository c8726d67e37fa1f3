"""Who lends to whom: the fact sheet's rules, case by case."""

from __future__ import annotations

import pytest

from kmemlab.mm.buddy import example_zone, free_one_page
from kmemlab.mm.check_zone import check_zone
from kmemlab.mm.fallback import rmqueue_inner
from kmemlab.mm.zone import NR_FREE_PAGES, Zone, bare_zone, get_pageblock_migratetype, set_pageblock_migratetype
from kmemlab.sim.list_head import list_for_each
from kmemlab.types.migratetype import (
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_TYPES,
    MIGRATE_UNMOVABLE,
)
from tests.mm.bare_mm import bare_mm


def lists(zone: Zone, migratetype: int) -> dict[int, list[int]]:
    rows = {order: list(list_for_each(zone.page.lru, zone.free_list[order][migratetype])) for order in range(11)}
    return {order: row for order, row in rows.items() if row}


def take(zone: Zone, order: int, migratetype: int) -> int | None:
    pfn = rmqueue_inner(bare_mm(zone), zone, order, migratetype, 0)
    if pfn is not None:
        zone.vm_stat[NR_FREE_PAGES] -= 1 << order
    check_zone(zone)
    return pfn


def test_an_unmovable_page_from_a_movable_block_takes_the_pageblocks_over() -> None:
    zone = example_zone(order=10)
    assert take(zone, 0, MIGRATE_UNMOVABLE) == 0
    assert lists(zone, MIGRATE_UNMOVABLE) == {order: [1 << order] for order in range(10)}
    assert lists(zone, MIGRATE_MOVABLE) == {}
    assert [get_pageblock_migratetype(zone.page, pfn) for pfn in (0, 512)] == [MIGRATE_UNMOVABLE] * 2


@pytest.mark.parametrize(
    ("wants", "has", "first"),
    [
        (MIGRATE_UNMOVABLE, (MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE), MIGRATE_RECLAIMABLE),
        (MIGRATE_MOVABLE, (MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE), MIGRATE_RECLAIMABLE),
        (MIGRATE_RECLAIMABLE, (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE), MIGRATE_UNMOVABLE),
    ],
)
def test_the_order_of_lenders(wants: int, has: tuple[int, int], first: int) -> None:
    zone = bare_zone(2048)
    for start, migratetype in zip((0, 1024), has, strict=True):
        for pfn in (start, start + 512):
            set_pageblock_migratetype(zone.page, pfn, migratetype)
        free_one_page(zone, start, 10, migratetype)
    assert take(zone, 10, wants) == 1024 * has.index(first)


def test_the_largest_block_is_taken_so_that_few_pageblocks_get_mixed() -> None:
    zone = bare_zone(2048)
    free_one_page(zone, 16, 1, MIGRATE_MOVABLE)
    free_one_page(zone, 1024, 6, MIGRATE_MOVABLE)
    assert take(zone, 0, MIGRATE_UNMOVABLE) == 1024


def test_a_movable_request_takes_the_smallest_when_all_are_small() -> None:
    zone = bare_zone(2048)
    for pfn in range(0, 2048, 512):
        set_pageblock_migratetype(zone.page, pfn, MIGRATE_UNMOVABLE)
    free_one_page(zone, 8, 3, MIGRATE_UNMOVABLE)
    free_one_page(zone, 1024, 1, MIGRATE_UNMOVABLE)
    assert take(zone, 0, MIGRATE_MOVABLE) == 1024
    assert lists(zone, MIGRATE_UNMOVABLE) == {3: [8]}


def test_a_mostly_free_pageblock_changes_hands_and_its_free_pages_with_it() -> None:
    zone = bare_zone(1024)
    for pfn in range(0, 512, 16):
        free_one_page(zone, pfn, 3, MIGRATE_MOVABLE)  # half of the pageblock, in blocks of 8
    free_one_page(zone, 8, 3, MIGRATE_MOVABLE)
    take(zone, 0, MIGRATE_RECLAIMABLE)
    assert get_pageblock_migratetype(zone.page, 0) == MIGRATE_RECLAIMABLE
    assert lists(zone, MIGRATE_MOVABLE) == {}


def test_the_reserve_for_urgent_requests_is_never_lent() -> None:
    zone = bare_zone(1024)
    for pfn in (0, 512):
        set_pageblock_migratetype(zone.page, pfn, MIGRATE_HIGHATOMIC)
    free_one_page(zone, 0, 9, MIGRATE_HIGHATOMIC)
    for migratetype in range(MIGRATE_TYPES - 2):
        assert take(zone, 0, migratetype) is None
