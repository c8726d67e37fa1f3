"""The tasks of chapter 05: right answers hold; for five wrong ones each the verdict names the law and a small input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks import load_all
from kmemlab.course.tasks.buddy_numbers import outcome
from kmemlab.course.tasks.buddy_variant import VARIANTS
from kmemlab.mm.buddy import buddy_merge_likely, page_is_buddy
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    Zone,
    add_to_free_list,
    add_to_free_list_tail,
    del_page_from_free_list,
)
from tests.course.judged import ADA, check_right, check_wrong, student_with

Put = Callable[[Zone, int, int, int], None]


def expand(
    zone: Zone,
    pfn: int,
    low: int,
    high: int,
    mt: int,
    *,
    put: Put = add_to_free_list,
    last: int = 0,
    twice: bool = False,
    keep: bool = False,
) -> None:
    """The right answer; each keyword makes it wrong."""
    while high > low + last:
        high -= 1
        put(zone, pfn if keep else pfn + (1 << high), high, mt)
        if keep:
            pfn += 1 << high
        if twice:
            put(zone, pfn + (1 << high) + 32, high, mt)


def free(
    zone: Zone,
    pfn: int,
    order: int,
    migratetype: int,
    fpi_flags: int = 0,
    *,
    count: bool = True,
    joins: int = MAX_ORDER,
    lower: bool = True,
    take: bool = True,
    tail: bool = True,
) -> None:
    """The right answer; each keyword makes it wrong."""
    zone.vm_stat[NR_FREE_PAGES] += 1 << order if count else 1
    while order < MAX_ORDER - 1 and joins:
        buddy_pfn = pfn ^ (1 << order)
        if not page_is_buddy(zone, buddy_pfn, order):
            break
        if take:
            del_page_from_free_list(zone, buddy_pfn, order)
        if lower:
            pfn &= buddy_pfn
        order += 1
        joins -= 1
    if tail and (fpi_flags or buddy_merge_likely(zone, pfn, order)):
        add_to_free_list_tail(zone, pfn, order, migratetype)
    else:
        add_to_free_list(zone, pfn, order, migratetype)


def with_(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    """The function with some keywords set, and with the parameters that a kernel function has."""
    if function is free:
        return lambda zone, pfn, order, migratetype, fpi_flags=0: free(
            zone, pfn, order, migratetype, fpi_flags, **changes
        )
    return lambda zone, pfn, low, high, migratetype: function(zone, pfn, low, high, migratetype, **changes)


RIGHT = {
    "buddy.find": lambda pfn, order: pfn ^ (1 << order),
    "buddy.expand": with_(expand),
    "buddy.free": with_(free),
}
BUDDIES, HALVES, JOINS = (
    "two buddies are the halves of one block",
    "of each order from low to high - 1 the upper half goes to the front of its list",
    "a freed block joins its buddy for as long as that is free",
)
WRONG = [
    ("buddy.find", lambda pfn, order: pfn + (1 << order), BUDDIES, "pfn 1, order 0"),
    ("buddy.find", lambda pfn, order: pfn ^ order, BUDDIES, "pfn 0, order 0"),
    ("buddy.find", lambda pfn, order: pfn & ~(1 << order), BUDDIES, "pfn 0, order 0"),
    ("buddy.find", lambda pfn, order: pfn ^ 1, BUDDIES, "pfn 0, order 1"),
    ("buddy.find", lambda pfn, order: abs(pfn - (1 << order)), BUDDIES, "pfn 2, order 0"),
    ("buddy.expand", with_(expand, put=add_to_free_list_tail), HALVES, "order"),
    ("buddy.expand", with_(expand, last=1), HALVES, "a block of order 1 at pfn 0, split to order 0"),
    ("buddy.expand", with_(expand, keep=True), HALVES, "a block of order 1 at pfn 0, split to order 0"),
    ("buddy.expand", with_(expand, twice=True), HALVES, "a block of order 1 at pfn 0, split to order 0"),
    ("buddy.expand", lambda zone, pfn, low, high, migratetype: None, HALVES, "a block of order 1 at pfn 0"),
    ("buddy.free", with_(free, count=False), "NR_FREE_PAGES counts what is free", "order 1"),
    ("buddy.free", with_(free, joins=0), JOINS, "pfn 4, order 0"),
    ("buddy.free", with_(free, joins=1), JOINS, "pfn 4, order 0"),
    ("buddy.free", with_(free, lower=False), JOINS, "pfn 5, order 0"),
    ("buddy.free", with_(free, tail=False), "a block that will soon be joined goes to the end", "pfn 4, order 0"),
]  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_holds_and_runs_the_machine(name: str) -> None:
    check_right(name, RIGHT[name])


@pytest.mark.parametrize(("name", "answer", "law", "case"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_breaks_a_law_on_a_small_input(name: str, answer: Any, law: str, case: str) -> None:
    check_wrong(name, answer, law, case)


def test_an_answer_that_only_the_machine_catches() -> None:
    """Right for all small zones, wrong for high orders: the boot of a machine shows it."""
    result = result_of("buddy.free", with_(free, joins=6), ADA)
    assert result.case is not None
    assert "machine" in result.case.text
    assert 0 < result.points < 20


def split_by(rule: str) -> Callable[..., int]:
    """A student's answer to the variant, straight from its words."""

    def answer(zone: Zone, pfn: int, low: int, high: int, migratetype: int) -> int:
        while high > low:
            if rule == "quarters" and high - low > 1:
                high -= 2
                for part in (1, 2, 3):
                    add_to_free_list(zone, pfn + (part << high), high, migratetype)
                continue
            high -= 1
            half = 1 << high
            if rule == "upper":
                add_to_free_list(zone, pfn, high, migratetype)
                pfn += half
            elif rule == "tail" or (rule == "sparing" and zone.nr_free[high] > 1):
                add_to_free_list_tail(zone, pfn + half, high, migratetype)
            else:
                add_to_free_list(zone, pfn + half, high, migratetype)
        return pfn

    return answer


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_held_by_its_own_rule_and_by_no_other(variant: str) -> None:
    student = student_with("buddy.variant", variant)
    assert result_of("buddy.variant", split_by(variant), student).passed
    for other in {*VARIANTS, "linux"} - {variant}:
        assert not result_of("buddy.variant", split_by(other), student).passed, other


