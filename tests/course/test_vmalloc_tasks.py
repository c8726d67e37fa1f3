"""The tasks of chapter 07: right answers hold; for five wrong ones each the verdict names the law and a small input."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks.vmalloc_numbers import where_all_go
from kmemlab.course.tasks.vmalloc_variant import VARIANTS
from kmemlab.machine.machine import Machine
from kmemlab.types.units import PAGE_SIZE
from tests.course.judged import ADA, check_right, check_wrong, given_to, student_with

Areas = list[tuple[int, int]]


def hole(
    busy: Areas, size: int, align: int, vstart: int, vend: int, *, ends: bool = True, aligned: bool = True,
    from_vstart: bool = True, exact: bool = True, last: bool = True,
) -> int | None:  # fmt: skip
    """The right answer; each keyword makes it wrong."""

    def up(address: int) -> int:
        return -(-address // align) * align if aligned else address

    candidate = up(vstart) if from_vstart else up(busy[0][1] if busy else vstart)
    for start, end in busy:
        if candidate + size < start + exact:
            return candidate
        candidate = max(candidate, up(end))
    if not last:
        return None
    return candidate if not ends or candidate + size <= vend else None


def slot(
    count: list[int], last: int, *, flush: bool = True, early: bool = False, to: int = 0, above: int = 1, ahead: int = 1
) -> int | None:
    """The right answer; each keyword makes it wrong."""
    if early:
        count[:] = [0 if users == 1 else users for users in count]
    for nr in range(last + ahead, len(count)):
        if count[nr] < above:
            return nr
    if flush:
        count[:] = [to if users == 1 else users for users in count]
    return next((nr for nr, users in enumerate(count) if users == 0), None)


def with_(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    return lambda *args: function(*args, **changes)


def places(student: Student = ADA, *, guard: int = 1, lazy: bool = True, scale: int = PAGE_SIZE) -> dict[str, int]:
    """The right prediction, by a list of holes; each keyword makes it wrong."""
    told = given_to("vmalloc.predict", student)
    areas: list[tuple[int, int, str]] = []
    found: dict[str, int] = {}
    for step in told["steps"]:
        number = re.search(r"\((\w*)\)", step)
        assert number is not None
        if step.startswith("vfree"):
            areas = [(low, high, "" if name == number[1] else name) for low, high, name in areas]
        if not lazy or "aliases" in step:
            areas = [area for area in areas if area[2]]
        if " = " in step:
            pages = -(-int(number[1]) // scale) + guard
            at = hole([area[:2] for area in sorted(areas)], pages, 1, 0, 1000)
            assert at is not None
            areas.append((at, at + pages, step[0]))
            found[step[0]] = told["start"] + at * PAGE_SIZE
    return found


def physical(student: Student = ADA, *, page: int = 0, offset: bool = True, guard: bool = False) -> dict[str, Any]:
    """The right addresses; each keyword makes them wrong."""
    told = given_to("vmalloc.behind", student)
    found: dict[str, Any] = {}
    for name, address in told["asked"].items():
        nth, within = divmod(address - told["start"], PAGE_SIZE)
        pfns = [*told["pfns"], told["pfns"][-1] + 1] if guard else told["pfns"]
        known = nth < len(pfns)
        found[name] = pfns[(nth + page) % len(pfns)] * PAGE_SIZE + within * offset if known else None
    return found


def readings(student: Student = ADA) -> dict[str, Any]:
    """The right diagnosis, by sums over the words of each line."""
    held = []
    for text in given_to("vmalloc.info", student)["texts"]:
        sums: dict[str, list[int]] = {}
        for line in text.splitlines():
            name, pages = line.split()[2].partition("+")[0], re.search(r"pages=(\d+)", line)
            sums.setdefault(name, []).append(int(pages[1]) if pages else 0)
        held.append(sums)
    totals = [{name: sum(pages) for name, pages in sums.items()} for sums in held]
    (leak,) = [name for name in totals[2] if totals[0].get(name, 0) < totals[1].get(name, 0) < totals[2][name]]
    text = given_to("vmalloc.info", student)["texts"][2]
    return {
        "leak": leak,
        "grown": totals[2][leak] - totals[0].get(leak, 0),
        "vmalloc_kib": 4 * sum(totals[2].values()),
        "guards_kib": 4 * text.count("pages="),
        "devices": sum(line.endswith(" ioremap") for line in text.splitlines()),
    }


RIGHT: dict[str, Any] = {
    "vmalloc.hole": hole,
    "vmalloc.pkmap": slot,
    "vmalloc.predict": places(),
    "vmalloc.behind": physical(),
    "vmalloc.info": readings(),
}
LOWEST, NOBODY, RETURNS = (
    "the lowest address that fits",
    "an area lies in nobody else's area",
    "the function returns an address, or None where nothing fits",
)
UNMAPPED, QUIET, BEHIND, FREE = (
    "when the round comes to slot 0, slots with count 1 are unmapped",
    "nothing is flushed while",
    "the search goes on behind the slot",
    "only a slot with count 0 may be taken",
)
GUARDED, LAZY = "each area takes its pages and one guard page more", "addresses that were freed are not used again"
NTH, NOTHING = "page n of the area lies in the n-th page frame", "nothing is behind the guard page"
WRONG = [
    ("vmalloc.hole", with_(hole, ends=False), RETURNS, "4 pages among pages 0–8"),
    ("vmalloc.hole", with_(hole, aligned=False), "an area starts at a multiple of align", "aligned to 4"),
    ("vmalloc.hole", with_(hole, from_vstart=False), LOWEST, "1 page among pages 0–48, where 1–2 is taken"),
    ("vmalloc.hole", with_(hole, exact=False), LOWEST, "1 page among pages 0–48, where 1–2 is taken"),
    ("vmalloc.hole", lambda busy, size, align, vstart, vend: vstart, NOBODY, "1 page among pages 0–48, where 0–2"),
    ("vmalloc.pkmap", with_(slot, flush=False), UNMAPPED, "the counts are"),
    ("vmalloc.pkmap", with_(slot, early=True), QUIET, "[0, 1, 0, 0], slot 0"),
    ("vmalloc.pkmap", with_(slot, above=2), FREE, "[0, 1, 0, 0], slot 0"),
    ("vmalloc.pkmap", with_(slot, ahead=0), BEHIND, "[0, 0, 0, 0], slot 0"),
    ("vmalloc.pkmap", lambda count, last: next((n for n, c in enumerate(count) if not c), None), BEHIND, "[0, 0, 0"),
    ("vmalloc.predict", places(guard=0), GUARDED, "the address of b"),
    ("vmalloc.predict", places(guard=2), GUARDED, "the address of b"),
    ("vmalloc.predict", places(lazy=False), LAZY, "the address of d"),
    ("vmalloc.predict", places() | {"e": places()["d"]}, GUARDED, "the address of e"),
    ("vmalloc.predict", {"a": places()["a"]}, "the answer is a dict with an address for each name", "the address of b"),
    ("vmalloc.behind", physical(page=1), NTH, "address a"),
    ("vmalloc.behind", physical(offset=False), NTH, "address b"),
    ("vmalloc.behind", physical(guard=True), NOTHING, "address e"),
    ("vmalloc.behind", given_to("vmalloc.behind")["asked"], NTH, "address a"),
    ("vmalloc.behind", physical() | {"f": 0}, NOTHING, "address f"),
    ("vmalloc.info", readings() | {"leak": "kernel_clone"}, "a leak grows from each reading to the next", "leak"),
    ("vmalloc.info", readings() | {"grown": 1}, "what a caller holds is the sum of its pages=", "grown"),
    ("vmalloc.info", readings() | {"vmalloc_kib": readings()["vmalloc_kib"] + readings()["guards_kib"]},
     "only lines with pages= and vmalloc hold memory", "vmalloc_kib"),
    ("vmalloc.info", readings() | {"guards_kib": readings()["guards_kib"] // 4}, "of the areas that hold pages",
     "guards"),
    ("vmalloc.info", readings() | {"devices": 0}, "an ioremap line shows a device", "devices"),
]  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_holds(name: str) -> None:
    check_right(name, RIGHT[name])


@pytest.mark.parametrize(("name", "answer", "law", "case"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_breaks_a_law_on_a_small_input(name: str, answer: Any, law: str, case: str) -> None:
    check_wrong(name, answer, law, case)


def test_an_answer_that_only_the_machine_catches() -> None:
    """Right for few areas: a machine has more."""
    result = result_of("vmalloc.hole", lambda busy, *rest: hole(busy[:9], *rest), ADA)
    assert result.case is not None
    assert "machine" in result.case.text
    assert 0 < result.points < 20


def test_a_slot_that_is_taken_without_a_flush_leads_to_another_page() -> None:
    """The TLB of the machine finds what the lists can't: a stale translation."""

    def careless(count: list[int], last: int) -> int | None:
        return slot(count, last) if len(count) < 100 else next(n for n, users in enumerate(count) if users < 2)

    result = result_of("vmalloc.pkmap", careless, ADA)
    assert result.verdict is not None
    assert result.verdict.law.startswith("what is written through a slot stands in its page")
    assert re.fullmatch(r"kmap number \d+: pfn \d+ does not hold what was written to 0x[0-9a-f]+", result.verdict.seen)


