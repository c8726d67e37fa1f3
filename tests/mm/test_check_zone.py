"""A law that catches nothing is no law: each check is shown seeded defects of the allocator."""

from __future__ import annotations

import random

import pytest

from kmemlab.mm import buddy
from kmemlab.mm.buddy import example_zone, expand, free_one_page, rmqueue_smallest
from kmemlab.mm.check_zone import BrokenLaw, check_conservation, check_zone
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    Zone,
    add_to_free_list,
    add_to_free_list_tail,
    del_page_from_free_list,
)
from kmemlab.sim.list_head import list_add, list_del
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError
from kmemlab.types.migratetype import MIGRATE_MOVABLE


def expand_loses_half(zone: Zone, pfn: int, low: int, high: int, migratetype: int) -> None:
    for order in range(high - 1, low, -1):
        add_to_free_list(zone, pfn + (1 << order), order, migratetype)


def expand_keeps_upper(zone: Zone, pfn: int, low: int, high: int, migratetype: int) -> None:
    for order in range(high - 1, low - 1, -1):
        add_to_free_list(zone, pfn, order, migratetype)


def never_joins(zone: Zone, buddy_pfn: int, order: int) -> bool:
    return False


def joins_any_order(zone: Zone, buddy_pfn: int, order: int) -> bool:
    return zone.page.buddy[buddy_pfn] != 0


def wrong_buddy(pfn: int, order: int) -> int:
    return pfn + (1 << order)


def adds_without_count(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    zone.page.buddy[pfn] = 1 + order
    list_add(zone.page.lru, pfn, zone.free_list[order][migratetype])


def adds_without_mark(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    list_add(zone.page.lru, pfn, zone.free_list[order][migratetype])
    zone.nr_free[order] += 1


def adds_to_next_order(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    zone.page.buddy[pfn] = 1 + order
    list_add(zone.page.lru, pfn, zone.free_list[min(order + 1, 10)][migratetype])
    zone.nr_free[min(order + 1, 10)] += 1


def leaves_mark(zone: Zone, pfn: int, order: int) -> None:
    list_del(zone.page.lru, pfn)
    zone.nr_free[order] -= 1


def stays_listed(zone: Zone, pfn: int, order: int) -> None:
    zone.page.buddy[pfn] = 0
    zone.nr_free[order] -= 1


DEFECTS = [
    (expand, expand_loses_half),
    (expand, expand_keeps_upper),
    (buddy.page_is_buddy, never_joins),
    (buddy.page_is_buddy, joins_any_order),
    (buddy.find_buddy_pfn, wrong_buddy),
    (add_to_free_list, adds_without_count),
    (add_to_free_list, adds_without_mark),
    (add_to_free_list, adds_to_next_order),
    (del_page_from_free_list, leaves_mark),
    (del_page_from_free_list, stays_listed),
]


def work(zone: Zone, law) -> None:
    """Take and give for a while; the law is asked after each step."""
    rng = random.Random(5)
    held: list[tuple[int, int]] = []
    for _ in range(60):
        if held and rng.random() < 0.5:
            pfn, order = held.pop(rng.randrange(len(held)))
            zone.nr_owned -= 1 << order
            free_one_page(zone, pfn, order, MIGRATE_MOVABLE)
        else:
            order = rng.randrange(4)
            found = rmqueue_smallest(zone, order, MIGRATE_MOVABLE)
            if found is not None:
                held.append((found, order))
                zone.vm_stat[NR_FREE_PAGES] -= 1 << order
                zone.nr_owned += 1 << order
        law(zone)


def test_without_a_defect_the_laws_hold() -> None:
    zone = example_zone(order=10, blocks=2)
    zone.managed_pages = 2048
    work(zone, check_zone)
    work(zone, check_conservation)


@pytest.mark.parametrize(("function", "mutant"), DEFECTS, ids=lambda f: f.__name__)
def test_check_zone_catches(function, mutant) -> None:
    zone = example_zone(order=10, blocks=2)
    with livepatch(function, mutant), pytest.raises((BrokenLaw, KmemlabError, IndexError)) as caught:
        work(zone, check_zone)
    assert not isinstance(caught.value, IndexError) or mutant is wrong_buddy


def frees_without_counting(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    add_to_free_list_tail(zone, pfn, order, migratetype)


def counts_one_page(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    free_one_page.original(zone, pfn, order, migratetype, fpi_flags)
    zone.vm_stat[NR_FREE_PAGES] += 1 - (1 << order)


def counts_twice(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    free_one_page.original(zone, pfn, order, migratetype, fpi_flags)
    zone.vm_stat[NR_FREE_PAGES] += 1 << order


def forgets(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    return None


def loses_a_half(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    free_one_page.original(zone, pfn, max(order - 1, 0), migratetype, fpi_flags)


@pytest.mark.parametrize(
    "mutant", [frees_without_counting, counts_one_page, counts_twice, forgets, loses_a_half], ids=lambda f: f.__name__
)
def test_check_conservation_catches(mutant) -> None:
    zone = example_zone(order=10, blocks=2)
    zone.managed_pages = 2048
    with livepatch(free_one_page, mutant), pytest.raises(BrokenLaw):
        work(zone, check_conservation)


def test_an_expand_that_loses_pages_is_told_by_the_sum() -> None:
    """The lists are in order; only the sum shows that pages are gone."""
    zone = example_zone(order=10, blocks=2)
    with livepatch(expand, expand_loses_half), pytest.raises(BrokenLaw, match="NR_FREE_PAGES is"):
        work(zone, check_zone)
