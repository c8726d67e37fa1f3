"""The tasks of chapter 02: right answers hold, and for five wrong ones each the box names the law and a small input.

The judges' own models are compared with the kernel's functions.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from kmemlab.boot.memblock import (
    Memblock,
    MemblockType,
    memblock_add_range,
    memblock_find_in_range_node,
)
from kmemlab.boot.memblock_regions import memblock_insert_region, memblock_merge_regions
from kmemlab.boot.mtrr import check_type_overlap
from kmemlab.boot.pat import effective_type
from kmemlab.course.desk import result_of
from kmemlab.course.tasks.memblock import UNIT, drawn_find, drawn_regions, list_of, memblock_of, painted, tried
from kmemlab.course.tasks.memblock_numbers import given_handover, given_predict, maximal_blocks, stacked
from kmemlab.course.tasks.memblock_types import COMBINED, effective, range_type
from kmemlab.course.tasks.memblock_variant import RULES, by_rule
from kmemlab.types.mtrr_type import PAT_NAMES
from tests.course.judged import ADA, given_to, student_with, wrong

# -- memblock.add_range ------------------------------------------------------------------------------------------------


def add(
    type: MemblockType,
    base: int,
    size: int,
    nid: int,
    flags: int,
    *,
    empties: bool = False,
    splits: bool = True,
    merges: bool = True,
    overwrites: bool = False,
    counts: bool = True,
    touches: bool = False,
    first: bool = True,
    single: bool = True,
) -> None:
    """A right answer, written as C's one loop. Each keyword makes it wrong."""
    end = base + size
    if (size == 0 and not empties) or (size == 1 and not single):
        return
    if type.size[0] == 0:
        type.base[0], type.size[0], type.nid[0], type.flags[0] = base, size, nid, flags * first
        type.total_size = size
        return
    at = 0
    while at < type.cnt and type.base[at] < end and splits:
        region, region_end = type.base[at], type.end(at)
        if region_end > base:
            if overwrites:
                type.nid[at] = nid
            if region > base or (touches and region == base):
                memblock_insert_region(type, at, base, region - base, nid, flags)
                at += 1
            base = min(region_end, end)
        at += 1
    if base < end or empties:
        before = type.total_size
        memblock_insert_region(type, at, base, end - base, nid, flags)
        if not counts:
            type.total_size = before
    if merges:
        memblock_merge_regions(type)


def answering(**mistake: bool) -> Callable[..., None]:
    def add_range(memblock: Memblock, type: MemblockType, base: int, size: int, nid: int, flags: int) -> None:
        add(type, base, size, nid, flags, **mistake)

    return add_range


def test_a_right_add_range_holds_and_boots_two_machines() -> None:
    result = result_of("memblock.add_range", answering(), ADA)
    assert result.passed, (result.verdict, result.case)
    assert result.points == 20


@pytest.mark.parametrize(
    ("mistake", "law", "regions"),
    [
        ({"empties": True}, "empty", 1),
        ({"splits": False}, "in order and don't overlap", 1),
        ({"merges": False}, "neighbours that touch", 1),
        ({"overwrites": True}, "keeps its own", 1),
        ({"counts": False}, "total_size counts each byte once", 1),
        ({"touches": True}, "no region of the list is empty", 1),
        ({"first": False}, "the node and the flags with which it first came", 0),
        ({"single": False}, "afterwards the list covers", 0),
    ],
)
def test_a_wrong_add_range_is_told_the_law_on_a_small_list(mistake: dict[str, bool], law: str, regions: int) -> None:
    result = wrong("memblock.add_range", answering(**mistake))
    assert result.verdict
    assert result.case
    assert law in result.verdict.law
    assert len(result.case.value[0]) <= regions, result.case.text
    assert result.points < 20


def test_the_painted_bytes_agree_with_the_kernels_add_range() -> None:
    rng = Random(2)
    for _ in range(400):
        regions = drawn_regions(rng, rng.randrange(1, 8))
        new = (rng.randrange(40), rng.randrange(1, 30), rng.randrange(2), 0)
        type = list_of(regions)
        type.max = 128
        memblock_add_range(Memblock(), type, *new)
        assert list(type.regions()) == painted(regions, new)


# -- memblock.find_top_down --------------------------------------------------------------------------------------------


