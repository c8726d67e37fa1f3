"""Chapter 02: which memory type an address has in the end, from /proc/mtrr and the bits of a page-table entry."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.memblock import CHAPTER
from kmemlab.types.units import MIB

Range = tuple[int, int, str]  # base and size in MiB, type

NAMES = {"WB": "write-back", "UC": "uncachable", "WT": "write-through", "WC": "write-combining"}
PAT = ("WB", "WC", "UC-", "UC", "WB", "WP", "UC-", "WT")  # as Linux sets it; the number is the bits PAT PCD PWT
COMBINED = {  # the type of the range → by what the page-table entry chose
    "WB": {"WB": "WB", "WC": "WC", "UC-": "UC", "UC": "UC", "WP": "WP", "WT": "WT"},
    "WT": {"WB": "WT", "WC": "WC", "UC-": "UC", "UC": "UC", "WP": "UC", "WT": "WT"},
    "WC": {"WB": "WC", "WC": "WC", "UC-": "WC", "UC": "UC", "WP": "UC", "WT": "UC"},
    "UC": {"WB": "UC", "WC": "WC", "UC-": "UC", "UC": "UC", "WP": "UC", "WT": "UC"},
}


def proc_mtrr(ranges: list[Range]) -> str:
    """The ranges as /proc/mtrr prints them."""
    return "\n".join(
        f"reg{at:02}: base=0x{base * MIB:09x} ({base:5}MB), size={size:5}MB, count=1: {NAMES[kind]}"
        for at, (base, size, kind) in enumerate(ranges)
    )


def given_effective(rng: Random) -> dict[str, Any]:
    """MTRRs that overlap, and five pages: two in plain memory, the others where ranges meet or none is."""
    hole, frame = rng.choice((256, 512)), rng.choice((16, 32, 64))
    through = rng.choice((64, 128))
    ranges: list[Range] = [
        (0, 4096, "WB"),
        (4096 - hole, hole, "UC"),
        (1024, through, "WT"),
        (8192, frame, "WC"),
    ]
    inside = {
        "a": (rng.randrange(1, 900), 0),
        "b": (rng.randrange(4096 - hole, 4090), rng.choice((0, 4))),
        "c": (1024 + rng.randrange(through), rng.choice((0, 7))),
        "d": (8192 + rng.randrange(frame), rng.choice((0, 2))),
        "e": (rng.randrange(4096 - hole, 4090), 1),
        "f": (6000 + rng.randrange(500), rng.choice((0, 2, 3, 5))),
    }
    pages = {name: {"address": base * MIB, "pat": pat >> 2, "pcd": pat >> 1 & 1, "pwt": pat & 1}
             for name, (base, pat) in inside.items()}  # fmt: skip
    return {"mtrr": proc_mtrr(ranges), "ranges": ranges, "pages": pages}


def range_type(ranges: list[Range], address: int) -> str:
    """The type that the MTRRs give an address; outside of all it is uncachable."""
    kinds = {kind for base, size, kind in ranges if base * MIB <= address < (base + size) * MIB}
    if len(kinds) == 1:
        return kinds.pop()
    return "WT" if kinds == {"WB", "WT"} else "UC"


def effective(ranges: list[Range], page: dict[str, int]) -> tuple[str, str]:
    """The type of the range, and the type in the end."""
    chosen = PAT[page["pat"] << 2 | page["pcd"] << 1 | page["pwt"]]
    by_range = range_type(ranges, page["address"])
    return by_range, COMBINED[by_range][chosen]


def judge_effective(answer: Answer, case: Case) -> Verdict | None:
    """The pair (type of the range, type in the end) of one page."""
    name, by_range, end = case.value
    told = answer.value
    pair = told.get(name) if isinstance(told, dict) else None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return Verdict("the answer has (type by MTRR, type in the end) for each page", f"page {name} is {pair!r}")
    if pair[0] != by_range:
        return Verdict(
            "where ranges overlap UC wins, and WB with WT is WT; outside of all ranges it is UC",
            f"page {name}: the MTRRs don't say {pair[0]!r}",
        )
    if pair[1] != end:
        return Verdict(
            "a page-table entry with WB leaves the range's type; WC, UC and the others decide for themselves, but "
            "none makes an uncachable range cached",
            f"page {name} is not {pair[1]!r} in the end",
        )
    return None


def cases_effective(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a page."""
    return [
        Case(f"page {name} at {page['address']:#x}", (name, *effective(given["ranges"], page)), at)
        for at, (name, page) in enumerate(given["pages"].items())
    ]


register(
    Task(
        "mtrr.effective",
        CHAPTER,
        "diagnose",
        10,
        (
            "Look first at the address alone: which lines of /proc/mtrr cover it? If two do, which of them wins?",
            "Then read the three bits as a number, PAT first, and look it up in the line `x86/PAT: Configuration` of "
            "the lecture. The table in the lecture tells what both come to.",
        ),
        judge_effective,
        cases_effective,
        given=given_effective,
    )
)
