"""PNG of our own drawings: the marks of an SVG painted by matplotlib, where that is installed."""

from __future__ import annotations

import io
from typing import Any

from kmemlab.types.errors import KmemlabError
from kmemlab.views.colours import HATCH, IN_USE
from kmemlab.views.svg import HATCHED, Svg

_SCALE = 2  # device pixels a drawn pixel, so that text stays crisp
_POINT = 0.72  # of a pixel at 100 to the inch
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def paint(drawing: Svg) -> bytes:
    """The drawing as a PNG; raises `KmemlabError` where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle
    except ImportError:
        raise KmemlabError(
            "no PNG without matplotlib", where="Figure.png", remedy="pip install matplotlib, or take .svg()"
        ) from None
    figure = Figure(figsize=(drawing.width / 100, drawing.height / 100), dpi=100 * _SCALE)
    axes: Any = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.axis("off")
    for order, mark in enumerate(drawing.marks):
        line = {"linewidth": mark.width * _POINT, "linestyle": "--" if mark.dash else "-", "zorder": order}
        if mark.kind == "rect":
            x, y, width, height = mark.at
            hatched = mark.fill == HATCHED
            face = IN_USE if hatched else mark.fill
            edge = HATCH if hatched and mark.stroke == "none" else mark.stroke
            hatch = "////" if hatched else None
            axes.add_patch(Rectangle((x, y), width, height, facecolor=face, edgecolor=edge, hatch=hatch, **line))
        elif mark.kind == "line":
            x1, y1, x2, y2 = mark.at
            axes.add_line(Line2D((x1, x2), (y1, y2), color=mark.stroke, **line))
        else:
            font = {
                "family": "DejaVu Sans Mono" if mark.mono else "DejaVu Sans",
                "weight": "bold" if mark.bold else "normal",
            }
            place = {"ha": _ANCHORS[mark.anchor], "va": "baseline", "zorder": order}
            axes.text(
                *mark.at, mark.text.replace("$", r"\$"), fontsize=mark.size * _POINT, color=mark.fill, **font, **place
            )
    out = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(out, metadata={"Software": None, "Title": drawing.title})
    return out.getvalue()
