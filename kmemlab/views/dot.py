"""DOT: graphs as text, and whoever can draw them here.

$KMEMLAB_DOT  →  graphviz-pure (in the wheel)  →  system dot  →  a stored picture  →  the DOT text with a hint
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from kmemlab.types.errors import KmemlabError
from kmemlab.views.colours import INK, LINE, MONO, SANS, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import Svg

MAX_NODES = 40
# Graphviz knows the widths of these two; the finished picture names the fonts that we really want.
_FONTS = {"Helvetica": SANS, "Courier": MONO}
HINT = "No Graphviz here: pip install graphviz-pure draws this picture. Its DOT text:"
WIDEST_PT = 700  # what a cell of JupyterLab shows on a screen of 1400 pixels
_TIMEOUT_S = 20


@dataclass
class Graph:
    """Nodes with HTML labels, and edges; `rankdir` is the reading direction (LR or TB)."""

    name: str
    rankdir: str = "LR"
    ranksep: str = "0.45"  # inches between ranks
    nodes: dict[str, str] = field(default_factory=dict)
    edges: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def node(self, key: str, label: str) -> None:
        """Add a node; `label` is Graphviz's HTML."""
        self.nodes[key] = label

    def edge(self, tail: str, head: str, label: str = "", *, told: bool = False) -> None:
        """Add an edge; `told` marks the path that the story is about."""
        self.edges.append((tail, head, label, told))

    def source(self) -> str:
        """The DOT text; raises `KmemlabError` where the package graphviz is missing."""
        try:
            import graphviz
        except ImportError:
            raise KmemlabError(
                "diagrams need the Python package graphviz", where="Graph.source", remedy="pip install graphviz"
            ) from None
        digraph = graphviz.Digraph(
            self.name,
            graph_attr={"rankdir": self.rankdir, "nodesep": "0.22", "ranksep": self.ranksep, "pad": "0.1"},
            node_attr={"shape": "plain", "fontname": "Helvetica", "fontsize": "10.5", "fontcolor": INK},
            edge_attr={
                "arrowsize": "0.6",
                "color": LINE,
                "fontname": "Helvetica",
                "fontsize": "10",
                "fontcolor": SOFT_INK,
            },
        )
        for key, label in self.nodes.items():
            digraph.node(key, f"<{label}>")
        for tail, head, label, told in self.edges:
            look = {"color": INK, "penwidth": "1.8"} if told else {}
            digraph.edge(tail, head, label, **look)
        text: str = digraph.source
        return text


def table(rows: Sequence[Sequence[str]], *, head: str = "", fills: Sequence[str] = (), told: int | None = None) -> str:
    """An HTML label: rows of cells with hairlines; `fills` colours the rows' first cells, `told` is the row meant.

    >>> table([["a", "b"]]).count("<TD")
    2
    """
    lines = [f'<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="5" COLOR="{LINE}">']
    width = max((len(row) for row in rows), default=1)
    if head:
        lines.append(f'<TR><TD COLSPAN="{width}" ALIGN="LEFT" BGCOLOR="#eef1f4"><B>{escape(head)}</B></TD></TR>')
    for index, row in enumerate(rows):
        cells = []
        for place, cell in enumerate(row):
            fill = f' BGCOLOR="{fills[index]}"' if place == 0 and index < len(fills) and fills[index] else ""
            number = cell[:1].isdigit()
            text = f'<FONT FACE="Courier" POINT-SIZE="10">{escape(cell)}</FONT>' if number else escape(cell) or " "
            side = "RIGHT" if number else "LEFT"
            text = f"<B>{text}</B>" if index == told else text
            cells.append(f'<TD ALIGN="{side}" PORT="r{index}c{place}"{fill}>{text}</TD>')
        lines.append(f"<TR>{''.join(cells)}</TR>")
    return "".join([*lines, "</TABLE>"])


def renderers() -> Iterator[tuple[str, str]]:
    """What could draw DOT here, the best first: (what it is, the program's path)."""
    chosen = os.environ.get("KMEMLAB_DOT")
    if chosen:
        yield "$KMEMLAB_DOT", chosen
    name = "graphviz-pure.exe" if sys.platform == "win32" else "graphviz-pure"
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        if (Path(folder) / name).exists():
            yield "graphviz-pure", str(Path(folder) / name)
            break
    system = shutil.which("dot")
    if system:
        yield "system dot", system


def render(source: str, form: str = "svg") -> bytes | None:
    """The picture of a DOT text by the first renderer that works, or None."""
    for _, program in renderers():
        try:
            done = subprocess.run(
                [program, f"-T{form}"], input=source.encode(), capture_output=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if done.returncode == 0 and done.stdout:
            return done.stdout
    return None


def clean_svg(drawn: str, title: str, alt: str) -> str:
    """Graphviz's SVG without its version, and with what a screen reader needs."""
    drawn = re.sub(r"<!--.*?-->\s*", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    for known, wanted in _FONTS.items():
        drawn = re.sub(rf'font-family="{known}[^"]*"', f'font-family="{wanted}"', drawn)
    drawn = fitted(drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1))
    return re.sub(
        r"(<svg [^>]*>)",
        lambda m: f"{m[1]}\n<title>{escape(title)}</title>\n<desc>{escape(alt)}</desc>",
        drawn,
        count=1,
    )


def fitted(drawn: str) -> str:
    """The picture no wider than a notebook's cell: a wider one would be cut off at its right, where the end stands.

    >>> fitted('<svg width="1400pt" height="100pt" viewBox="0 0 1400 100">')
    '<svg width="700pt" height="50pt" viewBox="0 0 1400 100">'
    """
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', drawn)
    if not size or float(size[1]) <= WIDEST_PT:
        return drawn
    height = float(size[2]) * WIDEST_PT / float(size[1])
    return drawn.replace(size[0], f'width="{WIDEST_PT}pt" height="{height:.0f}pt"', 1)


def text_svg(source: str, title: str, alt: str) -> str:
    """The DOT text itself as a picture, with a hint how to get a better one."""
    lines = source.splitlines()
    shown = lines if len(lines) <= 40 else [*lines[:40], f"... {len(lines) - 40} more lines"]
    drawing = Svg(900, 60 + 15 * len(shown), title, alt)
    drawing.text(10, 18, title, size=13, bold=True)
    drawing.text(10, 38, HINT, size=11, fill=SOFT_INK)
    for row, line in enumerate(shown):
        drawing.text(10, 60 + 15 * row, line if len(line) < 125 else f"{line[:122]}...", size=11, mono=True)
    return drawing.svg()


def diagram(graph: Graph, title: str, alt: str, text: str, stored: Path | None = None) -> Figure:
    """The figure of a graph. It is drawn when it is looked at, and never fails for want of a renderer."""

    def svg() -> str:
        source = graph.source()
        drawn = render(source)
        if drawn is not None:
            return clean_svg(drawn.decode(), title, alt)
        if stored is not None and stored.exists():
            return stored.read_text()
        return text_svg(source, title, alt)

    def png() -> bytes:
        drawn = render(graph.source(), "png")
        if drawn is None:
            raise KmemlabError("no Graphviz here", where="Figure.png", remedy="pip install graphviz-pure")
        return drawn

    return Figure(title, alt, text, svg, png)
