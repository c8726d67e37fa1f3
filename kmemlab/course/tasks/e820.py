"""Chapter 01: put the firmware's table in order.

What must hold is told byte by byte: small maps are painted on a row of bytes, and the table is read back from the
paint. No line is swept. The last cases boot a machine with the answer in the kernel's place; one of them compares with
the log of a real machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby, pairwise
from random import Random
from typing import Any

from kmemlab.boot.e820 import E820Table, e820__update_table
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.your_machine import CAPTURES, SHIPPED, shipped
from kmemlab.hardware.spec import MachineSpec, load_spec
from kmemlab.machine.machine import Machine
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.e820_type import E820_TYPE_PRAM, E820_TYPE_SOFT_RESERVED, e820_type_text
from kmemlab.types.errors import KmemlabError
from kmemlab.types.units import GIB, PAGE_SIZE, U64_MAX
from kmemlab.views.panel import E820Panel

CHAPTER = "01_e820"
LAST_STAGE = "e820__memblock_setup"  # of the boots: then memblock knows the memory
RAM, RESERVED, ACPI, NVS = 1, 2, 3, 4
APART = (E820_TYPE_PRAM, E820_TYPE_SOFT_RESERVED)  # types whose neighbours are never joined

Entry = tuple[int, int, int]  # addr, size, type
Covering = list[tuple[int, int]]  # the entries that cover a byte: (place in the list, type)
Decide = Callable[[Covering], int]
LOGGED = re.compile(r"(BIOS-\w+: |user: |last_pfn = |e820: update|e820: remove).*")

OVERLAPPING = {
    "name": "overlapping",
    "e820": [
        [0x100000, 0x7FFFFFF, "usable"],
        [0, 0x9FBFF, "usable"],
        [0x90000, 0x9FFFF, "ACPI data"],
        [0x9FC00, 0x9FFFF, "reserved"],
        [0x7FE0000, 0x7FFFFFF, "reserved"],
        [0xF0000, 0xFFFFF, "reserved"],
        [0xF0000, 0xFFFFF, "reserved"],
    ],
}


# -- the model: bytes that are painted ---------------------------------------------------------------------------------


def highest(covering: Covering) -> int:
    """Linux's rule: the highest type of those that cover a byte."""
    return max(type for _, type in covering)


def painted(entries: list[Entry], decide: Decide) -> list[int]:
    """What each byte is, from address 0 on; 0 where no entry covers it."""
    row = []
    for byte in range(max((addr + size for addr, size, _ in entries), default=0)):
        covering = [(at, type) for at, (addr, size, type) in enumerate(entries) if addr <= byte < addr + size]
        row.append(decide(covering) if covering else 0)
    return row


def runs(row: list[int], cuts: set[int]) -> list[Entry]:
    """The row as a table: bytes side by side that are alike are one entry, but at a cut."""
    found = []
    part = [sum(cut <= byte for cut in cuts) for byte in range(len(row))]
    for (type, _), group in groupby(range(len(row)), key=lambda byte: (row[byte], part[byte] * (row[byte] in APART))):
        alike = list(group)
        if type:
            found.append((alike[0], len(alike), type))
    return found


def in_order(entries: list[Entry]) -> list[Entry]:
    """The table that Linux makes of these entries."""
    borders = {border for addr, size, _ in entries if size for border in (addr, addr + size)}
    return runs(painted(entries, highest), borders)


def scaled(entries: list[Entry], unit: int) -> list[Entry]:
    """The same map with every address and size times `unit`."""
    return [(addr * unit, size * unit, type) for addr, size, type in entries]


# -- how it is told ----------------------------------------------------------------------------------------------------


def entry_text(entry: Entry) -> str:
    """An entry, as the kernel would print it but without padding."""
    addr, size, type = entry
    end = f"-{addr + size - 1:#x}" if size else ", no bytes"
    return f"[{addr:#x}{end}] {e820_type_text(type)}"


def table_text(entries: list[Entry]) -> str:
    """A table in one line."""
    return "; ".join(map(entry_text, entries)) or "an empty table"


def type_text(type: int) -> str:
    """A type for a reader; 0 is no type."""
    return e820_type_text(type) if type else "in no entry"


def broken_law(got: list[Entry], entries: list[Entry], expected: list[Entry], law: str) -> Verdict | None:
    """The first law that a table breaks: form first, then the types byte by byte, then how it is cut into entries."""
    for entry in got:
        if entry[1] <= 0:
            return Verdict("no entry of the result is empty", f"it holds {entry_text(entry)}")
    for before, after in pairwise(got):
        if before[0] + before[1] > after[0]:
            return Verdict(
                "the entries of the result are in order and don't overlap",
                f"{entry_text(before)} is followed by {entry_text(after)}",
            )
    borders = sorted({border for addr, size, _ in [*entries, *got, *expected] for border in (addr, addr + size)})
    for byte in borders:
        want, have = at(expected, byte), at(got, byte)
        if want != have:
            covering = [entry for entry in entries if entry[0] <= byte < entry[0] + entry[1]]
            by = f"is covered by {table_text(covering)}" if covering else "is covered by no entry"
            return Verdict(law, f"address {byte:#x} {by}; it should be {type_text(want)}, yours says {type_text(have)}")
    if got != expected:
        return _cut_wrongly(got, expected)
    return None


