"""Chapter 02: find a place by rules that memblock does not have, one drawn for each student.

An instructor adds a rule by adding a line to `RULES`. The judge tries every aligned place and takes the best one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.memblock import CHAPTER, Spans

Key = Callable[[int, int, int, int, int], tuple[int, ...]]  # place, low, high, size, n → the smallest wins


@dataclass(frozen=True)
class Rule:
    """Which of the places that fit is taken: the one whose key is smallest."""

    text: str
    key: Key


RULES = {
    "best": Rule(
        "BEST FIT: take the SMALLEST free range in which it fits (of two that are as small the lower one), and there "
        "the LOWEST place.",
        lambda place, low, high, size, n: (high - low, low, place),
    ),
    "worst": Rule(
        "WORST FIT: take the LARGEST free range in which it fits (of two that are as large the higher one), and there "
        "the HIGHEST place.",
        lambda place, low, high, size, n: (low - high, -low, -place),
    ),
    "goal": Rule(
        "FROM A GOAL UPWARDS: take the LOWEST place that is at {n} or above. If there is none, take the HIGHEST place "
        "below {n}.",
        lambda place, low, high, size, n: (0, place) if place >= n else (1, -place),
    ),
    "low_end": Rule(
        "LOW END ON TOP: take the HIGHEST free range in which it fits, and there the LOWEST place.",
        lambda place, low, high, size, n: (-low, place),
    ),
    "nearest": Rule(
        "NEAREST: take the place that is nearest to {n}, above or below; of two that are as near the lower one.",
        lambda place, low, high, size, n: (abs(place - n), place),
    ),
}
EXAMPLE: tuple[Spans, int, int] = ([(2, 9), (12, 32), (36, 44)], 4, 4)


def by_rule(variant: str, n: int, free: Spans, size: int, align: int) -> int | None:
    """The place that the rule takes, found by trying all."""
    places = [(place, low, high) for low, high in free for place in range(low, high - size + 1) if place % align == 0]
    key = RULES[variant].key
    return min((key(*place, size, n), place[0]) for place in places)[1] if places else None


def given_variant(rng: Random) -> dict[str, Any]:
    """Which rule is this student's, with an example."""
    variant, n = rng.choice(sorted(RULES)), rng.randrange(17, 23)
    free, size, align = EXAMPLE
    place = by_rule(variant, n, free, size, align)
    text = RULES[variant].text.format(n=n)
    return {"variant": variant, "n": n, "rule": text, "free": free, "size": size, "align": align, "place": place}


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """The place that the answer returns is the one that the student's rule takes."""
    variant, n, free, size, align = case.value
    got, want = answer(list(free), size, align), by_rule(variant, n, free, size, align)
    if got == want and not isinstance(got, bool):
        return None
    if got is None:
        return Verdict("if a place fits, one is taken", "it returned None")
    if type(got) is not int:
        return Verdict("the answer is an address, or None", f"it is {got!r}")
    if got % align:
        return Verdict("the place is a multiple of align", f"it is {got}")
    if not any(low <= got and got + size <= high for low, high in free):
        return Verdict("all of the place lies in one free range", f"it is {got}")
    return Verdict(RULES[variant].text.format(n=n), f"you take {got}")


def cases_variant(given: dict[str, Any], rng: Random) -> list[Case]:
    """Free ranges at random; where the rule comes to the same as Linux's, a case counts little."""
    variant, n = given["variant"], given["n"]
    asks: list[tuple[Spans, int, int]] = [
        ([(4, 12)], 4, 4),
        ([(4, 12)], 9, 1),
        ([(5, 12)], 3, 4),
        ([], 1, 1),
        ([(2, 6), (8, 20)], 4, 2),
        ([(2, 14), (16, 20)], 4, 2),
        ([(4, 8), (24, 28)], 4, 4),
        EXAMPLE,
    ]
    for _ in range(22):
        edges = sorted(rng.sample(range(1, 48), 2 * rng.randrange(1, 5)))
        free = list(zip(edges[::2], edges[1::2], strict=True))
        asks.append((free, rng.randrange(1, 7), rng.choice((1, 1, 2, 4))))
    tells = [by_rule(variant, n, *ask) != linux(*ask) for ask in asks]
    weight = -(-4 * tells.count(False) // max(1, tells.count(True)))
    return [
        variant_case(variant, n, *ask, points=weight if telling else 1)
        for ask, telling in zip(asks, tells, strict=True)
    ]


def linux(free: Spans, size: int, align: int) -> int | None:
    """What Linux takes: the highest place."""
    return by_rule("nearest", 1 << 20, free, size, align)


def variant_case(variant: str, n: int, free: Spans, size: int, align: int, points: int = 1) -> Case:
    """Free ranges and a request, as a case."""
    ranges = ", ".join(f"[{low}, {high})" for low, high in free) or "nothing"
    cost = 100 * len(free) + sum(high for _, high in free)
    return Case(f"free {ranges}; size {size}, align {align}", (variant, n, free, size, align), cost, points)


def smaller_variant(case: Case) -> Iterator[Case]:
    """The same with a free range less."""
    variant, n, free, size, align = case.value
    for at in range(len(free)):
        yield variant_case(variant, n, free[:at] + free[at + 1 :], size, align)


register(
    Task(
        "memblock.variant",
        CHAPTER,
        "implement",
        15,
        (
            "In each free range work out the lowest and the highest place: round the start up, or the end less the "
            "size down. Does it fit at all?",
            "Make a list of (how good, place) for the places that come into question, one or two a range (for a goal "
            "within a range also the ones next to it), and take the best.",
        ),
        judge_variant,
        cases_variant,
        given=given_variant,
        smaller=smaller_variant,
    )
)
