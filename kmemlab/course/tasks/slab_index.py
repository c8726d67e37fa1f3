"""Chapter 06: the number of the store that meets a request, as the kernel numbers them."""

from __future__ import annotations

from random import Random

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.slab import CHAPTER

STORES = {size: size.bit_length() - 1 for size in (2**power for power in range(3, 14))} | {96: 1, 192: 2}
"""The thirteen sizes, and the number of each."""

FITS = "the store is the smallest of the thirteen that is large enough"
BETWEEN = "96 and 192 are numbered 1 and 2: they came later"
NONE = "above 8192 bytes no store is large enough: the result is None"


def number_of(size: int) -> int | None:
    """The number of the smallest store that has room."""
    return next((STORES[store] for store in sorted(STORES) if store >= size), None)


def judge_index(answer: Answer, case: Case) -> Verdict | None:
    """One size."""
    size, want = case.value, number_of(case.value)
    got = answer(size)
    if got == want and type(got) is type(want):
        return None
    law = NONE if want is None else BETWEEN if want in (1, 2) else FITS
    return Verdict(law, f"for {size} bytes it is {want}, yours gives {got!r}")


def cases_index(_given: None, rng: Random) -> list[Case]:
    """Each store at its edges, and some in between."""
    edges = [size + more for size in STORES for more in (-1, 0, 1)] + [1, 9000]
    drawn = [rng.randrange(1, 8193) for _ in range(10)]
    return [Case(f"{size} bytes", size, size) for size in sorted({*edges, *drawn})]


register(
    Task(
        "slab.kmalloc_index",
        CHAPTER,
        "implement",
        5,
        (
            "For a power of two the number is the power. Which sizes are met by 96 and by 192 instead?",
            "`(size - 1).bit_length()` is the power of the next power of two. Ask for the two odd sizes and for the "
            "smallest and the largest store before you use it.",
        ),
        judge_index,
        cases_index,
    )
)
