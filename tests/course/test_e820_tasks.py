"""The tasks of chapter 01: right answers hold, and for five wrong ones each the box names the law and a small input.

The judges' own models are compared with the kernel's functions and with booted machines.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from kmemlab.boot.e820 import E820Table, e820__update_table, e820_end_pfn, e820_nomerge
from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks.e820 import drawn, in_order
from kmemlab.course.tasks.e820_diagnose import FAULTS, given_diagnose, patients
from kmemlab.course.tasks.e820_numbers import given_last_pfn, given_predict, last_pfn, left_by
from kmemlab.course.tasks.e820_variant import RULES
from kmemlab.machine.machine import Machine
from kmemlab.types.e820_type import e820_type_text
from kmemlab.types.units import U64_MAX
from tests.course.judged import ADA, given_to, student_with, wrong

# -- e820.update_table -------------------------------------------------------------------------------------------------


def sanitise(
    table: E820Table,
    *,
    win: Callable[[list[int]], int] = max,
    joins: bool = True,
    nomerge: Callable[[int], bool] = e820_nomerge,
    fewest: int = 2,
    end: int = U64_MAX,
    sort: bool = True,
    result: int = 0,
) -> int:
    """A right answer, written another way than the kernel's: stretch by stretch. Each keyword makes it wrong."""
    entries = table.entries()
    if len(entries) < fewest or any(entry.end > end for entry in entries):
        return -1
    if not sort:
        return result
    stops = sorted({stop for entry in entries if entry.size for stop in (entry.addr, entry.end)})
    out: list[list[int]] = []
    for start, end in pairwise(stops):
        types = [entry.type for entry in entries if entry.addr <= start < entry.end]
        if not types:
            continue
        type = win(types)
        if joins and out and out[-1][2] == type and out[-1][0] + out[-1][1] == start and not nomerge(type):
            out[-1][1] += end - start
        else:
            out.append([start, end - start, type])
    table.write((addr, size, type) for addr, size, type in out)
    return result


def test_a_right_update_table_holds_in_full() -> None:
    result = result_of("e820.update_table", lambda table: sanitise(table), ADA)
    assert result.passed, result.verdict
    assert result.points == 20


@pytest.mark.parametrize(
    ("mistake", "law", "case"),
    [
        ({"win": min}, "highest type", "[0x0-0x0] reserved; [0x0-0x0] ACPI NVS"),
        ({"joins": False}, "neighbours of one type become one entry", "[0x0-0x0] usable; [0x1-0x1] usable"),
        (
            {"nomerge": lambda type: False},
            "never joined",
            "[0x0-0x3] persistent (type 12); [0x4-0x7] persistent (type 12)",
        ),
        ({"fewest": 0}, "fewer than two entries", "an empty table"),
        (
            {"end": U64_MAX - 1},
            "gives 0",
            "[0x0-0x1111111111111110] usable; [0xaaaaaaaaaaaaaaaa-0xfffffffffffffffe] usable",
        ),
        (
            {"end": U64_MAX + 1},
            "one that wraps around",
            "[0x0-0x3] usable; [0xfffffffffffffff7-0xffffffffffffffff] usable",
        ),
        ({"sort": False}, "in order and don't overlap", "[0x0-0x0] usable; [0x0-0x0] usable"),
        ({"result": 1}, "gives 0", "[0x0-0x0] usable; [0x1-0x1] usable"),
    ],
)
def test_a_wrong_update_table_is_told_the_law_and_the_smallest_map(
    mistake: dict[str, Any], law: str, case: str
) -> None:
    result = wrong("e820.update_table", lambda table: sanitise(table, **mistake))
    assert result.verdict
    assert law in result.verdict.law
    assert result.case
    assert len(result.case.text) <= len(case) + 12, result.case.text
    assert 0 < result.points < 20 or not result.held


def test_the_smallest_case_of_an_overlap_is_two_ranges_of_one_byte() -> None:
    result = wrong("e820.update_table", lambda table: sanitise(table, win=min))
    assert result.case
    assert result.case.text.count(";") == 1
    assert result.verdict
    assert result.verdict.seen.startswith("address 0x0 is covered by")


def test_the_painted_bytes_agree_with_the_kernels_function() -> None:
    rng = Random(1)
    for _ in range(500):
        entries = drawn(rng, rng.randrange(2, 8)) + ([(rng.randrange(20), 4, 12)] if rng.random() < 0.3 else [])
        table = E820Table.of(entries)
        assert e820__update_table(table) == 0
        assert [tuple(entry) for entry in table.entries()] == in_order(entries), entries


