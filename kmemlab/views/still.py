"""A step of a player as a still picture: what a notebook shows where no widget lives."""

from __future__ import annotations

import textwrap

from kmemlab.views.colours import ACCENT, INK, NOW, NOW_BAR, PANEL, SOFT_INK
from kmemlab.views.frame_map import frame_map_svg
from kmemlab.views.panel import STAGES
from kmemlab.views.steps import Step
from kmemlab.views.svg import Svg

WIDTH = 1180
_RIGHT = 640
_LINE = 17.5


def still(step: Step, at: int, count: int, stage: str, proc_name: str, tree_name: str = "call tree") -> Svg:
    """Draw a step as the player shows it, without the controls."""
    said = step.said.replace("`", "")
    drawing = Svg(WIDTH, 0, f"Step {at + 1} of {count}", f"{said} {step.sight.alt}")
    _stages(drawing, stage)
    lines = textwrap.wrap(f"Step {at + 1} of {count}. {said}", 130)
    for row, line in enumerate(lines):
        drawing.text(18, 62 + 20 * row, line, size=14.5, bold=False)
    top = 62 + 20 * len(lines)
    shown = _picture(step)
    drawing.place(shown, 0, top - 12)
    y = top + 6.0
    if step.source:
        y = _section(drawing, y, f"kernel function  ·  {step.source.title}", *_excerpt(step))
    y = _section(drawing, y, tree_name, list(step.stack), len(step.stack) - 1)
    if step.sight.proc:
        y = _section(drawing, y, proc_name, step.sight.proc.split("\n"), -1)
    y = _section(drawing, y, "what changed", list(step.changed) or ["nothing"], -1)
    drawing.height = max(y, top - 12 + shown.height) + 6
    return drawing


def _picture(step: Step) -> Svg:
    picture = step.sight.picture
    if isinstance(picture, Svg):
        return picture
    title = f"page frames {picture.start_pfn} to {picture.start_pfn + len(picture.cells) - 1}"
    return frame_map_svg(picture, title=title, current=step.focus, zone_free=step.sight.counts)


def _stages(drawing: Svg, here: str) -> None:
    x = 18.0
    for stage in STAGES:
        width = 14 + 6.8 * len(stage)
        drawing.rect(x, 12, width, 22, fill=ACCENT if stage == here else "#eef1f4")
        drawing.text(
            x + width / 2, 27, stage, size=11.5, anchor="middle", fill="#ffffff" if stage == here else SOFT_INK
        )
        x += width + 6


def _excerpt(step: Step, most: int = 16) -> tuple[list[str], int]:
    """The lines around the current one, and its place among them."""
    assert step.source is not None
    lines = list(step.source.lines)
    if len(lines) <= most:
        return lines, step.line
    first = max(0, min(step.line - most // 2, len(lines) - most))
    return lines[first : first + most], step.line - first


def _section(drawing: Svg, y: float, head: str, lines: list[str], now: int) -> float:
    drawing.text(_RIGHT, y + 8, head, size=11.5, bold=True, fill=SOFT_INK)
    y += 17
    shown = lines if len(lines) <= 24 else [*lines[:23], f"and {len(lines) - 23} more lines"]
    width = WIDTH - _RIGHT - 16
    # Wide tables are set smaller rather than cut.
    size = max(7.5, min(11.5, (width - 30) / max(map(len, shown)) / 0.61))
    drawing.rect(_RIGHT, y, width, len(shown) * _LINE + 12, fill=PANEL)
    for row, line in enumerate(shown):
        base = y + 6 + row * _LINE
        if row == now:
            drawing.rect(_RIGHT, base, width, _LINE, fill=NOW)
            drawing.rect(_RIGHT, base, 3, _LINE, fill=NOW_BAR)
        drawing.text(_RIGHT + 12, base + 12.5, line, size=size, mono=True, fill=INK)
    return y + len(shown) * _LINE + 12 + 16