def find(
    memblock: Memblock,
    size: int,
    align: int,
    start: int,
    end: int,
    nid: int,
    *,
    accessible: bool = True,
    page0: bool = False,
    nodes: bool = True,
    aligns: bool = True,
    lowest: bool = False,
    gaps: bool = True,
) -> int:
    """A right answer by trying each KiB or page. Each keyword makes it wrong."""
    if accessible and end == 0:
        end = memblock.current_limit
    step = min(align, UNIT) if size < 200 * UNIT else align
    found = []
    for base, length, node, _ in memblock.memory.regions():
        if nodes and nid not in (-1, node):
            continue
        low, high = max(base, start, 0 if page0 else 4096), min(base + length, end)
        for place in range(-(-low // step) * step, high - size + 1, step) if high - low < 100 * UNIT else ():
            if aligns and place % align:
                continue
            taken = memblock.reserved.regions() if gaps else ()
            if all(place + size <= at or at + span <= place for at, span, _, _ in taken):
                found.append(place)
    return (min if lowest else max)(found, default=0)


def searching(**mistake: bool) -> Callable[..., int]:
    def find_in_range(memblock: Memblock, size: int, align: int, start: int, end: int, nid: int = -1) -> int:
        if memblock.memory.end(memblock.memory.cnt - 1) > 200 * UNIT and not mistake:
            return by_gaps(memblock, size, align, start, end, nid)
        return find(memblock, size, align, start, end, nid, **mistake)

    return find_in_range


def by_gaps(memblock: Memblock, size: int, align: int, start: int, end: int, nid: int) -> int:
    """A right answer for large machines: candidates are only right below what ends a gap."""
    end, start = end or memblock.current_limit, max(start, 4096)
    reserved = memblock.reserved.regions()
    found = [0]
    for base, length, node, _ in memblock.memory.regions():
        low, high = max(base, start), min(base + length, end)
        for edge in [high, *(at for at, _, _, _ in reserved if low < at < high)]:
            place = (edge - size) // align * align
            free = all(place + size <= at or at + span <= place for at, span, _, _ in reserved)
            if nid in (-1, node) and place >= low and free:
                found.append(place)
    return max(found)


def test_a_right_search_holds_and_boots_two_machines() -> None:
    result = result_of("memblock.find_top_down", searching(), ADA)
    assert result.passed, (result.verdict, result.case)


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        ({"accessible": False}, "if a place is free, one is found"),
        ({"page0": True}, "page 0 is never given"),
        ({"nodes": False}, "on the node that was asked for"),
        ({"aligns": False}, "a multiple of align"),
        ({"lowest": True}, "it is the highest"),
        ({"gaps": False}, "no byte of the place is reserved"),
    ],
)
def test_a_wrong_search_is_told_the_law_on_a_small_memory(mistake: dict[str, bool], law: str) -> None:
    result = wrong("memblock.find_top_down", searching(**mistake))
    assert result.verdict
    assert result.case
    assert law in result.verdict.law
    assert not isinstance(result.case.value, str)
    memory, reserved, _, _ = result.case.value
    assert len(memory) + len(reserved) <= 2, result.case.text


def test_trying_all_places_agrees_with_the_kernels_search() -> None:
    rng = Random(3)
    for _ in range(400):
        memory, reserved, limit, ask = drawn_find(rng)
        size, align, start, end, nid = ask
        memblock = memblock_of(memory, reserved, limit)
        got = memblock_find_in_range_node(memblock, size * UNIT, align * UNIT, start * UNIT, end * UNIT, nid)
        assert got == tried(memory, reserved, limit, ask) * UNIT, (memory, reserved, limit, ask)


# -- memblock.variant --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", sorted(RULES))
def test_a_right_variant_holds_and_the_search_of_linux_gets_little_credit(variant: str) -> None:
    student = student_with("memblock.variant", variant)
    given = given_to("memblock.variant", student)
    n = given["n"]

    def right(free: list[tuple[int, int]], size: int, align: int) -> int | None:
        return by_rule(variant, n, free, size, align)

    assert result_of("memblock.variant", right, student).passed

    def linux(free: list[tuple[int, int]], size: int, align: int) -> int | None:
        for start, end in reversed(free):
            place = (end - size) // align * align
            if place >= start:
                return place
        return None

    copied = wrong("memblock.variant", linux, student)
    assert copied.points < 15 / 3
    assert copied.verdict
    assert given["rule"] in copied.verdict.law
    assert linux(given["free"], given["size"], given["align"]) != given["place"]


