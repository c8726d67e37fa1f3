"""Plots over time: a few curves in panels under each other, told apart by colour, by dashes and by name.

matplotlib draws them: axes, ticks and labels are its trade. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kmemlab.types.errors import KmemlabError
from kmemlab.views.colours import INK, LINE, SOFT_INK
from kmemlab.views.figure import Figure

# Okabe-Ito, dark enough to be read as lines on white; with each its dashes, the second channel.
LOOKS = (
    ("#1f5fa8", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#8a5a83", ":"), ("#56606a", (0, (6, 2, 1, 2, 1, 2))),
)  # fmt: skip
_WIDE, _HIGH = 7.6, 1.6  # inches of the figure, and of a panel


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: its name, and a number for each place on the axis. `look` counts into `LOOKS`."""

    name: str
    at: Sequence[float]
    values: Sequence[float]
    look: int = 0
    thin: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that share a unit; `marks` are places with a word each, drawn as thin upright lines.

    What is above `top` is cut off: a second look at the same curves, near the ground.
    """

    unit: str
    curves: Sequence[Curve]
    marks: Sequence[tuple[float, str]] = ()
    top: float | None = None


def plot(title: str, along: str, panels: Sequence[Panel], alt: str, text: str) -> Figure:
    """The panels as one figure over the axis `along`; `alt` and `text` tell the same in words and in numbers.

    Drawing raises `KmemlabError` where matplotlib is missing.
    """
    return Figure(title, alt, text, lambda: _save(_draw(title, along, panels), "svg", alt).decode(),
                  lambda: _save(_draw(title, along, panels), "png", alt))  # fmt: skip


def _draw(title: str, along: str, panels: Sequence[Panel]) -> Any:
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise KmemlabError(
            "no plot without matplotlib", where="plot", remedy="pip install matplotlib, or take .text()"
        ) from None
    figure = Canvas(figsize=(_WIDE, 0.7 + _HIGH * len(panels)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    every = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(every, panels, strict=True):
        _draw_panel(axes, panel)
    every[-1].set_xlabel(along, fontsize=9, color=SOFT_INK)
    return figure


def _draw_panel(axes: Any, panel: Panel) -> None:
    for curve in panel.curves:
        colour, dashes = LOOKS[curve.look % len(LOOKS)]
        width = 1.0 if curve.thin else 1.8
        axes.plot(curve.at, curve.values, color=colour, linestyle=dashes, linewidth=width, label=curve.name)
    for place, word in panel.marks:
        axes.axvline(place, color=LINE, linewidth=0.8, zorder=0)
        axes.annotate(word, (place, 1), xycoords=("data", "axes fraction"), fontsize=7.5, color=SOFT_INK,
                      rotation=90, ha="right", va="top")  # fmt: skip
    axes.set_ylim(0, panel.top)
    axes.set_ylabel(panel.unit, fontsize=9, color=SOFT_INK)
    axes.tick_params(labelsize=8, colors=SOFT_INK)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.grid(axis="y", color=LINE, alpha=0.25, linewidth=0.6)
    # Beside the curves, never on them.
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8.5, handlelength=2.6)


def _save(figure: Any, kind: str, alt: str) -> bytes:
    """The bytes of a drawing. No date and no random names, so that they are the same on each run."""
    from matplotlib import rc_context

    out = io.BytesIO()
    fonts = ["Helvetica", "DejaVu Sans", "Arial"]
    with rc_context({"svg.hashsalt": "kmemlab", "svg.fonttype": "none", "font.sans-serif": fonts}):
        if kind == "svg":
            figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Description": alt})
        else:
            figure.savefig(out, format="png", dpi=200, metadata={"Software": None, "Description": alt})
    return out.getvalue()
