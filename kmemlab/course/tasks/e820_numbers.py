"""Chapter 01: the last page frame of a map, for three kernels; what mem= and memmap= leave of one."""

from __future__ import annotations

from itertools import groupby, pairwise
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.e820 import ACPI, CHAPTER, NVS, RAM, RESERVED, Entry
from kmemlab.types.e820_type import e820_type_text
from kmemlab.types.units import GIB, KIB, MIB, PAGE_SIZE

LOW: list[Entry] = [(0, 0x9FC00, RAM), (0x9FC00, 0x400, RESERVED), (0xF0000, 0x10000, RESERVED)]
KERNELS = {"amd64": 0x400000000, "i386-pae": 0x1000000, "i386": 0x100000}  # MAX_ARCH_PFN of each


def printed(entries: list[Entry]) -> str:
    """A map as the boot log prints it."""
    return "\n".join(
        f"BIOS-e820: [mem {addr:#018x}-{addr + size - 1:#018x}] {e820_type_text(type)}" for addr, size, type in entries
    )


def in_row(borders: list[tuple[int, int]], start: int = MIB) -> list[Entry]:
    """Entries that follow one another: each goes from where the last one ended to its own (end, type)."""
    entries = []
    for end, type in borders:
        entries.append((start, end - start, type))
        start = end
    return entries


# -- e820.last_pfn -----------------------------------------------------------------------------------------------------


def given_last_pfn(rng: Random) -> dict[str, Any]:
    """A map of this student's own: RAM that ends amid a page frame, once below 4 GiB and once far above."""
    low = rng.randrange(0x700, 0xD00) * MIB
    part, high_part = rng.randrange(1, 4) * KIB, rng.randrange(1, 4) * KIB
    below = in_row(
        [(low + part, RAM), (low + 16 * PAGE_SIZE, ACPI), (low + 64 * PAGE_SIZE, NVS), (low + MIB, RESERVED)]
    )
    high = rng.choice((6, 12, 40, 66, 96)) * GIB + rng.randrange(256) * MIB + high_part
    far = [(0xFE000000, 0x1000, RESERVED), (4 * GIB, high - 4 * GIB, RAM), (0xFD00000000, 12 * GIB, RESERVED)]
    entries = [*LOW, *below, *far]
    return {"map": entries, "dmesg": printed(entries), "max_arch_pfn": dict(KERNELS)}


def last_pfn(entries: list[Entry], max_arch_pfn: int) -> int:
    """The greatest page frame number up to which whole frames of RAM reach, but not beyond what the kernel can use."""
    ends = [
        (addr + size) // PAGE_SIZE for addr, size, type in entries if type == RAM and addr // PAGE_SIZE < max_arch_pfn
    ]
    return min(max(ends), max_arch_pfn)


def judge_last_pfn(answer: Answer, case: Case) -> Verdict | None:
    """The number, and for the usual mistakes the law that each of them breaks."""
    kernel, entries, limit = case.value
    told = answer.value
    if not isinstance(told, dict) or kernel not in told:
        return Verdict("the answer has a number for each kernel", f"the key {kernel!r} is missing")
    got, want = told[kernel], last_pfn(entries, limit)
    if got == want:
        return None
    if not isinstance(got, int):
        return Verdict("a page frame number is a whole number", f"{kernel} is {got!r}")
    return Verdict(_mistake(got, want, entries, limit), f"for {kernel} you have {got:#x}")


