"""Chapter 03: walk page tables of another kind than x86's, one drawn for each student.

An instructor adds a kind by adding a line to `KINDS`. The judge knows what is mapped; the tables are built from that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.page_tables import CHAPTER
from kmemlab.types.units import size_text


@dataclass(frozen=True)
class Kind:
    """One way to translate: how an address is cut, and what an entry looks like."""

    text: str
    offset_bits: int
    index_bits: tuple[int, ...]  # from the top table down
    entry_size: int
    large: int  # at which level (0 is the top) an entry may map a large page
    address_bits: int  # of a physical address
    shift: int  # an address stands in an entry moved so far to the left
    table: int  # the lowest bits of an entry that names a table
    page: tuple[int, ...]  # those that an entry of the last table may have that maps a page
    large_page: tuple[int, ...]
    nothing: tuple[tuple[int, ...], ...]  # at each level: those of entries that are nothing
    lowest: tuple[int, int, int]  # address bit of an entry that names a table, maps a page, maps a large page
    flags: tuple[int, int]  # other bits that are usual in a table's entry, and in a page's

    def size(self, level: int) -> int:
        """Bytes that an entry at `level` covers."""
        return 1 << self.offset_bits + sum(self.index_bits[level + 1 :])

    def index(self, level: int, address: int) -> int:
        """The index at `level`."""
        return address // self.size(level) % (1 << self.index_bits[level])

    def room(self, level: int) -> int:
        """Bytes of a table at `level`; it lies at a multiple of that."""
        return self.entry_size << self.index_bits[level]


KINDS = {
    "arm64_16k": Kind(
        "THREE LEVELS OF 16 KiB. Pages and tables have 16 KiB: 14 bits of offset. A table has 2,048 entries of 8 "
        "bytes: an index has 11 bits, and there are three of them. Bits 0 and 1 of an entry: 11 is a table (in the"
        " last table: a page), 01 in the SECOND table is a large page of 32 MiB, everything else is nothing. Bits "
        "14 to 47 are the address; all other bits are flags.",
        14, (11, 11, 11), 8, 1, 48, 0, 3, (3,), (1,), ((0, 1, 2), (0, 2), (0, 1, 2)),
        (14, 14, 14), (1 << 60, 0x0060_0000_0000_0404),
    ),
    "arm64_64k": Kind(
        "TWO LEVELS OF 64 KiB. Pages and tables have 64 KiB: 16 bits of offset. A table has 8,192 entries of 8 "
        "bytes: an index has 13 bits, and there are two of them. Bits 0 and 1 of an entry: 11 is a table (in the "
        "last table: a page), 01 in the FIRST table is a large page of 512 MiB, everything else is nothing. Bits "
        "16 to 47 are the address; all other bits are flags.",
        16, (13, 13), 8, 0, 48, 0, 3, (3,), (1,), ((0, 2), (0, 1, 2)),
        (16, 16, 16), (1 << 60, 0x0060_0000_0000_0404),
    ),
    "sv39": Kind(
        "THREE LEVELS OF RISC-V. Pages have 4 KiB, tables 512 entries of 8 bytes: three indices of 9 bits, 12 bits"
        " of offset. Bit 0 of an entry: it is valid. Bits 1, 2 and 3 are R, W and X: if all three are 0, the entry"
        " names a table, else it maps a page; in the SECOND table a page has 2 MiB, in the last 4 KiB. The page "
        "frame number (the address divided by 4,096) is in bits 10 to 53; all other bits are flags.",
        12, (9, 9, 9), 8, 1, 56, -2, 1, (0x3, 0x7, 0x9, 0xB, 0xF), (0x3, 0x7, 0x9, 0xB, 0xF), ((0, 0x6, 0xE),) * 3,
        (12, 12, 12), (1 << 62, 0xC0 | 1 << 61),
    ),
    "arm32": Kind(
        "TWO UNEQUAL LEVELS. The first table has 4,096 entries of 4 bytes (12 bits of index), the second ones 256 "
        "(8 bits of index), pages 4 KiB. Bits 0 and 1 of an entry of the FIRST table: 01 is a table, 10 is a large"
        " page of 1 MiB, everything else is nothing. In a SECOND table 10 is a page, everything else is nothing. A"
        " table's address is in bits 10 to 31 of its entry, a page's in bits 12 to 31, a large page's in bits 20 "
        "to 31; all other bits are flags.",
        12, (12, 8), 4, 0, 32, 0, 1, (2,), (2,), ((0, 3), (0, 1, 3)),
        (10, 12, 20), (0x1E0, 0xC),
    ),
}  # fmt: skip

Pages = tuple[tuple[int, int, int], ...]  # address, frame, level of the entry that maps it


@dataclass(frozen=True)
class Tables:
    """Page tables in memory: what stands at each address of an entry, and where the top table is."""

    kind: Kind
    root: int
    entries: dict[int, int]
    levels: dict[int, int]  # each table's address and its level

    def read(self, paddr: int) -> int:
        """The entry at an address. Where nobody put one stands what looks like one, but for its lowest bits."""
        kind = self.kind
        if type(paddr) is not int or paddr % kind.entry_size:
            raise ValueError(f"an entry stands at a multiple of {kind.entry_size}, not at {paddr!r}")
        if paddr in self.entries:
            return self.entries[paddr]
        for table, level in self.levels.items():
            if table <= paddr < table + kind.room(level):
                low = kind.nothing[level][paddr // kind.entry_size % len(kind.nothing[level])]
                below = next((table for table, depth in self.levels.items() if depth == level + 1), self.root)
                return entry_of(kind, low, below, 0)
        return 0


def entry_of(kind: Kind, low: int, address: int, flags: int) -> int:
    """An entry that holds an address."""
    return (address << kind.shift if kind.shift >= 0 else address >> -kind.shift) | low | flags


def flags_of(kind: Kind, usual: int, lowest: int, address: int) -> int:
    """The usual flags with an odd address; with an even one all bits that are neither marks nor the address."""
    if address >> lowest & 1:
        return usual
    marks = (1 << max(kind.table, *kind.page).bit_length()) - 1
    holds = entry_of(kind, 0, (1 << kind.address_bits) - (1 << lowest), 0)
    return (1 << 8 * kind.entry_size) - 1 & ~(marks | holds)


def tables_of(kind: Kind, pages: Pages) -> Tables:
    """Tables that map the pages. They lie in the upper half of memory, each at a multiple of its own size."""
    last = len(kind.index_bits) - 1
    root = (1 << kind.address_bits - 1) + 4 * max(kind.room(level) for level in range(last + 1))
    behind = root + kind.room(0) + 2 * kind.room(last)
    entries: dict[int, int] = {}
    levels, below = {root: 0}, dict[int, int]()
    for address, frame, level in pages:
        table = root
        for above in range(level):
            entryp = table + kind.index(above, address) * kind.entry_size
            if entryp not in entries:
                room = kind.room(above + 1)
                below[entryp] = -(-behind // room) * room
                behind = below[entryp] + room
                levels[below[entryp]] = above + 1
                flags = flags_of(kind, kind.flags[0], kind.lowest[0], below[entryp])
                entries[entryp] = entry_of(kind, kind.table, below[entryp], flags)
            table = below[entryp]
        lows, lowest = (kind.page, kind.lowest[1]) if level == last else (kind.large_page, kind.lowest[2])
        entryp = table + kind.index(level, address) * kind.entry_size
        low, flags = lows[frame // kind.size(level) % len(lows)], flags_of(kind, kind.flags[1], lowest, frame)
        entries[entryp] = entry_of(kind, low, frame, flags)
    return Tables(kind, root, entries, levels)


def mapped(name: str, pages: Pages, address: int) -> int | None:
    """Where an address leads, by the list of pages."""
    for base, frame, level in pages:
        if base <= address < base + KINDS[name].size(level):
            return frame + address - base
    return None


def given_variant(rng: Random) -> dict[str, Any]:
    """Which kind is this student's, with an example."""
    name = rng.choice(sorted(KINDS))
    kind = KINDS[name]
    last = len(kind.index_bits) - 1
    pages: Pages = ((3 * kind.size(0) % (1 << 32) + 5 * kind.size(last), 9 * kind.size(last), last),)
    tables = tables_of(kind, pages)
    address = pages[0][0] + 0x123
    walk = [(f"{paddr:#x}", f"{entry:#x}") for paddr, entry in sorted(tables.entries.items())]
    return {"variant": name, "text": kind.text, "entries": walk, "root": tables.root, "address": address,
            "leads_to": mapped(name, pages, address)}  # fmt: skip


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """The physical address that the list of pages says, or None."""
    name, pages, address = case.value
    kind = KINDS[name]
    tables = tables_of(kind, pages)
    got, want = answer(tables.read, tables.root, address), mapped(name, pages, address)
    if got == want and type(got) is type(want):
        return None
    if got is not None and type(got) is not int:
        return Verdict("the result is a physical address, or None", f"it is {got!r}")
    seen = "it returned None" if got is None else f"it returned {got:#x}"
    if want is None:
        return Verdict("what no entry maps leads to None: its lowest bits tell what an entry is", seen)
    if got is None:
        law = (
            "a page that is mapped is found: a table stands where the address bits of its entry say, without the flags"
        )
        return Verdict(law, seen)
    level = next(level for base, _, level in pages if base <= address < base + kind.size(level))
    if level < len(kind.index_bits) - 1:
        return Verdict(
            f"a large page has {size_text(kind.size(level))}: all lower bits of the address are offset", seen
        )
    if got % kind.size(level) != want % kind.size(level):
        return Verdict(f"the offset has {kind.offset_bits} bits, and is not translated", seen)
    return Verdict("only the bits of an entry that hold the address count; the others are flags", seen)


