"""Chapter 05: how fragmented is a zone? Two indices to compute, and three real machines to judge.

The machines are real: each text is what one of them printed while it was at work, or before. Only the last case of the
indices runs a machine, which asks the answer before it compacts a zone.
"""

from __future__ import annotations

import re
from fractions import Fraction
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import survives
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.buddy import CHAPTER, PRESET
from kmemlab.course.tasks.buddy_compaction import inside_compaction
from kmemlab.course.your_machine import CAPTURES

ORDERS = 11

# -- buddy.index -------------------------------------------------------------------------------------------------------

UNUSABLE = "unusable: which part of the free pages lies in blocks smaller than the order; all, if none is free"
SERVED = "fragmentation: -1000 as long as a block is there that is large enough"
EMPTY = "fragmentation: 0 when no block at all is free"
SHARE = "fragmentation: 1 - (1 + free pages / pages wanted) / free blocks, in thousandths"


def thousandths(nr_free: tuple[int, ...], order: int) -> tuple[int, int]:
    """Both indices, from exact fractions; C cuts off what is behind the point, at each of its divisions."""
    pages = sum(count * 2**at for at, count in enumerate(nr_free))
    small = sum(count * 2**at for at, count in enumerate(nr_free) if at < order)
    unusable = int(Fraction(1000 * small, pages)) if pages else 1000
    if pages > small:
        return unusable, -1000
    blocks = sum(nr_free)
    if not blocks:
        return unusable, 0
    return unusable, 1000 - int(Fraction(1000 + int(Fraction(1000 * pages, 2**order)), blocks))


def judge_index(answer: Answer, case: Case) -> Verdict | None:
    """One of the two numbers; then a machine."""
    if inside := inside_compaction(case):
        return survives(inside, answer)
    nr_free, order, part = case.value
    got, want = answer(list(nr_free), order), thousandths(nr_free, order)
    if not isinstance(got, tuple) or len(got) != 2:
        return Verdict("the function gives a pair (unusable, fragmentation)", f"it gives {got!r}")
    if got[part] != want[part]:
        law = UNUSABLE if part == 0 else SERVED if want[1] == -1000 else SHARE if any(nr_free) else EMPTY
        return Verdict(law, f"yours gives {got[part]!r}")
    return None