def at(table: list[Entry], byte: int) -> int:
    """The type of a byte in a table in order, 0 if none."""
    return next((type for addr, size, type in table if addr <= byte < addr + size), 0)


def _cut_wrongly(got: list[Entry], expected: list[Entry]) -> Verdict:
    wrong = next(entry for entry in [*got, *expected] if entry not in got or entry not in expected)
    if wrong[2] in APART:
        return Verdict(
            "persistent and soft reserved ranges are cut at every border, and never joined",
            f"the result is {table_text(got)}",
        )
    return Verdict(
        "neighbours of one type become one entry",
        f"the result has {len(got)} entries, {len(expected)} are enough: {table_text(got)}",
    )


# -- e820.update_table -------------------------------------------------------------------------------------------------


def judge_update(answer: Answer, case: Case) -> Verdict | None:
    """The table that the answer leaves is the one that is painted."""
    if isinstance(case.value, str):
        return boots(answer, case.value)
    small, unit = case.value
    entries = scaled(small, unit)
    table = E820Table.of(entries)
    returned = answer(table)
    got = [(entry.addr, entry.size, entry.type) for entry in table.entries()]
    if len(entries) < 2 or any(addr + size > U64_MAX for addr, size, _ in entries):
        if returned != -1 or got != entries:
            return Verdict(
                "a table of fewer than two entries, or with one that wraps around, gives -1 and stays as it was",
                f"it returned {returned}; the table afterwards: {table_text(got)}",
            )
        return None
    law = "each byte has the highest type of the entries that cover it"
    verdict = broken_law(got, entries, scaled(in_order(small), unit), law)
    if verdict is None and returned != 0:
        return Verdict("a table that was put in order gives 0", f"it returned {returned}")
    return verdict


def described(name: str) -> MachineSpec:
    """A machine by its name in the cases."""
    return load_spec(CAPTURES / SHIPPED if name == SHIPPED else OVERLAPPING if name == "overlapping" else name)


def inside_boot(case: Case) -> Inside | None:
    """For the cases that are a machine: its boot, step by step."""
    if not isinstance(case.value, str):
        return None
    spec = described(case.value)
    return Inside(
        e820__update_table, partial(Machine, spec), until=LAST_STAGE, panel=lambda _, call: E820Panel(call.arguments[0])
    )


def boots(answer: Answer, name: str) -> Verdict | None:
    """Boot a machine with the answer in the kernel's place; the log must be as without it."""
    spec = described(name)
    expected = logged(shipped().dmesg() if name == SHIPPED else log_of(spec))
    law = "the kernel prints the same map with your function in it"
    try:
        with livepatch(e820__update_table, answer.function):
            got = logged(log_of(spec))
    except KmemlabError as error:
        return Verdict(law, f"the machine {name} does not boot: {error.what}")
    for number, line in enumerate(expected):
        if number >= len(got) or got[number] != line:
            return Verdict(
                law, f"on {name}, line {number + 1} should be “{line}”, it is “{[*got, ''][min(number, len(got))]}”"
            )
    return None if got == expected else Verdict(law, f"on {name} it goes on with “{got[len(expected)]}”")


def log_of(spec: MachineSpec) -> str:
    """What a machine prints until memblock knows its memory."""
    return Machine.boot(spec, until=LAST_STAGE).dmesg()


def logged(log: str) -> list[str]:
    """The lines of a log that the table decides, as far as memblock's first word."""
    return [found[0] for line in log.splitlines() if (found := LOGGED.search(line)) and "RAM buffer" not in line]


