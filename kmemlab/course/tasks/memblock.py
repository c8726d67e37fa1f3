"""Chapter 02: add a range to memblock's list, and find the highest place that is free.

What must hold is told unit by unit on small memories: each byte (or KiB) has an owner or none, and every aligned place
is tried in turn. The last cases boot a machine with the answer in the kernel's place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from random import Random
from typing import Any

from kmemlab.boot.memblock import (
    Memblock,
    MemblockType,
    memblock_add_node,
    memblock_add_range,
    memblock_find_in_range_node,
    memblock_init,
    memblock_reserve,
)
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.your_machine import CAPTURES, SHIPPED, shipped
from kmemlab.hardware.spec import MachineSpec, load_spec
from kmemlab.machine.machine import Machine
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError
from kmemlab.types.units import KIB
from kmemlab.views.panel_memblock import MemblockPanel

CHAPTER = "02_memblock"
PRESET = "tiny-128m"
LEDGER = re.compile(r"(memblock_reserve|memblock_phys_free|memblock_add): \[\S+\]|(?:memory|reserved)[.\[].*")

Region = tuple[int, int, int, int]  # base, size, nid, flags


# -- memblock.add_range ------------------------------------------------------------------------------------------------


def list_of(regions: list[Region]) -> MemblockType:
    """A list that holds these regions, in order and apart."""
    memblock = Memblock()
    memblock_init(memblock)
    type = memblock.memory
    for at, (base, size, nid, flags) in enumerate(regions):
        type.base[at], type.size[at], type.nid[at], type.flags[at] = base, size, nid, flags
    type.cnt = max(1, len(regions))
    type.total_size = sum(size for _, size, _, _ in regions)
    return type


def painted(regions: list[Region], new: Region) -> list[Region]:
    """The list afterwards, from a row of bytes: each is of its first owner; equal neighbours are one region."""
    owner: dict[int, tuple[int, int]] = {}
    for base, size, nid, flags in [*regions, new]:
        for byte in range(base, base + size):
            owner.setdefault(byte, (nid, flags))
    found = []
    for _, group in groupby(enumerate(sorted(owner)), key=lambda item: (item[1] - item[0], owner[item[1]])):
        bytes_ = [byte for _, byte in group]
        found.append((bytes_[0], len(bytes_), *owner[bytes_[0]]))
    return found


def region_text(region: Region) -> str:
    """A region for a reader."""
    base, size, nid, flags = region
    end = f"-{base + size - 1:#x}" if size else ", no bytes"
    return f"[{base:#x}{end}] node {nid}" + (f" flags {flags}" if flags else "")


def regions_text(regions: list[Region]) -> str:
    """A list in one line."""
    return "; ".join(map(region_text, regions)) or "an empty list"


def judge_add(answer: Answer, case: Case) -> Verdict | None:
    """The list that the answer leaves is the one that is painted."""
    if isinstance(case.value, str):
        return boots(memblock_add_range, answer, case.value)
    regions, new = case.value
    memblock = Memblock()
    type = list_of(regions)
    type.max = 128
    answer(memblock, type, *new)
    got, want = list(type.regions()), painted(regions, new)
    if got == want:
        total = sum(size for _, size, _, _ in want)
        if type.total_size == total:
            return None
        return Verdict("total_size counts each byte once", f"{total} bytes are in the list, it says {type.total_size}")
    return Verdict(_broken_add(got, want), f"the list is now {regions_text(got)}")


def _broken_add(got: list[Region], want: list[Region]) -> str:
    """The first law that a list breaks."""
    if any(size <= 0 for _, size, _, _ in got):
        return "no region of the list is empty"
    if any(a[0] + a[1] > b[0] for a, b in pairwise(got)):
        return "regions are in order and don't overlap"
    have = {byte: (nid, flags) for base, size, nid, flags in got for byte in range(base, base + size)}
    should = {byte: (nid, flags) for base, size, nid, flags in want for byte in range(base, base + size)}
    if have.keys() != should.keys():
        return "afterwards the list covers what it covered before, and the new range, and nothing else"
    if have != should:
        return "a byte has the node and the flags with which it first came: what was in the list before keeps its own"
    return "neighbours that touch and agree in node and flags are one region"


def described(name: str) -> MachineSpec:
    """A machine by its name in the cases; the log of a real one is there, the others are asked for it."""
    spec = load_spec(CAPTURES / SHIPPED if name == SHIPPED else name)
    return spec if name == SHIPPED else replace(spec, cmdline="memblock=debug")


def in_boot(function: Callable[..., Any]) -> Callable[[Case], Inside | None]:
    """For the cases that are a machine: its boot, step by step."""

    def inside(case: Case) -> Inside | None:
        if not isinstance(case.value, str):
            return None
        spec = described(case.value)
        return Inside(
            function, partial(Machine, spec), until="mem_init", panel=lambda _, call: MemblockPanel(call.arguments[0])
        )

    return inside


def boots(function: Callable[..., Any], answer: Answer, name: str) -> Verdict | None:
    """Boot a machine with the answer in the kernel's place: what memblock=debug prints must be the same."""
    spec = described(name)
    expected = ledger(shipped().dmesg() if name == SHIPPED else Machine.boot(spec, until="mem_init").dmesg())
    law = "with your function in the kernel, memblock=debug prints what it printed without it"
    try:
        with livepatch(function, answer.function):
            got = ledger(Machine.boot(spec, until="mem_init").dmesg())
    except KmemlabError as error:
        return Verdict(law, f"{name} does not boot: {error.what}")
    for number, line in enumerate(expected):
        have = got[number] if number < len(got) else "nothing more"
        if line != have:
            return Verdict(law, f"on {name}, line {number + 1} of memblock's should be “{line}”, it is “{have}”")
    return None


