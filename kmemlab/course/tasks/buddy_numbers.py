"""Chapter 05: predict a run, and read a line of /proc/buddyinfo."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.buddy import CHAPTER
from kmemlab.mm.buddy import example_zone, free_one_page, rmqueue_smallest
from kmemlab.types.migratetype import MIGRATE_MOVABLE

# -- buddy.predict -----------------------------------------------------------------------------------------------------


def given_predict(rng: Random) -> dict[str, Any]:
    """A zone of one free block of 32 pages, and four requests."""
    orders = [rng.choice((0, 1, 2)) for _ in range(3)]
    return {"order": 5, "requests": orders, "freed": rng.randrange(3)}


def outcome(given: dict[str, Any]) -> dict[str, Any]:
    """What the zone comes to: where the blocks were, and how many of each order are free."""
    zone = example_zone(order=given["order"])
    taken = [rmqueue_smallest(zone, order, MIGRATE_MOVABLE) for order in given["requests"]]
    freed = given["freed"]
    pfn = taken[freed]
    assert pfn is not None
    free_one_page(zone, pfn, given["requests"][freed], MIGRATE_MOVABLE)
    return {"pfns": taken, "nr_free": zone.nr_free[: given["order"] + 1].tolist()}


def judge_predict(answer: Answer, case: Case) -> Verdict | None:
    """The prediction is what the zone did."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict(
            "the answer has both parts", f'write a dict with the keys "pfns" and "nr_free"; {part!r} is missing'
        )
    if list(told[part]) != want:
        law = (
            "a request takes the lowest part of the first block that is large enough"
            if part == "pfns"
            else "a freed block joins its buddy for as long as that is free"
        )
        wrong = next(
            (at for at, (a, b) in enumerate(zip(told[part], want, strict=False)) if a != b),
            min(len(told[part]), len(want)),
        )
        return Verdict(law, f"{part}[{wrong}] is not what the zone did")
    return None


def cases_predict(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Each part for itself."""
    result = outcome(given)
    return [
        Case(f"{part} after the requests", (part, result[part]), size) for size, part in enumerate(("pfns", "nr_free"))
    ]


register(
    Task(
        "buddy.predict",
        CHAPTER,
        "predict",
        5,
        (
            "Only one block is free at first. Split it for the first request and write down the front of each list.",
            "A later request looks at its own order first: is there a block now, left over from the first split?",
        ),
        judge_predict,
        cases_predict,
        given=given_predict,
    )
)


# -- buddy.usable ------------------------------------------------------------------------------------------------------


def given_usable(rng: Random) -> dict[str, Any]:
    """A line of /proc/buddyinfo of this student's own, and an order that a driver needs."""
    counts = (
        [rng.randrange(400) for _ in range(4)]
        + [rng.randrange(60) for _ in range(4)]
        + [rng.randrange(6) for _ in range(3)]
    )
    line = "Node 0, zone   Normal " + "".join(f"{count:6d} " for count in counts)
    return {"buddyinfo": line, "order": rng.randrange(3, 8)}


def judge_usable(answer: Answer, case: Case) -> Verdict | None:
    """Sums over the line."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict("the answer has all parts", f"the key {part!r} is missing")
    if told[part] != want:
        laws = {
            "free_pages": "a block of order n holds 2**n pages",
            "usable": "a block of a higher order can be split, one of a lower order can't be joined",
            "blocks": "a block of order m gives 2**(m - n) blocks of order n",
        }
        return Verdict(laws[part], f"{part} is not {told[part]}")
    return None


def cases_usable(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Free pages, how many of them are in blocks that are large enough, and how many requests that serves."""
    counts = [int(word) for word in given["buddyinfo"].split()[4:]]
    order = given["order"]
    usable = sum(count * 2**at for at, count in enumerate(counts) if at >= order)
    values = {
        "free_pages": sum(count * 2**at for at, count in enumerate(counts)),
        "usable": usable,
        "blocks": usable // 2**order,
    }
    return [Case(f"{part} of your line", (part, value), size) for size, (part, value) in enumerate(values.items())]


register(
    Task(
        "buddy.usable",
        CHAPTER,
        "diagnose",
        5,
        (
            "The eleven numbers count blocks of order 0, 1, … 10, not pages.",
            "For the driver only the columns from its order upwards matter; each block there can be split "
            "down to that order.",
        ),
        judge_usable,
        cases_usable,
        given=given_usable,
    )
)