def _mistake(got: int, want: int, entries: list[Entry], limit: int) -> str:
    """The law that a wrong number breaks, as far as it can be told."""
    within = [(addr + size, type) for addr, size, type in entries if addr // PAGE_SIZE < limit]
    top, ram = max(end for end, _ in within), max(end for end, type in within if type == RAM)
    if got in (top, ram, top - 1, ram - 1):
        return "a page frame number is an address divided by the size of a page"
    if got > limit:
        return "last_pfn is never above max_arch_pfn"
    if got == want - 1:
        return "last_pfn is the frame behind the last one, as the end of a range in Python"
    if got in (want + 1, -(-ram // PAGE_SIZE)):
        return "a frame that is RAM only in part doesn't count"
    if got in (top // PAGE_SIZE, -(-top // PAGE_SIZE)):
        return "only usable ranges count"
    return "last_pfn is the end of the highest usable range that begins below max_arch_pfn, in whole page frames"


def cases_last_pfn(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a kernel."""
    return [
        Case(f"your map on {kernel} (max_arch_pfn = {limit:#x})", (kernel, given["map"], limit), size)
        for size, (kernel, limit) in enumerate(given["max_arch_pfn"].items())
    ]


register(
    Task(
        "e820.last_pfn",
        CHAPTER,
        "compute",
        5,
        (
            "Which usable range ends highest? Its end is the first address behind it: one more than the log "
            "prints. How many whole page frames of 4 KiB lie below that address?",
            "Shift the end right by 12 bits; what is lost is the frame that is not whole. A range that begins at "
            "max_arch_pfn or beyond is out of the kernel's reach, and one that goes on beyond it counts up to there.",
        ),
        judge_last_pfn,
        cases_last_pfn,
        given=given_last_pfn,
    )
)


# -- e820.predict ------------------------------------------------------------------------------------------------------

Option = tuple[str, int, int]  # what to do, and where: start, end
SIGNS = {"@": RAM, "#": ACPI, "$": RESERVED}


def given_predict(rng: Random) -> dict[str, Any]:
    """A map, and a command line of two options whose order matters."""
    end = rng.randrange(384, 512, 16)
    entries = [*LOW, (MIB, (end - 1) * MIB, RAM), (end * MIB, MIB, ACPI)]
    cut = rng.randrange(160, 320, 16)
    at = cut - rng.choice((32, 48, 64))
    size = rng.choice((16, 32, 96))
    options = rng.choice(
        (
            [f"mem={cut}M", f"memmap={size}M@{end + 64}M"],
            [f"memmap={size}M@{end + 64}M", f"mem={cut}M"],
            [f"memmap={size}M${at}M", f"mem={cut}M"],
            [f"mem={cut}M", f"memmap={size}M#{at}M"],
            [f"memmap={size}M%{at}M-1+2", f"mem={end - 32}M"],
            [f"memmap={size}M@{at}M", f"memmap={size + 16}M${at + 16}M"],
        )
    )
    return {"map": entries, "dmesg": printed(entries), "cmdline": " ".join(options)}


def parsed(option: str) -> Option:
    """An option of a given command line, as (what, start, end); sizes are in MiB there."""
    name, value = option.split("=", 1)
    if name == "mem":
        return "mem", int(value.rstrip("M")) * MIB, 1 << 64
    for sign in "@#$%":
        if sign in value:
            size, start = value.split(sign)
            first = int(start.split("M")[0]) * MIB
            return sign, first, first + int(size.rstrip("M")) * MIB
    raise ValueError(option)


def left_by(entries: list[Entry], cmdline: str) -> list[Entry]:
    """What the options leave. Between two borders nothing changes, so each such cell just keeps its set of types."""
    options = [parsed(option) for option in cmdline.split()]
    borders = {border for addr, size, _ in entries for border in (addr, addr + size)}
    borders |= {border for _, start, end in options for border in (start, end)}
    row = []
    for start, end in pairwise(sorted(borders)):
        types = {type for addr, size, type in entries if addr <= start < addr + size}
        for what, first, last in options:
            if not first <= start < last:
                continue
            if what == "mem":
                types.discard(RAM)
            elif what == "%":
                types = {RESERVED if type == RAM else type for type in types}
            else:
                types.add(SIGNS[what])
        row.append((start, end, max(types, default=0)))
    found = []
    for type, group in groupby(row, key=lambda cell: cell[2]):
        cells = list(group)
        if type:
            found.append((cells[0][0], cells[-1][1] - cells[0][0], type))
    return found


def judge_predict(answer: Answer, case: Case) -> Verdict | None:
    """The three numbers."""
    part, want, law = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict("the answer has all parts", f"the key {part!r} is missing")
    return None if told[part] == want else Verdict(law, f"{part} is not {told[part]!r}")


def cases_predict(given: dict[str, Any], _rng: Random) -> list[Case]:
    """How much is usable, where it ends, and how many lines the kernel prints."""
    left = left_by(given["map"], given["cmdline"])
    usable = [entry for entry in left if entry[2] == RAM]
    parts = {
        "usable_kib": (
            sum(size for _, size, _ in usable) // KIB,
            "options are carried out from left to right, and where ranges overlap the highest type wins",
        ),
        "last_pfn": (
            max(addr + size for addr, size, _ in usable) // PAGE_SIZE,
            "mem= forgets all RAM from an address on; what a later option adds stays",
        ),
        "lines": (len(left), "the map is put in order before it is printed: equal neighbours become one entry"),
    }
    return [
        Case(f"{part} after {given['cmdline']}", (part, want, law), size)
        for size, (part, (want, law)) in enumerate(parts.items())
    ]


register(
    Task(
        "e820.predict",
        CHAPTER,
        "predict",
        5,
        (
            "Write the map down, then carry out the first option on it and write down what is left. Only then the "
            "second.",
            "mem=N removes usable memory from address N on, and nothing else; memmap=n$s adds a reserved range (# "
            "ACPI data, @ usable), memmap=n%s-1+2 makes reserved what is usable there. At the end count the lines "
            "as the kernel prints them.",
        ),
        judge_predict,
        cases_predict,
        given=given_predict,
    )
)
