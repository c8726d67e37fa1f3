"""A task of the course: what is asked, on which cases it is tried, and who judges.

    given(rng) ──▶ what belongs to this student: a machine, a variant
                        │
                        ▼
    cases(given, rng) ──▶ Case, Case, …  small to large
                             │
    answer ─────────────────▶ judge(answer, case) ──▶ None, or the Verdict: which law broke

A task knows no student and no secret: whoever runs it brings the random numbers. In the notebook they come from the
student's id, when grading from the course's secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal, get_args

from kmemlab.course.told import cut
from kmemlab.types.errors import KmemlabError

if TYPE_CHECKING:
    from kmemlab.course.answer import Answer
    from kmemlab.course.inside import Inside

Kind = Literal["compute", "implement", "diagnose", "predict"]
NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")


class BadTask(KmemlabError):
    """A task was asked for that isn't registered, or registered in a way that can't work."""


@dataclass(frozen=True)
class Case:
    """One input on which an answer is tried; `text` is how a reader is told of it, `size` orders small before large.

    `points` weighs the case when credit is given in part.
    """

    text: str
    value: Any
    size: int = 0
    points: int = 1


@dataclass(frozen=True)
class Verdict:
    """The law that an answer broke, and what was seen: never the code that would be right."""

    law: str
    seen: str = ""


Judge = Callable[["Answer", Case], Verdict | None]
"""Tries one answer on one case; None when the law holds."""


def _nothing_given(_rng: Random) -> None:
    return None


def one_of(rules: Mapping[str, str]) -> Callable[[Random], dict[str, str]]:
    """For `given`: which of the rules is this student's, by name and in words."""

    def given(rng: Random) -> dict[str, str]:
        name = rng.choice(sorted(rules))
        return {"variant": name, "rule": rules[name]}

    return given


def _nothing_smaller(_case: Case) -> Iterable[Case]:
    return ()


def no_machine(_case: Case) -> Inside | None:
    """What a task says whose answers run in no machine."""
    return None


@dataclass(frozen=True)
class Task:
    """One question with points, two hints, the cases on which an answer is tried, and a judge.

    `given` draws what belongs to the student and stays the same; `cases` may draw more. `smaller` lists cases that
    are a step smaller than a broken one, so that the reported one is the smallest. `inside` says of a case in which the
    answer runs in a kernel function's place how to do that again. `seconds` bounds each case. `hidden` names what in
    `given` is for `cases` alone, such as the solution: a student doesn't get it.
    """

    name: str
    chapter: str
    kind: Kind
    points: int
    hints: tuple[str, str]
    judge: Judge
    cases: Callable[[Any, Random], Iterable[Case]]
    given: Callable[[Random], Any] = _nothing_given
    smaller: Callable[[Case], Iterable[Case]] = _nothing_smaller
    inside: Callable[[Case], Inside | None] = no_machine
    seconds: float = 5.0
    hidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = ""
        if not NAME.fullmatch(self.name):
            wrong = "its name must look like 'buddy.expand': lower case, one dot"
        elif self.kind not in get_args(Kind):
            wrong = f"its kind {self.kind!r} is none of {', '.join(get_args(Kind))}"
        elif self.points < 1:
            wrong = "it needs at least one point"
        elif len(self.hints) != 2 or not all(self.hints) or self.hints[0] == self.hints[1]:
            wrong = "it needs two different hints"
        if wrong:
            raise BadTask(f"the task {self.name!r} can't be registered: {wrong}", where="Task")

    @property
    def grade_id(self) -> str:
        """The nbgrader id of the answer's cell (nbgrader takes letters, digits, hyphens and underscores only)."""
        return self.name.replace(".", "-")

    @property
    def check_id(self) -> str:
        """The nbgrader id of the check's cell."""
        return f"{self.grade_id}-check"


class Tasks:
    """The tasks that are known, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def register(self, task: Task) -> None:
        """Make a task known; a task of the same name is replaced."""
        self._tasks[task.name] = task

    def find(self, name: str) -> Task:
        """The task of that name. Raises `BadTask` with the nearest names when there is none."""
        if not isinstance(name, str):
            raise BadTask(
                f"a task's name is a text, not an object of type {type(name).__name__}",
                where="check(…) and hint(…)",
                remedy='write the name first, as in check("start.frame", frame_and_offset)',
            )
        if name in self._tasks:
            return self._tasks[name]
        name = cut(name, 60)
        near = difflib.get_close_matches(name, self._tasks, n=3, cutoff=0.4)
        raise BadTask(
            f"there is no task {name!r}",
            where="check(…) and hint(…)",
            remedy=f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else "take the name from the check's cell of the exercise",
        )


tasks = Tasks()
"""Every registered task. `kmemlab.course.tasks.load_all()` fills it from the chapters."""


def register(task: Task) -> None:
    """Make a task known to `check`, `hint` and the grader."""
    tasks.register(task)
