"""Chapter 05: whose block a request takes over when its own lists are empty.

The judge knows the lenders as a table of words and compares blocks; it doesn't run the kernel's search.
"""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.buddy import CHAPTER, in_machine, runs_the_machine, with_machine, zone_panel
from kmemlab.course.tasks.buddy_pressure import Block, SmallMm, pageblocks_with, pressure, told
from kmemlab.mm.fallback import rmqueue_fallback, steal_suitable_fallback
from kmemlab.mm.mem_map import PAGEBLOCK_ORDER
from kmemlab.mm.zone_watermark_ok import ALLOC_NOFRAGMENT
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.migratetype import (
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    MIGRATETYPE_NAMES,
)

U, M, R, H = MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_HIGHATOMIC
LENDERS = {U: (R, M), M: (R, U), R: (U, M)}
LARGE = PAGEBLOCK_ORDER // 2  # from here on a request may take over a whole pageblock

NOTHING = "when no lender has a block that is large enough, nothing is taken over"
LARGEST = "the largest block is taken over, lest every pageblock be mixed"
ORDERED = "of two lenders that have a block of that order, the first of the table lends"
SMALLEST = "movable pages can be moved again: when there is no large block, they take the smallest that will do"
WHOLE = "with ALLOC_NOFRAGMENT only blocks of whole pageblocks are taken over"
TWICE = "one block is taken over"
SAYS = "the function says whether it took a block over"
FRONT = "the block is the first of its list"
SPREAD = "the whole pageblock is offered when the block is large, or the request is not for movable pages"


def lent(wanted: int, order: int, free: tuple[Block, ...], nofragment: bool) -> Block | None:
    """The block that is taken over, or None."""
    least = max(order, PAGEBLOCK_ORDER) if nofragment else order
    fits = [block for block in free if block[1] >= least and block[2] in LENDERS[wanted]]
    if not fits:
        return None
    orders = {block[1] for block in fits}
    chosen = min(orders) if wanted == M and max(orders) < LARGE else max(orders)
    row = [block for block in fits if block[1] == chosen]
    return min(row, key=lambda block: LENDERS[wanted].index(block[2]))  # the first of several of one list


def judge_fallback(answer: Answer, case: Case) -> Verdict | None:
    """What is handed to steal_suitable_fallback: the block, and whether its pageblock comes with it."""
    if isinstance(case.value, int):
        return runs_the_machine(rmqueue_fallback, answer, case.value, pressure, every=25)
    wanted, order, free, nofragment = case.value
    zone = pageblocks_with((M,) * 4, free)
    stolen: list[tuple[int, bool]] = []

    def watch(mm: Any, zone: Any, pfn: int, alloc_flags: int, start_migratetype: int, whole_block: bool) -> None:
        stolen.append((int(pfn), bool(whole_block)))

    with livepatch(steal_suitable_fallback, watch):
        said = answer(SmallMm(zone), zone, order, wanted, ALLOC_NOFRAGMENT if nofragment else 0)
    return told_apart(case.value, stolen, said)


def told_apart(
    case: tuple[int, int, tuple[Block, ...], bool], stolen: list[tuple[int, bool]], said: Any
) -> Verdict | None:
    """The law that this broke, if any."""
    wanted, order, free, nofragment = case
    want = lent(wanted, order, free, nofragment)
    by_pfn = {block[0]: block for block in free}
    if want is None:
        if stolen:
            law = WHOLE if nofragment and lent(wanted, order, free, nofragment=False) else NOTHING
            return Verdict(law, f"yours takes over pfn {stolen[0][0]}")
        return None if said is False else Verdict(SAYS, f"it should say False, it says {said!r}")
    should = f"it should take over {told([want])}"
    if not stolen:
        return Verdict(LARGEST if wanted != M else SMALLEST, f"{should}, yours takes nothing")
    if len(stolen) > 1:
        return Verdict(TWICE, f"{should}, yours takes {len(stolen)} blocks")
    got = by_pfn.get(stolen[0][0])
    if got != want:
        return Verdict(broken_choice(want, got), f"{should}, yours takes {told([got]) if got else stolen[0][0]}")
    whole = want[1] >= LARGE or wanted != M
    if stolen[0][1] != whole:
        return Verdict(SPREAD, f"for {told([want])} `whole_block` should be {whole}")
    return None if said is True else Verdict(SAYS, f"it should say True, it says {said!r}")


def broken_choice(want: Block, got: Block | None) -> str:
    """Which law says that it is `want` and not `got`."""
    if got is None or got[2] == H:
        return NOTHING
    if got[1] != want[1]:
        return SMALLEST if got[1] > want[1] else LARGEST
    return ORDERED if got[2] != want[2] else FRONT


SMALL: list[tuple[int, int, tuple[Block, ...], bool]] = [
    (U, 0, (), False),
    (M, 0, (), False),
    (U, 0, ((8, 0, M),), False),
    (R, 0, ((8, 0, U),), False),
    (U, 1, ((8, 0, M),), False),
    (R, 0, ((8, 0, H),), False),
    (U, 0, ((8, 0, M), (16, 0, R)), False),
    (R, 0, ((8, 0, M), (16, 0, U)), False),
    (M, 0, ((8, 0, U), (16, 0, R)), False),
    (U, 0, ((8, 1, M), (32, 4, M)), False),
    (R, 1, ((8, 1, U), (32, 3, M)), False),
    (M, 0, ((8, 1, U), (32, 3, U)), False),
    (M, 0, ((8, 1, U), (32, 3, R)), False),
    (M, 2, ((8, 1, R), (32, 3, U)), False),
    (M, 0, ((8, 1, U), (32, 4, U)), False),
    (M, 3, ((8, 3, U), (16, 3, R)), False),
    (U, 0, ((8, 2, M), (16, 2, M), (32, 2, M)), False),
    (U, 0, ((8, 3, M), (32, 5, M)), True),
    (U, 0, ((8, 3, R), (512, 9, M)), True),
    (U, 0, ((256, 8, R),), True),
    (M, 10, ((0, 10, U), (1024, 9, R)), True),
]


def cases_fallback(_given: None, rng: Random) -> list[Case]:
    """By hand, then drawn, then a machine under pressure."""
    drawn = []
    for _ in range(6):
        free = tuple((64 * at, rng.randrange(7), rng.choice((U, M, R, H))) for at in rng.sample(range(1, 20), 4))
        wanted = rng.choice((U, M, R))
        drawn.append((wanted, rng.randrange(4), tuple(b for b in free if b[2] != wanted), False))
    return with_machine(
        (
            Case(
                f"{MIGRATETYPE_NAMES[wanted]} pages of order {order} are wanted"
                f"{', with ALLOC_NOFRAGMENT' if nofragment else ''}; free: {told(free)}",
                (wanted, order, free, nofragment),
                10 * len(free) + order + 5 * nofragment,
                points=3 if wanted == M or nofragment else 1,
            )
            for wanted, order, free, nofragment in SMALL + drawn
        ),
        rng,
        "runs out of memory",
    )


register(
    Task(
        "buddy.fallback",
        CHAPTER,
        "implement",
        15,
        (
            "Count the order down from the largest. At each, ask the two lenders in the order of the table for the "
            "first block of their list; the first that has one decides. When do you stop counting?",
            "Before you take it: are the pages movable, is this block below order 4 and above the order that is "
            "wanted? Then count up from the wanted order instead, and take the first block you meet.",
        ),
        judge_fallback,
        cases_fallback,
        inside=in_machine(rmqueue_fallback, pressure, panel=zone_panel),
        seconds=15.0,  # the whole machine, on a slow computer
    )
)
