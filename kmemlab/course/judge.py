"""Tries an answer on a task's cases, small to large, and finds the smallest one that breaks a law."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any

from kmemlab.course.answer import Answer, NotPlain, NotSolvedYet, unsolved
from kmemlab.course.deadline import TimeIsUp, deadline
from kmemlab.course.task import Case, Task, Verdict

MOST_SHRINKS = 300  # judged cases, so that a generous `smaller` can't take for ever

NOT_SOLVED = Verdict("not solved yet", "the answer's place still holds `...`")
ENDS = "the answer comes back"
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
    if unsolved(raw):
        return CheckResult(task, 0, 0, 0.0, NOT_SOLVED)
    answer = Answer(raw)
    cases = sorted(task.cases(given, rng), key=lambda case: case.size)
    broken: tuple[Case, Verdict] | None = None
    held: list[Case] = []
    for case in cases:
        verdict = judge_case(task, answer, case)
        if verdict is None:
            held.append(case)
            continue
        broken = broken or (case, verdict)
        if verdict is NOT_SOLVED or verdict.law == ENDS:  # a larger case would only take longer
            break
    points = task.points * sum(case.points for case in held) / max(1, sum(case.points for case in cases))
    if broken is None:
        return CheckResult(task, len(held), len(cases), points)
    case, verdict = _smallest(task, answer, *broken)
    return CheckResult(task, len(held), len(cases), points, verdict, case)


def judge_case(task: Task, answer: Answer, case: Case) -> Verdict | None:
    """Try one case, whatever the answer does: raise, run for ever, end the program, return what can't be compared."""
    try:
        with deadline(task.seconds):
            return task.judge(answer, case)
    except NotSolvedYet:
        return NOT_SOLVED
    except NotPlain as error:
        return Verdict(RETURNS_PLAIN, str(error))
    except TimeIsUp:
        return Verdict(
            ENDS, f"it was still running after {task.seconds:g} s; does each turn of a loop come nearer to its end?"
        )
    except RecursionError:
        return Verdict(ENDS, "it called itself too deeply; is there a case in which it doesn't call itself?")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Verdict("the answer runs without an error", _told(error, answer.raw))


def _smallest(task: Task, answer: Answer, case: Case, verdict: Verdict) -> tuple[Case, Verdict]:
    """Step to a smaller case for as long as one breaks, too. A case that never ends isn't run again and again."""
    budget = MOST_SHRINKS
    while verdict is not NOT_SOLVED and verdict.law != ENDS:
        step = _first_broken(task, answer, task.smaller(case), budget)
        if step is None:
            break
        case, verdict, budget = step
    return case, verdict


def _first_broken(task: Task, answer: Answer, cases: Iterable[Case], budget: int) -> tuple[Case, Verdict, int] | None:
    for case in cases:
        if budget == 0:
            return None
        budget -= 1
        verdict = judge_case(task, answer, case)
        if verdict is not None and verdict.law != ENDS:
            return case, verdict, budget
    return None


def _told(error: BaseException, raw: Any) -> str:
    text = str(error).strip().split("\n")[0]
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    line = _line_within(error.__traceback__, raw)
    return f"{told} (line {line} of {raw.__name__})" if line else told


def _line_within(traceback: TracebackType | None, raw: Any) -> int:
    """The line of the answer, counted from its `def`, at which the error left it; 0 when it wasn't running."""
    code = getattr(raw, "__code__", None)
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code is code:
            line = traceback.tb_lineno - code.co_firstlineno + 1
        traceback = traceback.tb_next
    return line
