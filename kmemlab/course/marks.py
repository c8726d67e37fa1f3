"""The marks on an exercise's cells, in nbgrader's words (schema 3): which cell is an answer, which one checks it.

cell        solution  grade  locked   grade_id              points
an answer   true      false  false    buddy-expand
its check   false     true   true     buddy-expand-check    as the task says
text, kept  false     false  true     any other
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from kmemlab.course.notebook import BadNotebook, Cell, Notebook
from kmemlab.course.strip import has_answer
from kmemlab.course.task import Task, Tasks

SCHEMA = 3
_ID = re.compile(r"[A-Za-z0-9_-]+")
_FLAGS = ("solution", "grade", "locked", "task")


def mark_of(cell: Cell) -> dict[str, Any]:
    """The cell's nbgrader metadata; empty when it bears none."""
    mark = cell["metadata"].get("nbgrader", {})
    return mark if isinstance(mark, dict) else {}


def is_answer(cell: Cell) -> bool:
    """Whether students write in this cell."""
    return bool(mark_of(cell).get("solution"))


def is_check(cell: Cell) -> bool:
    """Whether this cell checks an answer."""
    return bool(mark_of(cell).get("grade")) and not is_answer(cell)


def task_names(notebook: Notebook) -> list[str]:
    """The names of the tasks that the notebook's check cells ask for, in their order."""
    return [checked(cell)[0] for cell in notebook["cells"] if is_check(cell)]


def problems(notebook: Notebook, tasks: Tasks) -> Iterator[str]:
    """Everything that would make the notebook no valid source of an exercise, one sentence each."""
    ids: set[str] = set()
    open_answer: Cell | None = None
    for number, cell in enumerate(notebook["cells"]):
        where = f"cell {number} ({cell.get('id', 'without id')})"
        yield from (f"{where}: {problem}" for problem in _wrong_mark(cell, ids))
        if is_answer(cell):
            if open_answer is not None:
                yield f"{where}: the answer {mark_of(open_answer).get('grade_id')!r} before it has no check"
            open_answer = cell
        elif is_check(cell):
            yield from (f"{where}: {problem}" for problem in _wrong_check(cell, open_answer, tasks))
            open_answer = None
    if open_answer is not None:
        yield f"the answer {mark_of(open_answer).get('grade_id')!r} has no check"


def require(notebook: Notebook, tasks: Tasks, name: str) -> None:
    """Raise `BadNotebook` with the first problem of the notebook `name`."""
    for problem in problems(notebook, tasks):
        raise BadNotebook(
            problem, where=name, remedy="mend the cell's nbgrader metadata, or the task in kmemlab/course/tasks"
        )


def _wrong_mark(cell: Cell, ids: set[str]) -> Iterator[str]:
    mark = mark_of(cell)
    if has_answer(cell["source"]) != is_answer(cell) or (is_answer(cell) and cell["cell_type"] != "code"):
        yield "an answer's code cell has both the marks in its source and solution: true"
    if not mark:
        return
    grade_id = mark.get("grade_id")
    if mark.get("schema_version") != SCHEMA:
        yield f"nbgrader's schema_version must be {SCHEMA}"
    if not isinstance(grade_id, str) or not _ID.fullmatch(grade_id):
        yield f"the grade_id {grade_id!r} must be made of letters, digits, hyphens and underscores"
    elif grade_id in ids:
        yield f"the grade_id {grade_id!r} is there twice"
    ids.add(str(grade_id))
    wanted = (True, False, False, False) if is_answer(cell) else (False, is_check(cell), True, False)
    if tuple(mark.get(flag) for flag in _FLAGS) != wanted:
        yield f"{', '.join(_FLAGS)} must be {', '.join(map(str, wanted)).lower()}"
    if ("points" in mark) != is_check(cell):
        yield "points belong to check cells, and to each of them"


def _wrong_check(cell: Cell, answer: Cell | None, tasks: Tasks) -> Iterator[str]:
    names = checked(cell)
    if len(names) != 1:
        yield f"a check's cell calls check(…) once, this one {len(names)} times"
        return
    known = [task for task in tasks if task.name == names[0]]
    if not known:
        yield f"there is no task {names[0]!r}"
        return
    yield from _unlike_task(mark_of(cell), answer, known[0])


def _unlike_task(mark: dict[str, Any], answer: Cell | None, task: Task) -> Iterator[str]:
    if mark.get("grade_id") != task.check_id:
        yield f"the grade_id must be {task.check_id!r}"
    if mark.get("points") != task.points:
        yield f"points must be {task.points}, as the task says"
    if answer is None:
        yield f"no answer stands before the check of {task.name!r}"
    elif mark_of(answer).get("grade_id") != task.grade_id:
        yield f"the answer before it must have the grade_id {task.grade_id!r}"


def checked(cell: Cell) -> list[str]:
    """The task names in the cell's calls of check(…)."""
    try:
        tree = ast.parse(cell["source"])
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # whatever Python can't read calls nothing
        return []
    return [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"
        if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    ]
