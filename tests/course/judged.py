"""Students, what their tasks give them, and what holds of every judged answer, whatever the task."""

from __future__ import annotations

from typing import Any

from kmemlab.course.desk import result_of
from kmemlab.course.judge import CheckResult
from kmemlab.course.student import Student
from kmemlab.course.tasks import load_all

ADA = Student("ada")


def given_to(name: str, student: Student = ADA) -> Any:
    """What the student is given for a task."""
    return load_all().find(name).given(student.rng(f"{name}/given"))


def student_with(name: str, variant: str) -> Student:
    """A student who drew this variant of a task."""
    return next(s for s in map(Student, map(str, range(200))) if given_to(name, s)["variant"] == variant)


def wrong(name: str, answer: Any, student: Student = ADA) -> CheckResult:
    """What the judge says of an answer that is wrong, and no blank cell."""
    result = result_of(name, answer, student)
    assert not result.passed
    assert result.solved
    assert result.verdict
    return result


def check_right(name: str, answer: Any) -> None:
    """The answer holds, and has all points of its task."""
    result = result_of(name, answer, ADA)
    assert result.passed, (result.case, result.verdict)
    assert result.points == load_all().find(name).points


def check_wrong(name: str, answer: Any, law: str, case: str) -> None:
    """The answer breaks a law that begins so, on a small input whose text says `case`."""
    result = result_of(name, answer, ADA)
    assert result.verdict is not None
    assert result.case is not None
    assert result.verdict.law.startswith(law)
    assert case in result.case.text
    assert "{" not in result.verdict.seen, "figures, and not their names"
    assert result.case.size < 1000, "the whole machine is not the smallest input"
    assert result.points < load_all().find(name).points
