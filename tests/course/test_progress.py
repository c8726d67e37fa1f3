"""The progress page says what the saved checks said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kmemlab.course.notebook import BadNotebook, write
from kmemlab.course.progress import progress


def check_cell(task: str, points: int, shown: str) -> dict[str, Any]:
    name = task.replace(".", "-") + "-check"
    outputs = [{"output_type": "display_data", "data": {"text/plain": shown}, "metadata": {}}] if shown else []
    mark = {"grade_id": name, "points": points, "solution": False, "grade": True, "locked": True, "schema_version": 3}
    return {
        "cell_type": "code", "id": name, "metadata": {"nbgrader": mark}, "source": f'check("{task}", answer)',
        "execution_count": 1, "outputs": outputs,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cells = [
        check_cell("toy.whole", 10, "toy.whole: holds on all 9 public cases, 10 of 10 points"),
        check_cell("toy.part", 10, "toy.part: 2 of 4 cases hold, 2.5 of 10 points\n  law: no page is lost"),
        check_cell("toy.open", 5, "toy.open: not solved yet\n  hint: …"),
        check_cell("toy.untried", 5, ""),
        check_cell("toy.boaster", 5, "toy.boaster: holds on all 9 public cases, 5000 of 5 points"),
    ]
    write(tmp_path / "exercises" / "98_toy.ipynb", {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    (tmp_path / "exercises" / "99_broken.ipynb").write_text("{")
    return tmp_path


def test_points_are_those_that_the_checks_gave(folder: Path) -> None:
    toy = progress(folder).chapters[0]
    assert [result.points for result in toy.results] == [10, 2.5, 0, 0, 5]
    assert (toy.solved, toy.points, toy.of) == (2, 17.5, 35)


def test_the_text_and_the_table_say_the_same(folder: Path) -> None:
    found = progress(folder)
    text = found.text()
    assert "98_toy     ■□□□■  2 of 5 tasks, 17.5 of 35 points" in text
    assert "99_broken" in text
    assert "is no notebook" in text
    html = found._repr_mimebundle_()["text/html"]
    for fact in ("98_toy", "■□□□■", "2 of 5 tasks, 17.5 of 35 points", "toy.part, toy.open, toy.untried"):
        assert fact in html
    assert text.splitlines()[-1] == "In all 2 of 5 tasks, 17.5 of 35 points, as the exercises were saved last."


def test_it_is_found_from_a_notebook_s_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "notebooks").mkdir()
    monkeypatch.chdir(folder / "notebooks")
    assert len(progress().chapters) == 2


ODD: dict[str, dict[str, Any]] = {
    "no outputs": {"outputs": None},
    "outputs in words": {"outputs": "none"},
    "an output in words": {"outputs": ["none"]},
    "data in a list": {"outputs": [{"output_type": "display_data", "data": ["toy"]}]},
    "a number as text": {"outputs": [{"output_type": "display_data", "data": {"text/plain": 5}}]},
    "metadata in a list": {"metadata": ["nbgrader"]},
    "metadata missing": {"metadata": None},
    "a source in numbers": {"source": [1, 2]},
    "many points": {"metadata": {"nbgrader": {"grade": True, "points": "many"}}},
    "no points": {"metadata": {"nbgrader": {"grade": True}}},
    "another check": {"source": "pass"},
    "a zero byte": {"source": "check(\0)"},
    "too deep": {"source": "(" * 100_000},
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_an_odd_notebook_is_named_and_the_others_are_told(folder: Path, change: dict[str, Any]) -> None:
    odd = {"cells": [check_cell("toy.odd", 5, "") | change], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "exercises" / "97_odd.ipynb").write_text(json.dumps(odd))
    first, toy, _ = progress(folder).chapters
    assert (first.name, first.results) == ("97_odd", ())
    assert first.problem
    assert first.problem in progress(folder).text()
    assert toy.points == 17.5


def test_a_file_that_is_nested_too_deeply_is_named(folder: Path) -> None:
    (folder / "exercises" / "97_odd.ipynb").write_text("[" * 100_000)
    assert "is no notebook" in progress(folder).chapters[0].problem


def shown(*texts: str, error: str = "") -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = [{"output_type": "display_data", "data": {"text/plain": text}} for text in texts]
    return [*outputs, {"output_type": "error", "ename": error, "evalue": "", "traceback": []}] if error else outputs


WHOLE, PART = "toy.x: holds on all 9 public cases, 10 of 10 points", "toy.x: 2 of 4 cases hold, 2.5 of 10 points"


@pytest.mark.parametrize(
    ("outputs", "points"),
    [
        (shown(WHOLE, PART), 2.5),
        (shown(PART, WHOLE), 10),
        (shown(WHOLE, "toy.x: not solved yet"), 0),
        (shown(PART, "expand: the first difference, 10 of 10 points", error="CheckFailed"), 2.5),
        (shown(WHOLE, error="NameError"), 0),
        (shown("toy.x: 400 of 401 cases hold, 10 of 10 points", error="CheckFailed"), 9.9),
        (shown("toy.other: holds on all 9 public cases, 10 of 10 points"), 0),
        (shown("toy.x: holds, 1.2.3 of 10 points"), 0),
    ],
)
def test_the_last_box_of_the_task_counts(tmp_path: Path, outputs: list[dict[str, Any]], points: float) -> None:
    cell = check_cell("toy.x", 10, "") | {"outputs": outputs}
    path = tmp_path / "exercises" / "98_toy.ipynb"
    write(path, {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    (result,) = progress(tmp_path).chapters[0].results
    assert result.points == points
    assert result.solved == (points == 10)


def test_a_folder_without_exercises_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadNotebook, match="holds no exercises"):
        progress(tmp_path)


def test_a_lecture_alone_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    alone = progress()
    assert "No exercises lie beside this notebook" in alone.text()
    assert alone.text() in alone._repr_mimebundle_()["text/html"]


def test_what_the_box_prints_is_what_the_page_reads() -> None:
    from kmemlab.course.box import credit, text_box
    from kmemlab.course.desk import result_of
    from kmemlab.course.student import Student
    from kmemlab.course.tasks import load_all

    task = next(iter(load_all()))
    wrong = result_of(task.name, lambda *args: None, Student())
    assert credit(text_box(wrong)) == pytest.approx(wrong.points, abs=0.05)
