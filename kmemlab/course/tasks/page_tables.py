"""Chapter 03: walk the page tables as the CPU does, and cut a range where the size of pages changes.

A walk is judged by what was mapped, not by walking: each case lists its pages, and the tables are built from the list.
The last cases let the answer work on the tables of booted machines, and then walk for every access of programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from kmemlab.boot.pgtable import PageTables
from kmemlab.course.answer import Answer
from kmemlab.course.inside import survives
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.page_tables_programs import inside_programs
from kmemlab.course.your_machine import CAPTURES, SHIPPED
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.pgtable import PAGE_NX, PAGE_PRESENT, PAGE_PSE, PAGE_RW, PAGE_USER
from kmemlab.types.units import GIB, KIB, MIB, PAGE_SIZE

CHAPTER = "03_page_tables"
PRESET = "tiny-128m"
TOP = 0x1000
DIRECT_MAP = 0xFFFF888000000000
SHIFTS = (39, 30, 21, 12)  # of the four levels, from the top
SIZES = {4 * KIB: 3, 2 * MIB: 2, GIB: 1}  # a page's size → the place of its level among the four
WRITE, USER = 2, 4


@dataclass(frozen=True)
class Page:
    """A page: where it is seen, where it is in RAM, and what may be done there; `above` is what upper levels allow."""

    address: int
    frame: int
    size: int = 4 * KIB
    rights: int = PAGE_RW | PAGE_USER
    above: int = PAGE_RW | PAGE_USER
    more: int = 0  # other bits of the entry


@dataclass(frozen=True)
class Walk:
    """Some pages, and an access to an address; `access` is 0, WRITE, USER or both."""

    pages: tuple[Page, ...]
    address: int
    access: int = 0


def tables_of(pages: tuple[Page, ...]) -> dict[int, int]:
    """The entries, by their physical address, of four-level tables that map the pages; the top one is at TOP."""
    entries: dict[int, int] = {}
    behind = TOP + PAGE_SIZE
    for page in pages:
        table = TOP
        for place in range(SIZES[page.size]):
            entryp = table + (page.address >> SHIFTS[place] & 511) * 8
            if entryp not in entries:
                entries[entryp] = behind | PAGE_PRESENT | page.above
                behind += PAGE_SIZE
            table = entries[entryp] & 0xFFFFFFFFFF000
        place = SIZES[page.size]
        large = PAGE_PSE if place < 3 else 0
        entryp = table + (page.address >> SHIFTS[place] & 511) * 8
        entries[entryp] = page.frame | PAGE_PRESENT | page.rights | page.more | large
    return entries


def expected(walk: Walk) -> tuple[str, int]:
    """What comes of the access, by the list of pages."""
    page = next((page for page in walk.pages if page.address <= walk.address < page.address + page.size), None)
    if page is None:
        return "fault", walk.access
    allowed = page.rights & page.above
    if (walk.access & WRITE and not allowed & PAGE_RW) or (walk.access & USER and not allowed & PAGE_USER):
        return "fault", walk.access | 1
    return "page", page.frame + walk.address - page.address


def reader(entries: dict[int, int]) -> Callable[[int], int]:
    """The function `read` that the answer gets."""

    def read(paddr: int) -> int:
        if type(paddr) is not int or paddr % 8:
            raise ValueError(f"an entry stands at a multiple of 8, not at {paddr!r}")
        return entries.get(paddr, 0)

    return read


def judge_walk(answer: Answer, case: Case) -> Verdict | None:
    """The outcome is that of the list of pages, or of a machine's memory; programs run as with the CPU's own walk."""
    if inside := inside_programs(case):
        return survives(inside, answer)
    if isinstance(case.value, str):
        return walks_machine(answer, case.value)
    walk = case.value
    got = answer(reader(tables_of(walk.pages)), TOP, walk.address, bool(walk.access & WRITE), bool(walk.access & USER))
    want = expected(walk)
    if isinstance(got, (list, tuple)) and tuple(got) == want and type(got[1]) is int:
        return None
    return Verdict(_broken_walk(got, want, walk), f"it returned {_told(got)}")


def _told(got: Any) -> str:
    if isinstance(got, (list, tuple)) and len(got) == 2 and type(got[1]) is int:
        return f"({got[0]!r}, {got[1]:#x})"
    return repr(got)


def _broken_walk(got: Any, want: tuple[str, int], walk: Walk) -> str:
    """The law that a wrong outcome breaks."""
    if (
        not isinstance(got, (list, tuple))
        or len(got) != 2
        or got[0] not in ("page", "fault")
        or type(got[1]) is not int
    ):
        return 'the result is ("page", physical address) or ("fault", error code)'
    kind, number = got
    page = next((page for page in walk.pages if page.address <= walk.address < page.address + page.size), None)
    if want[0] == "fault" and kind == "page":
        if page is None:
            return "an entry whose bit 0 is clear ends the walk with a fault: nothing behind it may be looked at"
        return "an access is allowed only if every level allows it: RW for a write, US for a program"
    if page is not None and page.size > 4 * KIB and want[0] == "page":
        return "bit 7 in the second and third table says: a large page, and all lower bits of the address are offset"
    if kind == "fault" and want[0] == "page":
        return "a page that is mapped, and allows the access, is found"
    if kind == "fault":
        return "the error code: bit 0 if the page was there and forbade it, bit 1 for a write, bit 2 for a program"
    if page is not None and page.more & PAGE_PSE:
        return "in the last table bit 7 says nothing of the size: its entries map 4 KiB"
    if number % PAGE_SIZE != want[1] % PAGE_SIZE:
        return "the offset, the last 12 bits of the address, is not translated"
    return "the address in an entry is in its bits 12 to 51; all others are flags"


def walks_machine(answer: Answer, name: str) -> Verdict | None:
    """The answer walks the tables that a boot built: it must find RAM where RAM is, and nothing elsewhere."""
    boot = Machine.boot(
        load_spec(CAPTURES / SHIPPED if name == SHIPPED else name), until="init_mem_mapping"
    ).kernel.boot
    tables: PageTables = boot.swapper_pg_dir
    rng = Random(name)
    memory = [(0, MIB), *((base, base + size) for base, size, _, _ in boot.memblock.memory.regions())]
    samples = [rng.randrange(low & -PAGE_SIZE, high & -PAGE_SIZE) for low, high in memory for _ in range(12)]
    samples += [rng.randrange(8 * GIB) for _ in range(24)]
    for paddr in sorted(samples):
        is_ram = any(low & -PAGE_SIZE <= paddr < high & -PAGE_SIZE for low, high in memory)
        got = answer(tables.ram.read, tables.pgd, DIRECT_MAP + paddr, False, False)
        want = ("page", paddr) if is_ram else ("fault", 0)
        if not isinstance(got, (list, tuple)) or tuple(got) != want:
            law = (
                "the direct map shows physical address x at 0xffff888000000000 + x, if x is RAM, and nothing elsewhere"
            )
            return Verdict(law, f"of {name}'s {DIRECT_MAP + paddr:#x} it says {_told(got)}")
    return None


USERLAND, KERNEL = 0x400000, DIRECT_MAP
ONE = Page(USERLAND, 0x7000)
WALKS = [
    Walk((ONE,), USERLAND),
    Walk((ONE,), USERLAND + 0x234),
    Walk((), USERLAND),
    Walk((ONE,), USERLAND + 0x1000),
    Walk((ONE,), USERLAND + 0x8000000000),
    Walk((ONE,), USERLAND, WRITE),
    Walk((ONE,), USERLAND + 0x1000, WRITE),
    Walk((ONE,), USERLAND + 0x1000, WRITE | USER),
    Walk((Page(USERLAND, 0x7000, rights=PAGE_USER),), USERLAND, WRITE),
    Walk((Page(USERLAND, 0x7000, above=PAGE_USER),), USERLAND, WRITE),
    Walk((Page(USERLAND, 0x7000, rights=PAGE_RW),), USERLAND, USER),
    Walk((Page(USERLAND, 0x7000, above=PAGE_RW),), USERLAND, USER),
    Walk((Page(USERLAND, 0x7000, rights=PAGE_USER),), USERLAND, USER),
    Walk((Page(USERLAND, 0x7000, more=PAGE_NX),), USERLAND),
    Walk((Page(USERLAND, 0x7000, more=PAGE_PSE),), USERLAND + 0x10),  # in the last table bit 7 is PAT
    Walk((Page(USERLAND, 0x7000, more=0xF60),), USERLAND),
    Walk((Page(USERLAND, 0x600000, 2 * MIB),), USERLAND + 0x12345),
    Walk((Page(USERLAND, 0x600000, 2 * MIB, rights=PAGE_USER),), USERLAND + 0x12345, WRITE),
    Walk((Page(GIB, 3 * GIB, GIB),), GIB + 0x1234567),
    Walk((Page(KERNEL, 0x7000, rights=PAGE_RW),), KERNEL + 4),
    Walk((Page(KERNEL, 0x7000, rights=PAGE_RW),), KERNEL, USER),
    Walk((ONE, Page(USERLAND + 0x1000, 0x3000)), USERLAND + 0x1008),
    Walk((ONE, Page(GIB, 3 * GIB, GIB), Page(KERNEL, 0x200000, 2 * MIB)), KERNEL + 0x1FFFFF),
]


def drawn_walk(rng: Random) -> Walk:
    """Three pages of any size in places apart, and an access to one of them or beside it."""
    pages = []
    for number in range(3):
        size = rng.choice(sorted(SIZES))
        base = rng.choice((0, KERNEL)) + (512 * number + rng.randrange(4)) * GIB  # no table in common
        rights = rng.choice((PAGE_RW, PAGE_USER, PAGE_RW | PAGE_USER))
        more = rng.choice((0, PAGE_NX, 0x60))
        pages.append(Page(base, rng.randrange(1, 64) * size, size, rights, rng.choice((7, 7, 7, 3, 5)) & 6, more))
    page = rng.choice(pages)
    address = page.address + rng.choice((0, rng.randrange(page.size), page.size))
    return Walk(tuple(pages), address, rng.choice((0, 0, WRITE, USER, WRITE | USER)))


def cases_walk(_given: None, rng: Random) -> list[Case]:
    """One page first, then three; then the tables of two machines, then programs."""
    cases = [walk_case(walk) for walk in [*WALKS, *(drawn_walk(rng) for _ in range(15))]]
    cases.append(Case(f"the page tables of {PRESET}, booted", PRESET, 10_000, points=4))
    cases.append(Case(f"the page tables of {SHIPPED}, a real machine", SHIPPED, 10_001, points=4))
    programs = f"a machine ({PRESET}) whose programs write, read and fork, each access by your walk"
    cases.append(Case(programs, rng.randrange(1 << 30), 1 << 20, points=12))
    return cases


def walk_case(walk: Walk) -> Case:
    """Pages and an access, as a case."""
    pages = "; ".join(map(page_text, walk.pages)) or "nothing is mapped"
    who = "a program" if walk.access & USER else "the kernel"
    what = "writes" if walk.access & WRITE else "reads"
    size = 100 * len(walk.pages) + 10 * bool(walk.address % PAGE_SIZE) + walk.access
    return Case(f"{pages}; {who} {what} at {walk.address:#x}", walk, size + 20 * (walk.address > GIB))


def page_text(page: Page) -> str:
    """A page for a reader."""
    size = {4 * KIB: "4 KiB", 2 * MIB: "2 MiB", GIB: "1 GiB"}[page.size]
    flags = f"RW={int(bool(page.rights & PAGE_RW))} US={int(bool(page.rights & PAGE_USER))}"
    above = (
        ""
        if page.above == PAGE_RW | PAGE_USER
        else (f", upper levels RW={int(bool(page.above & PAGE_RW))} US={int(bool(page.above & PAGE_USER))}")
    )
    more = f", other bits {page.more:#x}" if page.more else ""
    return f"{size} at {page.address:#x} > {page.frame:#x} {flags}{above}{more}"


def smaller_walk(case: Case) -> Iterator[Case]:
    """The same with a page less, with fewer rights asked for, or at the start of the page."""
    if not isinstance(case.value, Walk):
        return
    walk = case.value
    for at in range(len(walk.pages)):
        yield walk_case(replace(walk, pages=walk.pages[:at] + walk.pages[at + 1 :]))
    if walk.access:
        yield walk_case(replace(walk, access=0))
    if walk.address % PAGE_SIZE:
        yield walk_case(replace(walk, address=walk.address & -PAGE_SIZE))


register(
    Task(
        "page_tables.walk",
        CHAPTER,
        "implement",
        20,
        (
            "Four rounds, with shifts 39, 30, 21 and 12. In each: which index, where does that entry stand, what does "
            "it hold? When does a round end the walk early?",
            "Carry along what all levels allow together (start with both bits set, and `&` each entry). Large pages "
            "exist in rounds two and three only; there the offset is all the bits below that round's shift.",
        ),
        judge_walk,
        cases_walk,
        smaller=smaller_walk,
        inside=inside_programs,
        seconds=15.0,
    )
)
