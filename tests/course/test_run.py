"""Notebooks are run and stored so that a second run stores the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kmemlab.course.notebook import read, write
from kmemlab.course.run import NotebookFailed, format_notebook, run_notebook, store_plainly

pytest.importorskip("nbclient")


def test_a_run_stores_outputs_and_a_second_run_the_same(toy_course: Path) -> None:
    path = toy_course / "solutions" / "99_toy.ipynb"
    assert run_notebook(path)
    cells = {cell["id"]: cell for cell in read(path)["cells"]}
    assert cells["toy-double-check"]["outputs"][0]["data"]["text/plain"] == [
        "toy.double: holds on all 3 public cases, 3 of 3 points"
    ]
    assert [cell.get("execution_count") for cell in cells.values()] == [None, 1, 2, 3, 4, 5, 6]
    assert not run_notebook(path)


def test_the_cell_that_failed_is_named_and_nothing_is_written(toy_course: Path) -> None:
    path = toy_course / "solutions" / "99_toy.ipynb"
    notebook = read(path)
    notebook["cells"][4]["source"] = "[][1]"
    write(path, notebook)
    before = path.read_bytes()
    with pytest.raises(NotebookFailed, match=r"code cell 3 \(between\) raised IndexError: list index out of range"):
        run_notebook(path)
    assert path.read_bytes() == before


def test_what_differs_between_runs_is_not_stored() -> None:
    view = "application/vnd.jupyter.widget-view+json"
    outputs: list[dict[str, Any]] = [
        {"output_type": "display_data", "data": {view: {"model_id": "9f"}}, "metadata": {}},
        {"output_type": "display_data", "data": {view: {"model_id": "9e"}, "text/plain": "a player"}, "metadata": {}},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["/tmp/ipykernel_12/3.py"]},
    ]
    notebook = {"cells": [{"cell_type": "code", "source": "x", "metadata": {}, "outputs": outputs}]}
    store_plainly(notebook)
    assert notebook["cells"][0]["outputs"] == [
        {"output_type": "display_data", "data": {"text/plain": "a player"}, "metadata": {}},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["E: v"]},
    ]


def test_the_formatter_changes_the_spelling_only(toy_course: Path) -> None:
    path = toy_course / "solutions" / "99_toy.ipynb"
    notebook = read(path)
    text = path.read_text()
    path.write_text(text.replace(" ", "  "))
    path.write_text(text.replace('"cells"', ' "cells"'))
    assert format_notebook(path)
    assert read(path) == notebook
    assert path.read_text() == text
    assert not format_notebook(path)
