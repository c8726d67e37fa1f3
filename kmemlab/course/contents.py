"""The table of contents: each lecture with its question, and what of Linux's memory management is found in it.

It is made from the lectures themselves: a name counts only where it stands in a lecture's text or output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kmemlab.course.notebook import Notebook, joined, read
from kmemlab.course.systems import SYSTEMS, System

_READABLE = ("text/plain", "text/html", "text/markdown")


@dataclass(frozen=True)
class Lecture:
    """A lecture: its file's stem ("01_e820"), its title, the question that it answers, and all words in it."""

    stem: str
    title: str
    question: str
    words: str

    @property
    def chapter(self) -> str:
        """Its number, two digits."""
        return self.stem.partition("_")[0]

    def has(self, name: str) -> bool:
        """Whether a name stands in the lecture, as a word of its own."""
        end = r"\b" if name[-1].isalnum() else ""
        return re.search(rf"(?<!\w){re.escape(name)}{end}", self.words) is not None


def lectures(root: Path) -> tuple[Lecture, ...]:
    """The lectures of a course, in order."""
    return tuple(_lecture(path.stem, read(path)) for path in sorted((root / "notebooks").glob("*.ipynb")))


def missing(system: System, found: tuple[Lecture, ...]) -> list[str]:
    """The names of a system that its lecture doesn't mention; none if that lecture isn't there."""
    own = [lecture for lecture in found if lecture.chapter == system.chapter]
    return [name for lecture in own for name in system.names if not lecture.has(name)]


def contents_text(root: Path) -> str:
    """The page, in Markdown."""
    found = lectures(root)
    lines = [
        "# Contents",
        "",
        "In the order in which a machine comes to life. Each lecture has an exercise of its name.",
        "",
    ]
    for lecture in found:
        lines += [f"- [{lecture.title}]({lecture.stem}.ipynb): {lecture.question}"]
    lines += ["", "## What is found where", "", "| of Linux's memory management | names | lectures |", "|---|---|---|"]
    for system in SYSTEMS:
        if any(lecture.chapter == system.chapter for lecture in found):
            lines.append(_row(system, found))
    return "\n".join([*lines, "", "Words: see the [glossary](glossary.md).", ""])


def _row(system: System, found: tuple[Lecture, ...]) -> str:
    """The system's own lecture first, then the others that name most of it."""
    half = len(system.names) / 2
    others = [lecture for lecture in found if sum(map(lecture.has, system.names)) > half]
    there = sorted(others, key=lambda lecture: (lecture.chapter != system.chapter, lecture.chapter))
    names = ", ".join(f"`{name}`" for name in system.names)
    return f"| {system.title} | {names} | {', '.join(f'[{lec.chapter}]({lec.stem}.ipynb)' for lec in there)} |"


def _lecture(stem: str, notebook: Notebook) -> Lecture:
    first = notebook["cells"][0]["source"].splitlines()
    question = next((line.strip("* ") for line in first[1:] if line.startswith("**")), "")
    return Lecture(stem, first[0].lstrip("# "), question, "\n".join(_texts(notebook)))


def _texts(notebook: Notebook) -> list[str]:
    texts = []
    for cell in notebook["cells"]:
        texts.append(cell["source"])
        for output in cell.get("outputs", []):
            texts.append(joined(output.get("text", "")))
            texts += [joined(output.get("data", {}).get(kind, "")) for kind in _READABLE]
    return texts
