"""Chapter 07: find a leak in three readings of a real machine's /proc/vmallocinfo."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.vmalloc import CHAPTER
from kmemlab.course.your_machine import CAPTURES, SHIPPED

HIDDEN = "0x(____ptrval____)-0x(____ptrval____)"
LEAKS = ("gen_pool_add_owner+0x3a/0xc0", "bpf_prog_alloc_no_stats+0x31/0x1e0", "n_tty_open+0x14/0xa0",
         "crypto_scomp_init_tfm+0x75/0xe0")  # fmt: skip
LAWS = {
    "leak": "a leak grows from each reading to the next, and never falls",
    "grown": "what a caller holds is the sum of its pages= over all its lines",
    "vmalloc_kib": "only lines with pages= and vmalloc hold memory of vmalloc's, 4 KiB a page",
    "guards_kib": "of the areas that hold pages, the last page is a guard: 4 KiB of addresses each, and no memory",
    "devices": "an ioremap line shows a device, or a table of the firmware's: no page is taken for it",
}


def line_of(caller: str, pages: int) -> str:
    """A line of an area with its guard page, in the kernel's format."""
    return f"{HIDDEN} {(pages + 1) * 4096:7} {caller} pages={pages} vmalloc N0={pages}"


def given_info(rng: Random) -> dict[str, Any]:
    """Three readings: the shipped machine's, with more tasks for a while, one large area, and a leak."""
    real = (CAPTURES / SHIPPED / "proc/vmallocinfo").read_text(encoding="utf-8").splitlines()
    leak, loud = rng.sample(LEAKS, 2)
    pages = rng.choice((2, 3, 5, 6))
    unpurged = [line for line in real if "unpurged" in line]  # these always stand last
    steps = (rng.randrange(2, 5), rng.randrange(5, 9), rng.randrange(10, 15))
    burst = [line_of("kernel_clone+0xbf/0x430", 4)] * rng.randrange(25, 40)
    large = [line_of(loud, rng.randrange(150, 400))]
    more: tuple[list[str], ...] = ([], burst + large, burst[: rng.randrange(3, 8)] + large)
    texts = []
    for leaked, others in zip(steps, more, strict=True):
        added = [line_of(leak, pages)] * leaked + others
        rng.shuffle(added)
        texts.append("\n".join([*real[: -len(unpurged)], *added, *unpurged]) + "\n")
    return {"texts": texts}


def areas_of(text: str) -> list[tuple[int, str, int, str]]:
    """Each line as (bytes, caller without offset, pages, kind)."""
    found = []
    for line in text.splitlines():
        words = line.split()
        pages = re.search(r"pages=(\d+)", line)
        kind = next((word for word in words if word in ("vmalloc", "vmap", "ioremap")), "")
        found.append((int(words[1]), words[2].split("+")[0], int(pages[1]) if pages else 0, kind))
    return found


def diagnosis(given: dict[str, Any]) -> dict[str, Any]:
    """What the readings say: who grows each time, by how many pages, and what the last one holds."""
    readings = [areas_of(text) for text in given["texts"]]
    held = [{name: sum(area[2] for area in areas if area[1] == name) for _, name, _, _ in areas} for areas in readings]
    (leak,) = [name for name in held[2] if held[0].get(name, 0) < held[1].get(name, 0) < held[2][name]]
    last = [area for area in readings[2] if area[3] == "vmalloc" and area[2]]
    return {
        "leak": leak,
        "grown": held[2][leak] - held[0].get(leak, 0),
        "vmalloc_kib": 4 * sum(area[2] for area in last),
        "guards_kib": sum(area[0] for area in last) // 1024 - 4 * sum(area[2] for area in last),
        "devices": sum(area[3] == "ioremap" for area in readings[2]),
    }


def judge_info(answer: Answer, case: Case) -> Verdict | None:
    """One part of the diagnosis."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict("the answer has all parts", f"the key {part!r} is missing")
    if told[part] == want and type(told[part]) is type(want):
        return None
    return Verdict(LAWS[part], f"{part} is not {told[part]!r}")


def cases_info(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a part; who leaks counts most."""
    return [
        Case(f"{part} of your readings", (part, want), at, points=3 if part == "leak" else 1)
        for at, (part, want) in enumerate(diagnosis(given).items())
    ]


register(
    Task(
        "vmalloc.info",
        CHAPTER,
        "diagnose",
        10,
        (
            "Add up pages= for each caller in each of the three readings (`collections.Counter` helps), and lay the "
            "three sums of each caller side by side.",
            "Many lines are no sign: tasks come and go, and each has a stack. A leak is larger in the second reading "
            "than in the first, and larger in the third than in the second.",
        ),
        judge_info,
        cases_info,
        given=given_info,
    )
)
