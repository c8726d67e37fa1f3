"""Chapter 09: the choice of a victim by a rule that Linux does not have, drawn for each student."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, one_of, register
from kmemlab.course.tasks.whole import CHAPTER

NEVER = -1000
Row = dict[str, int]  # pid, parent, pages, started, adj
VARIANTS = {
    "family": (
        "Choose the process whose FAMILY holds the most pages: it, its children, their children, and so on. "
        "(Who may not be killed counts in the families of others all the same.)"
    ),
    "enough": (
        "Choose the process with the FEWEST pages of those that have at least `need`. If nobody has that many, "
        "choose the one with the most."
    ),
    "youngest": (
        "Choose the process that started LAST, of those that hold at least a tenth of the pages of all processes "
        "together (those that may not be killed count in that sum). If no such process may be killed, choose the one "
        "with the most pages."
    ),
    "greedy": (
        "Choose the process that took the most pages a second: its pages divided by (now - started + 1), not rounded."
    ),
}
LAW_NEVER = "who has an adj of -1000 is never chosen, and where nobody may be chosen the answer is None"


def family_pages(tasks: list[Row], pid: int) -> int:
    """Pages of a process and all below it, generation by generation."""
    family, grown = {pid}, True
    while grown:
        more = {task["pid"] for task in tasks if task["parent"] in family} - family
        grown = bool(more)
        family |= more
    return sum(task["pages"] for task in tasks if task["pid"] in family)


def rank(variant: str, tasks: list[Row], task: Row, need: int, now: int) -> tuple[Any, ...]:
    """What the rule looks at, the larger the worse for the process."""
    if variant == "family":
        return (family_pages(tasks, task["pid"]),)
    if variant == "greedy":
        return (Fraction(task["pages"], now - task["started"] + 1),)
    if variant == "enough":
        return (1, -task["pages"]) if task["pages"] >= need else (0, task["pages"])
    large = 10 * task["pages"] >= sum(each["pages"] for each in tasks)
    return (1, task["started"]) if large else (0, task["pages"])


def victim(variant: str, tasks: list[Row], need: int, now: int) -> int | None:
    """Whom the rule chooses; of equals the one with the lower pid."""
    found = [task for task in tasks if task["adj"] != NEVER]
    ranked = sorted(found, key=lambda task: task["pid"])
    return max(ranked, key=lambda task: rank(variant, tasks, task, need, now))["pid"] if ranked else None


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """The victim is the one that the student's rule chooses."""
    variant, rows, need, now = case.value
    tasks = [dict(zip(("pid", "parent", "pages", "started", "adj"), row, strict=True)) for row in rows]
    want = victim(variant, tasks, need, now)
    got: Any = answer([dict(task) for task in tasks], need, now)
    if got == want and type(got) is type(want):
        return None
    never = [task["pid"] for task in tasks if task["adj"] == NEVER]
    if got in never or want is None:
        return Verdict(LAW_NEVER, f"yours chooses {got!r}")
    if got is None or type(got) is not int:
        return Verdict("the function returns the pid of a process", f"yours returns {got!r}")
    reasons = {task["pid"]: rank(variant, tasks, task, need, now) for task in tasks}
    if got in reasons and reasons[got] == reasons[want]:
        return Verdict("of equals the one with the lower pid is chosen", f"pid {want} and pid {got} are equal")
    return Verdict("the victim is the one that your rule says", f"that is pid {want}, yours is {got}")


def drawn_tasks(rng: Random, count: int) -> tuple[tuple[int, ...], ...]:
    """Processes with parents among those before them."""
    rows: list[tuple[int, ...]] = []
    for at in range(count):
        parent = rng.choice([1, *(row[0] for row in rows)])
        pages, started = rng.choice((5, 40, 200, 200, 900)), rng.randrange(0, 90)
        rows.append((10 + at, parent, pages, started, rng.choice((0, 0, 0, 0, NEVER))))
    rng.shuffle(rows)
    return tuple(rows)


def cases_variant(given: dict[str, str], rng: Random) -> list[Case]:
    """Nobody, one, equals, families of three generations, the limits of each rule, and some by chance."""
    hand: list[tuple[tuple[tuple[int, ...], ...], int, int]] = [
        ((), 10, 100),
        (((10, 1, 5, 0, NEVER),), 10, 100),
        (((10, 1, 5, 0, 0),), 10, 100),
        (((11, 1, 50, 9, 0), (10, 1, 50, 9, 0)), 10, 100),
        (((10, 1, 90, 0, 0), (11, 1, 60, 90, 0), (12, 11, 50, 95, 0)), 55, 100),
        (((10, 1, 90, 0, 0), (11, 1, 5, 90, 0), (12, 11, 50, 91, 0), (13, 12, 60, 92, 0)), 55, 100),
        (((10, 1, 90, 0, 0), (11, 1, 5, 99, 0), (12, 1, 80, 50, 0)), 100, 100),
        (((10, 1, 900, 0, NEVER), (11, 1, 60, 50, 0), (12, 1, 70, 20, 0)), 60, 100),
        (((10, 1, 900, 0, NEVER), (11, 10, 60, 100, 0), (12, 10, 120, 98, 0)), 60, 100),
        (((10, 1, 100, 51, 0), (11, 1, 100, 50, 0), (12, 1, 99, 51, 0)), 100, 100),
        (((10, 1, 10, 100, 0), (11, 1, 27, 98, 0)), 20, 100),  # the second takes 9 a second
        # Of 1,000 pages: exactly a tenth; a little less; a little more. Then a tenth but for one page.
        (((10, 1, 900, 0, 0), (11, 1, 100, 50, 0)), 950, 100),
        (((10, 1, 905, 0, 0), (11, 1, 95, 50, 0)), 950, 100),
        (((10, 1, 895, 0, 0), (11, 1, 105, 50, 0)), 950, 100),
        (((10, 1, 901, 0, 0), (11, 1, 100, 50, 0)), 950, 100),
        # Nobody fits who may be killed; of the others the largest is neither first nor last, nor anybody's child.
        (((10, 1, 4, 9, 0), (11, 1, 7, 5, 0), (12, 11, 6, 7, 0), (9, 1, 900, 0, NEVER)), 950, 100),
    ]
    hand += [(drawn_tasks(rng, 3 + at), rng.choice((20, 200, 500)), 100) for at in range(8)]
    return [
        Case(case_text(rows, need, now), (given["variant"], rows, need, now), len(rows)) for rows, need, now in hand
    ]


def case_text(rows: tuple[tuple[int, ...], ...], need: int, now: int) -> str:
    """The processes for a reader."""
    told = "; ".join(
        f"pid {pid} (of {parent}) {pages} pages since {started}" + (", never" if adj == NEVER else "")
        for pid, parent, pages, started, adj in rows
    )
    return f"need {need}, now {now}: {told or 'no processes'}"


register(
    Task(
        "whole.variant",
        CHAPTER,
        "implement",
        12,
        (
            "Write a function that gives one process its points by your rule, then take the `max` of those that may "
            "be killed. What does `max` do with an empty list?",
            "Sort by pid first: `max` keeps the first of equals. A rule with an *if nobody* is a pair of numbers: "
            "first whether the process fits, then by how much; Python compares pairs from the left.",
        ),
        judge_variant,
        cases_variant,
        given=one_of(VARIANTS),
    )
)
