"""A figure: a picture, the same facts as text, a title, and words for who can't see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmemlab.types.errors import KmemlabError
from kmemlab.views.png import paint
from kmemlab.views.svg import Svg


@dataclass(frozen=True, slots=True)
class Figure:
    """What a cell of a notebook shows: the picture where pictures are shown, else the text.

    `picture` gives the SVG document; `image` a PNG, where one can be had.
    """

    title: str
    alt: str
    words: str
    picture: Callable[[], str]
    image: Callable[[], bytes]

    @classmethod
    def drawn(cls, drawing: Svg, text: str) -> Figure:
        """The figure of one of our own drawings."""
        return cls(drawing.title, drawing.alt, text, drawing.svg, lambda: paint(drawing))

    def text(self) -> str:
        """The facts of the picture as text."""
        return self.words

    def svg(self) -> str:
        """The picture as an SVG document."""
        return self.picture()

    def png(self) -> bytes:
        """The picture as a PNG; raises `KmemlabError` where it can't be made here."""
        return self.image()

    def save(self, path: str | Path) -> Path:
        """Write the figure as .svg, .png or .txt, by the end of the name."""
        path = Path(path)
        makers: dict[str, Callable[[], str | bytes]] = {".svg": self.svg, ".png": self.png, ".txt": self.text}
        if path.suffix not in makers:
            raise KmemlabError(
                f"a figure can't be saved as {path.name!r}", where="save", remedy="end the name in .svg, .png or .txt"
            )
        made = makers[path.suffix]()
        path.write_bytes(made if isinstance(made, bytes) else made.encode() + b"\n")
        return path

    def __repr__(self) -> str:
        return f"Figure({self.title})"

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, str]:
        return {"image/svg+xml": self.svg(), "text/plain": self.words}