def search_by(rule: str) -> Callable[..., int | None]:
    """A student's answer to the variant, straight from its words."""

    def answer(busy: Areas, size: int, vstart: int, vend: int, last: int) -> int | None:
        edges = [(0, vstart), *busy, (vend, vend)]
        holes = [(edges[at][1], edges[at + 1][0]) for at in range(len(edges) - 1)]
        pad = PAGE_SIZE if rule == "both_sides" else 0
        fit = [(low + pad, high - pad) for low, high in holes if high - low - 2 * pad >= size]
        if not fit:
            return None
        if rule == "top_down":
            return fit[-1][1] - size
        if rule == "best_fit":
            return min((high - low, low) for low, high in fit)[1]
        if rule == "next_fit":
            return next((max(low, last) for low, high in fit if max(low, last) + size <= high), fit[0][0])
        return fit[0][0]

    return answer


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_held_by_its_own_rule_and_by_no_other(variant: str) -> None:
    student = student_with("vmalloc.variant", variant)
    right = result_of("vmalloc.variant", search_by(variant), student)
    assert right.passed, (right.case, right.verdict)
    for other in {*VARIANTS, "linux"} - {variant}:
        wrong = result_of("vmalloc.variant", search_by(other), student)
        assert wrong.case is not None, other
        assert wrong.verdict is not None
        assert wrong.verdict.law.startswith(("the area goes where your rule says", "the function returns an address"))
        assert wrong.case.size < 60