def ledger(log: str) -> list[str]:
    """The lines of a log that memblock's lists decide, without the time and without the offsets of the callers."""
    found = (LEDGER.search(line) for line in log.splitlines())
    return [" ".join(line[0].split()) for line in found if line and "RAM buffer" not in line[0]]


ADDS: list[tuple[list[Region], Region]] = [
    ([], (4, 4, 0, 0)),
    ([], (4, 4, 1, 1)),
    ([], (4, 1, 0, 0)),
    ([(0, 4, 0, 0)], (8, 4, 0, 0)),
    ([(8, 4, 0, 0)], (0, 4, 0, 0)),
    ([(0, 4, 0, 0)], (4, 4, 0, 0)),
    ([(4, 4, 0, 0)], (0, 4, 0, 0)),
    ([(0, 4, 0, 0)], (2, 4, 0, 0)),
    ([(4, 4, 0, 0)], (2, 4, 0, 0)),
    ([(2, 2, 0, 0)], (0, 8, 0, 0)),
    ([(0, 8, 0, 0)], (2, 2, 0, 0)),
    ([(0, 4, 0, 0)], (0, 4, 0, 0)),
    ([(0, 4, 0, 0)], (4, 4, 1, 0)),
    ([(2, 2, 0, 0)], (0, 8, 1, 0)),
    ([(2, 2, 0, 0)], (2, 4, 1, 0)),
    ([(0, 1, 0, 0)], (4, 4, 0, 0)),
    ([(0, 4, 0, 1)], (4, 4, 0, 0)),
    ([(2, 2, 0, 1)], (0, 8, 0, 0)),
    ([(0, 2, 0, 0), (4, 2, 0, 0)], (2, 2, 0, 0)),
    ([(2, 2, 0, 0), (6, 2, 0, 0)], (0, 12, 1, 0)),
    ([(0, 4, 0, 0)], (6, 0, 0, 0)),
]


def drawn_regions(rng: Random, count: int) -> list[Region]:
    """A list in order on 40 bytes, at random; neighbours that touch differ."""
    row: list[Region] = []
    for at, base in enumerate(sorted(rng.sample(range(0, 40, 4), count))):
        row.append((base, rng.choice((1, 2, 3, 4)), (at + rng.randrange(2)) % 2, 0))
    apart = [row[0]]
    for region in row[1:]:
        before = apart[-1]
        alike = before[0] + before[1] == region[0] and before[2:] == region[2:]
        apart.append((region[0] + 1, max(1, region[1] - 1), *region[2:]) if alike else region)
    return apart