def test_numbers_are_the_students_own_and_each_part_is_judged() -> None:
    task = load_all().find("buddy.predict")
    given = task.given(ADA.rng("buddy.predict/given"))
    right = outcome(given)
    assert result_of("buddy.predict", right, ADA).passed
    half = result_of("buddy.predict", right | {"nr_free": [0] * 6}, ADA)
    assert half.points == task.points / 2
    for wrong in (None, [], {"pfns": right["pfns"]}, right | {"pfns": [0, 0, 0]}, right | {"pfns": right["pfns"][:2]}):
        assert not result_of("buddy.predict", wrong, ADA).passed
    assert any(task.given(Student(str(n)).rng("buddy.predict/given")) != given for n in range(5))


def test_a_line_of_buddyinfo_is_read_as_blocks_not_pages() -> None:
    task = load_all().find("buddy.usable")
    given = task.given(ADA.rng("buddy.usable/given"))
    counts, order = list(map(int, given["buddyinfo"].split()[4:])), given["order"]
    pages = sum(count * 2**at for at, count in enumerate(counts))
    usable = sum(count * 2**at for at, count in enumerate(counts[order:], order))
    right = {"free_pages": pages, "usable": usable, "blocks": usable // 2**order}
    assert result_of("buddy.usable", right, ADA).passed
    mistakes = {"free_pages": sum(counts), "usable": sum(counts[order:]), "blocks": pages // 2**order}
    for part, value in mistakes.items():
        result = result_of("buddy.usable", right | {part: value}, ADA)
        assert result.case is not None
        assert result.case.text.startswith(part)
