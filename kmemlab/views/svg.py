"""A small SVG builder: rectangles, lines and text, with what a screen reader needs. The same figure, the same bytes."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from xml.sax.saxutils import escape, quoteattr

from kmemlab.views.colours import HATCH, IN_USE, INK, LINE, MONO, PAPER, SANS

HATCHED = "url(#in-use)"
HATCH_DEFS = (
    '<defs><pattern id="in-use" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<rect width="6" height="6" fill="{IN_USE}"/><line x1="0.5" y1="0" x2="0.5" y2="6" stroke="{HATCH}"/>'
    "</pattern></defs>"
)


def number(value: float) -> str:
    """A coordinate with at most one decimal, so that the bytes don't depend on the platform.

    >>> number(12.0), number(0.25)
    ('12', '0.2')
    """
    text = f"{value:.1f}"
    return text.removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing drawn: kept as facts too, so that it can also be painted as a PNG and compared with the text."""

    kind: str  # rect, line, text or image
    at: tuple[float, ...]  # rect and image: x, y, width, height; line: x1, y1, x2, y2; text: x, y
    fill: str = "none"
    stroke: str = "none"
    width: float = 1.0
    text: str = ""
    size: float = 12.0
    anchor: str = "start"
    bold: bool = False
    mono: bool = False
    dash: bool = False
    note: str = ""  # what the mark means, for a pointer that rests on it

    def svg(self) -> str:
        """The mark as one SVG element."""
        if self.kind == "text":
            style = f' font-family="{MONO}"' if self.mono else ""
            style += ' font-weight="600"' if self.bold else ""
            style += f' text-anchor="{self.anchor}"' if self.anchor != "start" else ""
            x, y = map(number, self.at)
            return (
                f'<text x="{x}" y="{y}" font-size="{number(self.size)}" fill="{self.fill}"{style}'
                f' xml:space="preserve">{escape(self.text)}</text>'
            )
        stroke = f' stroke="{self.stroke}" stroke-width="{number(self.width)}"' if self.stroke != "none" else ""
        stroke += ' stroke-dasharray="3 3"' if self.dash else ""
        a, b, c, d = map(number, self.at)
        if self.kind == "line":
            return f'<line x1="{a}" y1="{b}" x2="{c}" y2="{d}"{stroke}/>'
        if self.kind == "image":
            place = f'x="{a}" y="{b}" width="{c}" height="{d}" preserveAspectRatio="none"'
            return f'<image {place} style="image-rendering: pixelated" href="data:image/png;base64,{self.text}"/>'
        body = f'<rect x="{a}" y="{b}" width="{c}" height="{d}" fill="{self.fill}"{stroke}'
        return f"{body}><title>{escape(self.note)}</title></rect>" if self.note else f"{body}/>"


@dataclass
class Svg:
    """A drawing of `width` by `height` pixels.

    >>> drawing = Svg(20, 10, title="a < b", alt="one box")
    >>> drawing.rect(0, 0, 8, 8, fill="#eee")
    >>> "<title>a &lt; b</title>" in drawing.svg() and 'role="img"' in drawing.svg()
    True
    """

    width: float
    height: float
    title: str
    alt: str
    marks: list[Mark] = field(default_factory=list)

    def rect(
        self, x: float, y: float, width: float, height: float, *, fill: str = "none", stroke: str = "none",
        line: float = 1.0, dash: bool = False, note: str = "",
    ) -> None:  # fmt: skip
        """Draw a rectangle; `line` is the width of its outline."""
        self.marks.append(Mark("rect", (x, y, width, height), fill, stroke, line, dash=dash, note=note))

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, stroke: str = LINE, line: float = 1.0, dash: bool = False
    ) -> None:
        """Draw a line."""
        self.marks.append(Mark("line", (x1, y1, x2, y2), stroke=stroke, width=line, dash=dash))

    def text(
        self, x: float, y: float, text: str, *, size: float = 12.0, fill: str = INK, anchor: str = "start",
        bold: bool = False, mono: bool = False,
    ) -> None:  # fmt: skip
        """Write text with its base line at `y`; `anchor` is start, middle or end."""
        self.marks.append(Mark("text", (x, y), fill, text=text, size=size, anchor=anchor, bold=bold, mono=mono))

    def image(self, x: float, y: float, width: float, height: float, png: bytes) -> None:
        """Stretch a PNG without smoothing it."""
        self.marks.append(Mark("image", (x, y, width, height), text=base64.b64encode(png).decode()))

    def place(self, other: Svg, x: float, y: float) -> None:
        """Put the marks of another drawing at (x, y)."""
        for mark in other.marks:
            a, b, *rest = mark.at
            moved = (a + x, b + y, rest[0] + x, rest[1] + y) if mark.kind == "line" else (a + x, b + y, *rest)
            self.marks.append(replace(mark, at=moved))

    def words(self) -> tuple[str, ...]:
        """Every text that the drawing shows, in the order of drawing."""
        return tuple(mark.text for mark in self.marks if mark.kind == "text")

    def inside(self) -> tuple[str, ...]:
        """The elements without the frame around them: what a player sends for each step."""
        return tuple(mark.svg() for mark in self.marks)

    def svg(self) -> str:
        """The drawing as an SVG document on white paper, so that it can be read on a dark page too."""
        w, h = number(self.width), number(self.height)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img"'
                f" aria-label={quoteattr(self.alt)} font-family={quoteattr(SANS)}>",
                f"<title>{escape(self.title)}</title>",
                f"<desc>{escape(self.alt)}</desc>",
                HATCH_DEFS,
                f'<rect width="{w}" height="{h}" fill="{PAPER}"/>',
                *self.inside(),
                "</svg>",
            ]
        )