SMALL: list[list[Entry]] = [
    [(0, 4, RAM), (8, 4, RESERVED)],
    [(8, 4, RESERVED), (0, 4, RAM)],
    [(0, 4, RAM), (4, 4, RESERVED)],
    [(0, 4, RAM), (4, 4, RAM)],
    [(0, 4, RAM), (0, 4, RAM)],
    [(0, 8, RAM), (2, 2, RESERVED)],
    [(0, 8, RESERVED), (2, 2, RAM)],
    [(0, 6, RAM), (4, 6, RESERVED)],
    [(4, 6, RAM), (0, 6, RESERVED)],
    [(0, 8, RAM), (0, 4, ACPI)],
    [(0, 8, RAM), (4, 4, ACPI)],
    [(0, 4, RESERVED), (2, 4, NVS)],
    [(0, 4, RAM), (2, 0, RESERVED)],
    [(2, 0, RAM), (6, 0, RAM)],
    [(0, 9, RAM), (2, 5, RESERVED), (3, 2, ACPI)],
    [(0, 4, RAM), (2, 4, RESERVED), (4, 4, RAM)],
    [(0, 4, 9), (2, 4, RAM)],
]
CUT: list[list[Entry]] = [
    [(0, 4, E820_TYPE_PRAM), (4, 4, E820_TYPE_PRAM)],
    [(0, 8, E820_TYPE_PRAM), (2, 2, RAM)],
    [(0, 4, E820_TYPE_SOFT_RESERVED), (4, 2, E820_TYPE_SOFT_RESERVED)],
]
REFUSED: list[list[Entry]] = [
    [],
    [(0, 4, RAM)],
    [(0, 4, RAM), (U64_MAX - 7, 16, RESERVED)],
    [(0, 4, RAM), (U64_MAX - 7, 8, RESERVED)],
]


def drawn(rng: Random, count: int) -> list[Entry]:
    """Entries at random on 24 bytes; some touch, some are empty, some lie upon others."""
    return [
        (addr, rng.choice((0, 1, 2, 3, 5, 8)), rng.choice((RAM, RAM, RAM, RESERVED, RESERVED, ACPI, NVS)))
        for addr in (rng.randrange(24) for _ in range(count))
    ]


def cases_update(_given: None, rng: Random) -> list[Case]:
    """Two entries first, then many, in bytes, pages and GiB; what must be cut, what must be refused; two machines."""
    more = [(drawn(rng, 2 + at // 2), unit) for at, unit in enumerate((1, 1, PAGE_SIZE, 1, GIB, PAGE_SIZE, 1, GIB))]
    to_the_end = [(0, 8, RAM), (10, 5, RESERVED)], U64_MAX // 15  # 15 units: the highest end that doesn't wrap around
    tables = [(table, 1) for table in SMALL] + [*more, to_the_end]
    cases = [map_case(table, unit, cost(table)) for table, unit in tables]
    cases += [map_case(table, 1, 3000 + cost(table)) for table in CUT]
    cases += [map_case(table, 1, 6000 + len(table)) for table in REFUSED]
    cases.append(Case("a firmware whose ranges overlap, up to memblock", "overlapping", 10_000, points=4))
    cases.append(Case(f"{SHIPPED}, against the log of the real machine", SHIPPED, 10_001, points=4))
    return cases


def cost(table: list[Entry]) -> int:
    """How hard a small map is to look through: few entries first, then few bytes; empty entries are a trap, so late."""
    empty = any(size == 0 for _, size, _ in table)
    return 1000 * empty + len(table) * 100 + sum(addr + size for addr, size, _ in table)


def map_case(table: list[Entry], unit: int, size: int) -> Case:
    """A small map as a case."""
    return Case(table_text(scaled(table, unit)), (table, unit), size)


def smaller_update(case: Case) -> Iterator[Case]:
    """The map with one entry less, or with one that is shorter or starts lower."""
    if not isinstance(case.value, tuple) or case.size >= 3000:
        return
    yield from smaller_maps(case)


def smaller_maps(case: Case) -> Iterator[Case]:
    """The same for every task on small maps."""
    table, unit = case.value[-2:]
    others: list[list[Entry]] = [table[:at] + table[at + 1 :] for at in range(len(table)) if len(table) > 2]
    for place, (addr, size, type) in enumerate(table):
        for nearer in (
            (addr // 2, size, type),
            (addr - 1, size, type),
            (addr, size // 2, type),
            (addr, size - 1, type),
        ):
            if nearer[0] >= 0 and nearer[1] > 0 and nearer != table[place]:
                others.append([*table[:place], nearer, *table[place + 1 :]])
    for other in others:
        if cost(other) < cost(table):
            value: Any = (*case.value[:-2], other, unit)
            yield Case(table_text(scaled(other, unit)), value, cost(other))


register(
    Task(
        "e820.update_table",
        CHAPTER,
        "implement",
        20,
        (
            "Only where an entry starts or ends can anything change. Make a list of these addresses, in order; "
            "between two of them, which entries are open, and what is their highest type?",
            "Walk over the stops and remember two things: the type that began last, and where. At each stop compare "
            "with the type from here on; if it differs, the old stretch is done (keep it if it has a type and a size) "
            "and a new one begins. `e820_nomerge(type)` says where a stretch must end although the type goes on.",
        ),
        judge_update,
        cases_update,
        smaller=smaller_update,
        inside=inside_boot,
    )
)
