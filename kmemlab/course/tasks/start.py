"""Chapter 00: a warm-up. An address is taken apart, a kernel's own account is read, and a promise is checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.units import MIB

CHAPTER = "00_start_here"
FRAME = 4096

# -- start.frame -------------------------------------------------------------------------------------------------------


def judge_frame(answer: Answer, case: Case) -> Verdict | None:
    """The two parts put the address together again, and the offset lies within a page."""
    addr = case.value
    told = answer(addr)
    if not isinstance(told, (tuple, list)) or len(told) != 2 or not all(type(part) is int for part in told):
        return Verdict("the answer is a pair of whole numbers: the frame's number, the offset", f"it returned {told!r}")
    pfn, offset = told
    if not 0 <= offset < FRAME:
        return Verdict("the offset is less than a page, 4,096 bytes", f"for {addr:#x} it is {offset:#x}")
    if pfn * FRAME + offset != addr:
        return Verdict(
            "frame number and offset give the address again",
            f"for {addr:#x} they give {pfn:#x} * 4096 + {offset:#x} = {pfn * FRAME + offset:#x}",
        )
    return None


def cases_frame(_given: Any, rng: Random) -> list[Case]:
    """Borders first, then addresses of any size."""
    addresses = [0, 1, FRAME - 1, FRAME, 0x12345, MIB, (1 << 32) - 1, 1 << 32]
    addresses += [rng.randrange(1 << rng.randrange(13, 46)) for _ in range(6)]
    return [Case(f"the address {addr:#x}", addr, addr) for addr in addresses]


def smaller_frame(case: Case) -> Iterable[Case]:
    """Half the address, and one less."""
    return [Case(f"the address {addr:#x}", addr, addr) for addr in {case.value // 2, case.value - 1} if addr >= 0]


register(
    Task(
        "start.frame",
        CHAPTER,
        "implement",
        4,
        (
            "How many times does 4,096 fit into the address? And what is left over?",
            "Python's divmod(addr, 4096) returns both at once; so do a shift by 12 bits and a mask of 12 ones.",
        ),
        judge_frame,
        cases_frame,
        smaller=smaller_frame,
    )
)

# -- start.memory_line -------------------------------------------------------------------------------------------------

LINE = re.compile(r"Memory: (\d+)K/(\d+)K available \(.*, (\d+)K reserved")
PARTS = {
    "present_mib": "the second number counts all memory that the kernel knows of, in KiB",
    "available_mib": "the first number is what the page allocator has to give, in KiB",
    "reserved_percent": "what is reserved, in per cent of all: 100 * reserved / present, rounded down",
}


def given_line(rng: Random) -> str:
    """The line that a machine of this student's own printed, of a size that no neighbour has."""
    mib = rng.randrange(160, 480)
    ranges = ((0, 0x9FC00 - 1, 1), (MIB, (mib * MIB) - 1, 1))
    spec = load_spec({"name": "your own", "e820": [[start, end, "usable"] for start, end, _ in ranges]})
    log = Machine.boot(replace(spec, cmdline="nokaslr"), until="mem_init_print_info").dmesg()
    return next(line for line in log.splitlines() if line.startswith("Memory: "))


def judge_line(answer: Answer, case: Case) -> Verdict | None:
    """One number of the three."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        got = f"it is {told!r}" if not isinstance(told, dict) else f"the key {part!r} is missing"
        return Verdict("the answer is a dict with three parts", got)
    if type(told[part]) is not int:
        return Verdict("each part is a whole number, rounded down", f"{part} is {told[part]!r}")
    if told[part] != want:
        return Verdict(PARTS[part], f"{part} is not {told[part]}")
    return None


def cases_line(given: str, _rng: Random) -> list[Case]:
    """The three numbers, easiest first."""
    found = LINE.search(given)
    assert found is not None
    available, present, reserved = (int(number) for number in found.groups())
    values = (present // 1024, available // 1024, 100 * reserved // present)
    return [
        Case(f"{part} of your line", (part, value), size)
        for size, (part, value) in enumerate(zip(PARTS, values, strict=True))
    ]


register(
    Task(
        "start.memory_line",
        CHAPTER,
        "diagnose",
        3,
        (
            "The line has two numbers before the word available, and K stands for KiB: 1,024 bytes.",
            "A MiB is 1,024 KiB. In Python // divides and rounds down: 300000 // 1024.",
        ),
        judge_line,
        cases_line,
        given=given_line,
    )
)

# -- start.double ------------------------------------------------------------------------------------------------------

GROWING = ("the memory map", "the kernel itself", "the first MiB", "per-CPU variables")


def given_double(rng: Random) -> dict[str, Any]:
    """A machine, and the question what doubles when its memory is doubled."""
    return {"mib": rng.choice((512, 768, 1024)), "parts": list(GROWING)}


def part_sizes(mib: int) -> dict[str, int]:
    """What boot took for each part on a machine of so many MiB, in bytes."""
    from kmemlab.views.waterfall import waterfall

    machine = {"name": f"{mib} MiB", "e820": [[0, 0x9FBFF, "usable"], [MIB, mib * MIB - 1, "usable"]]}
    return {step.name: abs(step.size) for step in waterfall(machine).steps}


def judge_double(answer: Answer, case: Case) -> Verdict | None:
    """For one part: does it double?"""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or type(told.get(part)) is not bool:
        got = f"it is {told!r}" if not isinstance(told, dict) else f"for {part!r} it does not"
        return Verdict("the answer says True or False for each part: a dict by the part's name", got)
    if told[part] != want:
        law = "what describes memory grows with memory; what was built or is there once does not"
        return Verdict(law, f"{part!r} is told to {'double' if told[part] else 'stay'}")
    return None


def cases_double(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Both machines are booted; a part doubles if it is nearer to twice its size than to once."""
    small, large = part_sizes(given["mib"]), part_sizes(2 * given["mib"])
    return [
        Case(f"{part}, from {given['mib']} to {2 * given['mib']} MiB", (part, 2 * large[part] > 3 * small[part]), size)
        for size, part in enumerate(given["parts"])
    ]


register(
    Task(
        "start.double",
        CHAPTER,
        "predict",
        3,
        (
            "Which of the parts says something about each page of memory?",
            "The knob of the lecture boots machines of any size. Compare two, line by line.",
        ),
        judge_double,
        cases_double,
        given=given_double,
    )
)
