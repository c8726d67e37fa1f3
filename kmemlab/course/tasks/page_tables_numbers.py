"""Chapter 03: through which entries an address goes, and by which pages a small machine's RAM is mapped."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.page_tables import CHAPTER
from kmemlab.types.units import GIB, KIB, MIB

# -- page_tables.indices -----------------------------------------------------------------------------------------------

WIDTHS = {"2-level": (10, 10), "PAE": (2, 9, 9), "4-level": (9, 9, 9, 9), "5-level": (9, 9, 9, 9, 9)}


def given_indices(rng: Random) -> dict[str, int]:
    """An address for each mode of paging, none with two indices alike."""
    return {
        "2-level": 0xC0000000 + rng.randrange(1 << 29),
        "PAE": 0xC0000000 + rng.randrange(1 << 29),
        "4-level": 0xFFFF888000000000 + rng.randrange(1 << 40),
        "5-level": 0xFF11000000000000 + rng.randrange(1 << 50),
    }


def by_digits(mode: str, address: int) -> list[int]:
    """The indices from the top table down, cut out of the address written in binary."""
    digits = f"{address:064b}"[:-12]
    found = []
    for width in reversed(WIDTHS[mode]):
        found.append(int(digits[-width:], 2))
        digits = digits[:-width]
    return found[::-1]


def judge_indices(answer: Answer, case: Case) -> Verdict | None:
    """The indices of one mode."""
    mode, address = case.value
    told = answer.value
    got = told.get(mode) if isinstance(told, dict) else None
    want = by_digits(mode, address)
    if not isinstance(got, (list, tuple)) or not all(type(index) is int for index in got):
        return Verdict("the answer has a list of indices for each mode", f"{mode}: {got!r}")
    if list(got) == want:
        return None
    if len(got) != len(want):
        return Verdict("there is one index for each level that the hardware has; folded ones have none",
                       f"{mode}: you have {len(got)}")  # fmt: skip
    if list(got) == want[::-1]:
        return Verdict("the first index is that of the top table, from the highest bits", f"{mode}: {list(got)}")
    entries = [1 << width for width in WIDTHS[mode]]
    if any(not 0 <= index < most for index, most in zip(got, entries, strict=True)):
        return Verdict(f"an index is smaller than the table's number of entries: {entries}", f"{mode}: {list(got)}")
    right = sum(a == b for a, b in zip(got, want, strict=True))
    return Verdict("an index is cut out of the address: shifted down to its lowest bit, and cut to its width",
                   f"{mode}: {right} of {len(want)} are right")  # fmt: skip


def cases_indices(given: dict[str, int], _rng: Random) -> list[Case]:
    """One case a mode."""
    return [Case(f"{mode}, {address:#x}", (mode, address), at) for at, (mode, address) in enumerate(given.items())]


register(
    Task(
        "page_tables.indices",
        CHAPTER,
        "compute",
        5,
        (
            "The figure of the lecture says which bits belong to which level. Take away the offset first: 12 bits.",
            "`address >> lowest & (entries - 1)`, where `lowest` is the lowest bit of the field. The upper bits of a "
            "64-bit address that are only copies fall away by the `&`.",
        ),
        judge_indices,
        cases_indices,
        given=given_indices,
    )
)

# -- page_tables.direct_map --------------------------------------------------------------------------------------------


def given_direct_map(rng: Random) -> dict[str, Any]:
    """RAM below 640 KiB, up to a ragged end below 4 GiB, and above 4 GiB; the CPU has pages of 1 GiB."""
    low = rng.choice((2, 3)) * GIB - rng.randrange(1, 200) * 4 * KIB - rng.randrange(2) * 64 * MIB
    above = rng.randrange(2, 5) * GIB + rng.randrange(3, 250) * 2 * MIB + rng.randrange(1, 512) * 4 * KIB
    return {"ram": [(0, 0x9F000), (MIB, low), (4 * GIB, 4 * GIB + above)]}


def pages_by_size(ram: list[tuple[int, int]]) -> dict[str, int]:
    """How many pages of each size the direct map has: each block of 1 GiB, of 2 MiB and of 4 KiB is asked in turn."""
    # The first MiB is mapped whole, RAM or not.
    mapped = [(0, MIB), *(span for span in ram if span[0] >= MIB)]
    real = [span for span in ram if span[0] >= MIB]
    counts = {"1G": 0, "2M": 0, "4K": 0}

    def covered(low: int, high: int, spans: list[tuple[int, int]]) -> int:
        return sum(max(0, min(high, end) - max(low, start)) for start, end in spans)

    for gib in range(0, max(end for _, end in ram), GIB):
        if any(start <= gib and gib + GIB <= end for start, end in real):
            counts["1G"] += 1
            continue
        for block in range(gib, gib + GIB, 2 * MIB):
            if any(start <= block and block + 2 * MIB <= end for start, end in real):
                counts["2M"] += 1
            else:
                counts["4K"] += covered(block, block + 2 * MIB, mapped) // (4 * KIB)
    return counts


def judge_direct_map(answer: Answer, case: Case) -> Verdict | None:
    """The count of one size."""
    size, want = case.value
    told = answer.value
    got = told.get(size) if isinstance(told, dict) else None
    if type(got) is not int:
        return Verdict("the answer has a whole number for each of 4K, 2M and 1G", f"{size}: {got!r}")
    if got == want:
        return None
    laws = {
        "1G": "a page of 1 GiB starts at a multiple of 1 GiB and holds nothing but RAM",
        "2M": "2 MiB is for what is whole RAM and in no page of 1 GiB; the first 2 MiB are not: there is a hole",
        "4K": "4 KiB is for the rest: the first MiB whole, hole or not, and each ragged end",
    }
    return Verdict(laws[size], f"{size}: {'too many' if got > want else 'too few'}")


def cases_direct_map(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a size."""
    counts = pages_by_size(given["ram"])
    return [
        Case(f"your machine: pages of {size}", (size, counts[size]), at) for at, size in enumerate(("1G", "2M", "4K"))
    ]


register(
    Task(
        "page_tables.direct_map",
        CHAPTER,
        "predict",
        10,
        (
            "Draw the three ranges on a line with a mark at each GiB. Which whole GiB hold nothing but RAM?",
            "What is left of each range has a head and a tail. Take away whole multiples of 2 MiB; what remains is "
            "counted in 4 KiB. Below 2 MiB everything is 4 KiB, and the first MiB is mapped whole.",
        ),
        judge_direct_map,
        cases_direct_map,
        given=given_direct_map,
    )
)
