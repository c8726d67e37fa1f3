"""The tasks of chapter 03: right answers hold, and for five wrong ones each the box names the law and a small input.

The judges' own models are compared with the MMU, with the TLB and with machines that boot.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from kmemlab.boot.direct_map import BIT_1G, BIT_2M, split_mem_range
from kmemlab.boot.globals import Boot
from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks.page_tables import TOP, USER, WALKS, WRITE, drawn_walk, expected, tables_of
from kmemlab.course.tasks.page_tables_numbers import by_digits, given_direct_map, given_indices, pages_by_size
from kmemlab.course.tasks.page_tables_oops import CAUSES, drawn_oopses, given_oops
from kmemlab.course.tasks.page_tables_split import SPLITS, by_blocks, drawn_split
from kmemlab.course.tasks.page_tables_tlb import given_tlb, outcomes
from kmemlab.course.tasks.page_tables_variant import KINDS, mapped
from kmemlab.hardware.mmu import CR4_PGE, Mmu, PageFault
from kmemlab.hardware.ram import Ram
from kmemlab.machine.machine import Machine
from kmemlab.types.pgtable import LAYOUTS, PAGE_GLOBAL, PAGE_KERNEL, PAGE_RW
from kmemlab.views.direct_map import mapped_by_size
from tests.boot.captures import early_memory
from tests.course.judged import ADA, given_to, student_with, wrong

# -- page_tables.walk --------------------------------------------------------------------------------------------------


def walking(
    *, large: bool = True, present: bool = True, all_levels: bool = True, mask: int = 0xFFFFFFFFFF000,
    codes: bool = True, last_is_large: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """A right walk; each keyword makes it wrong."""

    def walk(read: Any, cr3: int, address: int, write: bool, user: bool) -> tuple[str, int]:
        code = (2 * write + 4 * user) * codes
        table, rights = cr3, 6
        for shift in (39, 30, 21, 12):
            entry = read((table & ~7) + (address >> shift & 511) * 8)
            if present and not entry & 1:
                return "fault", code
            rights = rights & entry if all_levels else entry
            table = entry & mask
            if entry & 128 and ((large and shift in (30, 21)) or (last_is_large and shift == 12)):
                break
        if (write and not rights & 2) or (user and not rights & 4):
            return "fault", code | 1
        if last_is_large and shift == 12 and entry & 128:
            shift = 21
        return "page", (table & -(1 << shift)) | address & (1 << shift) - 1

    return walk


def test_a_right_walk_holds_on_the_tables_of_two_machines() -> None:
    result = result_of("page_tables.walk", walking(), ADA)
    assert result.passed, (result.verdict, result.case)
    assert result.points == 20


@pytest.mark.parametrize(
    ("mistake", "law", "told"),
    [
        ({"large": False}, "bit 7 in the second and third table", "at 0x"),
        ({"present": False}, "bit 0 is clear ends the walk", "nothing is mapped"),
        ({"all_levels": False}, "only if every level allows it", "upper levels RW=0"),
        ({"mask": ~0xFFF}, "bits 12 to 51", "other bits 0x8000000000000000"),
        ({"codes": False}, "bit 1 for a write", "nothing is mapped"),
        ({"last_is_large": True}, "says nothing of the size", "other bits 0x80"),
    ],
)
def test_a_wrong_walk_is_told_the_law_on_one_page(mistake: dict[str, Any], law: str, told: str) -> None:
    result = wrong("page_tables.walk", walking(**mistake))
    assert result.verdict
    assert result.case
    assert law in result.verdict.law
    assert told in result.case.text
    assert result.case.text.count(" > ") <= 1


def test_a_walk_that_returns_a_number_is_told_the_shape() -> None:
    result = wrong("page_tables.walk", lambda read, cr3, address, write, user: address)
    assert result.verdict
    assert '("page", physical address)' in result.verdict.law


def test_what_is_expected_is_what_the_mmu_does() -> None:
    rng = Random(1)
    for walk in [*WALKS, *(drawn_walk(rng) for _ in range(200))]:
        ram = Ram(1 << 8)
        for entryp, entry in tables_of(walk.pages).items():
            ram.write(entryp, entry)
        mmu = Mmu(ram, 4, phys_bits=52)
        mmu.write_cr3(TOP)
        try:
            got = ("page", mmu.access(walk.address, walk.access & (WRITE | USER)))
        except PageFault as fault:
            got = ("fault", fault.error_code)
        assert got == expected(walk), walk


# -- page_tables.split_mem_range ---------------------------------------------------------------------------------------


def splitting(
    *,
    head: bool = True,
    tail: bool = True,
    gib: bool = True,
    sizes: bool = True,
    rounds_up: bool = False,
    both: bool = True,
) -> Callable[..., Any]:
    """A right split; each keyword makes it wrong."""

    def split(start: int, end: int, mask: int) -> list[tuple[int, int, int]]:
        two, one = 2 << 20, 1 << 30
        up = lambda n, size: -(-n // size) * size  # noqa: E731
        stop = up(end, two) if rounds_up else end // two * two
        position, pieces = start, []
        large = mask if both else mask & BIT_1G or mask
        for border, allowed in (
            (min(up(start, two), end) if head else start, 0),
            (min(up(start, one), stop), mask & BIT_2M if sizes else BIT_2M),
            (end // one * one if gib else 0, large if sizes else BIT_2M | BIT_1G),
            (stop, mask & BIT_2M if sizes else BIT_2M),
            (end if tail else 0, 0),
        ):
            if border > position:
                pieces.append((position, border, allowed))
                position = border
        return pieces

    return split


def test_a_right_split_holds_and_boots_three_machines() -> None:
    result = result_of("page_tables.split_mem_range", splitting(), ADA)
    assert result.passed, (result.verdict, result.case)
    assert result.points == 20


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        ({"head": False}, "starts and ends at multiples of 2 MiB"),
        ({"tail": False}, "cover the range exactly"),
        ({"gib": False}, "as large as fits"),
        ({"sizes": False}, "that the CPU has"),
        ({"rounds_up": True}, "cover the range exactly"),
        ({"both": False}, "the bit of 2 MiB too"),
    ],
)
def test_a_wrong_split_is_told_the_law_on_a_short_range(mistake: dict[str, bool], law: str) -> None:
    result = wrong("page_tables.split_mem_range", splitting(**mistake))
    assert result.verdict
    assert result.case
    assert law in result.verdict.law
    start, end, _ = result.case.value
    assert end - start <= 2 << 30


def test_blocks_are_split_as_the_kernel_splits() -> None:
    rng = Random(2)
    boot = Boot(early_memory({"e820": [[0, 0x9FBFF, "usable"], [1 << 20, (128 << 20) - 1, "usable"]]}).spec)
    for start, end, mask in [*SPLITS, *(drawn_split(rng) for _ in range(100))]:
        boot.direct_map.page_size_mask = mask
        assert split_mem_range(boot, start, end) == by_blocks(start, end, mask)


# -- page_tables.variant -----------------------------------------------------------------------------------------------


def rightly(what: str, address: int, entry: int, level: int) -> tuple[str, int]:
    """What an entry is, and the address in it, as they were read."""
    return what, address


def walk_by(
    kind: str, *, mask: bool = True, bits: int = 0, large: bool = True, markers: bool = True, offset: int = 0,
    misread: Callable[[str, int, int, int], tuple[str, int]] = rightly,
) -> Any:  # fmt: skip
    """A right answer for a kind, written from its text; each keyword makes it wrong."""
    shifts = {
        "arm64_16k": ((36, 11), (25, 11), (14, 11)),
        "arm64_64k": ((29, 13), (16, 13)),
        "sv39": ((30, 9), (21, 9), (12, 9)),
        "arm32": ((20, 12), (12, 8)),
    }[kind]
    size = 4 if kind == "arm32" else 8

    def decode(entry: int, level: int) -> tuple[str, int]:
        last = level == len(shifts) - 1
        low = {"arm64_16k": 14, "arm64_64k": 16, "sv39": 12, "arm32": 12 if last or entry & 3 == 2 else 10}[kind]
        address = entry >> 10 << 12 if kind == "sv39" else entry
        if mask:
            address &= (1 << (48 if kind != "sv39" else 56)) - (1 << low)
            address &= (1 << 32) - 1 if kind == "arm32" else -1
        if kind == "sv39":
            what = "" if not entry & 1 else "page" if entry & 0xE else "table"
        elif kind == "arm32":
            what = {1: "" if last else "table", 2: "page"}.get(entry & 3, "")
        else:
            what = {3: "page" if last else "table", 1: "page" if large and level == len(shifts) - 2 else ""}.get(
                entry & 3, ""
            )
        return (what or ("page" if last else "table") if not markers else what), address

    def walk(read: Any, root: int, address: int) -> int | None:
        table = root
        for level, (shift, width) in enumerate(shifts):
            entry = read(table + (address >> shift & (1 << width + bits) - 1) * size)
            what, table = misread(*decode(entry, level), entry, level)
            if not what:
                return None
            if what == "page":
                shift -= 0 if large else shift - shifts[-1][0]
                return (table & -(1 << shift)) + (address & (1 << shift + offset) - 1)
        return None

    return walk


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_right_walk_of_each_kind_holds(kind: str) -> None:
    result = result_of("page_tables.variant", walk_by(kind), student_with("page_tables.variant", kind))
    assert result.passed, (result.verdict, result.case)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_four_levels_of_the_lecture_are_no_answer(kind: str) -> None:
    def x86(read: Any, root: int, address: int) -> int | None:
        kept = walking()(read, root, address, False, False)
        return kept[1] if kept[0] == "page" else None

    assert result_of("page_tables.variant", x86, student_with("page_tables.variant", kind)).points < 10


@pytest.mark.parametrize(
    ("kind", "mistake", "law"),
    [
        ("arm64_16k", {"large": False}, "a page that is mapped is found"),
        ("arm64_16k", {"offset": -2}, "the offset has 14 bits"),
        ("arm64_64k", {"mask": False}, ""),
        ("sv39", {"mask": False}, "without the flags"),
        ("sv39", {"bits": -1}, ""),
        ("arm32", {"large": False}, "a large page has 1 MiB"),
        ("arm32", {"markers": False}, "what no entry maps leads to None"),
    ],
)
def test_a_wrong_walk_of_a_kind_is_told_the_law(kind: str, mistake: dict[str, Any], law: str) -> None:
    result = wrong("page_tables.variant", walk_by(kind, **mistake), student_with("page_tables.variant", kind))
    assert result.verdict
    assert result.case
    assert law in result.verdict.law
    assert len(result.case.value[1]) <= 1


MISREAD: dict[str, tuple[str, Callable[[str, int, int, int], tuple[str, int]]]] = {
    "a large page in the first table": (
        "arm64_16k", lambda what, at, entry, level: ("page" if level == 0 and entry & 3 == 1 else what, at)
    ),
    "a large page in the last table": (
        "arm64_64k", lambda what, at, entry, level: ("page" if level == 1 and entry & 3 == 1 else what, at)
    ),
    "bit 1 alone": ("arm64_64k", lambda what, at, entry, level: (what or ("page" if entry & 2 else ""), at)),
    "bit 1 alone in arm32": ("arm32", lambda what, at, entry, level: (what or ("page" if entry & 2 else ""), at)),
    "bit 0 alone in arm32": (
        "arm32", lambda what, at, entry, level: (what or ("page" if level and entry & 1 else ""), at)
    ),
    "only what can be read": ("sv39", lambda what, at, entry, level: ("table" if entry & 3 == 1 else what, at)),
    "only what can be written": ("sv39", lambda what, at, entry, level: ("table" if entry & 5 == 1 else what, at)),
    "not whether it is valid": ("sv39", lambda what, at, entry, level: ("page" if entry & 0xE else what, at)),
    "tables of 4 KiB": (
        "arm32", lambda what, at, entry, level: (what, at & ~0xFFF) if what == "table" else (what, at)
    ),
    "40 bits of arm64": ("arm64_16k", lambda what, at, entry, level: (what, at & (1 << 40) - 1)),
    "47 bits of arm64": ("arm64_64k", lambda what, at, entry, level: (what, at & (1 << 47) - 1)),
    "55 bits of sv39": ("sv39", lambda what, at, entry, level: (what, at & (1 << 55) - 1)),
    "31 bits of arm32": ("arm32", lambda what, at, entry, level: (what, at & (1 << 31) - 1)),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISREAD)
def test_an_entry_that_is_read_a_bit_wrong_does_not_pass(mistake: str) -> None:
    kind, misread = MISREAD[mistake]
    student = student_with("page_tables.variant", kind)
    assert wrong("page_tables.variant", walk_by(kind, misread=misread), student).verdict


def test_the_example_of_each_kind_leads_where_it_says() -> None:
    for kind in KINDS:
        given = given_to("page_tables.variant", student_with("page_tables.variant", kind))
        entries = {int(at, 16): int(entry, 16) for at, entry in given["entries"]}
        assert (
            walk_by(kind)(lambda at, known=entries: known.get(at, 0), given["root"], given["address"])
            == given["leads_to"]
        )
    assert mapped("sv39", (), 5) is None


# -- page_tables.indices -----------------------------------------------------------------------------------------------


def test_digits_are_the_kernels_indices() -> None:
    layouts = {layout.name: layout for layout in LAYOUTS.values()}
    for seed in range(50):
        for mode, address in given_indices(Random(seed)).items():
            layout = layouts[mode]
            real = [layout.index(level, address) for level in range(5) if not layout.levels[level].folded]
            assert by_digits(mode, address) == real


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (lambda mode, right: right[::-1], "the first index is that of the top table"),
        (lambda mode, right: [right[0], *([0] * (5 - len(right))), *right[1:]], "one index for each level"),
        (lambda mode, right: [index << 1 for index in right], ""),
        (lambda mode, right: [*right[:-1], right[-1] ^ 1], "cut out of the address"),
        (lambda mode, right: str(right), "a list of indices"),
        (lambda mode, right: [right[0] + 4096, *right[1:]], "smaller than the table"),
    ],
)
def test_wrong_indices_are_told_the_law(mistake: Callable[[str, list[int]], Any], law: str) -> None:
    right = {mode: by_digits(mode, address) for mode, address in given_to("page_tables.indices").items()}
    assert result_of("page_tables.indices", right, ADA).passed
    verdict = wrong("page_tables.indices", {mode: mistake(mode, indices) for mode, indices in right.items()}).verdict
    assert verdict
    assert law in verdict.law


# -- page_tables.direct_map --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_counted_blocks_are_what_boot_maps(seed: int) -> None:
    ram = given_direct_map(Random(seed))["ram"]
    e820 = [[low, high - 1, "usable"] for low, high in ram]
    boot = early_memory({"e820": e820, "cpus": {"flags": ["pse", "pdpe1gb"]}, "cmdline": "nokaslr"})
    found = {"1G": 0, "2M": 0, "4K": 0}
    for run in mapped_by_size(boot.direct_map):
        found[run.name] += run.pages
    assert found == pages_by_size(ram)


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        ({"1G": 1}, "a page of 1 GiB starts at a multiple"),
        ({"2M": -1}, "the first 2 MiB are not"),
        ({"4K": -97}, "the first MiB whole"),
        ({"2M": 512}, "too many"),
        ({"4K": 256}, "too many"),
    ],
)
def test_wrong_counts_are_told_the_law(mistake: dict[str, int], law: str) -> None:
    right = pages_by_size(given_to("page_tables.direct_map")["ram"])
    assert result_of("page_tables.direct_map", right, ADA).passed
    result = wrong("page_tables.direct_map", {size: count + mistake.get(size, 0) for size, count in right.items()})
    assert result.verdict
    assert law in f"{result.verdict.law} {result.verdict.seen}"
    assert (result.held, result.tried) == (2, 3)


# -- page_tables.tlb ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_the_columns_are_what_the_tlb_does(seed: int) -> None:
    given = given_tlb(Random(seed))
    ram = Ram(1 << 10)
    mmu = Mmu(ram, 4)
    top, at = 0x1000, {"A": 0x400000, "B": 0x401000}
    for table, index in ((0x1000, 0), (0x2000, 0), (0x3000, 2)):
        ram.write(table + 8 * index, table + 0x1000 | 0x67)
    mmu.write_cr3(top)

    def enter(page: str, frame: int | None) -> None:
        kept = PAGE_KERNEL if page == "B" else PAGE_KERNEL & ~PAGE_GLOBAL
        ram.write(0x4000 + 8 * "AB".index(page), 0 if frame is None else frame << 12 | kept)

    for page, frame in given["frames"].items():
        enter(page, frame)
    found: list[int | None] = []
    for what, page, frame in given["deeds"]:
        if what == "read":
            try:
                found.append(mmu.access(at[page]) >> 12)
            except PageFault:
                found.append(None)
        elif what in ("set", "clear"):
            enter(page, frame)
        elif what == "invlpg":
            mmu.invlpg(at[page])
        elif what == "cr3":
            mmu.write_cr3(mmu.cr3)
        else:
            mmu.write_cr4(mmu.cr4 ^ CR4_PGE)
            mmu.write_cr4(mmu.cr4 ^ CR4_PGE)
    assert found == [frame for _, frame, _ in outcomes(given)]
    assert "stale" in {why for *_, why in outcomes(given)}


def as_answer(found: list[tuple[str, int | None, str]]) -> list[Any]:
    return ["fault" if frame is None else frame for _, frame, _ in found]


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        ("current", "whatever the tables say by now"),
        ("forgets", ""),
        ("flushes_global", "stays when CR3 is written"),
        ("short", "a list of"),
        ("none", "a fault is not remembered"),
    ],
)
def test_wrong_outcomes_are_told_the_law(mistake: str, law: str) -> None:
    name = "page_tables.tlb"

    def tells(given: dict[str, Any]) -> bool:
        """Whether these deeds tell this mistake from the truth, by the read that the law speaks of."""
        if mistake == "none":
            return None in [frame for _, frame, _ in outcomes(given)]
        deeds = given["deeds"]
        return mistake != "flushes_global" or any(d[0] == "cr3" and deeds[i - 1][1] == "B" for i, d in enumerate(deeds))

    student = next(s for s in map(Student, map(str, range(300))) if tells(given_to(name, s)))
    given = given_to(name, student)
    right = outcomes(given)
    assert result_of(name, as_answer(right), student).passed
    answer = as_answer(right)
    if mistake == "current":  # a reader who believes that the tables are always asked
        answer = as_answer(
            outcomes(
                {
                    **given,
                    "deeds": [
                        d
                        for deed in given["deeds"]
                        for d in ((("all", "", None), deed) if deed[0] == "read" else (deed,))
                    ],
                }
            )
        )
    elif mistake == "forgets":
        answer = answer[::-1]
    elif mistake == "flushes_global":
        answer = as_answer(
            outcomes({**given, "deeds": [("all", "", None) if deed[0] == "cr3" else deed for deed in given["deeds"]]})
        )
    elif mistake == "short":
        answer = answer[:-1]
    else:
        answer = [0 if item == "fault" else item for item in answer]
    verdict = wrong(name, answer, student).verdict
    assert verdict
    assert law in verdict.law


# -- page_tables.oops --------------------------------------------------------------------------------------------------


def test_each_cause_is_there_once_and_nothing_tells_it() -> None:
    for seed in range(30):
        given = given_oops(Random(seed))
        assert sorted(cause for _, cause, _ in drawn_oopses(given["seed"])[1].values()) == sorted(CAUSES)
        for text in given["oops"].values():
            assert text.startswith("BUG: unable to handle page fault for address: ")
            assert "permissions" not in text
            assert "access" not in text
            assert "PGD " in text
        assert not any(cause in repr(given) for cause in CAUSES), "what is given doesn't hold the answer"


def test_the_error_codes_are_those_of_the_manual() -> None:
    code = {("nothing there", "read"): 0, ("nothing there", "write"): 2, ("read-only", "write"): 3,
            ("no execution", "fetch"): 0x11, ("program's page", "read"): 1, ("program's page", "write"): 3,
            ("reserved bit", "read"): 9}  # fmt: skip
    for seed in range(30):
        given = given_oops(Random(seed))
        for name, (what, cause, _) in drawn_oopses(given["seed"])[1].items():
            assert f"error_code(0x{code[cause, what]:04x})" in given["oops"][name]


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (lambda what, why, where: ("write" if what != "write" else "read", why, where), "bit 1 of the error code"),
        (
            lambda what, why, where: (what, "read-only" if why != "read-only" else "nothing there", where),
            "says what it forbids",
        ),
        (lambda what, why, where: (what, why, 0 if where is None else where & -4096), "physical address"),
        (lambda what, why, where: (what, why), "for each oops"),
        (lambda what, why, where: (what, why, where + (1 << 50) if where else where), "no reserved bits"),
    ],
)
def test_a_wrong_diagnosis_is_told_the_rule(mistake: Callable[..., Any], law: str) -> None:
    right = drawn_oopses(given_to("page_tables.oops")["seed"])[1]
    assert result_of("page_tables.oops", right, ADA).passed
    result = wrong("page_tables.oops", {name: mistake(*truth) for name, truth in right.items()})
    assert result.verdict
    assert law in result.verdict.law or law == "physical address"


def test_machines_that_ship_boot_with_their_sizes() -> None:
    from kmemlab.course.your_machine import CAPTURES
    from kmemlab.hardware.spec import load_spec

    for name in ("amd64-nopse-1g", "amd64-gbpages-8g", "amd64-la57-2g"):
        boot = Machine.boot(load_spec(CAPTURES / name), until="init_mem_mapping").kernel.boot
        sizes = {run.name for run in mapped_by_size(boot.direct_map)}
        assert ("1G" in sizes, "2M" in sizes) == ("gbpages" in name, "nopse" not in name)
    assert PAGE_RW == 2
