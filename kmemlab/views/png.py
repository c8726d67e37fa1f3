"""PNG: our own drawings painted by matplotlib, where that is installed, and maps of a pixel a cell without it."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

from kmemlab.types.errors import KmemlabError
from kmemlab.views.colours import HATCH, IN_USE
from kmemlab.views.svg import HATCHED, Mark, Svg

_SCALE = 2  # device pixels a drawn pixel, so that text stays crisp
_POINT = 0.72  # of a pixel at 100 to the inch
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def paint(drawing: Svg) -> bytes:
    """The drawing as a PNG; raises `KmemlabError` where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise KmemlabError(
            "no PNG without matplotlib", where="Figure.png", remedy="pip install matplotlib, or take .svg()"
        ) from None
    figure = Figure(figsize=(drawing.width / 100, drawing.height / 100), dpi=100 * _SCALE)
    axes: Any = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.axis("off")
    painters = {"rect": _paint_rect, "image": _paint_image, "line": _paint_line}
    for order, mark in enumerate(drawing.marks):
        painters.get(mark.kind, _paint_text)(axes, mark, order)
    out = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(out, metadata={"Software": None, "Title": drawing.title})
    return out.getvalue()


def _line_of(mark: Mark, order: int) -> dict[str, Any]:
    return {"linewidth": mark.width * _POINT, "linestyle": "--" if mark.dash else "-", "zorder": order}


def _paint_rect(axes: Any, mark: Mark, order: int) -> None:
    from matplotlib.patches import Rectangle

    x, y, width, height = mark.at
    hatched = mark.fill == HATCHED
    face = IN_USE if hatched else mark.fill
    edge = HATCH if hatched and mark.stroke == "none" else mark.stroke
    hatch = "////" if hatched else None
    line = _line_of(mark, order)
    axes.add_patch(Rectangle((x, y), width, height, facecolor=face, edgecolor=edge, hatch=hatch, **line))


def _paint_image(axes: Any, mark: Mark, order: int) -> None:
    from matplotlib.image import imread

    x, y, width, height = mark.at
    image = imread(io.BytesIO(base64.b64decode(mark.text)))
    axes.imshow(image, extent=(x, x + width, y + height, y), interpolation="nearest", aspect="auto", zorder=order)


def _paint_line(axes: Any, mark: Mark, order: int) -> None:
    from matplotlib.lines import Line2D

    x1, y1, x2, y2 = mark.at
    axes.add_line(Line2D((x1, x2), (y1, y2), color=mark.stroke, **_line_of(mark, order)))


def _paint_text(axes: Any, mark: Mark, order: int) -> None:
    font: dict[str, Any] = {
        "family": "DejaVu Sans Mono" if mark.mono else "DejaVu Sans",
        "weight": "bold" if mark.bold else "normal",
    }
    place: dict[str, Any] = {"ha": _ANCHORS[mark.anchor], "va": "baseline", "zorder": order}
    axes.text(*mark.at, mark.text.replace("$", r"\$"), fontsize=mark.size * _POINT, color=mark.fill, **font, **place)


def pixels(cells: bytes, width: int, palette: list[str]) -> bytes:
    """A PNG with a pixel a byte; `palette` are colours such as "#a9b1bd", and the last row is filled with the last one.

    >>> pixels(bytes(4), 2, ["#000000"])[1:4]
    b'PNG'
    """
    rows = -(-len(cells) // width)
    cells = cells.ljust(rows * width, bytes((len(palette) - 1,)))
    raw = b"".join(b"\0" + cells[row * width : (row + 1) * width] for row in range(rows))
    colours = b"".join(bytes.fromhex(colour[1:]) for colour in palette)
    head = struct.pack(">IIBBBBB", width, rows, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", head), (b"PLTE", colours), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