def cases_index(_given: None, rng: Random) -> list[Case]:
    """A few blocks by hand, lines of real machines, drawn ones, and a machine."""
    few = [
        ((0,) * ORDERS, 0), ((4,) + (0,) * 10, 0), ((4,) + (0,) * 10, 1), ((64,) + (0,) * 10, 2),
        ((2, 1, 1) + (0,) * 8, 1), ((7, 3, 1) + (0,) * 8, 4), ((0, 0, 3, 0, 1) + (0,) * 6, 3),
        ((1,) + (0,) * 10, 1), ((0,) * 9 + (7, 0), 10),
    ]  # fmt: skip
    real = [
        (counts_of(text_of(machine, "buddyinfo"), "DMA32"), order) for machine in PRINTED for order in (3, 6, 9, 10)
    ]
    drawn = [(tuple(rng.randrange(300 >> at) if at < 6 else 0 for at in range(ORDERS)), 6) for _ in range(3)]
    names = ("unusable", "fragmentation")
    cases = [
        Case(
            f"{names[part]} of {' '.join(map(str, counts))} at order {order}",
            (counts, order, part),
            sum(counts) + order,
        )
        for counts, order in few + real + drawn
        for part in (0, 1)
    ]
    text = f"a machine ({PRESET}) that lacks large blocks, and asks your function whether to make some"
    return [*cases, Case(text, rng.randrange(1 << 30), 1 << 20, points=len(cases) // 2)]


# -- buddy.fragmented --------------------------------------------------------------------------------------------------

WELL = ("compaction-256m/before", "swap-160m/before", "oom-192m/before")
FRAGMENTED = ("compaction-256m/busy", "files-128m/before")
FULL = ("swap-160m/busy", "files-128m/busy", "files-128m/after", "oom-192m/busy")
PRINTED = (*WELL[:1], *FRAGMENTED, *FULL[:2])
HUGE = 9  # the order of a huge page of 2 MiB
FILES = ("buddyinfo", "zoneinfo")


def text_of(machine: str, file: str) -> str:
    """What a machine printed, as it printed it."""
    return (CAPTURES / machine / "proc" / file).read_text(encoding="utf-8")


def counts_of(buddyinfo: str, zone: str) -> tuple[int, ...]:
    """The line of a zone in numbers."""
    line = next(line for line in buddyinfo.splitlines() if line.split()[3] == zone)
    return tuple(map(int, line.split()[4:]))


def mark_of(zoneinfo: str, zone: str, mark: str) -> int:
    """A watermark of a zone, in pages."""
    part = re.split(r"^Node \d+, zone +", zoneinfo, flags=re.M)
    mine = next(text for text in part if text.startswith(zone + "\n"))
    found = re.search(rf"^ +{mark} +(\d+)$", mine, re.M)
    assert found is not None
    return int(found[1])


def given_fragmented(rng: Random) -> dict[str, Any]:
    """Three machines in an order of this student's own, one of each sort."""
    machines = [rng.choice(FRAGMENTED), rng.choice(FULL), rng.choice(WELL)]
    rng.shuffle(machines)
    shown = {
        letter: {file: text_of(name, file) for file in FILES} for letter, name in zip("ABC", machines, strict=True)
    }
    return {"machines": shown, "zone": "DMA32", "order": HUGE}


def verdict_on(texts: dict[str, str]) -> str:
    """What becomes of a request for a huge page, by the kernel's own judgement."""
    counts = counts_of(texts["buddyinfo"], "DMA32")
    if any(counts[HUGE:]):
        return "well"
    pages = sum(count * 2**at for at, count in enumerate(counts))
    if pages <= mark_of(texts["zoneinfo"], "DMA32", "low") + 2 * 2**HUGE:
        return "full"
    return "fragmented" if thousandths(counts, HUGE)[1] > 500 else "full"


def diagnosis(given: dict[str, Any]) -> dict[str, Any]:
    """A word for each machine, and two numbers for the fragmented one."""
    words = {letter: verdict_on(texts) for letter, texts in given["machines"].items()}
    sick = next(letter for letter, word in words.items() if word == "fragmented")
    counts = counts_of(given["machines"][sick]["buddyinfo"], "DMA32")
    largest = max(at for at, count in enumerate(counts) if count)
    return {**words, "largest": largest, "joined": sum(n * 2**at for at, n in enumerate(counts)) // 2**HUGE}


LAWS = {
    "well": "a machine is well while a block of that order is on its lists",
    "full": "a machine is full when its free pages don't even come up to the low mark and twice the block",
    "fragmented": "a machine is fragmented when its free pages would do, but no block is large enough",
    "largest": "the largest order of which a block is free: the last column that isn't 0",
    "joined": "if all free pages lay together they would make free pages / 512 huge pages",
}


def judge_fragmented(answer: Answer, case: Case) -> Verdict | None:
    """One part of the diagnosis."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict("the answer has all parts", f"the key {part!r} is missing")
    if told[part] != want:
        law = LAWS[told[part]] if isinstance(told[part], str) and told[part] in LAWS else LAWS.get(part, LAWS["well"])
        return Verdict(law, f"{part} is not {told[part]!r}")
    return None


def cases_fragmented(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Each machine counts twice, each number once."""
    return [
        Case(
            f"machine {part}" if part in given["machines"] else f"{part}, of the fragmented one",
            (part, value),
            at,
            2 if part in given["machines"] else 1,
        )
        for at, (part, value) in enumerate(diagnosis(given).items())
    ]


register(
    Task(
        "buddy.index",
        CHAPTER,
        "implement",
        10,
        (
            "Three sums over the line: all free pages, all free blocks, and the pages in blocks of the order or "
            "larger. Both indices are made of these three.",
            "Work in thousandths with `//`, and multiply by 1000 before you divide. The quotient free pages / 2**order "
            "is cut off first, then the sum is divided by the number of blocks.",
        ),
        judge_index,
        cases_index,
        inside=inside_compaction,
        seconds=15.0,
    )
)
register(
    Task(
        "buddy.fragmented",
        CHAPTER,
        "diagnose",
        8,
        (
            "Look at the last two columns of buddyinfo first. Of the machines that have no block there, how many pages "
            "are free in all, and what is the low mark in zoneinfo?",
            "To make a block of 512 pages the kernel wants low + 1,024 pages free. A machine below that is full, "
            "whatever its fragmentation index says.",
        ),
        judge_fragmented,
        cases_fragmented,
        given=given_fragmented,
    )
)
