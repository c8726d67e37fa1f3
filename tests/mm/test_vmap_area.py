"""Addresses for vmalloc: against intervals counted by hand, and against the areas of real machines."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from kmemlab.mm.free_vmap_area import (
    FL_FIT_TYPE,
    LE_FIT_TYPE,
    NE_FIT_TYPE,
    NOTHING_FIT,
    RE_FIT_TYPE,
    alloc_vmap_area_inner,
    classify_va_fit_type,
    vmap_init_free_space,
)
from kmemlab.mm.rbtree import rb_broken
from kmemlab.mm.vmap_area import (
    FREE_VMAP_AREA_ROOT,
    PURGE_VMAP_AREA_ROOT,
    VMAP_AREA_ROOT,
    VmapAreas,
    find_vmap_area,
    init_vmap_area_lists,
    insert_vmap_area,
    merge_or_add_vmap_area,
    merge_or_add_vmap_area_augment,
    new_vmap_area,
    unlink_va,
    vmap_areas,
)
from kmemlab.types.errors import TooLarge

CAPTURES = Path(__file__).parent.parent / "data" / "vmallocinfo"
PAGE, START = 4096, 0xFFFFC90000000000
HIGHEST = 2**64 - 1


def fresh(most: int = 400) -> VmapAreas:
    areas = VmapAreas(most)
    init_vmap_area_lists(areas)
    vmap_init_free_space(areas, HIGHEST)
    return areas


def spans(areas: VmapAreas, header: int) -> list[tuple[int, int]]:
    return [(areas.va_start[va], areas.va_end[va]) for va in vmap_areas(areas, header)]


def take(areas: VmapAreas, size: int, align: int, start: int = START, end: int = START + 300 * PAGE) -> int:
    """As alloc_vmap_area does it; the number of the area, or 0."""
    addr = alloc_vmap_area_inner(areas, size, align, start, end)
    if addr == end:
        return 0
    va = new_vmap_area(areas, addr, addr + size)
    insert_vmap_area(areas, va)
    return va


def lowest(free: list[tuple[int, int]], size: int, align: int, start: int, end: int) -> int | None:
    """Where a request fits first: by trying every free interval."""
    for low, high in free:
        at = -(-max(low, start) // align) * align
        if at + size <= min(high, end):
            return at
    return None


@pytest.mark.parametrize("seed", range(20))
def test_the_lowest_address_that_fits_is_found(seed: int) -> None:
    chance, areas, held = random.Random(seed), fresh(), list[int]()
    for _ in range(200):
        if held and chance.random() < 0.45:
            va = held.pop(chance.randrange(len(held)))
            unlink_va(areas, va, VMAP_AREA_ROOT)
            merge_or_add_vmap_area_augment(areas, va)
        else:
            size, align = PAGE * chance.randrange(1, 20), chance.choice([1, PAGE, 4 * PAGE])
            start = START + PAGE * chance.choice([0, 0, 0, 40, 170])
            best = lowest(spans(areas, FREE_VMAP_AREA_ROOT), size, align, start, START + 300 * PAGE)
            va = take(areas, size, align, start)
            if align <= PAGE:
                assert (areas.va_start[va] if va else None) == best
            elif va:
                # Aligned requests may be answered higher up, never lower, and never wrongly.
                assert best is not None
                assert areas.va_start[va] >= best
                assert areas.va_start[va] % align == 0
            if va:
                held.append(va)
        check_all(areas)
    everything = spans(areas, FREE_VMAP_AREA_ROOT) + spans(areas, VMAP_AREA_ROOT)
    assert len(everything) == areas.nr_used - unused(areas)


def unused(areas: VmapAreas) -> int:
    count, va = 0, areas.first_unused
    while va:
        count, va = count + 1, areas.list.next[va]
    return count


def check_all(areas: VmapAreas) -> None:
    """Free and busy areas together are all addresses, and the trees are whole."""
    free, busy = spans(areas, FREE_VMAP_AREA_ROOT), spans(areas, VMAP_AREA_ROOT)
    assert free == sorted(free)
    assert busy == sorted(busy)
    both = sorted(free + busy)
    assert (both[0][0], both[-1][1]) == (1, HIGHEST)
    assert all(one[1] == other[0] for one, other in pairwise(both))
    assert all(one[1] < other[0] for one, other in pairwise(free)), "free neighbours didn't merge"
    for header in (VMAP_AREA_ROOT, FREE_VMAP_AREA_ROOT):
        assert rb_broken(areas, header) == ""


def test_a_large_alignment_may_pass_over_an_area_that_happens_to_lie_right() -> None:
    # C looks for size + align - 1, so a hole of exactly the right size and place is seen only if the walk meets it.
    passed_over = []
    for right in range(16):
        areas = fresh()
        held = [take(areas, 8 * PAGE, 1) for _ in range(33)]
        for nth, va in enumerate(held[::2]):
            if nth != right:  # a hole too small: the upper half of it is taken again
                unlink_va(areas, va, VMAP_AREA_ROOT)
                merge_or_add_vmap_area_augment(areas, va)
                take(areas, 4 * PAGE, 1, START + (16 * nth + 4) * PAGE)
        va = held[2 * right]
        start = areas.va_start[va]
        unlink_va(areas, va, VMAP_AREA_ROOT)
        merge_or_add_vmap_area_augment(areas, va)
        found = areas.va_start[take(areas, 8 * PAGE, 8 * PAGE)]
        assert found >= start
        passed_over.append(found > start)
    assert any(passed_over)
    assert not all(passed_over)


def test_a_request_as_large_as_the_range_is_met_although_it_is_aligned() -> None:
    areas = fresh()
    assert take(areas, 16 * PAGE, 16 * PAGE, START, START + 16 * PAGE)
    assert not take(areas, PAGE, 1, START, START + 16 * PAGE)


def test_what_is_cut_out_touches_which_edge() -> None:
    areas = fresh()
    va = new_vmap_area(areas, START, START + 8 * PAGE)
    fits = [classify_va_fit_type(areas, va, START + at * PAGE, pages * PAGE) for at, pages in
            ((0, 8), (0, 3), (5, 3), (2, 3), (6, 3))]  # fmt: skip
    assert fits == [FL_FIT_TYPE, LE_FIT_TYPE, RE_FIT_TYPE, NE_FIT_TYPE, NOTHING_FIT]


def test_lazy_areas_merge_and_busy_ones_do_not() -> None:
    areas = fresh()
    vas = [take(areas, 2 * PAGE, 1) for _ in range(3)]
    assert len(spans(areas, VMAP_AREA_ROOT)) == 3
    for va in vas:
        unlink_va(areas, va, VMAP_AREA_ROOT)
        merge_or_add_vmap_area(areas, va, PURGE_VMAP_AREA_ROOT)
    assert spans(areas, PURGE_VMAP_AREA_ROOT) == [(START, START + 6 * PAGE)]


def test_an_address_is_found_in_its_area_only() -> None:
    areas = fresh()
    va = take(areas, 2 * PAGE, 1)
    found = [find_vmap_area(areas, START + offset) for offset in (-1, 0, 2 * PAGE - 1, 2 * PAGE)]
    assert found == [0, va, va, 0]


def test_overlapping_areas_are_a_bug() -> None:
    areas = fresh()
    take(areas, 2 * PAGE, 1)
    with pytest.raises(AssertionError, match="overlaps"):
        insert_vmap_area(areas, new_vmap_area(areas, START + PAGE, START + 3 * PAGE))


def test_more_areas_than_the_model_has_are_refused() -> None:
    areas = fresh(4)
    for _ in range(2):  # two free areas are there from the start: below these, and above
        take(areas, PAGE, 1)
    with pytest.raises(TooLarge, match="areas of kernel addresses"):
        take(areas, PAGE, 1)


LINE = re.compile(r"0x(\w+)-0x(\w+) +(\d+) (\S+)(.*)")
THREAD_ALIGN = 4 * PAGE


@pytest.mark.parametrize("name", sorted(path.stem for path in CAPTURES.glob("*.txt")))
def test_areas_lie_where_linux_laid_them(name: str) -> None:
    """The areas of a machine, asked for in the order of their addresses, fall where they are.

    That is so up to the first hole that was large enough: something that was freed since lay there.
    """
    areas, placed = fresh(), 0
    for line in (CAPTURES / f"{name}.txt").read_text().splitlines():
        found = LINE.fullmatch(line)
        assert found, line
        start, size, caller, rest = int(found[1], 16), int(found[3]), found[4], found[5]
        if "unpurged" in line or start > START + (1 << 40):
            break
        usable = size - PAGE
        align = 1
        if " ioremap" in rest:
            align = 1 << max(12, (usable - 1).bit_length())
        elif caller.startswith(("kernel_clone", "fork_idle")):
            align = THREAD_ALIGN
        va = take(areas, size, align, end=START + (32 << 40))
        if areas.va_start[va] != start:
            break
        placed += 1
    assert placed >= 50, f"only the first {placed} areas"
