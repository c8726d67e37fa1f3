"""The contract of an exercise: unsolved it fails in exactly its checks, solved in none, half solved in the rest.

Each is run by nbval in a process of its own, as an instructor would run it. The same contract is first held by a toy
course, and seen to break where it should, so that it can't pass by looking at nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmemlab.course.build import build, differences
from kmemlab.course.lint import problems as lint_problems
from kmemlab.course.marks import is_answer, is_check, mark_of, problems
from kmemlab.course.notebook import Notebook, canonical, code_cells, read, write
from kmemlab.course.tasks import load_all

ROOT = Path(__file__).parents[2]
SOLUTIONS = sorted((ROOT / "solutions").glob("*.ipynb"))
LECTURES = sorted((ROOT / "notebooks").glob("*.ipynb"))
NbvalRun = Callable[..., dict[int, str]]

pytest.importorskip("nbval")
each_solution = pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)
each_stored = pytest.mark.parametrize("path", LECTURES + SOLUTIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")


def check_numbers(notebook: Notebook) -> set[int]:
    """The numbers that nbval gives to the check cells."""
    return {number for number, cell in code_cells(notebook) if is_check(cell)}


def failed(outcomes: dict[int, str]) -> set[int]:
    return {number for number, outcome in outcomes.items() if outcome != "passed"}


def half_solved(exercise: Notebook, solution: Notebook) -> tuple[Notebook, set[int]]:
    """The exercise with every second answer filled in, and the numbers of the checks that must still fail."""
    answers = [cell["id"] for cell in solution["cells"] if is_answer(cell)]
    solved = {cell["id"]: cell["source"] for cell in solution["cells"] if cell["id"] in answers[::2]}
    cells = [{**cell, "source": solved.get(cell["id"], cell["source"])} for cell in exercise["cells"]]
    half = {**exercise, "cells": cells}
    done = {mark_of(cell)["grade_id"] + "-check" for cell in solution["cells"] if cell["id"] in solved}
    left = {number for number, cell in code_cells(half) if is_check(cell) and mark_of(cell)["grade_id"] not in done}
    return half, left


def hold_the_contract(course: Path, name: str, nbval: NbvalRun, scratch: Path) -> None:
    exercise, solution = read(course / "exercises" / name), read(course / "solutions" / name)
    checks = check_numbers(exercise)
    assert checks, f"{name} checks nothing"
    assert failed(nbval(course / "exercises" / name, "--nbval-lax")) == checks, "unsolved: exactly the checks fail"
    assert failed(nbval(course / "solutions" / name, "--nbval-lax")) == set(), "solved: nothing fails"
    half, left = half_solved(exercise, solution)
    write(scratch / name, half)
    assert failed(nbval(scratch / name, "--nbval-lax")) == left, "half solved: exactly the unsolved fail"


def test_a_toy_course_holds_the_contract(toy_course: Path, nbval: NbvalRun, tmp_path: Path) -> None:
    build(toy_course)
    hold_the_contract(toy_course, "99_toy.ipynb", nbval, tmp_path)


def test_the_contract_breaks_where_an_exercise_is_solved_already(
    toy_course: Path, nbval: NbvalRun, tmp_path: Path
) -> None:
    build(toy_course)
    path = toy_course / "exercises" / "99_toy.ipynb"
    write(path, read(toy_course / "solutions" / "99_toy.ipynb"))
    with pytest.raises(AssertionError, match="exactly the checks fail"):
        hold_the_contract(toy_course, "99_toy.ipynb", nbval, tmp_path)


def test_exercises_equal_a_fresh_build_byte_for_byte() -> None:
    assert list(differences(ROOT)) == []


@each_solution
def test_unsolved_fails_in_its_checks_solved_in_none_half_in_the_rest(
    solution: Path, nbval: NbvalRun, tmp_path: Path
) -> None:
    hold_the_contract(ROOT, solution.name, nbval, tmp_path)


@each_solution
def test_marks_are_nbgraders_and_every_check_has_its_task(solution: Path) -> None:
    assert list(problems(read(solution), load_all())) == []


@each_solution
def test_tasks_belong_to_the_chapter_that_asks_for_them(solution: Path) -> None:
    asked = {mark_of(cell).get("grade_id") for cell in read(solution)["cells"]}
    assert {task.chapter for task in load_all() if task.check_id in asked} == {solution.stem}


def test_every_task_is_asked_somewhere() -> None:
    asked = {mark_of(cell).get("grade_id") for path in SOLUTIONS for cell in read(path)["cells"]}
    assert [task.name for task in load_all() if task.check_id not in asked] == []


@each_stored
def test_lectures_and_solutions_are_true_under_strict_nbval(path: Path, nbval: NbvalRun) -> None:
    assert failed(nbval(path, "--nbval")) == set()


@each_stored
def test_lectures_and_solutions_are_tidy(path: Path) -> None:
    notebook = read(path)
    assert list(lint_problems(notebook, outputs_stored=True)) == []
    assert path.read_text(encoding="utf-8") == canonical(notebook), "kmemlab course format"


@each_solution
def test_exercises_are_tidy(solution: Path) -> None:
    notebook: dict[str, Any] = read(ROOT / "exercises" / solution.name)
    assert list(lint_problems(notebook, outputs_stored=False)) == []


@pytest.mark.parametrize("folder", ["notebooks", "exercises", "solutions"])
def test_there_are_no_stray_files(folder: str) -> None:
    known = (".ipynb", ".md")
    strays = [p.name for p in (ROOT / folder).glob("*") if p.suffix not in known and p.name != ".ipynb_checkpoints"]
    assert strays == []
