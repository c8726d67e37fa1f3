"""Chapter 06: an array cache that gives back by rules which SLAB does not have, drawn for each student.

An instructor adds a rule by adding a line to `VARIANTS` and what it gives back to `flushed`.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, one_of, register
from kmemlab.course.tasks.slab import CHAPTER

VARIANTS = {
    "newest": (
        "NEWEST FIRST. When the array is full, the `batch` objects that came LAST go back to their slabs, the last "
        "one first; then the new one is put on top."
    ),
    "half": (
        "HALF OF IT. When the array is full, its older half goes back to the slabs, the oldest first (of an odd number "
        "the larger part); `batch` does not count. Then the new one is put on top."
    ),
    "straight": (
        "STRAIGHT BACK. When the array is full, the new object itself goes back to its slab, and after it the oldest "
        "`batch - 1` of the array, the oldest first. The others stay as they are."
    ),
    "every_other": (
        "EVERY OTHER. When the array is full, every other object goes back to its slab, beginning with the oldest, but "
        "at most `batch` of them. The others move down; then the new one is put on top."
    ),
}


def flushed(variant: str, entries: tuple[int, ...], limit: int, batch: int) -> tuple[int, ...]:
    """Which places of a full array are emptied, in the order in which their objects go back; -1 is the new object."""
    count = len(entries)
    if count < limit:
        return ()
    if variant == "newest":
        return tuple(range(count - 1, count - 1 - batch, -1))
    if variant == "half":
        return tuple(range(count - count // 2))
    if variant == "straight":
        return (-1, *range(batch - 1))
    return tuple(range(0, count, 2))[:batch]


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """What is in the array then, and what went back, in order."""
    variant, entries, objp, limit, batch = case.value
    places = flushed(variant, entries, limit, batch)
    back = [objp if place < 0 else entries[place] for place in places]
    kept = [item for place, item in enumerate(entries) if place not in places] + [objp] * (-1 not in places)
    given = list(entries)
    got = answer(given, objp, limit, batch)
    if not isinstance(got, (tuple, list)) or len(got) != 2 or not all(isinstance(part, (tuple, list)) for part in got):
        return Verdict("the result is a pair of lists: the array, and what went back", f"it returned {got!r}")
    array, returned = list(got[0]), list(got[1])
    if sorted(map(repr, array + returned)) != sorted(map(repr, [*entries, objp])):
        return Verdict("every object is in the array or has gone back, exactly once", f"array {array}, back {returned}")
    if len(array) > limit:
        return Verdict("the array never holds more than `limit` objects", f"it holds {len(array)}")
    if not back and returned:
        return Verdict("while there is room, nothing goes back", f"{returned} went back")
    if returned != back:
        return Verdict("a full array gives back what your rule says, in that order", f"{returned} went back")
    if array != kept:
        return Verdict("the others keep their order, and a new one is on top: at the end", f"the array is {array}")
    return None


def cases_variant(given: dict[str, str], rng: Random) -> list[Case]:
    """Room left, just full, and full with other limits."""
    shapes = [(0, 4, 2), (3, 4, 2), (4, 4, 2), (4, 4, 1), (5, 5, 3), (5, 5, 2), (6, 6, 6), (1, 1, 1), (7, 8, 4)]
    shapes += [(limit, limit, rng.randrange(1, limit + 1)) for limit in (7, 8, 9, 24, 54)]
    return [variant_case(given["variant"], count, limit, batch) for count, limit, batch in shapes]


def variant_case(variant: str, count: int, limit: int, batch: int) -> Case:
    """An array with `count` objects, named 10, 20, 30, …; another one comes."""
    entries = tuple(range(10, 10 * count + 10, 10))
    objp = 10 * count + 10
    told = list(entries) if count < 10 else f"{count} objects, 10 to {10 * count}"
    text = f"object {objp} comes; the array: {told}, limit {limit}, batch {batch}"
    return Case(text, (variant, entries, objp, limit, batch), 10 * count + batch)


def smaller_variant(case: Case) -> Iterable[Case]:
    """An array that is one shorter, a batch that is one less."""
    variant, entries, _, limit, batch = case.value
    if limit > 2:
        yield variant_case(variant, max(len(entries) - 1, 0), limit - 1, min(batch, limit - 1))
    if batch > 1:
        yield variant_case(variant, len(entries), limit, batch - 1)


register(
    Task(
        "slab.array_cache",
        CHAPTER,
        "implement",
        15,
        (
            "Two cases: is there room (fewer than `limit`)? Then the new one is appended, and nothing goes back. If "
            "not, write down on paper what an array of 4 and a batch of 2 come to.",
            "First make the list of what goes back, in the order of your rule; then the list of what stays; then "
            "decide if the new one is appended. Slices such as entries[:batch] and entries[::2] help.",
        ),
        judge_variant,
        cases_variant,
        given=one_of(VARIANTS),
        smaller=smaller_variant,
    )
)