def cases_add(_given: None, rng: Random) -> list[Case]:
    """One region first, then many; then two machines."""
    more = [
        (drawn_regions(rng, 2 + at // 3), (rng.randrange(30), rng.randrange(1, 20), rng.randrange(2), 0))
        for at in range(12)
    ]
    cases = [add_case(regions, new) for regions, new in ADDS + more]
    cases.append(Case(f"{PRESET}, up to mem_init", PRESET, 10_000, points=4))
    cases.append(Case(f"{SHIPPED}, against the log of the real machine", SHIPPED, 10_001, points=4))
    return cases


def add_case(regions: list[Region], new: Region) -> Case:
    """A small list and what is added, as a case."""
    size = 100 * len(regions) + sum(base + size for base, size, _, _ in [*regions, new]) + 1000 * (new[1] == 0)
    return Case(f"{regions_text(regions)}; add {region_text(new)}", (regions, new), size)


def smaller_add(case: Case) -> Iterator[Case]:
    """The same with a region less, or with shorter ones."""
    if isinstance(case.value, str) or case.size >= 1000:
        return
    regions, (base, size, nid, flags) = case.value
    for at in range(len(regions)):
        yield add_case(regions[:at] + regions[at + 1 :], (base, size, nid, flags))
    for at, (low, length, *rest) in enumerate(regions):
        if length > 1:
            yield add_case([*regions[:at], (low, length - 1, *rest), *regions[at + 1 :]], (base, size, nid, flags))
    if size > 1:
        yield add_case(regions, (base, size - 1, nid, flags))
    if base > 0:
        yield add_case(regions, (base - 1, size, nid, flags))


register(
    Task(
        "memblock.add_range",
        CHAPTER,
        "implement",
        20,
        (
            "Walk over the regions from the lowest, and keep in `base` how far you are with the new range. Which "
            "regions can be skipped, at which can you stop, and what is new in front of one that overlaps?",
            "In front of an overlapping region the part [base, start of the region) is new; after it `base` is the "
            "end of that region. What is left at the end goes in last. An insertion moves all later regions up by "
            "one. An empty list has one region of size 0: write the first one over it.",
        ),
        judge_add,
        cases_add,
        smaller=smaller_add,
        inside=in_boot(memblock_add_range),
    )
)


# -- memblock.find_top_down --------------------------------------------------------------------------------------------

Spans = list[tuple[int, int]]
Ask = tuple[int, int, int, int, int]  # size, align, start, end, nid

UNIT = KIB  # small memories are counted in KiB: a page is four of them


def tried(memory: list[tuple[int, int, int]], reserved: Spans, limit: int, ask: Ask) -> int:
    """The highest place, found by trying all, in KiB; 0 if there is none."""
    size, align, start, end, nid = ask
    end = end or limit
    taken = {unit for low, high in reserved for unit in range(low, high)}
    places = [
        place
        for low, high, node in memory
        if nid in (-1, node)
        for place in range(max(low, start, 4), min(high, end) - size + 1)
        if place % align == 0 and not taken & set(range(place, place + size))
    ]
    return max(places, default=0)


def memblock_of(memory: list[tuple[int, int, int]], reserved: Spans, limit: int) -> Memblock:
    """A memblock with these lists, given in KiB."""
    memblock = Memblock()
    memblock_init(memblock)
    for low, high, nid in memory:
        memblock_add_node(memblock, low * UNIT, (high - low) * UNIT, nid)
    for low, high in reserved:
        memblock_reserve(memblock, low * UNIT, (high - low) * UNIT)
    memblock.current_limit = limit * UNIT
    return memblock


def judge_find(answer: Answer, case: Case) -> Verdict | None:
    """The place is the one that trying all of them finds."""
    if isinstance(case.value, str):
        return boots(memblock_find_in_range_node, answer, case.value)
    memory, reserved, limit, (size, align, start, end, nid) = case.value
    memblock = memblock_of(memory, reserved, limit)
    got = answer(memblock, size * UNIT, align * UNIT, start * UNIT, end * UNIT, nid)
    want = tried(memory, reserved, limit, (size, align, start, end, nid)) * UNIT
    if got == want:
        return None
    if not isinstance(got, int) or isinstance(got, bool):
        return Verdict("the result is an address, or 0", f"it is {got!r}")
    return Verdict(_broken_find(got, want, case.value), f"it returned {got:#x}")


def _broken_find(got: int, want: int, value: Any) -> str:
    """The law that a wrong place breaks."""
    memory, reserved, limit, (size, align, start, end, nid) = value
    low, high = got, got + size * UNIT
    if not got:
        return "if a place is free, one is found"
    if got % (align * UNIT):
        return "the place is a multiple of align"
    if any(a * UNIT < high and low < b * UNIT for a, b in reserved):
        return "no byte of the place is reserved"
    if got < 4 * UNIT:
        return "page 0 is never given"
    if low < start * UNIT or high > (end or limit) * UNIT:
        return "the place lies within [start, end); an end of 0 stands for memblock.current_limit"
    if not any(a * UNIT <= low and high <= b * UNIT for a, b, _ in memory):
        return "all of the place lies in one region of memory"
    if not any(a * UNIT <= low and high <= b * UNIT and nid in (-1, node) for a, b, node in memory):
        return "the place lies on the node that was asked for"
    return "of all places that fit, it is the highest"


ONE = [(0, 40, 0)]
FINDS: list[tuple[list[tuple[int, int, int]], Spans, int, Ask]] = [
    (ONE, [], 99, (4, 4, 0, 40, -1)),
    (ONE, [], 99, (5, 4, 0, 40, -1)),
    (ONE, [], 99, (4, 4, 0, 0, -1)),
    (ONE, [], 32, (4, 4, 0, 0, -1)),
    (ONE, [], 99, (4, 4, 0, 20, -1)),
    (ONE, [], 99, (4, 4, 38, 40, -1)),
    (ONE, [(36, 40)], 99, (4, 4, 0, 40, -1)),
    (ONE, [(30, 38)], 99, (4, 1, 0, 40, -1)),
    (ONE, [(30, 38)], 99, (2, 1, 0, 40, -1)),
    (ONE, [(33, 36)], 99, (4, 4, 0, 40, -1)),
    (ONE, [(4, 40)], 99, (2, 1, 0, 40, -1)),
    (ONE, [(0, 40)], 99, (1, 1, 0, 40, -1)),
    (ONE, [], 99, (37, 1, 0, 40, -1)),
    ([(4, 12, 0), (20, 32, 0)], [], 99, (8, 8, 0, 40, -1)),
    ([(4, 12, 0), (20, 32, 0)], [(24, 28)], 99, (8, 1, 0, 40, -1)),
    ([(4, 12, 0), (20, 32, 1)], [], 99, (4, 4, 0, 40, 0)),
    ([(4, 12, 0), (20, 32, 1)], [], 99, (10, 1, 0, 40, 0)),
    ([(4, 12, 0), (12, 20, 1)], [], 99, (12, 1, 0, 40, -1)),
    ([(4, 40, 0)], [(8, 10), (14, 16), (24, 40)], 99, (4, 2, 0, 40, -1)),
    ([(4, 40, 0)], [(36, 60)], 99, (4, 4, 0, 0, -1)),
]


def drawn_find(rng: Random) -> tuple[list[tuple[int, int, int]], Spans, int, Ask]:
    """Two regions, some reserved, a limit and a request, at random."""
    edges = sorted(rng.sample(range(2, 40), 4))
    memory = [(edges[0], edges[1], 0), (edges[2], edges[3], rng.randrange(2))]
    reserved = [(low, low + rng.randrange(1, 6)) for low in rng.sample(range(40), rng.randrange(1, 4))]
    ask = (rng.randrange(1, 6), rng.choice((1, 2, 4)), rng.choice((0, 0, 10)), rng.choice((0, 40, 25)), -1)
    return memory, reserved, rng.choice((99, 30)), ask


def cases_find(_given: None, rng: Random) -> list[Case]:
    """One region first, then two; then two machines."""
    cases = [find_case(*one) for one in [*FINDS, *(drawn_find(rng) for _ in range(15))]]
    cases.append(Case(f"{PRESET}, up to mem_init", PRESET, 10_000, points=4))
    cases.append(Case(f"{SHIPPED}, against the log of the real machine", SHIPPED, 10_001, points=4))
    return cases


def find_case(memory: list[tuple[int, int, int]], reserved: Spans, limit: int, ask: Ask) -> Case:
    """A small memory and a request, as a case."""
    size, align, start, end, nid = ask
    spans = ", ".join(f"{low}-{high} KiB of node {node}" for low, high, node in memory)
    taken = ", ".join(f"{low}-{high} KiB" for low, high in reserved) or "nothing"
    where = f"{size} KiB aligned to {align} KiB, within {start}-{end} KiB" + (f", on node {nid}" if nid >= 0 else "")
    text = f"memory {spans}; reserved {taken}; the limit is {limit} KiB; wanted {where}"
    return Case(text, (memory, reserved, limit, ask), 100 * (len(memory) + len(reserved)) + size + (end == 0))


def smaller_find(case: Case) -> Iterator[Case]:
    """The same with less that is reserved, or with one region of memory."""
    if isinstance(case.value, str):
        return
    memory, reserved, limit, ask = case.value
    for at in range(len(reserved)):
        yield find_case(memory, reserved[:at] + reserved[at + 1 :], limit, ask)
    for at in range(len(memory)):
        if len(memory) > 1:
            yield find_case(memory[:at] + memory[at + 1 :], reserved, limit, ask)


register(
    Task(
        "memblock.find_top_down",
        CHAPTER,
        "implement",
        15,
        (
            "First cut each region of memory to [start, end). Then walk over the reserved regions from the highest: "
            "what lies between two of them is free.",
            "In a free range [low, high) the highest place is (high - size) rounded down to align. It fits if it is "
            "not below low. Else go on with the next lower range; remember that page 0 is never given.",
        ),
        judge_find,
        cases_find,
        smaller=smaller_find,
        inside=in_boot(memblock_find_in_range_node),
    )
)