@pytest.mark.parametrize("number", range(6))
def test_the_prediction_is_what_a_machine_does(number: int) -> None:
    student, machine = Student(str(number)), Machine.boot("tiny-128m")
    names: dict[str, int] = {}
    commands = {name: getattr(machine, name) for name in ("vmalloc", "vfree", "vm_unmap_aliases")}
    for step in given_to("vmalloc.predict", student)["steps"]:
        exec(step, {**commands, **names}, names)
    assert names == where_all_go(given_to("vmalloc.predict", student)) == places(student)


def test_numbers_are_the_students_own() -> None:
    for name in ("vmalloc.predict", "vmalloc.behind", "vmalloc.info"):
        assert any(given_to(name, Student(str(other))) != given_to(name) for other in range(5))
    half = result_of("vmalloc.behind", physical() | {"a": 0, "b": 0, "c": 0}, ADA)
    assert half.points == 2.5


@pytest.mark.parametrize("number", range(20))
def test_readings_have_one_leak_and_keep_the_kernels_format(number: int) -> None:
    student = Student(str(number))
    assert result_of("vmalloc.info", readings(student), student).passed
    for text in given_to("vmalloc.info", student)["texts"]:
        lines = text.splitlines()
        assert [line.endswith("unpurged vm_area") for line in lines] == [False] * (len(lines) - 5) + [True] * 5
        assert all(int(line.split()[1]) % 4096 == 0 for line in lines)
