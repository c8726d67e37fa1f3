"""Judging, tried on toy tasks whose right answer can be seen at a glance."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from kmemlab.course import deadline as limits
from kmemlab.course.answer import Answer, NotPlain, plain, unsolved
from kmemlab.course.box import html_box, text_box
from kmemlab.course.deadline import held_memory
from kmemlab.course.judge import ENDS, NOT_SOLVED, RETURNS_PLAIN, YOUR_OWN, CheckResult, judge_answer
from kmemlab.course.task import BadTask, Case, Task, Tasks, Verdict


def case_of(numbers: list[int]) -> Case:
    return Case(f"the list {numbers}", numbers, size=len(numbers))


def some_lists(_given: Any, rng: Random) -> Iterable[Case]:
    # The large one first: the judge must not depend on the order in which a task lists its cases.
    yield case_of([rng.randrange(100) + 1 for _ in range(40)])
    yield case_of([])
    yield case_of([5])
    yield case_of([3, 4])


def shorter(case: Case) -> Iterable[Case]:
    for index in range(len(case.value)):
        yield case_of(case.value[:index] + case.value[index + 1 :])


def adds_up(answer: Answer, case: Case) -> Verdict | None:
    got = answer(list(case.value))
    return None if got == sum(case.value) else Verdict("the total is the sum of all numbers", f"the total was {got!r}")


TOTAL = Task(
    name="toy.total",
    chapter="99_toy",
    kind="implement",
    points=8,
    hints=("begin with nothing", "add one number after another"),
    judge=adds_up,
    cases=some_lists,
    smaller=shorter,
    seconds=0.3,
)


def result(answer: Any, task: Task = TOTAL) -> CheckResult:
    return judge_answer(task, answer, None, Random(1))


def test_a_right_answer_holds_and_gets_all_points() -> None:
    got = result(sum)
    assert (got.passed, got.held, got.tried, got.points) == (True, 4, 4, 8.0)
    assert text_box(got) == "toy.total: holds on all 4 public cases, 8 of 8 points"


def test_a_wrong_answer_is_told_on_the_smallest_case() -> None:
    def first_three_only(numbers: list[int]) -> int:
        return sum(numbers[:3])

    got = result(first_three_only)
    assert (got.held, got.tried, got.points) == (3, 4, 6.0)
    assert got.case is not None
    assert len(got.case.value) == 4, "forty numbers were shrunk to the four that break it"
    assert "law:" in text_box(got)
    assert "sum(" not in text_box(got)


def test_the_smallest_case_is_told_although_a_larger_one_came_first() -> None:
    got = result(lambda numbers: -1)
    assert got.case == case_of([])


@pytest.mark.parametrize("answer", [..., {"total": ...}, [1, ...]])
def test_a_placeholder_is_not_solved_yet(answer: Any) -> None:
    assert result(answer).verdict is NOT_SOLVED


def test_a_function_that_still_returns_the_placeholder_is_not_solved_yet() -> None:
    def total(numbers: list[int]) -> int:
        """Add up."""
        return ...  # type: ignore[return-value]

    def half(numbers: list[int]) -> int:
        if not numbers:
            return 0
        return ...  # type: ignore[return-value]

    def made(numbers: list[int]) -> Any:
        return [...][0]

    assert unsolved(total)
    assert unsolved(half)
    assert not unsolved(made), "only a call can show this one"
    assert [result(f).verdict for f in (total, half, made)] == [NOT_SOLVED] * 3
    assert "not solved yet" in text_box(result(total))


def test_an_endless_answer_is_stopped_and_later_cases_are_not_tried() -> None:
    def endless(numbers: list[int]) -> int:
        while True:
            try:
                numbers.append(1)
                del numbers[1:]
            except Exception:
                pass

    began = time.monotonic()
    got = result(endless)
    assert time.monotonic() - began < 3
    assert got.verdict is not None
    assert got.verdict.law == ENDS
    assert got.held == 0


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (IndexError("list index out of range"), "IndexError: list index out of range (line 2 of bad)"),
        (SystemExit(0), "SystemExit: 0"),
    ],
)
def test_an_answer_that_raises_gets_a_verdict(error: BaseException, told: str) -> None:
    def bad(numbers: list[int]) -> int:
        raise error

    got = result(bad)
    assert got.verdict is not None
    assert got.verdict.seen.startswith(told)


def test_ctrl_c_is_the_readers_and_goes_through() -> None:
    def interrupted(numbers: list[int]) -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    with pytest.raises(KeyboardInterrupt):
        result(interrupted)


def test_an_answer_that_plays_ctrl_c_gets_a_verdict() -> None:
    def playing(numbers: list[int]) -> int:
        raise KeyboardInterrupt

    got = result(playing)
    assert got.verdict is not None
    assert got.verdict.seen == "KeyboardInterrupt (line 2 of playing)"


class Mute(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class Endless(Exception):
    def __str__(self) -> str:
        while True:
            pass


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Mute(), "Mute, and its text can't be made: ZeroDivisionError (line 2 of bad)"),
        (Endless(), "it was still running after 0.3 s"),
        (ValueError("x" * 10_000_000), "ValueError: " + "x" * 50),
    ],
)
def test_an_error_is_told_whatever_its_text_does(error: Exception, told: str) -> None:
    def bad(numbers: list[int]) -> int:
        raise error

    got = result(bad)
    assert got.verdict is not None
    assert got.verdict.seen.startswith(told)
    assert len(got.verdict.seen) < 700


class Unreadable(list[int]):
    def __iter__(self) -> Any:
        raise ZeroDivisionError


class Pretender:
    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError


@pytest.mark.parametrize("answer", [Unreadable, Pretender, lambda: max, lambda: 10**5000, lambda: None])
def test_an_odd_value_gets_a_verdict(answer: Any) -> None:
    got = result(answer())  # made here: who collects the tests can't look at it
    assert got.verdict is not None
    assert got.solved


def test_the_kernel_s_own_function_is_no_answer() -> None:
    from kmemlab.mm.buddy import expand

    got = result(expand)
    assert got.verdict is not None
    assert got.verdict.law == YOUR_OWN
    assert (got.held, got.tried, got.points) == (0, 4, 0)


def test_what_is_seen_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    got = result(lambda numbers: list(range(100_000)))
    assert got.verdict is not None
    assert got.verdict.seen.startswith("the total was [0, 1, 2")
    assert got.verdict.seen.endswith("more characters)")
    assert len(got.verdict.seen) < 700


def test_what_an_answer_prints_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty(numbers: list[int]) -> int:
        for _ in range(10_000):
            print("a line of ten words that says nothing at all")
        return sum(numbers)

    assert result(chatty).passed
    out, _ = capsys.readouterr()
    assert out.startswith("a line of ten words")
    assert len(out) < 4200
    assert out.endswith("1,796,000 more characters that your answer printed are left out\n")


def test_the_search_for_the_smallest_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(numbers: list[int]) -> int:
        if len(numbers) > 3:
            time.sleep(0.1)
            return -1
        return sum(numbers)

    monkeypatch.setattr("kmemlab.course.judge.MOST_SECONDS", 1.0)
    began = time.monotonic()
    got = result(slow)
    assert time.monotonic() - began < 2
    assert got.case is not None
    assert 4 < len(got.case.value) < 40, "on the way from forty numbers to four"
    assert got.verdict is not None
    assert got.verdict.law == "the total is the sum of all numbers"


def test_all_cases_together_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(numbers: list[int]) -> int:
        time.sleep(0.25)
        return sum(numbers)

    monkeypatch.setattr("kmemlab.course.judge.MOST_SECONDS", 0.6)
    got = result(slow)
    assert got.held == 2
    assert got.verdict == Verdict(ENDS, "all cases together took longer than 0.6 s")


@pytest.mark.skipif(held_memory() == 0, reason="no /proc/self/status on this system")
def test_an_answer_that_takes_all_memory_gets_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_MEMORY", 64 << 20)

    def hoards(numbers: list[int]) -> int:
        while True:
            numbers += [len(numbers)] * 1000

    got = result(hoards, replace(TOTAL, seconds=30.0))
    assert got.verdict is not None
    assert (got.verdict.law, got.held) == (ENDS, 0)
    assert "does a list in it grow" in got.verdict.seen


def test_recursion_without_an_end_gets_a_verdict() -> None:
    def deeper(numbers: list[int]) -> int:
        return deeper(numbers)

    got = result(deeper)
    assert got.verdict is not None
    assert got.verdict.law == ENDS


class AlwaysEqual:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class SlyInt(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __add__(self, other: int) -> int:
        return 42


class SlyList(list[int]):
    def __eq__(self, other: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter([42])


def test_objects_that_call_themselves_equal_do_not_pass() -> None:
    got = result(lambda numbers: AlwaysEqual())
    assert got.verdict is not None
    assert got.verdict.law == RETURNS_PLAIN
    assert "AlwaysEqual" in got.verdict.seen
    assert not result(lambda numbers: SlyInt(7)).passed
    assert type(plain(SlyInt(7))) is int
    assert plain(SlyInt(7)) == 7
    assert plain([SlyList([1, SlyInt(2)])]) == [[1, 2]]


def test_plain_takes_enums_ranges_tuples_and_numpy_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert plain(range(3)) == [0, 1, 2]
    assert plain({"a": (numpy.int64(3), True)}) == {"a": (3, True)}
    assert type(plain(numpy.float64(0.5))) is float
    with pytest.raises(NotPlain):
        plain(lambda: 1)


def test_a_function_is_asked_for_and_a_number_handed_in() -> None:
    got = result(12)
    assert got.verdict == Verdict(RETURNS_PLAIN, "a function is asked for, not the int 12")


def test_the_box_escapes_what_the_student_wrote() -> None:
    def bad(numbers: list[int]) -> int:
        raise ValueError("<script>alert(1)</script>")

    assert "<script>" not in html_box(result(bad))
    assert "<script>" in text_box(result(bad))


def test_box_and_text_tell_the_same_facts() -> None:
    from html import unescape

    for answer in (sum, lambda numbers: -1, ...):
        html = unescape(html_box(result(answer)))
        for line in text_box(result(answer)).splitlines():
            for fact in line.strip().split(":", 1):
                assert fact.strip() in html


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "total"}, "one dot"),
        ({"kind": "guess"}, "its kind"),
        ({"points": 0}, "at least one point"),
        ({"hints": ("a", "a")}, "two different hints"),
    ],
)
def test_a_malformed_task_is_refused(change: dict[str, Any], told: str) -> None:
    import dataclasses

    with pytest.raises(BadTask, match=told):
        dataclasses.replace(TOTAL, **change)


def test_an_unknown_task_names_its_neighbours() -> None:
    known = Tasks()
    known.register(TOTAL)
    with pytest.raises(BadTask, match=r"'toy\.total'"):
        known.find("toy.totl")
