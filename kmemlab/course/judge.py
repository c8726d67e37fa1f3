"""Tries an answer on a task's cases, small to large, and finds the smallest one that breaks a law."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from types import FunctionType, TracebackType
from typing import Any

from kmemlab.course.answer import Answer, NotPlain, NotSolvedYet, kernels_own, unsolved
from kmemlab.course.deadline import MOST_MEMORY, MemoryIsUp, TimeIsUp, deadline
from kmemlab.course.task import Case, Task, Verdict
from kmemlab.course.told import cut, error_text, few_words, pressed

MOST_SHRINKS = 300  # judged cases, so that a generous `smaller` can't take for ever
MOST_SECONDS = 60.0  # for all cases of a check and the search for the smallest, if no case alone may take half of it

NOT_SOLVED = Verdict("not solved yet", "the answer's place still holds `...`")
ENDS = "the answer comes back"
YOUR_OWN = "the answer is a function of your own"
RETURNS_PLAIN = "the answer is made of plain Python values"


@dataclass(frozen=True)
class CheckResult:
    """How an answer did: cases that hold, credit in points, and the smallest broken case with its verdict."""

    task: Task
    held: int
    tried: int
    points: float
    verdict: Verdict | None = None
    case: Case | None = None

    @property
    def passed(self) -> bool:
        """Whether every case holds."""
        return self.verdict is None

    @property
    def solved(self) -> bool:
        """Whether there is an answer at all, right or wrong."""
        return self.verdict is not NOT_SOLVED


def judge_answer(task: Task, raw: Any, given: Any, rng: Random) -> CheckResult:
    """Try `raw` on every case of `task`; credit is given in part, by the points of the cases that hold."""
    cases = sorted(task.cases(given, rng), key=lambda case: case.size)
    refused = _refused(task, raw)
    if refused:
        return CheckResult(task, 0, len(cases), 0.0, refused)
    with few_words():
        return _tried(task, Answer(raw), cases, time.monotonic() + _seconds(task))


def _refused(task: Task, raw: Any) -> Verdict | None:
    """Why an answer isn't tried at all, if so."""
    try:
        with deadline(task.seconds):
            if unsolved(raw):
                return NOT_SOLVED
            if kernels_own(raw):
                return Verdict(YOUR_OWN, f"{raw.__name__} is the kernel's own: in its place it would call itself")
    except TimeIsUp:
        return Verdict(ENDS, f"only to look at it took longer than {task.seconds:g} s")
    return None


def _seconds(task: Task) -> float:
    return max(MOST_SECONDS, 2 * task.seconds)


def _tried(task: Task, answer: Answer, cases: list[Case], end: float) -> CheckResult:
    broken: tuple[Case, Verdict] | None = None
    held: list[Case] = []
    for case in cases:
        verdict = judge_case(task, answer, case, end)
        if verdict is None:
            held.append(case)
            continue
        broken = broken or (case, verdict)
        if verdict is NOT_SOLVED or verdict.law == ENDS:  # a larger case would only take longer
            break
    points = task.points * sum(case.points for case in held) / max(1, sum(case.points for case in cases))
    if broken is None:
        return CheckResult(task, len(held), len(cases), points)
    case, verdict = _smallest(task, answer, *broken, end)
    return CheckResult(task, len(held), len(cases), points, verdict, case)


def judge_case(task: Task, answer: Answer, case: Case, end: float = math.inf) -> Verdict | None:
    """Try one case, whatever the answer does: raise, run for ever, end the program, return what can't be compared.

    No longer than the task allows, nor beyond `end`, a time of `time.monotonic`.
    """
    left = max(0.0, end - time.monotonic())
    try:
        with deadline(min(task.seconds, left)):
            return _bounded(_judged(task, answer, case))
    except MemoryIsUp:
        return Verdict(ENDS, f"it took more than {MOST_MEMORY >> 20} MiB; does a list in it grow with each turn?")
    except TimeIsUp:
        if left < task.seconds:
            return Verdict(ENDS, f"all cases together took longer than {_seconds(task):g} s")
        return Verdict(
            ENDS, f"it was still running after {task.seconds:g} s; does each turn of a loop come nearer to its end?"
        )


def _judged(task: Task, answer: Answer, case: Case) -> Verdict | None:
    try:
        return task.judge(answer, case)
    except NotSolvedYet:
        return NOT_SOLVED
    except NotPlain as error:
        return Verdict(RETURNS_PLAIN, str(error))
    except TimeIsUp:
        raise
    except RecursionError:
        return Verdict(ENDS, "it called itself too deeply; is there a case in which it doesn't call itself?")
    except BaseException as error:
        if pressed(error):
            raise
        return Verdict("the answer runs without an error", _told(error, answer.raw))


def _bounded(verdict: Verdict | None) -> Verdict | None:
    if verdict is None or verdict is NOT_SOLVED:
        return verdict
    return Verdict(cut(verdict.law), cut(verdict.seen))


def _smallest(task: Task, answer: Answer, case: Case, verdict: Verdict, end: float) -> tuple[Case, Verdict]:
    """Step to a smaller case for as long as one breaks, too. A case that never ends isn't run again and again."""
    budget = MOST_SHRINKS
    while verdict is not NOT_SOLVED and verdict.law != ENDS:
        step = _first_broken(task, answer, task.smaller(case), budget, end)
        if step is None:
            break
        case, verdict, budget = step
    return case, verdict


def _first_broken(
    task: Task, answer: Answer, cases: Iterable[Case], budget: int, end: float
) -> tuple[Case, Verdict, int] | None:
    for case in cases:
        if budget == 0 or time.monotonic() >= end:
            return None
        budget -= 1
        verdict = judge_case(task, answer, case, end)
        if verdict is not None and verdict.law != ENDS:
            return case, verdict, budget
    return None


def _told(error: BaseException, raw: Any) -> str:
    told = error_text(error).split("\n")[0]
    line = _line_within(error.__traceback__, raw)
    return f"{told} (line {line} of {raw.__name__})" if line else told


def _line_within(traceback: TracebackType | None, raw: Any) -> int:
    """The line of the answer, counted from its `def`, at which the error left it; 0 when it wasn't running."""
    code = raw.__code__ if type(raw) is FunctionType else None
    line = 0
    while code and traceback is not None:
        if traceback.tb_frame.f_code is code:
            line = traceback.tb_lineno - code.co_firstlineno + 1
        traceback = traceback.tb_next
    return line
