"""The buddy against a brute-force model, against the fact sheet's worked example, and against its own laws."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from kmemlab.mm.buddy import FPI_TO_TAIL, example_zone, find_buddy_pfn, free_one_page, rmqueue_smallest
from kmemlab.mm.check_zone import check_zone
from kmemlab.mm.mem_map import set_page_links
from kmemlab.mm.zone import NR_FREE_PAGES, Zone, bare_zone, set_pageblock_migratetype
from kmemlab.sim.list_head import list_for_each
from kmemlab.types.migratetype import MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE

from .model import SetBuddy


def listed(zone: Zone, order: int, migratetype: int = MIGRATE_MOVABLE) -> list[int]:
    return list(list_for_each(zone.page.lru, zone.free_list[order][migratetype]))


def blocks(zone: Zone) -> set[tuple[int, int]]:
    return {(pfn, order) for order in range(11) for pfn in listed(zone, order)}


class BuddyAgainstSets(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.zone = example_zone(order=10, blocks=3)
        self.model = SetBuddy(3, 10)

    @rule(target=held, order=st.integers(0, 10))
    def take(self, order: int) -> tuple[int, int] | None:
        large_enough = [o for _, o in self.model.free if o >= order]
        pfn = rmqueue_smallest(self.zone, order, MIGRATE_MOVABLE)
        if not large_enough:
            assert pfn is None
            return None
        assert pfn is not None
        self.model.take(pfn, order)
        self.zone.vm_stat[NR_FREE_PAGES] -= 1 << order
        return pfn, order

    @rule(block=consumes(held), flags=st.sampled_from([0, FPI_TO_TAIL]))
    def give(self, block: tuple[int, int] | None, flags: int) -> None:
        if block is not None:
            free_one_page(self.zone, *block, MIGRATE_MOVABLE, flags)
            self.model.give(*block)

    @invariant()
    def same_blocks(self) -> None:
        assert blocks(self.zone) == self.model.free

    @invariant()
    def laws(self) -> None:
        check_zone(self.zone)


TestBuddyAgainstSets = BuddyAgainstSets.TestCase
TestBuddyAgainstSets.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_buddies_are_each_others() -> None:
    for order in range(10):
        for pfn in range(0, 4096, 1 << order):
            other = pfn + (1 << order) if (pfn >> order) % 2 == 0 else pfn - (1 << order)
            assert find_buddy_pfn(pfn, order) == other


def test_the_worked_example() -> None:
    """One free block of 8 pages at pfn 8: a page is taken and given back."""
    zone = bare_zone(16)
    free_one_page(zone, 8, 3, MIGRATE_MOVABLE)
    assert rmqueue_smallest(zone, 0, MIGRATE_MOVABLE) == 8
    assert [listed(zone, order) for order in range(4)] == [[9], [10], [12], []]
    free_one_page(zone, 8, 0, MIGRATE_MOVABLE)
    assert [listed(zone, order) for order in range(4)] == [[], [], [], [8]]


def test_a_freed_block_goes_to_the_head_unless_its_parents_buddy_is_free() -> None:
    zone = bare_zone(64)
    for pfn in (0, 4, 8):
        free_one_page(zone, pfn, 0, MIGRATE_MOVABLE)
    assert listed(zone, 0) == [8, 4, 0]
    free_one_page(zone, 18, 1, MIGRATE_MOVABLE)  # pages 18, 19: the buddy of block 16's parent pair
    free_one_page(zone, 16, 0, MIGRATE_MOVABLE)  # its parent 16-17 has the free buddy 18-19: to the tail
    assert listed(zone, 0) == [8, 4, 0, 16]


def test_boot_puts_blocks_at_the_tail() -> None:
    zone = bare_zone(64)
    for pfn in (0, 8, 16):
        free_one_page(zone, pfn, 2, MIGRATE_MOVABLE, FPI_TO_TAIL)
    assert listed(zone, 2) == [0, 8, 16]


def test_expand_puts_upper_halves_at_the_head() -> None:
    zone = bare_zone(64)
    for pfn in (0, 8):
        free_one_page(zone, pfn, 2, MIGRATE_MOVABLE, FPI_TO_TAIL)
    free_one_page(zone, 32, 4, MIGRATE_MOVABLE, FPI_TO_TAIL)
    assert rmqueue_smallest(zone, 3, MIGRATE_MOVABLE) == 32
    assert listed(zone, 3) == [40]
    assert rmqueue_smallest(zone, 1, MIGRATE_MOVABLE) == 0
    assert listed(zone, 1) == [2]


def test_types_are_not_consulted_below_a_pageblock() -> None:
    zone = bare_zone(1024)
    free_one_page(zone, 0, 0, MIGRATE_UNMOVABLE)
    free_one_page(zone, 1, 0, MIGRATE_MOVABLE)
    assert listed(zone, 1) == [0]
    assert listed(zone, 0, MIGRATE_UNMOVABLE) == []


def test_an_isolated_pageblock_is_not_joined() -> None:
    zone = bare_zone(1024)
    set_pageblock_migratetype(zone.page, 0, MIGRATE_ISOLATE)
    free_one_page(zone, 0, 9, MIGRATE_ISOLATE)
    free_one_page(zone, 512, 9, MIGRATE_MOVABLE)
    assert listed(zone, 9, MIGRATE_ISOLATE) == [0]
    assert listed(zone, 9) == [512]


def test_blocks_of_two_zones_are_not_joined() -> None:
    zone = bare_zone(1024)
    set_page_links(zone.page, 512, 1024, 7)  # pages 512… belong to another zone, whose buddy marks they may bear
    zone.page.buddy[512] = 1 + 9
    free_one_page(zone, 0, 9, MIGRATE_MOVABLE)
    assert listed(zone, 9) == [0]
