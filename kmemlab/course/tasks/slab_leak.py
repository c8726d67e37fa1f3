"""Chapter 06: a leak, told by two /proc/slabinfo of one machine.

Both texts are real: a machine of 128 MiB before and after some programs read files. Into the second one a leak was put,
drawn for each student: slabs of objects that nobody gives back, the last slab not yet full.
"""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.slab import CHAPTER
from kmemlab.course.your_machine import CAPTURES

SUSPECTS = ("kmalloc-1k", "kmalloc-2k", "kmalloc-512", "kmalloc-cg-1k", "sock_inode_cache", "files_cache")
MINUTES = 10  # between the two texts
Row = tuple[str, int, int, int, int, int, int]  # name, active, all, size, objects and pages of a slab, slabs


def rows_of(text: str) -> dict[str, Row]:
    """The caches of a /proc/slabinfo."""
    rows = {}
    for line in text.splitlines()[2:]:
        words = line.split()
        active, total, size, objects, pages = map(int, words[1:6])
        rows[words[0]] = (words[0], active, total, size, objects, pages, int(words[14]))
    return rows


def leaking_line(row: Row, slabs: int, unused: int) -> str:
    """The line of a cache that has so many slabs more, all of their objects held but for those unused."""
    name, active, total, size, objects, pages, had = row
    held, made = active + slabs * objects - unused, total + slabs * objects
    return (
        f"{name:<17} {held:6} {made:6} {size:6} {objects:4} {pages:4} : tunables    0    0    0 : "
        f"slabdata {had + slabs:6} {had + slabs:6}      0"
    )


def given_leak(rng: Random) -> dict[str, Any]:
    """Both texts, and how much memory is left. The leak weighs more than any cache that grew for a good reason."""
    folder = CAPTURES / "files-128m"
    before, after = ((folder / when / "proc" / "slabinfo").read_text() for when in ("before", "after"))
    rows = rows_of(after)
    name = rng.choice([name for name in SUSPECTS if name in rows])
    pages = rows[name][5]
    slabs = rng.randrange(70, 110) // pages
    unused = rng.randrange(1, rows[name][4])  # else "all objects" would do as well as "active objects"
    lines = [
        leaking_line(rows[name], slabs, unused) if line.split()[0] == name else line for line in after.splitlines()
    ]
    return {"before": before, "after": "\n".join([*lines, ""]), "minutes": MINUTES,
            "available_kib": 4 * rng.randrange(4000, 8000)}  # fmt: skip


def leak_truth(given: dict[str, Any]) -> dict[str, Any]:
    """Which cache grew by most pages, its objects and KiB, and how long the rest will last."""
    before, after = rows_of(given["before"]), rows_of(given["after"])
    grown = {name: (row[6] - before[name][6]) * row[5] for name, row in after.items() if name in before}
    name = max(grown, key=lambda cache: grown[cache])
    kib = 4 * grown[name]
    return {
        "cache": name,
        "objects": after[name][1] - before[name][1],
        "kib": kib,
        "minutes_left": given["available_kib"] * given["minutes"] // kib,
    }


LAWS = {
    "cache": "a leak is the cache whose slabs take most pages more, not the one with most objects or most memory",
    "objects": "what leaks are active objects: those of the second text without those of the first",
    "kib": "memory is taken by the slab: its pages, 4 KiB each, whether or not all objects are in use",
    "minutes_left": "at the same pace, the memory that is available lasts available / (KiB a minute)",
}


def judge_leak(answer: Answer, case: Case) -> Verdict | None:
    """One part of the diagnosis."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict("the answer has all parts", f"the key {part!r} is missing")
    if told[part] != want:
        return Verdict(LAWS[part], f"{part} is not {told[part]!r}")
    return None


def cases_leak(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Each part for itself; the name counts twice."""
    return [
        Case(f"{part}, from your two texts", (part, value), at, 2 if part == "cache" else 1)
        for at, (part, value) in enumerate(leak_truth(given).items())
    ]


register(
    Task(
        "slab.leak",
        CHAPTER,
        "diagnose",
        10,
        (
            "Columns: name, active objects, all objects, size, objects a slab, pages a slab; the last but one is the "
            "number of slabs. Compare slabs times pages of both texts, cache by cache.",
            "split() makes words of a line: word 5 is the pages of a slab, word 14 its slabs, word 1 the active "
            "objects. Put both texts into dicts by name, and take the name with the largest difference.",
        ),
        judge_leak,
        cases_leak,
        given=given_leak,
    )
)
