"""Exercises are a pure function of solutions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kmemlab.course.build import build, build_exercise, differences
from kmemlab.course.marks import problems
from kmemlab.course.notebook import BadNotebook, canonical, read, write
from kmemlab.course.task import tasks


def exercise_of(course: Path) -> Path:
    return course / "exercises" / "99_toy.ipynb"


def test_ids_and_marks_stay_answers_and_outputs_go(toy: dict[str, Any]) -> None:
    exercise = build_exercise(toy)
    assert [cell["id"] for cell in exercise["cells"]] == [cell["id"] for cell in toy["cells"]]
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None
        for cell in exercise["cells"]
        if cell["cell_type"] == "code"
    )
    assert "n + n" not in canonical(exercise)
    assert "3 + 4" not in canonical(exercise)
    assert [c["metadata"].get("nbgrader") for c in exercise["cells"]] == [
        c["metadata"].get("nbgrader") for c in toy["cells"]
    ]


def test_a_student_can_write_in_answers_only(toy: dict[str, Any]) -> None:
    cells = {cell["id"]: cell["metadata"] for cell in build_exercise(toy)["cells"]}
    assert cells["toy-double-check"]["editable"] is False
    assert cells["toy-double-check"]["deletable"] is False
    assert cells["toy-double"]["deletable"] is False
    assert "editable" not in cells["toy-double"]


def test_building_leaves_the_solution_as_it_was(toy: dict[str, Any]) -> None:
    before = json.dumps(toy)
    build_exercise(toy)
    assert json.dumps(toy) == before


def test_a_build_writes_what_changed_and_then_nothing(toy_course: Path) -> None:
    assert build(toy_course) == [exercise_of(toy_course)]
    assert list(differences(toy_course)) == []
    assert build(toy_course) == []


def test_the_spelling_is_that_of_jupyters_own_writer(toy_course: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    build(toy_course)
    text = exercise_of(toy_course).read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert nbformat.writes(notebook) + "\n" == text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return ...", "return 0", "cell 2 (toy-double) differs in its source, line 4"),
        ('"points": 3', '"points": 4', "cell 3 (toy-double-check) differs in its metadata"),
        ('"nbformat_minor": 5', '"nbformat_minor":  5', "line "),
    ],
)
def test_check_names_the_first_difference(toy_course: Path, old: str, new: str, told: str) -> None:
    build(toy_course)
    path = exercise_of(toy_course)
    path.write_text(path.read_text().replace(old, new))
    [difference] = differences(toy_course)
    assert difference.startswith("99_toy.ipynb: " + told)


def test_check_tells_what_is_missing_broken_or_stray(toy_course: Path) -> None:
    assert list(differences(toy_course)) == ["99_toy.ipynb: not built"]
    exercise_of(toy_course).parent.mkdir()
    exercise_of(toy_course).write_text("{")
    assert "is no notebook" in next(differences(toy_course))
    build(toy_course)
    write(toy_course / "exercises" / "98_stray.ipynb", read(exercise_of(toy_course)))
    with pytest.raises(BadNotebook, match=r"98_stray\.ipynb has no solution"):
        build(toy_course)


def mark(notebook: dict[str, Any], index: int) -> dict[str, Any]:
    found: dict[str, Any] = notebook["cells"][index]["metadata"]["nbgrader"]
    return found


@pytest.mark.parametrize(
    ("index", "key", "value", "told"),
    [
        (2, "grade_id", "toy double", "letters, digits"),
        (2, "schema_version", 2, "schema_version must be 3"),
        (2, "locked", True, "solution, grade, locked, task must be true, false, false, false"),
        (3, "points", 9, "points must be 3"),
        (3, "locked", False, "must be false, true, true, false"),
        (3, "grade_id", "toy-double", "is there twice"),
        (6, "grade_id", "other", "grade_id must be 'toy-number-check'"),
    ],
)
def test_wrong_marks_are_told(toy: dict[str, Any], index: int, key: str, value: Any, told: str) -> None:
    assert list(problems(toy, tasks)) == []
    mark(toy, index)[key] = value
    assert any(told in problem for problem in problems(toy, tasks))


def test_cells_that_do_not_belong_together_are_told(toy: dict[str, Any]) -> None:
    def told(cells: list[dict[str, Any]]) -> str:
        return " / ".join(problems({**toy, "cells": cells}, tasks))

    cells = toy["cells"]
    assert "the answer 'toy-double' before it has no check" in told([c for c in cells if c["id"] != "toy-double-check"])
    assert "has no check" in told(cells[:-1])
    assert "no answer stands before" in told([c for c in cells if c["id"] != "toy-double"])
    assert "calls check(…) once, this one 0 times" in told([{**cells[3], "source": "print()"}])
    assert "there is no task 'toy.other'" in told([cells[2], {**cells[3], "source": 'check("toy.other", double)'}])
    assert "both the marks in its source" in told([{**cells[2], "source": "pass"}, cells[3]])


@pytest.mark.parametrize("text", ["", "[]", '{"nbformat": 3}', '{"nbformat": 4, "cells": [{"source": ""}]}'])
def test_a_broken_file_is_told_not_thrown(tmp_path: Path, text: str) -> None:
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "01_x.ipynb").write_text(text)
    with pytest.raises(BadNotebook, match=r"01_x\.ipynb"):
        build(tmp_path)
