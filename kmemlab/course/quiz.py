"""Prediction gates and quizzes: the reader commits to an answer, and gets a reason for whichever it was.

With a widget manager the choices are buttons and a quiz counts; without one (GitHub, an exported page) each choice
unfolds. Neither blocks Run All.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from kmemlab.types.errors import BadParameter


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its choices, each with the reason why it is right or not.

    Raises `BadParameter` unless `right` is one of the choices.
    """

    text: str
    choices: tuple[tuple[str, str], ...]
    right: str

    def __post_init__(self) -> None:
        if self.right not in dict(self.choices):
            raise BadParameter(
                f"{self.right!r} is none of the choices",
                where=f"the question {self.text!r}",
                remedy="copy it from one of them",
            )

    def as_text(self) -> str:
        """The question and its choices; the reasons stay hidden."""
        return "\n".join([self.text, *(f"  ( ) {label}" for label, _ in self.choices)])

    def as_html(self) -> str:
        """The same for a page without widgets: a choice unfolds to its reason."""
        rows = "".join(
            f"<details><summary>{escape(label)}</summary>"
            f"<p>{'Yes. ' if label == self.right else 'No. '}{escape(reason)}</p></details>"
            for label, reason in self.choices
        )
        return f"<p><b>{escape(self.text)}</b></p>{rows}"


@dataclass(frozen=True, slots=True)
class Quiz:
    """Some questions, shown together; a gate is a quiz of one."""

    title: str
    questions: tuple[Question, ...]

    def text(self) -> str:
        """All questions as text."""
        return "\n\n".join([self.title, *(question.as_text() for question in self.questions)])

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, Any]:
        html = f"<div><p>{escape(self.title)}</p>{''.join(question.as_html() for question in self.questions)}</div>"
        return {"text/plain": self.text(), "text/html": html, **self._live()}

    def _live(self) -> dict[str, Any]:
        try:
            import anywidget
            import traitlets
        except ImportError:
            return {}
        here = resources.files("kmemlab.course") / "assets"

        class QuizWidget(anywidget.AnyWidget):
            _esm = (here / "quiz.js").read_text(encoding="utf-8")
            _css = (here / "quiz.css").read_text(encoding="utf-8")
            title = traitlets.Unicode().tag(sync=True)
            questions: Any = traitlets.List().tag(sync=True)

        content = [
            {"text": q.text, "right": q.right, "choices": [list(choice) for choice in q.choices]}
            for q in self.questions
        ]
        bundle: Any = QuizWidget(title=self.title, questions=content)._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {mime: value for mime, value in (data or {}).items() if mime.startswith("application/")}


def question(text: str, choices: dict[str, str], *, right: str) -> Question:
    """A question: `choices` maps each answer to the reason why it is right or not."""
    return Question(text, tuple(choices.items()), right)


def gate(text: str, choices: dict[str, str], *, right: str) -> Quiz:
    """A prediction to commit to before reading on."""
    return Quiz("Before you read on: what do you expect?", (question(text, choices, right=right),))


def quiz(*questions: Question) -> Quiz:
    """A few questions at the end of a lecture; it counts what was right at the first try."""
    return Quiz("What do you take with you?", questions)
