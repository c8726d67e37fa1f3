"""Chapter 02: where requests stack, and which blocks a free range becomes."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.memblock import CHAPTER, Spans
from kmemlab.types.units import KIB, MIB, PAGE_SIZE

LARGEST = 10  # the largest order that is handed over
LINE = 64  # bytes: all requests are aligned to a multiple of it


# -- memblock.handover -------------------------------------------------------------------------------------------------


def given_handover(rng: Random) -> dict[str, Any]:
    """A free range of some MiB whose ends are no multiples of anything."""
    first = rng.randrange(4, 12) * 1024 + rng.randrange(1, 64) * 2 + 513
    pages = rng.randrange(2500, 4500)
    start = first * PAGE_SIZE - rng.randrange(1, 60) * LINE
    return {"start": start, "end": (first + pages) * PAGE_SIZE + rng.randrange(1, 60) * LINE}


def maximal_blocks(start: int, end: int) -> list[tuple[int, int]]:
    """The aligned blocks that lie in the range [start, end) of bytes and in no larger one that does."""
    within = {
        (pfn, order)
        for order in range(LARGEST + 1)
        for pfn in range(0, end // PAGE_SIZE + 1, 1 << order)
        if pfn * PAGE_SIZE >= start and (pfn + (1 << order)) * PAGE_SIZE <= end
    }
    return sorted((pfn, order) for pfn, order in within if (pfn & ~((2 << order) - 1), order + 1) not in within)


def judge_handover(answer: Answer, case: Case) -> Verdict | None:
    """The orders, in the order of the addresses."""
    blocks, part = case.value
    told = answer.value
    if not isinstance(told, (list, tuple)) or not all(type(order) is int for order in told):
        return Verdict("the answer is a list of orders", f"it is {told!r}")
    want = [order for _, order in blocks]
    got = list(told)
    pages, sum_ = sum(1 << order for order in want), sum(1 << max(0, order) for order in got)
    if part == "pages":
        law = "the blocks are all whole pages of the range, and no others: round its start up and its end down"
        return None if pages == sum_ else Verdict(law, f"your blocks have {sum_} pages")
    if part == "largest":
        return None if max(got, default=0) <= LARGEST else Verdict("no block is larger than order 10", f"{max(got)}")
    if got == want:
        return None
    at = next((at for at, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), min(len(got), len(want)))
    law = "a block starts at a multiple of its own size, and is the largest that its start and the end allow"
    return Verdict(law, f"the first {at} of your {len(got)} blocks are right")


def cases_handover(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Pages in sum, the largest order, and all of them."""
    blocks = maximal_blocks(given["start"], given["end"])
    return [
        Case("your range: how many pages", (blocks, "pages"), 0),
        Case("your range: the largest order", (blocks, "largest"), 1),
        Case("your range: each block", (blocks, "all"), 2, points=2),
    ]


register(
    Task(
        "memblock.handover",
        CHAPTER,
        "compute",
        5,
        (
            "First turn the bytes into pages: which is the first page that is wholly free, and which the last? Then "
            "write the first page's number in binary. How many zeros does it end with?",
            "The order is the number of these zeros, but at most 10, and so small that the block ends within the "
            "range. The next block starts where this one ends.",
        ),
        judge_handover,
        cases_handover,
        given=given_handover,
    )
)


# -- memblock.predict --------------------------------------------------------------------------------------------------


def given_predict(rng: Random) -> dict[str, Any]:
    """A small machine's free memory, and five requests in a row."""
    top = rng.randrange(24, 32) * MIB - rng.randrange(1, 16) * 4 * KIB
    hole = rng.randrange(17, 21) * MIB
    free = [(MIB, hole), (hole + 2 * MIB, top)]
    small = rng.choice((73, 100, 104, 368, 896))
    asks = [
        ("firmware_map_add_early", small, 64),
        ("spp_getpage", 4096, 4096),
        ("setup_command_line", rng.randrange(10, 60), 64),
        ("sparse_init_nid", 2 * MIB, 2 * MIB),
        ("alloc_large_system_hash", rng.choice((32, 64, 128)) * KIB, 64),
    ]
    rng.shuffle(asks)
    return {"free": free, "requests": asks}


def stacked(free: Spans, asks: list[tuple[str, int, int]]) -> list[int]:
    """The address that each request gets: all places are tried from the top, a cache line at a time."""
    lines = [line for low, high in free for line in range(low // LINE, high // LINE)]
    left, found = set(lines), []
    for _, size, align in asks:
        needs = -(-size // LINE)
        place = next(
            line
            for line in sorted(left, reverse=True)
            if line * LINE % align == 0 and all(line + at in left for at in range(needs))
        )
        # The rest of the last line stays free, but no multiple of 64 lies in it: no later request can start there.
        left -= set(range(place, place + needs))
        found.append(place * LINE)
    return found


def judge_predict(answer: Answer, case: Case) -> Verdict | None:
    """One address."""
    at, want, (who, size, align), top = case.value
    told = answer.value
    if not isinstance(told, (list, tuple)) or len(told) <= at or type(told[at]) is not int:
        return Verdict("the answer is a list of addresses, one a request", f"request {at + 1} has none")
    got = told[at]
    if got == want:
        return None
    if got % align:
        return Verdict("an address is a multiple of align", f"{who}: {got:#x} is no multiple of {align}")
    if got + size > top:
        return Verdict("a place ends within memory", f"{who}: [{got:#x}-{got + size - 1:#x}]")
    if got > want:
        return Verdict("no byte is given twice", f"{who}: at {got:#x} there is no room any more")
    return Verdict("the highest place that is free and fits is taken", f"{who}: there is a higher one than {got:#x}")


def cases_predict(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a request."""
    asks, top = given["requests"], given["free"][-1][1]
    return [
        Case(f"request {at + 1}: {ask[1]} bytes aligned to {ask[2]}, by {ask[0]}", (at, want, ask, top), at)
        for at, (ask, want) in enumerate(zip(asks, stacked(given["free"], asks), strict=True))
    ]


register(
    Task(
        "memblock.predict",
        CHAPTER,
        "predict",
        5,
        (
            "Take the end of the highest free range, subtract the size, and round down to a multiple of align.",
            "Write down what is free after each request. A request that is aligned to 2 MiB leaves a gap above it: "
            "small requests that come later go into that gap, for it is higher.",
        ),
        judge_predict,
        cases_predict,
        given=given_predict,
    )
)
