"""A toy course for the tests of the course's machinery, and nbval in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kmemlab.course.notebook import write
from kmemlab.course.run import kernel_environment
from kmemlab.course.task import Case, Task, Verdict, register, tasks

TASKS = """\
from kmemlab.course import Case, Task, Verdict, check, hint, register

def judge_double(answer, case):
    return None if answer(case.value) == 2 * case.value else Verdict("the result is twice the number")

def judge_number(answer, case):
    return None if answer.value == case.value else Verdict("the number is seven")

def small_numbers(given, rng):
    return [Case(f"the number {n}", n, size=n) for n in (1, 2, 30)]

def seven(given, rng):
    return [Case("your number", 7)]

register(Task("toy.double", "99_toy", "implement", 3, ("add", "add it to itself"), judge_double, small_numbers))
register(Task("toy.number", "99_toy", "compute", 2, ("count", "count to seven"), judge_number, seven))"""

DOUBLE = '''\
def double(n):
    """Twice `n`."""
    ### BEGIN SOLUTION
    result = n + n
    return result
    ### END SOLUTION'''


def code(cell_id: str, source: str, **metadata: Any) -> dict[str, Any]:
    return {
        "cell_type": "code", "id": cell_id, "metadata": metadata, "source": source, "execution_count": 1,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "an output\n"}],
    }  # fmt: skip


def answer(task: str, source: str) -> dict[str, Any]:
    mark = {
        "schema_version": 3,
        "grade_id": task.replace(".", "-"),
        "solution": True,
        "grade": False,
        "locked": False,
        "task": False,
    }
    return code(task.replace(".", "-"), source, nbgrader=mark)


def checking(task: str, source: str, points: int) -> dict[str, Any]:
    grade_id = task.replace(".", "-") + "-check"
    flags = {"solution": False, "grade": True, "locked": True, "task": False}
    mark = {"schema_version": 3, "grade_id": grade_id, "points": points, **flags}
    return code(grade_id, source, nbgrader=mark)


def toy_notebook() -> dict[str, Any]:
    return {
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# A toy\n\nTwo tasks."},
            code("tasks", TASKS),
            answer("toy.double", DOUBLE),
            checking("toy.double", 'check("toy.double", double)', 3),
            code("between", 'print("nothing to solve here")'),
            answer("toy.number", "### BEGIN SOLUTION\nnumber = 3 + 4\n### END SOLUTION"),
            checking("toy.number", 'check("toy.number", number)', 2),
        ],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.fixture
def toy() -> Iterator[dict[str, Any]]:
    """The toy's solution; its tasks are known in this process meanwhile."""
    nothing: Callable[..., Any] = lambda *_: Verdict("never judged here")  # noqa: E731
    cases: Callable[..., Any] = lambda *_: [Case("", 0)]  # noqa: E731
    register(Task("toy.double", "99_toy", "implement", 3, ("a", "b"), nothing, cases))
    register(Task("toy.number", "99_toy", "compute", 2, ("a", "b"), nothing, cases))
    yield toy_notebook()
    tasks._tasks.pop("toy.double")
    tasks._tasks.pop("toy.number")


@pytest.fixture
def toy_course(toy: dict[str, Any], tmp_path: Path) -> Path:
    """A folder with the toy's solution in solutions/."""
    write(tmp_path / "solutions" / "99_toy.ipynb", toy)
    return tmp_path


NbvalRun = Callable[..., dict[int, str]]


@pytest.fixture
def nbval(tmp_path: Path) -> NbvalRun:
    """Run nbval on a notebook; gives for each code cell, by its number: passed, failed, skipped or error."""

    def run(notebook: Path, *flags: str) -> dict[int, str]:
        report = tmp_path / "nbval.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
        command += [
            f"--rootdir={notebook.parent}",
            f"--junitxml={report}",
            "--nbval-current-env",
            "--nbval-cell-timeout=60",
        ]
        done = subprocess.run(
            [*command, *flags, str(notebook)],
            env=kernel_environment() | {"PYTEST_ADDOPTS": ""},  # those of the run around it
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert report.exists(), done.stdout + done.stderr
        outcomes = {}
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            outcomes[int(case.attrib["name"].rsplit(" ", 1)[1])] = kinds[0] if kinds else "passed"
        assert outcomes, done.stdout + done.stderr
        return outcomes

    return run
