"""check, hint, start and given, as a notebook calls them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kmemlab.course import Case, CheckFailed, Task, Verdict, check, difference, given, hint, register, start
from kmemlab.course.answer import Answer
from kmemlab.course.student import Student
from kmemlab.course.task import BadTask, tasks

ROOT = Path(__file__).parents[2]


def is_mine(answer: Answer, case: Case) -> Verdict | None:
    return None if answer.value == case.value else Verdict("the number is yours", f"{answer.value} was handed in")


@pytest.fixture(autouse=True)
def toy() -> Iterator[Task]:
    task = Task(
        name="toy.number",
        chapter="99_toy",
        kind="compute",
        points=2,
        hints=("look at it", "then write it down"),
        judge=is_mine,
        cases=lambda mine, rng: [Case("your number", mine)],
        given=lambda rng: rng.randrange(10**9),
    )
    register(task)
    start()
    yield task
    tasks._tasks.pop("toy.number")


def test_the_own_number_holds_and_a_neighbours_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    start(student="ada")
    mine = given("toy.number")
    check("toy.number", mine)
    assert "holds on the case" in capsys.readouterr().out
    start(student="bob")
    assert given("toy.number") != mine
    with pytest.raises(CheckFailed, match="the number is yours"):
        check("toy.number", mine)


@pytest.mark.parametrize("name", ["slab.report", "e820.diagnose", "page_tables.oops", "zones.diagnose"])
def test_what_is_given_holds_neither_the_solution_nor_the_seed(name: str) -> None:
    from kmemlab.course.tasks import load_all

    task = load_all().find(name)
    drawn = task.given(Student().rng(f"{name}/given"))
    assert set(task.hidden) <= set(drawn)
    assert given(name) == {key: drawn[key] for key in drawn if key not in task.hidden}
    assert not {"truth", "seed"} & set(given(name))


@pytest.mark.parametrize("name", [3, None, ["x"], lambda addr: addr])
def test_what_is_no_name_is_told(name: Any) -> None:
    for call in (hint, given, partial(check, answer="start.frame"), partial(difference, answer=4)):
        with pytest.raises(BadTask, match="a task's name is a text"):
            call(name)


def test_no_start_means_self_study() -> None:
    assert start() == Student("self-study")
    first = given("toy.number")
    assert given("toy.number") == first == number_of("self-study")


def number_of(student: str) -> int:
    return Student(student).rng("toy.number/given").randrange(10**9)


def test_the_draw_does_not_depend_on_the_run_of_python() -> None:
    program = "from kmemlab.course.student import Student; print(Student('ada').rng('x').randrange(10**12))"
    drawn = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(drawn) == 1


def test_hints_come_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        hint("toy.number")
    assert capsys.readouterr().out.splitlines() == [
        "toy.number, hint 1 of 2: look at it",
        "toy.number, hint 2 of 2: then write it down",
        "toy.number, hint 2 of 2: then write it down",
    ]


def test_the_placeholder_fails_and_says_so() -> None:
    with pytest.raises(CheckFailed, match="not solved yet"):
        check("toy.number", ...)


def test_jupyter_shows_a_short_message_and_no_traceback() -> None:
    with pytest.raises(CheckFailed) as caught:
        check("toy.number", 0)
    assert caught.value._render_traceback_() == ["CheckFailed: toy.number: the number is yours"]


def test_in_a_notebook_the_box_is_html_with_a_text_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("IPython")
    import IPython.core.getipython
    import IPython.display

    shown: list[dict[str, str]] = []
    monkeypatch.setattr(IPython.core.getipython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: shown.append(bundle))
    check("toy.number", given("toy.number"))
    assert set(shown[0]) == {"text/html", "text/plain"}


@pytest.mark.parametrize("bad", ["", "  ", 7])
def test_a_bad_id_is_refused(bad: object) -> None:
    from kmemlab.types.errors import BadParameter

    with pytest.raises(BadParameter, match="id is a text"):
        start(student=bad)  # type: ignore[arg-type]
