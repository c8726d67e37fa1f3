"""The student's own copy of the course: filled up, brought up to date, begun anew; nothing of the student's is lost.

    the course's notebooks        the student's folder
    exercises/05_buddy.ipynb ───▶ exercises/05_buddy.ipynb            what the student works in
                             └──▶ .kmemlab/exercises/05_buddy.ipynb   the same as it was handed out

When the course has changed, three versions of a notebook meet: as handed out, the student's, the new one. They are
merged cell by cell, known by id: where the student changed something the student's word holds, else the new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from kmemlab.course.marks import is_answer, mark_of
from kmemlab.course.notebook import BadNotebook, Cell, Notebook, read, write

HANDED_OUT = ".kmemlab"
KEPT = "kept"


@dataclass
class Filled:
    """What `fill_up` did, file by file (paths within the folder); `set_aside` are copies of the student's versions."""

    added: list[Path] = field(default_factory=list)
    updated: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    set_aside: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{len(self.added)} files added, {len(self.kept)} of yours kept"
        if self.updated:
            text += f", {len(self.updated)} brought up to date with your answers in them"
        if self.set_aside:
            text += f"; as you had them: {', '.join(map(str, self.set_aside))}"
        return text


def fill_up(folder: Path, source: Path, parts: tuple[str, ...]) -> Filled:
    """Copy what `folder` lacks of the `parts` of the course in `source`, and update what is older than the course."""
    filled = Filled()
    for part in parts:
        (folder / part).mkdir(parents=True, exist_ok=True)
        for original in _files(source / part):
            name = original.relative_to(source)
            if not (folder / name).exists():
                _copy(original, folder / name)
                filled.added.append(name)
            elif _is_outdated(folder, name, original):
                _update(folder, name, original, filled)
            else:
                filled.kept.append(name)
            _copy(original, folder / HANDED_OUT / name)
    return filled


def reset(folder: Path, name: Path, fresh: Notebook) -> Path | None:
    """Put a fresh notebook in the place of `name`; returns where the old one was kept, or None if there was none."""
    place = folder / name
    aside = set_aside(folder, name) if place.exists() else None
    write(place, fresh)
    return aside


def set_aside(folder: Path, name: Path) -> Path:
    """Copy a file of the folder to a new name beside it: kept/05_buddy.1.ipynb, .2, …; returns it, within `folder`."""
    for number in count(1):
        aside = name.parent / KEPT / f"{name.stem}.{number}{name.suffix}"
        if not (folder / aside).exists():
            break
    _copy(folder / name, folder / aside)
    return aside


def merged(handed_out: Notebook | None, mine: Notebook, new: Notebook) -> Notebook:
    """The new notebook with everything in it that the student changed or added since it was handed out.

    Where it isn't known what was handed out (None), answers and unknown cells count as the student's. A cell that
    checks an answer is always the new one. Raises `BadNotebook` for a notebook whose cells have no ids.
    """
    if not all(cell.get("id") for cell in mine["cells"]):
        raise BadNotebook("a notebook with cells without ids can't be merged", remedy="save it once in JupyterLab")
    there = {cell["id"]: cell for cell in new["cells"]}
    changed = {cell["id"]: cell for cell in mine["cells"] if _is_changed(cell, handed_out, there)}
    cells = [_student_s(cell, changed) for cell in new["cells"]]
    for at, cell in enumerate(mine["cells"]):
        if cell["id"] in changed and cell["id"] not in there:
            _put_after(cells, [above["id"] for above in mine["cells"][:at]], cell)
    return {**new, "cells": cells}


def _is_changed(cell: Cell, handed_out: Notebook | None, new: dict[str, Cell]) -> bool:
    if handed_out is None:
        return is_answer(cell) or cell["id"] not in new
    before = [old["source"] for old in handed_out["cells"] if old["id"] == cell["id"]]
    return before != [cell["source"]]


def _student_s(cell: Cell, changed: dict[str, Cell]) -> Cell:
    own = changed.get(cell["id"])
    if own is None or mark_of(cell).get("locked") or own["cell_type"] != cell["cell_type"]:
        return cell
    return {**own, "metadata": cell["metadata"]}


def _put_after(cells: list[Cell], above: list[str], cell: Cell) -> None:
    """Behind the nearest cell that stood above it and is still there; else first."""
    places = {there["id"]: at for at, there in enumerate(cells)}
    at = next((places[name] + 1 for name in reversed(above) if name in places), 0)
    cells.insert(at, cell)


def _update(folder: Path, name: Path, original: Path, filled: Filled) -> None:
    place, handed_out = folder / name, folder / HANDED_OUT / name
    if handed_out.exists() and _same(place, handed_out):  # untouched
        _copy(original, place)
        filled.updated.append(name)
        return
    if name.suffix != ".ipynb":
        filled.kept.append(name)
        return
    try:
        notebook = merged(read(handed_out) if handed_out.exists() else None, read(place), read(original))
    except BadNotebook:  # what the student has can't be read: it stays, and JupyterLab will say so
        filled.kept.append(name)
        return
    if notebook == read(original):  # only run, or only read
        _copy(original, place)
    else:
        filled.set_aside.append(set_aside(folder, name))
        write(place, notebook)
    filled.updated.append(name)


def _is_outdated(folder: Path, name: Path, original: Path) -> bool:
    handed_out = folder / HANDED_OUT / name
    if handed_out.exists():
        return not _same(handed_out, original)
    return not _same(folder / name, original) and name.suffix == ".ipynb"


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".ipynb_checkpoints" not in path.parts:
            yield path


def _copy(source: Path, place: Path) -> None:
    """All or nothing: a copy that breaks off leaves what was there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    half = place.with_name(f".{place.name}.new")
    shutil.copyfile(source, half)
    os.replace(half, place)