# -- e820.variant ------------------------------------------------------------------------------------------------------


def by_stretches(variant: str, n: int, entries: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """A right answer for each rule."""

    def win(covering: list[tuple[int, int]]) -> int:
        types = [type for _, type in covering]
        most = max(types, key=lambda type: (types.count(type), type))
        by = {"lowest": min(types), "first": types[0], "last": types[-1], "majority": most}
        return by.get(variant, max(types)) if variant != "agreed" else types[0] if len(set(types)) == 1 else 2

    stops = sorted({stop for addr, size, _ in entries if size for stop in (addr, addr + size)})
    out: list[tuple[int, int, int]] = []
    for start, end in pairwise(stops):
        covering = [(at, type) for at, (addr, size, type) in enumerate(entries) if addr <= start < addr + size]
        if not covering:
            continue
        type = win(covering)
        gap = start - (out[-1][0] + out[-1][1]) if out else 0
        if out and out[-1][2] == type and (gap == 0 or (variant == "holes" and gap < n)):
            out[-1] = (out[-1][0], end - out[-1][0], type)
        else:
            out.append((start, end - start, type))
    return out


@pytest.mark.parametrize("variant", sorted(RULES))
def test_a_right_variant_holds_and_linuxs_own_function_gets_little_credit(variant: str) -> None:
    student = student_with("e820.variant", variant)
    given = given_to("e820.variant", student)
    assert by_stretches(variant, given["n"], given["map"]) == given["becomes"]
    result = result_of("e820.variant", lambda entries: by_stretches(variant, given["n"], entries), student)
    assert result.passed, (result.verdict, result.case)

    def linux(entries: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        table = E820Table.of(entries)
        if e820__update_table(table):
            return [entry for entry in entries if entry[1]]
        return [tuple(entry) for entry in table.entries()]

    copied = wrong("e820.variant", linux, student)
    assert copied.points < 15 / 3
    assert copied.verdict
    assert given["rule"] in copied.verdict.law
    assert copied.case
    assert copied.case.text.count(";") <= 2
    assert given["becomes"] != linux(given["map"])


@pytest.mark.parametrize(
    ("answer", "law"),
    [
        (lambda entries: None, "a list of (addr, size, type)"),
        (lambda entries: [(0, "4", 1)], "a list of (addr, size, type)"),
        (lambda entries: sorted(entries), "in order and don't overlap"),
        (lambda entries: [], "Where ranges overlap"),
        (lambda entries: by_stretches("lowest", 3, entries)[::-1], "in order and don't overlap"),
    ],
)
def test_a_wrong_variant_is_told_which_law(answer: Callable[..., Any], law: str) -> None:
    verdict = wrong("e820.variant", answer, student_with("e820.variant", "lowest")).verdict
    assert verdict
    assert law in verdict.law


# -- e820.last_pfn -----------------------------------------------------------------------------------------------------


def right_pfns(given: dict[str, Any]) -> dict[str, int]:
    return {kernel: last_pfn(given["map"], limit) for kernel, limit in given["max_arch_pfn"].items()}


def test_last_pfn_agrees_with_the_kernels_function() -> None:
    for seed in range(200):
        given = given_last_pfn(Random(seed))
        for limit in given["max_arch_pfn"].values():
            assert e820_end_pfn(E820Table.of(given["map"]), limit, 1, limit) == last_pfn(given["map"], limit)


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (lambda given, pfn: pfn - 1, "the frame behind the last one"),
        (lambda given, pfn: pfn + 1, "RAM only in part"),
        (lambda given, pfn: max(addr + size for addr, size, _ in given["map"]) >> 12, "only usable ranges count"),
        (lambda given, pfn: max(a + s for a, s, t in given["map"] if t == 1), "divided by the size of a page"),
        (lambda given, pfn: 0x400000001, "never above max_arch_pfn"),
    ],
)
def test_the_usual_mistakes_with_last_pfn_are_told_apart(mistake: Callable[..., int], law: str) -> None:
    given = given_to("e820.last_pfn")
    right = right_pfns(given)
    assert result_of("e820.last_pfn", right, ADA).passed
    result = wrong("e820.last_pfn", right | {"amd64": mistake(given, right["amd64"])})
    assert result.verdict
    assert law in result.verdict.law
    assert f"{right['amd64']:#x}" not in result.verdict.seen.split()
    assert result.held == 2


