"""How a check tells its result: a box in the notebook, and the same facts as plain text."""

from __future__ import annotations

import re
from html import escape

from kmemlab.course.judge import CheckResult
from kmemlab.course.task import no_machine

# JupyterLab's own colours follow its light and dark theme; the words carry the meaning, the bar only repeats it.
_HELD, _BROKEN, _OPEN = "#009E73", "#D55E00", "#777776"
_CREDIT = re.compile(r", ([0-9]+(?:\.[0-9]+)?) of [0-9]+ points$")
_STYLE = (
    "border:1px solid var(--jp-border-color2,#bdbdbd);border-left:6px solid {colour};padding:8px 12px;max-width:960px;"
    "color:var(--jp-content-font-color1,#212121);font-family:var(--jp-content-font-family,sans-serif)"
)


def rows(result: CheckResult) -> tuple[str, list[tuple[str, str]]]:
    """A headline, and named facts below it: all that a box says."""
    task, verdict, case = result.task, result.verdict, result.case
    if not result.solved:
        return f"{task.name}: not solved yet", [("hint", f'hint("{task.name}")')]
    if verdict is None:
        every = "the case" if result.tried == 1 else f"all {result.tried} public cases"
        return f"{task.name}: holds on {every}, {_points(result.points)} of {task.points} points", []
    facts = [("law", verdict.law)]
    if case is not None:
        facts.append(("smallest case", case.text))
    if verdict.seen:
        facts.append(("seen", verdict.seen))
    if case is not None and task.inside is not no_machine:
        facts.append(("in a machine", f'difference("{task.name}", …) opens the first call that differs, in the player'))
    facts.append(("hint", f'hint("{task.name}")'))
    return (
        f"{task.name}: {result.held} of {result.tried} cases hold, {_points(result.points)} of {task.points} points",
        facts,
    )


def text_box(result: CheckResult) -> str:
    """The box as text, one fact a line."""
    headline, facts = rows(result)
    width = max((len(name) for name, _ in facts), default=0) + 1
    return "\n".join([headline, *(f"  {name + ':':<{width}} {fact}" for name, fact in facts)])


def credit(text: str) -> float:
    """The points that a box, as text, gave; 0 for an unsolved task and for any other text.

    >>> credit("e820.last_pfn: 2 of 3 cases hold, 1.5 of 2 points")
    1.5
    """
    given = _CREDIT.search(text.partition("\n")[0])
    return float(given[1]) if given else 0.0


def html_box(result: CheckResult) -> str:
    """The box as HTML, for a notebook."""
    headline, facts = rows(result)
    colour = _HELD if result.passed else _BROKEN if result.solved else _OPEN
    lines = "".join(
        f'<div style="display:flex;gap:8px"><span style="min-width:8em">{escape(name)}</span>'
        f'<span style="white-space:pre-wrap">{escape(fact)}</span></div>'
        for name, fact in facts
    )
    style = _STYLE.format(colour=colour)
    title = escape(headline)
    return f'<div role="group" aria-label="{title}" style="{style}"><strong>{title}</strong>{lines}</div>'


def _points(points: float) -> str:
    return f"{points:.1f}".removesuffix(".0")
