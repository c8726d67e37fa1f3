"""Exercises are built: solutions/NN_topic.ipynb → exercises/NN_topic.ipynb, by a pure function.

So are the table of contents and the glossary, from the lectures.

solutions/05_buddy.ipynb    edited by hand, with outputs      the one source
        │  answers out, outputs out, ids kept
        ▼
exercises/05_buddy.ipynb    what students get                 never edited; --check compares byte for byte
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kmemlab.course.contents import contents_text
from kmemlab.course.glossary import glossary_text
from kmemlab.course.marks import is_answer, is_check, mark_of, require
from kmemlab.course.notebook import BadNotebook, Cell, Notebook, canonical, read, write
from kmemlab.course.strip import strip_answers
from kmemlab.course.tasks import load_all


def build_exercise(solution: Notebook) -> Notebook:
    """The exercise that belongs to a solution: answers and outputs out, everything else kept."""
    cells = solution["cells"]
    return {**solution, "cells": [_exercise_cell(cell, cells[at + 1 :]) for at, cell in enumerate(cells)]}


def names_checked(following: list[Cell]) -> set[str]:
    """The names that are read from here to the next check: of what an answer sets, these are what is asked for."""
    names: set[str] = set()
    for cell in following:
        if cell["cell_type"] == "code":
            with suppress(SyntaxError):  # a cell between may hold a magic; an answer and its check can't
                names |= {node.id for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.Name)}
            if is_check(cell):
                break
    return names


def _exercise_cell(cell: Cell, following: list[Cell]) -> Cell:
    metadata = dict(cell["metadata"])
    if mark_of(cell):  # an editor then keeps students from deleting what is graded, and from editing what checks
        metadata["deletable"] = False
        if mark_of(cell).get("locked"):
            metadata["editable"] = False
    exercise = {**cell, "metadata": metadata}
    if cell["cell_type"] == "code":
        exercise |= {"execution_count": None, "outputs": []}
    if is_answer(cell):
        exercise["source"] = strip_answers(cell["source"], names_checked(following))
    return exercise


@dataclass(frozen=True)
class Pair:
    """A solution and the exercise that is built from it."""

    solution: Path
    exercise: Path

    def fresh(self) -> Notebook:
        """The exercise, built anew. Raises `BadNotebook` where the solution is no valid source."""
        notebook = read(self.solution)
        require(notebook, load_all(), self.solution.name)
        try:
            return build_exercise(notebook)
        except BadNotebook as error:
            raise BadNotebook(error.what, where=str(self.solution), remedy=error.remedy) from None


def pairs(root: Path) -> list[Pair]:
    """Every solution under `root` with its exercise. Raises `BadNotebook` for an exercise that has no solution."""
    solutions = sorted((root / "solutions").glob("*.ipynb"))
    strays = {p.name for p in (root / "exercises").glob("*.ipynb")} - {p.name for p in solutions}
    for stray in sorted(strays):
        raise BadNotebook(
            f"exercises/{stray} has no solution",
            where=str(root),
            remedy=f"write solutions/{stray}, or remove the exercise",
        )
    return [Pair(path, root / "exercises" / path.name) for path in solutions]


def build(root: Path) -> list[Path]:
    """Build every exercise, and return those that changed. Nothing is written unless all of them can be built."""
    fresh = [(pair.exercise, pair.fresh()) for pair in pairs(root)]
    changed = [(path, notebook) for path, notebook in fresh if not _holds(path, canonical(notebook))]
    for path, notebook in changed:
        write(path, notebook)
    pages = [(path, text) for path, text in fresh_pages(root) if not _holds(path, text)]
    for path, text in pages:
        path.write_text(text, encoding="utf-8", newline="\n")
    return [path for path, _ in changed + pages]


def fresh_pages(root: Path) -> list[tuple[Path, str]]:
    """The table of contents and the glossary, made from the lectures; none where there are no lectures."""
    folder = root / "notebooks"
    if not any(folder.glob("*.ipynb")):
        return []
    return [(folder / "contents.md", contents_text(root)), (folder / "glossary.md", glossary_text(root))]


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() == text.encode()


def differences(root: Path) -> Iterator[str]:
    """The first difference of each exercise from a fresh build, told by file, cell and line."""
    for pair in pairs(root):
        fresh = pair.fresh()
        if not pair.exercise.exists():
            yield f"{pair.exercise.name}: not built"
        elif not _holds(pair.exercise, canonical(fresh)):
            yield f"{pair.exercise.name}: {_first_difference(pair.exercise, fresh)}"
    for path, text in fresh_pages(root):
        if not _holds(path, text):
            yield f"{path.name}: differs from a fresh build"


def _first_difference(path: Path, fresh: Notebook) -> str:
    try:
        there = read(path)
    except BadNotebook as error:
        return error.what
    for number, (have, want) in enumerate(zip(there["cells"], fresh["cells"], strict=False)):
        for key in sorted(want.keys() | have.keys()):
            if have.get(key) != want.get(key):
                return f"cell {number} ({want.get('id')}) differs in its {key}{_line(have, want, key)}"
    if len(there["cells"]) != len(fresh["cells"]):
        return f"it has {len(there['cells'])} cells, a fresh build has {len(fresh['cells'])}"
    for number, (old, new) in enumerate(
        zip(path.read_text(encoding="utf-8").splitlines(), canonical(fresh).splitlines(), strict=False), 1
    ):
        if old != new:
            return f"line {number} is {old.strip()!r}, a fresh build has {new.strip()!r}"
    return "it ends otherwise than a fresh build"


def _line(have: Cell, want: Cell, key: str) -> str:
    if key != "source":
        return ""
    for number, (old, new) in enumerate(zip(have["source"].splitlines(), want["source"].splitlines(), strict=False), 1):
        if old != new:
            return f", line {number}: {old!r} instead of {new!r}"
    return ", which is longer or shorter"