def test_max_arch_pfn_matters_to_some_students() -> None:
    limited = [right_pfns(given_to("e820.last_pfn", Student(str(at)))) for at in range(30)]
    assert {pfns["i386-pae"] == 0x1000000 for pfns in limited} == {True, False}
    # What begins at 4 GiB is out of i386's reach, so its last frame is that of the range below the gap.
    assert all(pfns["i386"] < 0xD0000 for pfns in limited)


# -- e820.diagnose -----------------------------------------------------------------------------------------------------


def right_diagnosis(given: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {
        name: (patient.who, sound.installed - patient.usable)
        for name, (sound, patient) in patients(Random(given["seed"])).items()
    }


def test_each_fault_costs_what_a_boot_shows() -> None:
    seen = set()
    for seed in range(60):
        for _, patient in patients(Random(seed)).values():
            boot = Machine.boot(patient.hardware, until="e820__memory_setup").kernel.boot
            usable = sum(entry.size for entry in boot.e820_table.entries() if entry.type == 1) >> 10
            (who,) = {line.split(":")[0] for line in boot.printk.lines() if ": [mem" in line}
            assert (who, usable) == (patient.who, patient.usable)
            seen.add(who)
    assert seen == {"BIOS-e820", "BIOS-e801", "BIOS-88"}


def test_three_different_faults_are_given_and_all_are_drawn_by_somebody() -> None:
    given = [given_diagnose(Random(seed)) for seed in range(40)]
    assert all(len(set(one["bios"].values())) == 3 for one in given)
    assert len(FAULTS) == 6


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (lambda who, lost: ("BIOS-88" if who != "BIOS-88" else "BIOS-e801", lost), "believed"),
        (lambda who, lost: (who, lost + 3), "installed less what the kernel's map"),
        (lambda who, lost: (who, 0), "installed less what the kernel's map"),
        (lambda who, lost: lost, "(who, lost_kib) for each machine"),
        (lambda who, lost: (None, None), "believed"),
    ],
)
def test_a_wrong_diagnosis_is_told_the_rule(mistake: Callable[..., Any], law: str) -> None:
    given = given_to("e820.diagnose")
    right = right_diagnosis(given)
    assert result_of("e820.diagnose", right, ADA).passed
    result = wrong("e820.diagnose", right | {"B": mistake(*right["B"])})
    assert result.verdict
    assert law in result.verdict.law
    assert result.case
    assert "machine B" in result.case.text


# -- e820.predict ------------------------------------------------------------------------------------------------------


def right_prediction(given: dict[str, Any]) -> dict[str, int]:
    left = left_by(given["map"], given["cmdline"])
    usable = [(addr, size) for addr, size, type in left if type == 1]
    return {
        "usable_kib": sum(size for _, size in usable) >> 10,
        "last_pfn": max(addr + size for addr, size in usable) >> 12,
        "lines": len(left),
    }


def test_what_the_options_leave_is_what_a_booted_machine_has() -> None:
    asked = set()
    for seed in range(80):
        given = given_predict(Random(seed))
        e820 = [[addr, addr + size - 1, e820_type_text(type)] for addr, size, type in given["map"]]
        hardware = {"e820": e820, "cmdline": given["cmdline"]}
        boot = Machine.boot(hardware, until="e820__finish_early_params").kernel.boot
        assert [tuple(entry) for entry in boot.e820_table.entries()] == left_by(given["map"], given["cmdline"])
        asked |= {sign for sign in "@$#%" if sign in given["cmdline"]}
    assert asked == set("@$#%")


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        ({"usable_kib": 0}, "from left to right"),
        ({"usable_kib": None}, "from left to right"),
        ({"last_pfn": 1}, "forgets all RAM"),
        ({"lines": 99}, "equal neighbours"),
        ({"lines": "5"}, "equal neighbours"),
    ],
)
def test_a_wrong_prediction_is_told_the_rule(mistake: dict[str, Any], law: str) -> None:
    given = given_to("e820.predict")
    right = right_prediction(given)
    assert result_of("e820.predict", right, ADA).passed
    result = wrong("e820.predict", right | mistake)
    assert result.verdict
    assert law in result.verdict.law
    assert result.held == 2