def drawn_pages(kind: Kind, rng: Random, count: int) -> Pages:
    """Pages in places apart, some of them large."""
    pages = []
    for number in range(count):
        level = rng.choice([len(kind.index_bits) - 1, len(kind.index_bits) - 1, kind.large])
        stride = max(kind.size(0) // 4, kind.size(kind.large))
        base = (2 * number + 1) * stride + rng.randrange(stride // kind.size(level)) * kind.size(level)
        frames = 1 << kind.address_bits - 1 - (kind.size(level) - 1).bit_length()  # those below the tables
        pages.append((base, rng.randrange(1, frames) * kind.size(level), level))
    return tuple(pages)


def cases_variant(given: dict[str, Any], rng: Random) -> list[Case]:
    """One page, small and large; places beside it where nothing is, in each table; then some."""
    name = given["variant"]
    kind = KINDS[name]
    last = len(kind.index_bits) - 1
    page, large = kind.size(last), kind.size(kind.large)
    cases = [
        variant_case(name, ((0, 5 * page, last),), 0),
        variant_case(name, ((0, 5 * page, last),), 0x18),
        variant_case(name, ((0, 5 * page, last),), page - 1),
        variant_case(name, ((0, 5 * page, last),), page),
        variant_case(name, (), 7 * page),
        variant_case(name, ((9 * page, 5 * page, last),), 9 * page),
        variant_case(name, ((3 * large + 7 * page, 5 * page, last),), 3 * large + 7 * page + 8),
        variant_case(name, ((2 * large, large, kind.large),), 2 * large),
        variant_case(name, ((2 * large, large, kind.large),), 3 * large - 5),
        variant_case(name, ((2 * large, large, kind.large),), 3 * large),
    ]
    top = kind.size(0) << kind.index_bits[0]
    two = ((0, 4 * page, last), (kind.size(0), 6 * page, last))
    cases += [
        variant_case(name, two, 8),
        variant_case(name, two, kind.size(0) + 8),
        variant_case(name, ((0, 4 * page, last),), 0x20),
        variant_case(name, ((top - page, 6 * page, last),), top - 8),
        variant_case(name, ((top - large, 4 * large, kind.large),), top - 8),
    ]
    cases += [
        variant_case(name, ((0, 5 * page, last),), at * kind.size(level))
        for level in range(last + 1)
        for at in (1, 2, 3)
    ]
    for _ in range(20):
        pages = drawn_pages(kind, rng, rng.randrange(1, 4))
        base, _, level = rng.choice(pages)
        size = kind.size(level)
        cases.append(variant_case(name, pages, base + rng.choice((0, rng.randrange(size), size - 1, size))))
    return cases


def variant_case(name: str, pages: Pages, address: int) -> Case:
    """Pages and an address, as a case."""
    kind = KINDS[name]
    told = "; ".join(f"{size_text(kind.size(level))} at {base:#x} > {frame:#x}" for base, frame, level in pages)
    cost = 100 * len(pages) + 10 * sum(level == kind.large for *_, level in pages) + bool(address % 4096)
    return Case(f"{told or 'nothing is mapped'}; the address {address:#x}", (name, pages, address), cost)


def smaller_variant(case: Case) -> Iterator[Case]:
    """The same with a page less."""
    name, pages, address = case.value
    for at in range(len(pages)):
        yield variant_case(name, pages[:at] + pages[at + 1 :], address)


register(
    Task(
        "page_tables.variant",
        CHAPTER,
        "implement",
        15,
        (
            "Write down for each level: from which bit of the address does its index start, how many bits has it, "
            "and where does the entry stand? Then: what do the lowest bits of an entry say?",
            "A loop over (shift, bits), from the top. Each round: index, read, look at the lowest bits: nothing, a "
            "page (then the address is the page's plus everything below this round's shift), or the next table.",
        ),
        judge_variant,
        cases_variant,
        given=given_variant,
        smaller=smaller_variant,
    )
)
