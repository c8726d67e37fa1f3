"""The cases that Linux tries its own memblock with (tools/testing/memblock), as tables: what is said, and what is then.

Numbers are units of 64 KiB. `memory` and `reserved` follow the same rules, so the basic cases run on both.
"""

from __future__ import annotations

import pytest

from kmemlab.boot.memblock import (
    Memblock,
    memblock_add,
    memblock_add_node,
    memblock_alloc,
    memblock_alloc_exact_nid_raw,
    memblock_alloc_try_nid,
    memblock_init,
    memblock_phys_free,
    memblock_remove,
    memblock_reserve,
    memblock_trim_memory,
)
from kmemlab.types.units import U64_MAX

UNIT = 1 << 16
Ranges = list[tuple[int, int]]  # first unit, and how many


def fresh(memory: Ranges = (), reserved: Ranges = (), *, bottom_up: bool = False) -> Memblock:  # type: ignore[assignment]
    memblock = Memblock()
    memblock_init(memblock)
    memblock.bottom_up = int(bottom_up)
    for base, size in memory:
        memblock_add(memblock, base * UNIT, size * UNIT)
    for base, size in reserved:
        memblock_reserve(memblock, base * UNIT, size * UNIT)
    return memblock


ADD: dict[str, tuple[Ranges, Ranges]] = {
    "simple": ([(4, 2)], [(4, 2)]),
    "disjoint": ([(4, 2), (10, 2)], [(4, 2), (10, 2)]),
    "overlap_top": ([(8, 8), (4, 6)], [(4, 12)]),
    "overlap_bottom": ([(4, 6), (8, 8)], [(4, 12)]),
    "within": ([(4, 12), (8, 2)], [(4, 12)]),
    "twice": ([(4, 2), (4, 2)], [(4, 2)]),
    "between": ([(4, 2), (8, 2), (6, 2)], [(4, 6)]),
}
REMOVE: dict[str, tuple[Ranges, tuple[int, int], Ranges]] = {
    "simple": ([(4, 2), (10, 2)], (4, 2), [(10, 2)]),
    "absent": ([(4, 2)], (10, 2), [(4, 2)]),
    "overlap_top": ([(8, 8)], (4, 6), [(10, 6)]),
    "overlap_bottom": ([(4, 8)], (10, 8), [(4, 6)]),
    "within": ([(4, 12)], (8, 2), [(4, 4), (10, 6)]),
    "only_region": ([(4, 2)], (4, 2), []),
    "overlap_two": ([(4, 6), (12, 6)], (8, 6), [(4, 4), (14, 4)]),
}


