"""A notebook as plain data, and the one way in which ours are written to disk.

One spelling for each notebook: a diff then shows what an author changed, and a build can be compared byte for byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmemlab.types.errors import KmemlabError

Notebook = dict[str, Any]
Cell = dict[str, Any]

# What editors and runs leave behind: true of one sitting, not of the notebook.
_PASSING = ("execution", "ExecuteTime", "trusted", "collapsed", "scrolled", "vscode", "widgets", "signature")
_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class BadNotebook(KmemlabError):
    """A notebook can't be read, or isn't made as the course needs it."""


def read(path: Path) -> Notebook:
    """The notebook in a file, with each cell's source as one string. Raises `BadNotebook`."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadNotebook(f"{path} can't be read: {error.strerror}", remedy="name an .ipynb file") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadNotebook(f"{path} is no notebook: {error}", remedy="save it anew from JupyterLab") from None
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        raise BadNotebook(f"{path} is no notebook of format 4", remedy="save it anew from JupyterLab")
    for number, cell in enumerate(notebook["cells"]):
        wrong = _wrong(cell)
        if wrong:
            raise BadNotebook(f"cell {number} of {path} has {wrong}", remedy="save it anew from JupyterLab")
        cell["source"] = joined(cell["source"])
        cell.setdefault("metadata", {})
    return notebook


def _wrong(cell: Any) -> str:
    """What of a cell is not as the format has it, in the parts that we read."""
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw") or "source" not in cell:
        return "no type or no source"
    if not is_text(cell["source"]):
        return "a source that is no text"
    if not isinstance(cell.get("metadata", {}), dict):
        return "metadata that are no table of names"
    outputs = cell.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        return "outputs that are no list of outputs"
    if not all(isinstance(output.get("data", {}), dict) for output in outputs):
        return "an output whose data are no table of kinds"
    return ""


def write(path: Path, notebook: Notebook) -> None:
    """Write a notebook in its one spelling, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.new")
    half.write_text(canonical(notebook), encoding="utf-8", newline="\n")
    os.replace(half, path)


def canonical(notebook: Notebook) -> str:
    """The notebook as JSON: keys sorted, one step of indentation a level, texts as lists of lines."""
    kept = _without_passing(notebook["metadata"])
    tidy = {
        "cells": [_tidy_cell(cell) for cell in notebook["cells"]],
        "metadata": kept | _METADATA,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(tidy, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def code_cells(notebook: Notebook) -> Iterator[tuple[int, Cell]]:
    """The code cells, numbered from 0 as nbval numbers them."""
    yield from enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def joined(text: str | list[str]) -> str:
    """A text of a notebook, which may be stored as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def _without_passing(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key not in _PASSING}


def _tidy_cell(cell: Cell) -> Cell:
    tidy = dict(cell)
    tidy["source"] = _lines(cell["source"])
    tidy["metadata"] = _without_passing(cell["metadata"])
    if cell["cell_type"] == "code":
        tidy["execution_count"] = cell.get("execution_count")
        tidy["outputs"] = [_tidy_output(output) for output in cell.get("outputs", [])]
    return tidy


def _tidy_output(output: dict[str, Any]) -> dict[str, Any]:
    tidy = dict(output)
    if "text" in tidy:
        tidy["text"] = _lines(tidy["text"])
    if "data" in tidy:
        tidy["data"] = {mime: _lines(value) if is_text(value) else value for mime, value in tidy["data"].items()}
    return tidy


def is_text(value: Any) -> bool:
    """Whether it is a text as notebooks store one."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(line, str) for line in value))


def _lines(text: str | list[str]) -> list[str]:
    return joined(text).splitlines(keepends=True)
