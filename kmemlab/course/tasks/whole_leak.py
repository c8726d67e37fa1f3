"""Chapter 09: four machines that have less and less free memory; which of them leaks, and where?

The first reading of each is real. The second one is the same machine an hour later: it has read files, started
programs, and on three of the four something is not given back.
"""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.whole import CHAPTER
from kmemlab.course.tasks.whole_numbers import MACHINES, ROWS, meminfo_text, numbers
from kmemlab.course.your_machine import CAPTURES

# Which rows grow together with what is not given back.
KINDS = {
    "none": (),
    "slab": ("Slab", "SUnreclaim"),
    "page tables": ("PageTables",),
    "vmalloc": ("VmallocUsed",),
    "threads": ("KernelStack", "VmallocUsed"),
    "pages": (),
}
LEAK_LAWS = {
    "none": "a page cache that grows is no leak: MemAvailable says so",
    "slab": "objects that nobody frees are in SUnreclaim",
    "page tables": "page tables have a row of their own",
    "vmalloc": "an area of vmalloc that is no stack is in VmallocUsed alone",
    "threads": "a thread's stack is in KernelStack, and in VmallocUsed, where it comes from",
    "pages": "what a driver takes from alloc_pages has no row: MemFree falls by more than all rows grow",
}
LETTERS = "ABCD"


def given_leak(rng: Random) -> dict[str, Any]:
    """Four machines, shuffled; one is healthy, and one leaks pages that no row counts."""
    kinds = ["none", "pages", *rng.sample(["slab", "page tables", "vmalloc", "threads"], 2)]
    rng.shuffle(kinds)
    real = [name for name, is_vmalloc in MACHINES.items() if is_vmalloc]
    machines = {}
    for letter, kind, name in zip(LETTERS, kinds, rng.sample(real, len(kinds)), strict=True):
        before = numbers((CAPTURES / name / "proc/meminfo").read_text())
        rows = {row: before[row] for row in ("MemTotal", "MemFree", "MemAvailable", *ROWS[2:])}
        machines[letter] = (meminfo_text(rows), meminfo_text(later(rows, kind, rng)))
    return {"machines": machines}


def later(rows: dict[str, int], kind: str, rng: Random) -> dict[str, int]:
    """An hour later: files were read, programs were started; what leaks is less than what was read."""
    read, memory = 4 * rng.randrange(40_000, 60_000), 4 * rng.randrange(1000, 3000)
    inodes, lost = 4 * rng.randrange(300, 900), 4 * rng.randrange(12_000, 30_000) if kind != "none" else 0
    more = {"Cached": read, "Mapped": read // 64 * 4, "AnonPages": memory, "Slab": inodes, "SReclaimable": inodes,
            "KReclaimable": inodes, "PageTables": 4 * rng.randrange(5, 20)}  # fmt: skip
    taken = memory + more["PageTables"] + inodes + lost  # what nobody gives back at once, but for some inodes
    more |= {"MemFree": -(read + taken), "MemAvailable": inodes // 8 * 4 - taken}
    for row in KINDS[kind]:
        more[row] = more.get(row, 0) + lost
    return {name: kib + more.get(name, 0) for name, kib in rows.items()}


def truth_of(given: dict[str, Any]) -> dict[str, Any]:
    """Read from the growth of the rows alone which kind each machine is."""
    found: dict[str, Any] = {}
    for letter, texts in given["machines"].items():
        before, after = map(numbers, texts)
        grown = {name: after[name] - before[name] for name in after}
        counted = sum(grown[row] for row in ("Cached", "AnonPages", "Slab", "PageTables", "VmallocUsed"))
        rowless = -grown["MemFree"] - counted
        sizes = {"slab": grown["SUnreclaim"], "page tables": grown["PageTables"], "threads": grown["KernelStack"],
                 "vmalloc": grown["VmallocUsed"] - grown["KernelStack"], "pages": rowless, "none": 1000}  # fmt: skip
        found[letter] = max(sizes, key=lambda kind: sizes[kind])
        if found[letter] == "pages":
            found["lost_kib"] = rowless
    return found


def judge_leak(answer: Answer, case: Case) -> Verdict | None:
    """One machine, or the pages without a row."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict("the answer has all parts", f"the key {part!r} is missing")
    if told[part] == want and type(told[part]) is type(want):
        return None
    if part == "lost_kib":
        return Verdict(LEAK_LAWS["pages"], f"lost_kib is not {told[part]!r}")
    if told[part] not in KINDS:
        return Verdict(f"each machine is one of: {', '.join(KINDS)}", f"{part} is {told[part]!r}")
    return Verdict(LEAK_LAWS[want], f"machine {part} is not {told[part]!r}")


def cases_leak(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a machine, and one for the number."""
    truth = truth_of(given)
    return [Case(f"machine {part}" if part in LETTERS else part, (part, truth[part]), at)
            for at, part in enumerate((*LETTERS, "lost_kib"))]  # fmt: skip


register(
    Task(
        "whole.leak",
        CHAPTER,
        "diagnose",
        10,
        (
            "Subtract the first reading from the second, row by row. The largest number is not the leak: it is the "
            "page cache. Which rows have grown that can't be had back?",
            "Add up what has grown (Cached, AnonPages, Slab, PageTables, VmallocUsed), and lay the sum beside the fall "
            "of MemFree. If they agree to the page, the rows tell it all. If not, somebody holds pages without a row.",
        ),
        judge_leak,
        cases_leak,
        given=given_leak,
    )
)
