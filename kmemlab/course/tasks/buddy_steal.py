"""Chapter 05: what becomes of a pageblock when a block of it is taken over by another kind.

The judge counts pages one by one: free, movable, neither. Half of the pageblock decides.
"""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.buddy import CHAPTER, in_machine, runs_the_machine, with_machine, zone_panel
from kmemlab.course.tasks.buddy_fallback import H, M, R, U
from kmemlab.course.tasks.buddy_pressure import (
    BLOCK_PAGES,
    Block,
    SmallMm,
    free_by_type,
    pageblocks_with,
    pressure,
    told,
    types_of,
)
from kmemlab.mm.fallback import steal_suitable_fallback
from kmemlab.mm.mem_map import PAGEBLOCK_ORDER
from kmemlab.mm.zone import ZONE_BOOSTED_WATERMARK
from kmemlab.mm.zone_watermark_ok import ALLOC_KSWAPD
from kmemlab.types.migratetype import MIGRATETYPE_NAMES

RESERVED = "a block of the high-atomic reserve is moved alone: its pageblock stays reserved, nothing is boosted"
WHOLE_BLOCKS = "of a block of a whole pageblock or more, every pageblock changes its type"
TOGETHER = "with whole_block all free blocks of the pageblock move to the list of the type that wants them"
ALONE = "without whole_block the block moves alone, and the pageblock keeps its type"
HALF = "the pageblock changes its type when half of its pages are free or of the kind that wants them"
BOOST = "when kinds get mixed, the watermarks are boosted, and ALLOC_KSWAPD leaves a note for kswapd"
PLACE = "no other pageblock changes"


