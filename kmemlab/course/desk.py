"""What a notebook calls: `start` says who you are, `given` shows what is yours, `check` tries an answer, `hint` helps,
and `difference` shows where a machine with the answer in it leaves the kernel's own way.

start(student="ada") ──▶ Student ──┬──▶ given("e820.last_pfn")    a machine drawn for ada
                                   └──▶ check("e820.last_pfn", …) the same machine, judged
"""

from __future__ import annotations

import textwrap
from contextlib import suppress
from types import FunctionType
from typing import Any

from kmemlab.course.answer import Answer, NotSolvedYet, kernels_own, kind, unsolved
from kmemlab.course.box import html_box, text_box
from kmemlab.course.deadline import MOST_MEMORY, MemoryIsUp, TimeIsUp, deadline
from kmemlab.course.first_difference import first_difference
from kmemlab.course.inside import Inside
from kmemlab.course.judge import CheckResult, judge_answer
from kmemlab.course.student import SELF_STUDY, Student
from kmemlab.course.task import Case, Task
from kmemlab.course.tasks import load_all
from kmemlab.course.told import error_text, few_words
from kmemlab.types.errors import BadParameter, BadRequest, KmemlabError
from kmemlab.views.player import Player

MOST_SECONDS = 60.0  # that a search for the first difference may take


class CheckFailed(KmemlabError):
    """An answer doesn't hold. Raised, not only shown: else a notebook with an unsolved task would pass as a test."""

    def _render_traceback_(self) -> list[str]:
        # What IPython shows instead of a traceback: the box above has said all that helps.
        return [f"CheckFailed: {self.what}"]


class Desk:
    """One sitting: the student, and how many hints of each task were shown."""

    def __init__(self, student: Student) -> None:
        self.student = student
        self.hints_shown: dict[str, int] = {}


_desk = Desk(Student())


def start(student: str = SELF_STUDY) -> Student:
    """Begin as this student: what is drawn for you, `given` and `check` draw from this id. Hints begin anew."""
    global _desk
    if not isinstance(student, str) or not student.strip():
        raise BadParameter(
            f"a student's id is a text, not {student!r}",
            where="start(student=…)",
            remedy='write for example start(student="ada")',
        )
    _desk = Desk(Student(student.strip()))
    return _desk.student


def given(name: str) -> Any:
    """What the task `name` gives to you: your machine, your table or your variant. Always fresh, always the same."""
    task = load_all().find(name)
    mine = _given(task, _desk.student)
    return {key: mine[key] for key in mine if key not in task.hidden} if task.hidden else mine


def check(name: str, answer: Any) -> None:
    """Try an answer on the task's public cases and show a box with the result.

    Raises `CheckFailed` unless every case holds: the box names the law that broke and the smallest case that breaks it.
    """
    result = result_of(name, answer, _desk.student)
    _show(result)
    if not result.passed:
        if result.case and result.task.inside(result.case):  # small cases hold: only the machine can tell more
            _show_difference(name, answer)
        raise CheckFailed(_short(result), where=f'check("{name}", …)', remedy=f'hint("{name}")')


def result_of(name: str, answer: Any, student: Student) -> CheckResult:
    """The same as data: how `answer` does on the public cases of this student."""
    task = load_all().find(name)
    return judge_answer(task, answer, _given(task, student), student.rng(f"{task.name}/public"))


def difference(name: str, answer: Any) -> Player | None:
    """The first call at which a machine with the answer in it leaves the kernel's own way, as a step in the player.

    Where the machine does the same with the answer it says so, and there is no step to see. Raises `BadRequest` for a
    task that runs in no machine, for one that is not solved yet, and for an answer that comes to no end.
    """
    player = _first_difference(name, answer)
    if player is None:
        print("The machine does the same with your answer as with the kernel's own function.")
        print(f'check("{name}", …) tries it on small cases, too.')
    return player


def _first_difference(name: str, answer: Any) -> Player | None:
    task = load_all().find(name)
    where = f'difference("{name}", …)'
    try:
        with deadline(MOST_SECONDS), few_words():
            machines = _runnable(task, answer, where)
            found = (first_difference(inside, Answer(answer)) for inside in machines)
            return next((player for player in found if player), None)
    except TimeIsUp as up:
        much = f"took more than {MOST_MEMORY >> 20} MiB"
        long = f"was still running after {MOST_SECONDS:g} s"
        raise BadRequest(
            f"the machine {much if isinstance(up, MemoryIsUp) else long}", where=where,
            remedy="if your answer has a loop: does each turn come nearer to its end?",
        ) from None  # fmt: skip
    except NotSolvedYet:
        raise BadRequest("not solved yet: your answer gave `...`", where=where, remedy=f'hint("{name}")') from None
    except KmemlabError:
        raise
    except Exception as error:  # the machine is so far from Linux that its run can't be shown
        raise BadRequest(
            f"what your answer did can't be compared: {error_text(error)}",
            where=where,
            remedy=f'check("{name}", …) tells more',
        ) from None


def _runnable(task: Task, answer: Any, where: str) -> list[Inside]:
    """The machines in which the answer can run. Raises `BadRequest` when there is none, or no answer for it."""
    if unsolved(answer):
        raise BadRequest("not solved yet: there is nothing to run", where=where, remedy=f'hint("{task.name}")')
    machines = [inside for _, inside in _machines(task, _desk.student)]
    if not machines:
        remedy = f'check("{task.name}", …) tells all'
        raise BadRequest("this task has no case with a machine", where=where, remedy=remedy)
    if type(answer) is not FunctionType:
        raise BadRequest(
            f"a function written with def is asked for, not {kind(answer)}",
            where=where,
            remedy="pass your function itself, without calling it",
        )
    if kernels_own(answer):
        raise BadRequest(
            f"{answer.__name__} is the kernel's own: there is nothing to compare it with",
            where=where,
            remedy="pass a function of your own",
        )
    return machines


def _machines(task: Task, student: Student) -> list[tuple[Case, Inside]]:
    """The public cases in which the answer runs in a machine, small before large."""
    cases = sorted(task.cases(_given(task, student), student.rng(f"{task.name}/public")), key=lambda case: case.size)
    return [(case, inside) for case in cases if (inside := task.inside(case))]


def _show_difference(name: str, answer: Any) -> None:
    """The same below a check's box, in a notebook; where there is none to show, the box has said all."""
    if _in_notebook():
        from IPython.display import display

        with suppress(KmemlabError):
            if player := _first_difference(name, answer):
                display(player)  # type: ignore[no-untyped-call]


def hint(name: str) -> None:
    """Show the task's first hint, and the second when asked again."""
    task = load_all().find(name)
    shown = min(_desk.hints_shown.get(name, 0), len(task.hints) - 1)
    _desk.hints_shown[name] = shown + 1
    print(textwrap.fill(f"{name}, hint {shown + 1} of {len(task.hints)}: {task.hints[shown]}", 100))


def _given(task: Task, student: Student) -> Any:
    return task.given(student.rng(f"{task.name}/given"))


def _short(result: CheckResult) -> str:
    if not result.solved:
        return f"{result.task.name}: not solved yet"
    return f"{result.task.name}: {result.verdict.law if result.verdict else ''}"


def _show(result: CheckResult) -> None:
    """As a box where there is a notebook, else as text."""
    if not _in_notebook():
        print(text_box(result))
        return
    from IPython.display import display

    bundle = {"text/html": html_box(result), "text/plain": text_box(result)}
    display(bundle, raw=True)  # type: ignore[no-untyped-call]


def _in_notebook() -> bool:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None
