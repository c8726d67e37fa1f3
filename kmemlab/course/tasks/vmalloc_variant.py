"""Chapter 07: a search for addresses by a rule that vmalloc does not have, drawn for each student."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, one_of, register
from kmemlab.course.tasks.vmalloc import CHAPTER, PAGES, START, Areas, addresses, drawn_spans, fits, spans_text, told
from kmemlab.types.units import PAGE_SIZE

VEND = START + PAGES * PAGE_SIZE
VARIANTS = {
    "top_down": "Take the HIGHEST address at which the request fits, so that it ends as near to vend as can be.",
    "both_sides": (
        "Take the lowest address at which the request fits AND the page before it and the page behind it are free as "
        "well; both must lie within [vstart, vend). Two neighbours may share such a free page."
    ),
    "best_fit": (
        "Take the SMALLEST hole that is large enough, and of equals the lowest; the area goes to the start of the "
        "hole. The space before the first area and the space behind the last one are holes, too."
    ),
    "next_fit": (
        "Take the lowest address from `last` on at which the request fits; only if there is none, begin again at "
        "vstart. (`last` is where the area that was handed out last has ended.)"
    ),
}


def candidates(busy: Areas, size: int) -> list[int]:
    """Every page of the range at which a request fits."""
    return [start for start in range(START, VEND, PAGE_SIZE) if fits(busy, start, size, START, VEND)]


def hole_around(busy: Areas, start: int) -> tuple[int, int]:
    """The hole that a free page lies in, by walking from it page by page to both sides."""
    low = high = start
    while fits(busy, low - PAGE_SIZE, PAGE_SIZE, START, VEND):
        low -= PAGE_SIZE
    while fits(busy, high, PAGE_SIZE, START, VEND):
        high += PAGE_SIZE
    return low, high


def chosen(variant: str, busy: Areas, size: int, last: int) -> int | None:
    """The address that the rule takes, of all at which the request fits."""
    found = candidates(busy, size)
    if variant == "top_down":
        return max(found, default=None)
    if variant == "both_sides":
        return next((at for at in found if fits(busy, at - PAGE_SIZE, size + 2 * PAGE_SIZE, START, VEND)), None)
    if variant == "best_fit":
        holes = {hole_around(busy, at) for at in found}
        return min(holes, key=lambda hole: (hole[1] - hole[0], hole[0]))[0] if holes else None
    return next((at for at in found if at >= last), found[0] if found else None)


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """The address is the one that the student's rule takes."""
    variant, spans, pages, last = case.value
    busy, size = addresses(spans), pages * PAGE_SIZE
    want = chosen(variant, busy, size, START + last * PAGE_SIZE)
    got: Any = answer(list(busy), size, START, VEND, START + last * PAGE_SIZE)
    if got == want and type(got) is type(want):
        return None
    if type(got) is int and not fits(busy, got, size, START, VEND):
        return Verdict("an area lies within [vstart, vend), and in nobody else's area", f"yours starts at {told(got)}")
    if got is None or want is None:
        return Verdict("the function returns an address, or None where nothing fits by your rule",
                       f"it should be {told(want)}, yours is {told(got)}")  # fmt: skip
    return Verdict("the area goes where your rule says", f"that is {told(want)}, yours is {told(got)}")


def cases_variant(given: dict[str, str], rng: Random) -> list[Case]:
    """Empty and full ranges, holes that fit exactly, equals, and some by chance."""
    hand: list[tuple[tuple[tuple[int, int], ...], int, int]] = [
        ((), 1, 0),
        (((0, 1),), 1, 0),
        (((0, PAGES),), 1, 0),
        (((1, 2),), 1, 2),
        (((2, 4),), 2, 4),
        (((0, 2), (4, 6)), 2, 2),
        (((0, 2), (5, 6), (7, PAGES)), 1, 6),
        (((1, 4), (6, 8), (11, 13), (15, PAGES - 1)), 2, 13),
        (((0, 3), (7, 9), (12, 16), (19, PAGES)), 3, 9),
        (((0, 3), (7, PAGES)), 3, 7),
        (((0, 3), (8, PAGES)), 3, 8),
        (((0, 3), (7, PAGES)), 4, 7),
    ]
    hand += [(drawn_spans(rng, most=9), rng.randint(1, 5), rng.randrange(PAGES)) for _ in range(9)]
    return [
        Case(
            f"{pages} {'page' if pages == 1 else 'pages'} among pages 0–{PAGES}, where {spans_text(spans)} "
            f"{'is' if len(spans) < 2 else 'are'} taken; last is page {last}",
            (given["variant"], spans, pages, last),
            len(spans) * 8 + pages,
        )
        for spans, pages, last in hand
    ]


register(
    Task(
        "vmalloc.variant",
        CHAPTER,
        "implement",
        15,
        (
            "Make a list of the holes first: (start, end) for each stretch between vstart and vend that nobody has. "
            "Then the rule is a line or two.",
            "Walk over `busy` with a mark that begins at vstart: where an area starts above the mark there is a hole; "
            "then the mark moves to the area's end. Don't forget the last hole, up to vend. Throw out what is too "
            "small, then choose.",
        ),
        judge_variant,
        cases_variant,
        given=one_of(VARIANTS),
    )
)