def units(memblock: Memblock, kind: str) -> Ranges:
    return [(base // UNIT, size // UNIT) for base, size, _, _ in getattr(memblock, kind).regions()]


@pytest.mark.parametrize("kind", ["memory", "reserved"])
@pytest.mark.parametrize("case", ADD)
def test_adding_and_reserving(case: str, kind: str) -> None:
    said, then = ADD[case]
    memblock = fresh(**{kind: said})
    assert units(memblock, kind) == then
    assert getattr(memblock, kind).total_size == sum(size for _, size in then) * UNIT


@pytest.mark.parametrize("kind", ["memory", "reserved"])
@pytest.mark.parametrize("case", REMOVE)
def test_removing_and_freeing(case: str, kind: str) -> None:
    said, (base, size), then = REMOVE[case]
    memblock = fresh(**{kind: said})
    {"memory": memblock_remove, "reserved": memblock_phys_free}[kind](memblock, base * UNIT, size * UNIT)
    assert units(memblock, kind) == then
    assert getattr(memblock, kind).total_size == sum(size for _, size in then) * UNIT


@pytest.mark.parametrize("kind", ["memory", "reserved"])
def test_near_the_end_of_all_addresses_sizes_are_cut(kind: str) -> None:
    memblock = fresh()
    base = U64_MAX - UNIT
    {"memory": memblock_add, "reserved": memblock_reserve}[kind](memblock, base, 2 * UNIT)
    assert [(first, size) for first, size, _, _ in getattr(memblock, kind).regions()] == [(base, UNIT)]
    {"memory": memblock_remove, "reserved": memblock_phys_free}[kind](memblock, base, 2 * UNIT)
    assert getattr(memblock, kind).regions() == ()


def test_a_region_has_the_node_and_flags_that_were_said() -> None:
    memblock = fresh()
    memblock_add_node(memblock, 4 * UNIT, UNIT, 1, 1)
    assert memblock.memory.regions() == ((4 * UNIT, UNIT, 1, 1),)


TRIM: dict[str, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {  # bytes, trimmed to 64 KiB
    "aligned": ([(UNIT, UNIT), (4 * UNIT, UNIT)], [(UNIT, UNIT), (4 * UNIT, UNIT)]),
    "too_small": ([(UNIT, UNIT), (4 * UNIT + 1, UNIT - 2)], [(UNIT, UNIT)]),
    "unaligned_start": ([(UNIT, UNIT), (4 * UNIT + 8, 2 * UNIT - 8)], [(UNIT, UNIT), (5 * UNIT, UNIT)]),
    "unaligned_end": ([(UNIT, UNIT), (4 * UNIT, 2 * UNIT - 8)], [(UNIT, UNIT), (4 * UNIT, UNIT)]),
}


@pytest.mark.parametrize("case", TRIM)
def test_trimming(case: str) -> None:
    memblock = fresh()
    said, then = TRIM[case]
    for base, size in said:
        memblock_add(memblock, base, size)
    memblock_trim_memory(memblock, UNIT)
    assert [(base, size) for base, size, _, _ in memblock.memory.regions()] == then


# memory 16 … 32; what is reserved, how many units are wanted, where they are found from the top and from the bottom
ALLOC: dict[str, tuple[Ranges, int, int | None, int | None]] = {
    "simple": ([], 2, 30, 16),
    "disjoint": ([(30, 2)], 2, 28, 16),
    "before": ([(18, 14)], 2, 16, 16),
    "after": ([(16, 14)], 2, 30, 30),
    "second_fit": ([(20, 10)], 4, 16, 16),
    "in_between": ([(16, 4), (24, 8)], 4, 20, 20),
    "small_gaps": ([(17, 2), (20, 2), (23, 2), (26, 2), (29, 3)], 2, None, None),
    "all_reserved": ([(16, 16)], 1, None, None),
    "no_space": ([(16, 15)], 2, None, None),
    "limited_space": ([(16, 15)], 1, 31, 31),
    "too_large": ([], 17, None, None),
}


@pytest.mark.parametrize("bottom_up", [False, True])
@pytest.mark.parametrize("case", ALLOC)
def test_allocating(case: str, bottom_up: bool) -> None:
    reserved, size, top, bottom = ALLOC[case]
    memblock = fresh([(16, 16)], reserved, bottom_up=bottom_up)
    before = memblock.reserved.total_size
    found = memblock_alloc(memblock, size * UNIT, UNIT)
    place = bottom if bottom_up else top
    assert found == (0 if place is None else place * UNIT)
    assert memblock.reserved.total_size - before == (0 if place is None else size * UNIT)


def test_no_memory_nothing_to_give() -> None:
    assert memblock_alloc(fresh(), UNIT) == 0


# from, to, wanted: memory 16 … 32 again, and where a range with limits is found.
LIMITS: dict[str, tuple[Ranges, int, int, int, int | None, int | None]] = {
    "simple": ([], 20, 28, 2, 26, 20),
    "exact_range": ([], 20, 24, 4, 20, 20),
    "narrow_range_falls_back_below_the_minimum": ([], 20, 22, 4, 18, 16),
    "low_max_is_too_low": ([], 0, 17, 4, None, None),
    "min_reserved": ([(28, 4)], 26, 32, 2, 26, 26),
    "max_reserved": ([(24, 8)], 20, 26, 2, 22, 20),
    "cap_max": ([], 24, 40, 2, 30, 24),
    "cap_min": ([], 4, 28, 2, 26, 16),
    "reserved_full_falls_back_below": ([(20, 8)], 20, 28, 2, 18, 16),
}


@pytest.mark.parametrize("bottom_up", [False, True])
@pytest.mark.parametrize("case", LIMITS)
def test_allocating_within_limits(case: str, bottom_up: bool) -> None:
    reserved, low, high, size, top, bottom = LIMITS[case]
    memblock = fresh([(16, 16)], reserved, bottom_up=bottom_up)
    place = bottom if bottom_up else top
    found = memblock_alloc_try_nid(memblock, size * UNIT, UNIT, low * UNIT, high * UNIT)
    assert found == (0 if place is None else place * UNIT)


@pytest.mark.parametrize(
    ("wanted", "tried", "exact"),
    [(2, 22, 22), (4, 20, 20), (8, 24, 0)],  # fits the node; all of it; more than the node has: another, or none
)
def test_allocating_on_a_node(wanted: int, tried: int, exact: int) -> None:
    for allocate, place in ((memblock_alloc_try_nid, tried), (memblock_alloc_exact_nid_raw, exact)):
        memblock = fresh()
        for base, size, nid in ((16, 4, 0), (20, 4, 1), (24, 8, 2)):
            memblock_add_node(memblock, base * UNIT, size * UNIT, nid, 0)
        assert allocate(memblock, wanted * UNIT, UNIT, 0, 0, 1) == place * UNIT
