"""The rules for notebooks catch what they are there for."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.course.lint import LARGEST, problems

RESULT = {"output_type": "execute_result", "data": {"text/plain": "1"}, "metadata": {}}


def notebook(**changes: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "id": "one", "metadata": {}, "source": "1", "execution_count": 1, "outputs": [RESULT]}
    return {
        "cells": [cell | changes],
        "metadata": {"kernelspec": {"name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def shown(mime: str, text: str) -> list[dict[str, Any]]:
    return [{"output_type": "display_data", "data": {mime: text}, "metadata": {}}]


def test_a_good_notebook_has_no_problem() -> None:
    assert list(problems(notebook(), outputs_stored=True)) == []
    figure = notebook(outputs=shown("image/svg+xml", "<svg/>"), metadata={"tags": ["nbval-ignore-output"]})
    assert list(problems(figure, outputs_stored=True)) == []
    knob = notebook(
        outputs=shown("text/plain", "interactive(children=(IntSlider(…"), metadata=figure["cells"][0]["metadata"]
    )
    assert list(problems(knob, outputs_stored=True)) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": ""}, "has no id"),
        ({"execution_count": None}, "was not run"),
        ({"outputs": shown("text/plain", "<Zone object at 0x7f00ccde0e00>")}, "an object's address"),
        ({"outputs": shown("text/plain", 'File "/tmp/ipykernel_7/3.py", line 2')}, "a path of this computer"),
        ({"metadata": {"tags": ["nbval-ignore-output"]}}, "can be compared"),
        ({"source": "# NBVAL_IGNORE_OUTPUT"}, "can be compared"),
        ({"outputs": shown("text/plain", "x" * LARGEST)}, "more than 1,000,000"),
    ],
)
def test_each_rule_catches_its_defect(changes: dict[str, Any], told: str) -> None:
    assert any(told in problem for problem in problems(notebook(**changes), outputs_stored=True))


def test_the_simulated_machines_addresses_are_no_objects_addresses() -> None:
    text = "direct map at ffff888000000000, BIOS-e820: [mem 0x0000000000000000-0x9fbff], memory ends at 0x223800000"
    assert list(problems(notebook(outputs=shown("text/plain", text)), outputs_stored=True)) == []


def test_ids_are_unique_and_the_kernel_is_python3() -> None:
    twice = notebook()
    twice["cells"] *= 2
    twice["metadata"] = {"kernelspec": {"name": "conda-env"}}
    assert list(problems(twice, outputs_stored=True)) == ["the id 'one' is there 2 times", "its kernel must be python3"]


def test_an_exercise_stores_no_outputs() -> None:
    assert list(problems(notebook(), outputs_stored=False)) == ["cell 0 (one): an exercise stores no outputs"]
