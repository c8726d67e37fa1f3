"""The tasks of chapter 00: right answers hold; for five wrong ones each the verdict names the law and a small input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks.start import LINE
from tests.course.judged import ADA, given_to

Frame = Callable[[int], Any]


def told(result: Any) -> str:
    assert result.verdict is not None
    assert result.case is not None
    return f"{result.verdict.law} | {result.verdict.seen} | {result.case.text}"


def test_the_right_frame_holds() -> None:
    assert result_of("start.frame", lambda addr: divmod(addr, 4096), ADA).passed


@pytest.mark.parametrize(
    ("wrong", "law", "smallest"),
    [
        (lambda addr: (addr // 4096, addr), "the offset is less than a page", "0x1000"),
        (lambda addr: (addr // 4000, addr % 4000), "give the address again", "0xfa0"),
        (lambda addr: (addr % 4096, addr // 4096), "give the address again", "0x1"),
        (lambda addr: addr >> 12, "a pair of whole numbers", "0x0"),
        (lambda addr: (addr / 4096, addr % 4096), "a pair of whole numbers", "0x0"),
        (lambda addr: ((addr & 0xFFFFFFFF) >> 12, addr & 0xFFF), "give the address again", "0x100000000"),
    ],
)
def test_a_wrong_frame_is_told_by_law_and_smallest_address(wrong: Frame, law: str, smallest: str) -> None:
    result = result_of("start.frame", wrong, ADA)
    assert law in told(result)
    assert result.case is not None
    assert result.case.text == f"the address {smallest}"


def account(line: str) -> dict[str, int]:
    found = LINE.search(line)
    assert found is not None
    available, present, reserved = map(int, found.groups())
    return {
        "present_mib": present // 1024,
        "available_mib": available // 1024,
        "reserved_percent": 100 * reserved // present,
    }


def test_the_right_account_holds_and_is_the_student_s_own() -> None:
    assert result_of("start.memory_line", account(given_to("start.memory_line")), ADA).passed
    lines = {given_to("start.memory_line", Student(str(number))) for number in range(6)}
    assert len(lines) > 3


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"present_mib": 1}, "the second number counts all memory"),
        ({"available_mib": -1}, "what the page allocator has to give"),
        ({"reserved_percent": 99}, "in per cent of all"),
        ({"present_mib": None}, "a whole number, rounded down"),
        ({"available_mib": 1.5}, "a whole number, rounded down"),
    ],
)
def test_a_wrong_account_is_told_by_its_part(change: dict[str, Any], law: str) -> None:
    answer = account(given_to("start.memory_line")) | change
    result = result_of("start.memory_line", answer, ADA)
    assert law in told(result)
    assert next(iter(change)) in told(result)
    assert result.held == 2


TRUTH = {"the memory map": True, "the kernel itself": False, "the first MiB": False, "per-CPU variables": False}


def test_what_doubles() -> None:
    assert result_of("start.double", TRUTH, ADA).passed


@pytest.mark.parametrize("part", TRUTH)
def test_a_wrong_guess_is_told(part: str) -> None:
    result = result_of("start.double", TRUTH | {part: not TRUTH[part]}, ADA)
    assert "what describes memory grows with memory" in told(result)
    assert part in told(result)
    assert result.held == 3


def test_a_guess_that_is_left_out_is_told() -> None:
    result = result_of("start.double", {}, ADA)
    assert "for each part" in told(result)
