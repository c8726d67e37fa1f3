"""How far a student has come: what the checks said when the exercises were saved last.

exercises/05_buddy.ipynb    check cell, stored output    "buddy.expand: holds on all 9 public cases, 3 of 3 points"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from kmemlab.course.box import credit
from kmemlab.course.marks import checked, is_check, mark_of
from kmemlab.course.notebook import BadNotebook, Cell, is_text, joined, read

DONE, OPEN = "■", "□"


@dataclass(frozen=True)
class Result:
    """One task, and the points of `of` that its check gave when it ran last."""

    task: str
    points: float
    of: int

    @property
    def solved(self) -> bool:
        """Whether the check gave every point."""
        return self.points >= self.of


@dataclass(frozen=True)
class Chapter:
    """The tasks of one exercise; `problem` says why it could not be read."""

    name: str
    results: tuple[Result, ...]
    problem: str = ""

    @property
    def solved(self) -> int:
        """How many tasks are solved."""
        return sum(result.solved for result in self.results)

    @property
    def points(self) -> float:
        """The points of all tasks, those given in part included."""
        return sum(result.points for result in self.results)

    @property
    def of(self) -> int:
        """The points that could be had."""
        return sum(result.of for result in self.results)

    def row(self) -> tuple[str, str, str, str]:
        """Name, a bar of one square a task, what it says in words, and the tasks that are open."""
        if self.problem:
            return self.name, "", self.problem, ""
        bar = "".join(DONE if result.solved else OPEN for result in self.results)
        words = f"{self.solved} of {len(self.results)} tasks, {self.points:g} of {self.of} points"
        return self.name, bar, words, ", ".join(result.task for result in self.results if not result.solved)


@dataclass(frozen=True)
class Progress:
    """All chapters, as text and as a table for a notebook."""

    chapters: tuple[Chapter, ...]

    def text(self) -> str:
        """One line a chapter, and the sum."""
        rows = [chapter.row() for chapter in self.chapters]
        name, bar = (max((len(row[at]) for row in rows), default=0) for at in (0, 1))
        lines = [f"{row[0]:{name}}  {row[1]:{bar}}  {row[2]}" for row in rows]
        return "\n".join([*lines, self._sum()])

    def _sum(self) -> str:
        if not self.chapters:
            return "No exercises lie beside this notebook: open it in the folder that `kmemlab lab` made."
        solved, tasks = (
            sum(values) for values in zip(*[(c.solved, len(c.results)) for c in self.chapters], strict=True)
        )
        points, of = (sum(values) for values in zip(*[(c.points, c.of) for c in self.chapters], strict=True))
        return f"In all {solved} of {tasks} tasks, {points:g} of {of} points, as the exercises were saved last."

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_kwargs: object) -> dict[str, str]:
        if not self.chapters:
            return {"text/html": f"<p>{escape(self.text())}</p>", "text/plain": self.text()}
        head = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in _COLUMNS)
        body = "".join(f"<tr>{''.join(_cells(chapter.row()))}</tr>" for chapter in self.chapters)
        caption = f"<caption>{escape(self._sum())}</caption>"
        table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return {"text/html": table, "text/plain": self.text()}


_COLUMNS = ("chapter", "tasks", "solved", "still open")


def _cells(row: tuple[str, str, str, str]) -> Iterator[str]:
    for name, value in zip(_COLUMNS, row, strict=True):
        hidden = ' aria-hidden="true"' if name == "tasks" else ""  # the words beside it say the same
        yield f'<td style="text-align:left"{hidden}>{escape(value)}</td>'


def progress(folder: Path | str | None = None) -> Progress:
    """What the saved exercises of a course folder say; without one, the folder that this notebook is in.

    Raises `BadNotebook` for a folder without exercises; a notebook that was opened alone is told so, and runs on.
    """
    roots = [Path(folder)] if folder is not None else [Path.cwd(), *Path.cwd().parents]
    for root in roots:
        found = sorted((root / "exercises").glob("*.ipynb"))
        if found:
            return Progress(tuple(chapter_of(path) for path in found))
    if folder is None:
        return Progress(())
    raise BadNotebook(
        f"{roots[0]} holds no exercises", where="progress", remedy="name the folder that `kmemlab lab` made"
    )


def chapter_of(path: Path) -> Chapter:
    """The results that one exercise has stored; a file that can't be read is told, and stops nothing."""
    try:
        notebook = read(path)
        checks = (cell for cell in notebook["cells"] if is_check(cell))
        return Chapter(path.stem, tuple(_result(cell) for cell in checks))
    except BadNotebook as error:
        return Chapter(path.stem, (), error.what)


def _result(cell: Cell) -> Result:
    names, of = checked(cell), mark_of(cell).get("points")
    if len(names) != 1 or type(of) is not int or of < 1:
        raise BadNotebook(
            f"the check cell {str(mark_of(cell).get('grade_id'))[:40]!r} is not as it was handed out",
            where="progress",
            remedy="`kmemlab course reset` hands the exercise out anew",
        )
    return Result(names[0], _credit(cell, names[0], of), of)


def _credit(cell: Cell, task: str, of: int) -> float:
    """What the last box of the task in the cell's outputs gives; nothing where the cell broke off.

    The last one, because an answer can show something, too, while it is tried. A check that doesn't hold shows its box,
    and then raises `CheckFailed`: so it is never worth all points.
    """
    outputs = cell.get("outputs", [])
    errors = [output.get("ename") for output in outputs if output.get("output_type") == "error"]
    if any(error != "CheckFailed" for error in errors):
        return 0.0
    texts = [_text(output) for output in outputs]
    boxes = [text for text in texts if text.startswith(f"{task}: ")]
    points = credit(boxes[-1]) if boxes else 0.0
    return min(points, of - 0.1 if errors else of)


def _text(output: dict[str, Any]) -> str:
    text = output.get("data", {}).get("text/plain", "")
    if not is_text(text):
        raise BadNotebook("an output of a check cell is no text", where="progress", remedy="run the check again")
    return joined(text)
