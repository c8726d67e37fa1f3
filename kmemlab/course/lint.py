"""What a notebook of the course must be besides true: stored with its outputs, the same on every run, small."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from kmemlab.course.notebook import Cell, Notebook, canonical, joined

LARGEST = 1_000_000  # bytes: what GitHub still shows, and a student's connection still likes
IGNORE = "nbval-ignore-output"

# A default repr, "<object at 0x7f…>", is another in each run.
_ADDRESS = re.compile(r"(<|&lt;)[^<>]* at 0x[0-9a-f]{6,}(>|&gt;)")
_RUN_PATH = re.compile(r"/tmp/|ipykernel_\d+|\.py\", line \d")
_WIDGET = re.compile(r"\w+\((children|value)=")  # the text that stands for a live widget
_PICTURES = ("image/", "text/html", "application/vnd.jupyter.widget", "application/javascript")


def problems(notebook: Notebook, outputs_stored: bool) -> Iterator[str]:
    """Everything that must be mended, one sentence each. An exercise stores no outputs, all others store them."""
    for cell_id, count in Counter(cell.get("id") for cell in notebook["cells"]).items():
        if not cell_id:
            yield "a cell has no id"
        elif count > 1:
            yield f"the id {cell_id!r} is there {count} times"
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "its kernel must be python3"
    size = len(canonical(notebook).encode())
    if size > LARGEST:
        yield f"it has {size:,} bytes, more than {LARGEST:,}"
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            yield from (
                f"cell {number} ({cell.get('id')}): {problem}" for problem in _cell_problems(cell, outputs_stored)
            )


def _cell_problems(cell: Cell, outputs_stored: bool) -> Iterator[str]:
    if not outputs_stored:
        if cell["outputs"] or cell["execution_count"] is not None:
            yield "an exercise stores no outputs"
        return
    if cell["source"].strip() and cell["execution_count"] is None:
        yield "it was not run: kmemlab course run"
    text = "\n".join(_texts(cell))
    if _ADDRESS.search(text):
        yield "its output holds an object's address, which is another in each run"
    if _RUN_PATH.search(text):
        yield "its output holds a path of this computer"
    if _ignored(cell) and not _shows_a_picture(cell):
        yield f"{IGNORE} is for widgets and figures; this output can be compared"


def _ignored(cell: Cell) -> bool:
    return IGNORE in cell["metadata"].get("tags", []) or "NBVAL_IGNORE_OUTPUT" in cell["source"]


def _shows_a_picture(cell: Cell) -> bool:
    shown = [data for output in cell["outputs"] if (data := output.get("data"))]
    pictures = any(mime.startswith(_PICTURES) for data in shown for mime in data)
    return pictures or any(_WIDGET.match(joined(data.get("text/plain", ""))) for data in shown)


def _texts(cell: Cell) -> Iterator[str]:
    for output in cell["outputs"]:
        yield joined(output.get("text", ""))
        for value in output.get("data", {}).values():
            yield _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(line, str) for line in value)):
        return joined(value)
    return json.dumps(value)
