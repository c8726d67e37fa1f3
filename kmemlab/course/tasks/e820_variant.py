"""Chapter 01: put a map in order by rules that Linux does not have, one drawn for each student.

An instructor adds a rule by adding a line to `RULES`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.e820 import (
    CHAPTER,
    RESERVED,
    SMALL,
    Covering,
    Decide,
    Entry,
    broken_law,
    cost,
    drawn,
    highest,
    painted,
    runs,
    smaller_maps,
    table_text,
)

EXAMPLE: list[Entry] = [(0, 10, 1), (2, 3, 3), (4, 8, 2), (5, 3, 1), (15, 4, 1), (17, 2, 1), (21, 3, 1)]


@dataclass(frozen=True)
class Rule:
    """What a byte is that several ranges cover; with `fills`, holes are closed too."""

    text: str
    decide: Decide
    fills: bool = False


def majority(covering: Covering) -> int:
    """The type that most of them say; of two that are as many the higher."""
    votes = Counter(type for _, type in covering)
    return max(votes, key=lambda type: (votes[type], type))


def agreed(covering: Covering) -> int:
    """The type that all of them say; if they differ: reserved."""
    types = {type for _, type in covering}
    return types.pop() if len(types) == 1 else RESERVED


RULES = {
    "lowest": Rule("Where ranges overlap, the LOWEST type number wins.", lambda covering: min(t for _, t in covering)),
    "first": Rule(
        "Where ranges overlap, the range that stands FIRST in the list wins.", lambda covering: covering[0][1]
    ),
    "last": Rule(
        "Where ranges overlap, the range that stands LAST in the list wins.", lambda covering: covering[-1][1]
    ),
    "majority": Rule(
        "Where ranges overlap, the type that MOST of the ranges there have wins; of two types that are as many, the "
        "higher number.",
        majority,
    ),
    "agreed": Rule(
        "Where ranges overlap and all have the same type, it is that type; where they differ it is RESERVED (2), "
        "whatever they say.",
        agreed,
    ),
    "holes": Rule(
        "Where ranges overlap, the highest type number wins, as in Linux. Then a HOLE of fewer than {n} bytes "
        "between two ranges of the same type is filled: both become one.",
        highest,
        fills=True,
    ),
}


def by_rule(variant: str, n: int, entries: list[Entry]) -> list[Entry]:
    """What the rule makes of a small map: painted byte by byte, as for `e820.update_table`."""
    rule = RULES[variant]
    row = painted([entry for entry in entries if entry[1]], rule.decide)
    if rule.fills:
        for (addr, size, type), (following, _, next_type) in pairwise(runs(row, set())):
            if type == next_type and following - (addr + size) < n:
                row[addr + size : following] = [type] * (following - (addr + size))
    return runs(row, set())


def given_variant(rng: Random) -> dict[str, Any]:
    """Which rule is this student's, with an example."""
    variant, n = rng.choice(sorted(RULES)), rng.randrange(3, 6)
    text = RULES[variant].text.format(n=n)
    return {"variant": variant, "n": n, "rule": text, "map": EXAMPLE, "becomes": by_rule(variant, n, EXAMPLE)}


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """The list that the answer returns is the one that the student's rule gives."""
    variant, n, small, _unit = case.value
    got = answer(list(small))
    if not isinstance(got, list) or not all(is_entry(entry) for entry in got):
        return Verdict("the answer is a list of (addr, size, type)", f"it is {got!r}")
    rule = RULES[variant]
    expected = by_rule(variant, n, small)
    return broken_law([tuple(entry) for entry in got], small, expected, rule.text.format(n=n))


def is_entry(value: Any) -> bool:
    """Whether a plain value is three whole numbers."""
    return isinstance(value, (tuple, list)) and len(value) == 3 and all(type(number) is int for number in value)


def cases_variant(given: dict[str, Any], rng: Random) -> list[Case]:
    """The maps of `e820.update_table` without what must be refused, some with holes, some deeply stacked.

    Where the rule comes to the same as Linux's, a case counts little: Linux's own function is no answer.
    """
    holes: list[list[Entry]] = [
        [(0, 2, 1), (2 + gap, 2, type), (12, 1, 1)] for gap in (1, 2, 3, 4, 5) for type in (1, 2)
    ]
    stacked = [
        [(addr % 6, 3 + addr % 4, rng.choice((1, 1, 2, 3))) for addr in range(rng.randrange(3, 7))] for _ in range(5)
    ]
    more = [drawn(rng, count) for count in (2, 3, 4, 5, 6, 7)]
    tables = [*SMALL, [], [(3, 4, 1)], *holes, *stacked, *more, EXAMPLE]
    variant, n = given["variant"], given["n"]
    tells = [by_rule(variant, n, table) != by_rule("holes", 0, table) for table in tables]
    weight = -(-4 * tells.count(False) // max(1, tells.count(True)))
    return [
        Case(table_text(table), (variant, n, table, 1), cost(table), points=weight if telling else 1)
        for table, telling in zip(tables, tells, strict=True)
    ]


register(
    Task(
        "e820.variant",
        CHAPTER,
        "implement",
        15,
        (
            "Take the map of your example and write down for each stretch between two borders which ranges cover it. "
            "What does your rule make of each stretch?",
            "Your sweep over the borders can stay. What changes is one line, the choice among the ranges that are "
            "open (keep their places in the list if your rule needs them); if your rule fills holes, a second pass "
            "over the result does that.",
        ),
        judge_variant,
        cases_variant,
        given=given_variant,
        smaller=smaller_maps,
    )
)