def after(case: dict[str, Any]) -> tuple[set[Block], list[int], bool]:
    """What is free and of which type, the types of the pageblocks, and whether the watermarks are boosted."""
    (pfn, order, _), wanted = case["block"], case["wanted"]
    free, types, number = set(case["free"]), list(case["types"]), pfn // BLOCK_PAGES
    old = types[number]
    moved = {block for block in free if block[0] == pfn}
    if order >= PAGEBLOCK_ORDER:
        for at in range(number, number + 2 ** (order - PAGEBLOCK_ORDER)):
            types[at] = wanted
    elif old != H and case["whole"]:
        moved = {block for block in free if block[0] // BLOCK_PAGES == number}
        pages = sum(2 ** block[1] for block in moved)
        movable = sum(at // BLOCK_PAGES == number for at in case["lru"])
        others = BLOCK_PAGES - pages - movable
        alike = movable if wanted == M else others if old == M else 0
        if 2 * (pages + alike) >= BLOCK_PAGES:
            types[number] = wanted
    stays = free - moved
    return stays | {(at, size, wanted) for at, size, _ in moved}, types, order < PAGEBLOCK_ORDER and old != H


def judge_steal(answer: Answer, case: Case) -> Verdict | None:
    """Lists, types and the boost, each with its law."""
    if isinstance(case.value, int):
        return runs_the_machine(steal_suitable_fallback, answer, case.value, pressure, every=25)
    given = case.value
    zone = pageblocks_with(given["types"], given["free"], given["lru"])
    free, types, boosted = after(given)
    flags = ALLOC_KSWAPD if given["kswapd"] else 0
    answer(SmallMm(zone), zone, given["block"][0], flags, given["wanted"], given["whole"])
    reserved = given["types"][given["block"][0] // BLOCK_PAGES] == H
    whole_blocks = given["block"][1] >= PAGEBLOCK_ORDER
    got = set(free_by_type(zone))
    if got != free:
        law = RESERVED if reserved else WHOLE_BLOCKS if whole_blocks else TOGETHER if given["whole"] else ALONE
        return Verdict(law, first_difference(got, free))
    number, now = given["block"][0] // BLOCK_PAGES, types_of(zone)
    for at, (want, have) in enumerate(zip(types, now, strict=True)):
        if want != have:
            law = RESERVED if reserved else WHOLE_BLOCKS if whole_blocks else HALF if given["whole"] else ALONE
            law = law if at == number or whole_blocks else PLACE
            named = f"should be {MIGRATETYPE_NAMES[want]}, it is {MIGRATETYPE_NAMES[have]}"
            return Verdict(law, f"the pageblock at pfn {at * BLOCK_PAGES} {named}")
    flagged = bool(zone.flags & ZONE_BOOSTED_WATERMARK)
    if (zone.watermark_boost > 0, flagged) != (boosted, boosted and given["kswapd"]):
        return Verdict(
            RESERVED if reserved else BOOST,
            f"watermark_boost is {zone.watermark_boost}, ZONE_BOOSTED_WATERMARK is {'' if flagged else 'not '}set",
        )
    return None


def first_difference(got: set[Block], want: set[Block]) -> str:
    """The first block that hangs on another list than it should."""
    pfn, order, _ = min(got ^ want)
    lists = {"should": want, "does": got}
    kinds = {word: [MIGRATETYPE_NAMES[b[2]] for b in blocks if b[0] == pfn] for word, blocks in lists.items()}
    should, does = (" and ".join(sorted(found)) or "no" for found in (kinds["should"], kinds["does"]))
    return f"the block at pfn {pfn}, order {order}, should hang on the {should} list, it hangs on the {does} list"


def a_case(
    wanted: int, old: int, free: tuple[tuple[int, int], ...], movable: int, whole: bool = True, kswapd: bool = False
) -> dict[str, Any]:
    """One pageblock, the second of four, with free blocks in it (the first is stolen) and so many movable pages."""
    blocks = tuple((BLOCK_PAGES + at, order, old) for at, order in free)
    held = {block[0] + page for block in blocks for page in range(2 ** block[1])}
    used = [pfn for pfn in range(BLOCK_PAGES, 2 * BLOCK_PAGES) if pfn not in held]
    return {
        "wanted": wanted,
        "types": (M, old, M, M),
        "free": (*blocks, (0, 3, M)),
        "block": blocks[0],
        "lru": tuple(used[:movable]),
        "whole": whole,
        "kswapd": kswapd,
    }


def text_of(case: dict[str, Any]) -> str:
    """A case for a reader."""
    pfn, order, kind = case["block"]
    held = sum(2 ** block[1] for block in case["free"] if block[0] // BLOCK_PAGES == pfn // BLOCK_PAGES)
    old = MIGRATETYPE_NAMES[case["types"][pfn // BLOCK_PAGES]]
    return (
        f"{MIGRATETYPE_NAMES[case['wanted']]} takes {told([(pfn, order, kind)])} over, of a pageblock that is {old} and"
        f" has {min(held, BLOCK_PAGES)} pages free, {len(case['lru'])} movable; whole_block is {case['whole']}"
        + (", ALLOC_KSWAPD is set" if case["kswapd"] else "")
    )


def by_hand() -> list[dict[str, Any]]:
    """Each law at its edge."""
    large = {"wanted": U, "types": (M,) * 4, "block": (512, 9, M), "free": ((512, 9, M), (0, 3, M)), "lru": ()}
    larger = {**large, "types": (R,) * 4, "block": (1024, 10, R), "free": ((1024, 10, R),)}
    rest = {"whole": True, "kswapd": False}
    return [
        a_case(M, U, ((8, 2),), 0, whole=False),
        a_case(M, R, ((8, 2), (64, 6)), 448, whole=False, kswapd=True),
        a_case(U, M, ((256, 8),), 0),
        a_case(U, M, ((8, 2), (64, 6)), 444),
        a_case(U, M, ((64, 6), (128, 7)), 256),
        a_case(U, M, ((64, 6), (128, 7)), 257, kswapd=True),
        a_case(R, M, ((64, 6),), 256),
        a_case(R, M, ((64, 6),), 257),
        a_case(M, U, ((64, 6),), 192),
        a_case(M, U, ((64, 6),), 191),
        a_case(U, R, ((64, 6), (128, 7)), 0),
        a_case(U, R, ((256, 8),), 0),
        a_case(R, U, tuple((1 << order, order) for order in range(8)), 0),
        a_case(U, R, ((64, 6),), 300),
        a_case(R, U, ((64, 6), (256, 8)), 0, kswapd=True),
        a_case(U, H, ((64, 6), (256, 8)), 0),
        {**large, **rest},
        {**larger, **rest, "kswapd": True},
    ]


def cases_steal(_given: None, rng: Random) -> list[Case]:
    """Each law at its edge, some drawn, then a machine under pressure."""
    drawn = []
    for _ in range(5):
        wanted, old = rng.sample((U, M, R), 2)
        free = tuple((64 * at, rng.randrange(3, 7)) for at in rng.sample(range(8), rng.randrange(1, 5)))
        used = BLOCK_PAGES - sum(2**order for _, order in free)
        drawn.append(a_case(wanted, old, free, rng.randrange(used + 1)))
    return with_machine(
        (Case(text_of(given), given, at) for at, given in enumerate(by_hand() + drawn)),
        rng,
        "runs out of memory",
    )


register(
    Task(
        "buddy.steal",
        CHAPTER,
        "implement",
        15,
        (
            "Three ways out, in this order: a block of the reserve; a block of whole pageblocks; all others. Only the "
            "last one boosts, and only there you have to count.",
            "Count the movable pages BEFORE you move anything. What is neither free nor movable belongs to the kernel. "
            "Which of the three sorts of page is of the kind that now wants the pageblock?",
        ),
        judge_steal,
        cases_steal,
        inside=in_machine(steal_suitable_fallback, pressure, panel=zone_panel),
        seconds=15.0,  # the whole machine, on a slow computer
    )
)
