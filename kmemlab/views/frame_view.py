"""The frame map as a live widget: tens of thousands of page frames on one canvas, to be walked with the arrow keys.

Buttons above it choose what the colours tell: orders of free blocks, mobility types, or owners.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmemlab.boot.memblock import Memblock
from kmemlab.machine.frame_kinds import FrameKinds, frame_migratetypes, frame_owners
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.snapshot import FrameMap, frame_map
from kmemlab.mm.zone import Zone
from kmemlab.types.errors import KmemlabError
from kmemlab.views.carry import frames_data
from kmemlab.views.colours import ORDERS
from kmemlab.views.figure import Figure
from kmemlab.views.frame_kinds import kinds_data, kinds_figure
from kmemlab.views.frame_map import columns_for, frame_map_figure
from kmemlab.views.widget import make_widget, mime_bundle, page

MOST = 1 << 16


class FrameView:
    """A frame map of at most 65,536 page frames; `cursor` is the frame that is told, counted from the first."""

    def __init__(
        self, frames: FrameMap, title: str = "Page frames", kinds: Sequence[FrameKinds] = (), colour: str = "order"
    ) -> None:
        """`kinds` are the same frames by owner or mobility type, `colour` says what is shown first.

        Raises `KmemlabError` for a map that is too large to be looked at, and for a colour that it doesn't have.
        """
        if not 0 < len(frames.cells) <= MOST:
            raise KmemlabError(
                f"a frame map shows 1 to {MOST} page frames, not {len(frames.cells)}",
                where="FrameView",
                remedy="choose a window: frame_map(zone, start_pfn, frames)",
            )
        self.frames = frames
        self.title = title
        self.kinds = {each.by: each for each in kinds}
        if colour not in ("order", *self.kinds):
            raise KmemlabError(
                f"this map has no colours by {colour!r}",
                where="FrameView",
                remedy=f"choose one of: {', '.join(('order', *self.kinds))}; owners need kernel=",
            )
        self.colour = colour
        self._widget: Any = None

    @classmethod
    def of(
        cls,
        zone: Zone,
        start_pfn: int | None = None,
        frames: int | None = None,
        memblock: Memblock | None = None,
        *,
        kernel: Kernel | None = None,
        colour: str = "order",
    ) -> FrameView:
        """The map of a zone as it is now, or of a window of it; with `memblock` it shows what boot kept for itself.

        With `kernel` it can show owners, too, and what boot kept.
        """
        start = zone.zone_start_pfn if start_pfn is None else start_pfn
        count = min(MOST, zone.spanned_pages) if frames is None else frames
        title = f"Zone {zone.name}, page frames {start} to {start + count - 1}"
        seen = frame_map(zone, start, count, memblock or (kernel.boot.memblock if kernel else None))
        kinds = [frame_migratetypes(zone, seen)]
        if kernel is not None:
            kinds.append(frame_owners(kernel, zone, seen))
        return cls(seen, title, kinds, colour)

    def text(self) -> str:
        """The map as text, a line a run."""
        return self.figure().text()

    def figure(self, colour: str = "") -> Figure:
        """The map as a still figure, in the colours that it was made with, or in others that it has."""
        colour = colour or self.colour
        if colour == "order":
            return frame_map_figure(self.frames, self.title)
        return kinds_figure(self.kinds[colour], columns_for(len(self.frames.cells)), self.title)

    def svg(self) -> str:
        """The map as an SVG document."""
        return self.figure().svg()

    def data(self) -> dict[str, Any]:
        """All that the widget needs, as plain JSON."""
        columns = columns_for(len(self.frames.cells))
        return {
            **frames_data(self.frames.start_pfn, columns, [self.frames.cells]),
            "title": self.title,
            "orders": ORDERS,
            "kinds": [kinds_data(each) for each in self.kinds.values()],
            "colour": self.colour,
        }

    def html(self) -> str:
        """A page that works without Python and without a network."""
        return page("framemap.js", "mountFrameMap", self.data(), 0, self.title, self.svg())

    def save(self, path: str | Path) -> Path:
        """Write the map as .html, .svg, .png or .txt."""
        path = Path(path)
        if path.suffix != ".html":
            return self.figure().save(path)
        path.write_text(self.html(), encoding="utf-8")
        return path

    @property
    def widget(self) -> Any:
        """The live widget; raises `KmemlabError` where anywidget is missing."""
        if self._widget is None:
            self._widget = make_widget("framemap.js", "mountFrameMap", self.data(), 0)
        return self._widget

    def __repr__(self) -> str:
        return f"FrameView({self.title})"

    def _repr_mimebundle_(self, **_kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return mime_bundle(lambda: self.widget, self.svg(), self.text())
