"""Model and machine side by side: as text, and as a table for a notebook with the same facts."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from kmemlab.machine.compare import Comparison, Difference, Family, compare_capture

MANY = 8  # of a family so many differences are told

_TABLE = "border-collapse:collapse;font-size:13px;color:var(--jp-content-font-color1,#212121)"
_CELL = "padding:3px 10px;border-bottom:1px solid var(--jp-border-color2,#bdbdbd);vertical-align:top"
_LEFT, _RIGHT = f"{_CELL};text-align:left", f"{_CELL};text-align:right"
_CODE = "font-family:var(--jp-code-font-family,monospace);font-size:12px;white-space:pre-wrap"


def percent(score: float) -> str:
    """A share in per cent, rounded down: only what is whole is called so.

    >>> percent(1.0), percent(0.99996)
    ('100 %', '99.9 %')
    """
    return "100 %" if score == 1 else f"{int(score * 1000) / 10:.1f} %"


def heading(comparison: Comparison) -> str:
    """Machine, kernel and score in a line."""
    return f"{comparison.name}, Linux {comparison.kernel}: {percent(comparison.score)} of the facts agree"


def notes(family: Family) -> list[str]:
    """What is to be said of a family besides its differences."""
    told = []
    if len(family.differences) > MANY:
        told.append(f"and {len(family.differences) - MANY} more")
    if family.first is not None and not family.differences:
        told.append(f"all is there, in another order from here on: {family.first.linux}")
    elif family.first is not None and len(family.differences) > 1:
        told.append(f"the first in order: {family.first.linux or 'nothing'}")
    return told


def comparison_text(comparison: Comparison) -> str:
    """A line a family; under those that differ, what Linux said (-) and what the model says (+)."""
    lines = [heading(comparison), f"{'':16} {'Linux':>6} {'model':>6} {'agree':>6}   score"]
    for family in comparison.families:
        counts = f"{family.linux:6} {family.model:6} {family.agree:6}"
        lines.append(f"{family.name:16} {counts} {percent(family.score):>7}  {family.title}")
        for pair in family.differences[:MANY]:
            lines += [f"    - {pair.linux}"] * bool(pair.linux) + [f"    + {pair.model}"] * bool(pair.model)
        lines += [f"    {note}" for note in notes(family)]
    if comparison.absent:
        lines.append(f"not compared, as the folder has no {', '.join(comparison.absent)}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """A comparison that a notebook shows as a table, and a terminal as text."""

    comparison: Comparison

    def text(self) -> str:
        """The table as text."""
        return comparison_text(self.comparison)

    def html(self) -> str:
        """The table as HTML: a row a family, which opens where something differs."""
        head = "".join(
            f'<th scope="col" style="{style}">{name}</th>'
            for name, style in (
                ("what", _LEFT),
                ("Linux", _RIGHT),
                ("model", _RIGHT),
                ("agree", _RIGHT),
                ("score", _RIGHT),
            )
        )
        rows = "".join(_row(family) for family in self.comparison.families)
        absent = ", ".join(self.comparison.absent)
        foot = f"<p>not compared, as the folder has no {escape(absent)}</p>" if absent else ""
        return (
            f'<table style="{_TABLE}"><caption style="text-align:left;padding:4px 10px">'
            f"{escape(heading(self.comparison))}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{foot}"
        )

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": self.text()}


def compare(folder: str | Path) -> ComparisonTable:
    """Boot the machine of a folder of saved texts and show, family by family, where the model is right.

    Raises `BadCapture` and `BadSpec` as `compare_capture` does.
    """
    return ComparisonTable(compare_capture(folder))


def _row(family: Family) -> str:
    title = f"{escape(family.title)} <small>({escape(family.name)})</small>"
    if family.differences or family.first is not None:
        pairs = "".join(_pair(pair) for pair in family.differences[:MANY])
        told = "".join(f"<div>{escape(note)}</div>" for note in notes(family))
        title = f"<details><summary>{title}</summary>{pairs}{told}</details>"
    numbers = (str(family.linux), str(family.model), str(family.agree), percent(family.score))
    cells = "".join(f'<td style="{_RIGHT}">{number}</td>' for number in numbers)
    return f'<tr><th scope="row" style="{_LEFT};font-weight:normal">{title}</th>{cells}</tr>'


def _pair(pair: Difference) -> str:
    sides = (("Linux", pair.linux), ("model", pair.model))
    return "".join(f'<div>{name}: <code style="{_CODE}">{escape(said)}</code></div>' for name, said in sides if said)
