"""Chapter 05: a split by rules that Linux does not have, drawn for each student."""

from __future__ import annotations

from random import Random

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, one_of, register
from kmemlab.course.tasks.buddy import CHAPTER, compare, lists, zone_with
from kmemlab.types.migratetype import MIGRATE_MOVABLE

VARIANTS = {
    "tail": (
        "Split so that each half given back goes to the END of its list. The caller keeps the lowest part, as in Linux."
    ),
    "upper": "Split so that the caller keeps the HIGHEST part: each LOWER half goes to the front of its list.",
    "sparing": (
        "Split as Linux does, but a half goes to the END of its list when that list already holds two blocks or more, "
        "else to the front."
    ),
    "quarters": (
        "Split into quarters: a block of order n gives back its upper three quarters (each of order n - 2, the "
        "highest pfn first in the list); when only one order is left to go, it is halved as in Linux."
    ),
}

FREE_ELSEWHERE = (((0, 0), (4, 1), (8, 2), (16, 3)), ((0, 0), (2, 0), (4, 1), (8, 1), (12, 2), (24, 2), (16, 3)))
"""What is free beside the block that is split: a block or two of each order."""


def variant_result(variant: str, free: dict[int, list[int]], pfn: int, low: int, high: int) -> int:
    """Carry the variant out on plain lists; returns the block that the caller keeps."""
    while high > low:
        if variant == "quarters" and high - low >= 2:
            high -= 2
            free.setdefault(high, [])[:0] = [pfn + part * 2**high for part in (3, 2, 1)]
            continue
        high -= 1
        upper, row = pfn + 2**high, free.setdefault(high, [])
        if variant == "upper":
            row.insert(0, pfn)
            pfn = upper
        elif variant == "tail" or (variant == "sparing" and len(row) > 1):
            row.append(upper)
        else:
            row.insert(0, upper)
    return pfn


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """The lists after the split, and the block that is left, are those of the student's rule."""
    variant, pfn, low, high, others = case.value
    zone = zone_with(others)
    expected = lists(zone)
    kept = variant_result(variant, expected, pfn, low, high)
    got = answer(zone, pfn, low, high, MIGRATE_MOVABLE)
    if got != kept:
        return Verdict(
            "the function returns the block that the caller keeps", f"that is pfn {kept}, yours returns {got}"
        )
    return compare(lists(zone), expected, "each piece goes where your rule says")


def cases_variant(given: dict[str, str], rng: Random) -> list[Case]:
    """The same splits as for `expand`, into empty lists and into others."""
    small = [(0, low, high, ()) for high in range(5) for low in range(high + 1)]
    far = [(32, rng.randrange(2), rng.randrange(3, 6), others) for others in FREE_ELSEWHERE for _ in range(3)]
    return [
        Case(
            f"a block of order {high} at pfn {pfn}, split to order {low}",
            (given["variant"], pfn, low, high, others),
            high * 8 + high - low + len(others) * 100,
        )
        for pfn, low, high, others in small + far
    ]


register(
    Task(
        "buddy.variant",
        CHAPTER,
        "implement",
        15,
        (
            "Draw a block of 8 pages and split it by your rule to one page; write each list down before "
            "you write code.",
            "Only two things may differ from `expand`: which part you go on with, and whether a piece goes "
            "to the front (`add_to_free_list`) or the end (`add_to_free_list_tail`).",
        ),
        judge_variant,
        cases_variant,
        given=one_of(VARIANTS),
    )
)