@pytest.mark.parametrize(
    ("answer", "law"),
    [
        (lambda free, size, align: None, "if a place fits"),
        (lambda free, size, align: "4", "an address, or None"),
        (lambda free, size, align: free[0][0] | 1 if free else None, "multiple of align"),
        (lambda free, size, align: 0, "in one free range"),
        (lambda free, size, align: by_rule("worst", 0, free, size, align), "BEST FIT"),
    ],
)
def test_a_wrong_variant_is_told_which_law(answer: Callable[..., Any], law: str) -> None:
    verdict = wrong("memblock.variant", answer, student_with("memblock.variant", "best")).verdict
    assert verdict
    assert law in verdict.law


# -- memblock.handover -------------------------------------------------------------------------------------------------


def c_loop(start: int, end: int) -> list[tuple[int, int]]:
    """The loop of __free_pages_memory."""
    pfn, end_pfn, found = -(-start >> 12), end >> 12, []
    while pfn < end_pfn:
        order = min(10, (pfn & -pfn).bit_length() - 1)
        while pfn + (1 << order) > end_pfn:
            order -= 1
        found.append((pfn, order))
        pfn += 1 << order
    return found


def test_maximal_blocks_are_what_the_kernels_loop_gives() -> None:
    for seed in range(20):
        given = given_handover(Random(seed))
        assert maximal_blocks(**given) == c_loop(**given)


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (lambda orders: orders[:-1], "whole pages of the range"),
        (lambda orders: [0, *orders], "whole pages of the range"),
        (lambda orders: sorted(orders), "multiple of its own size"),
        (lambda orders: [0] * sum(1 << order for order in orders), "multiple of its own size"),
        (lambda orders: [str(order) for order in orders], "a list of orders"),
        (lambda orders: [11, *orders], "whole pages of the range"),
    ],
)
def test_wrong_blocks_are_told_the_law(mistake: Callable[[list[int]], Any], law: str) -> None:
    right = [order for _, order in maximal_blocks(**given_to("memblock.handover"))]
    assert result_of("memblock.handover", right, ADA).passed
    verdict = wrong("memblock.handover", mistake(right)).verdict
    assert verdict
    assert law in verdict.law


# -- memblock.predict --------------------------------------------------------------------------------------------------


def test_predicted_places_are_those_of_memblock() -> None:
    from kmemlab.boot.memblock import memblock_add, memblock_alloc, memblock_init

    for seed in range(25):
        given = given_predict(Random(seed))
        memblock = Memblock()
        memblock_init(memblock)
        for start, end in given["free"]:
            memblock_add(memblock, start, end - start)
        places = [memblock_alloc(memblock, size, align) for _, size, align in given["requests"]]
        assert places == stacked(given["free"], given["requests"])


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (lambda places: places[:3], "one a request"),
        (lambda places: [place + 1 for place in places], "multiple of align"),
        (lambda places: [place - (2 << 20) for place in places], "the highest place"),
        (lambda places: [place + (2 << 20) for place in places], "within memory"),
        (lambda places: "0x1000", "one a request"),
    ],
)
def test_wrong_places_are_told_the_law(mistake: Callable[[list[int]], Any], law: str) -> None:
    given = given_to("memblock.predict")
    right = stacked(given["free"], given["requests"])
    assert result_of("memblock.predict", right, ADA).passed
    verdict = wrong("memblock.predict", mistake(right)).verdict
    assert verdict
    assert law in verdict.law


# -- mtrr.effective ----------------------------------------------------------------------------------------------------


def test_the_tables_of_types_are_those_of_the_cpu() -> None:
    number = {PAT_NAMES[at]: at for at in (0, 1, 4, 5, 6, 7)}
    for by_range, row in COMBINED.items():
        for chosen, end in row.items():
            assert PAT_NAMES[effective_type(number[by_range], number[chosen])] == end
    for one in ("WB", "WT", "UC", "WC"):
        for other in ("WB", "WT", "UC", "WC"):
            both = range_type([(0, 1, one), (0, 1, other)], 0)
            assert PAT_NAMES[check_type_overlap(number[one], number[other])] == both


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (lambda by, end: ("WB" if by != "WB" else "UC", end), "UC wins"),
        (lambda by, end: (by, "WP"), "decide for themselves"),
        (lambda by, end: by, "for each page"),
        (lambda by, end: (None, None), "UC wins"),
        (lambda by, end: (by, end, end), "for each page"),
    ],
)
def test_wrong_types_are_told_the_rule(mistake: Callable[[str, str], Any], law: str) -> None:
    given = given_to("mtrr.effective")
    right = {name: effective(given["ranges"], page) for name, page in given["pages"].items()}
    assert result_of("mtrr.effective", right, ADA).passed
    result = wrong("mtrr.effective", right | {"c": mistake(*right["c"])})
    assert result.verdict
    assert law in result.verdict.law
    assert result.held == 5
