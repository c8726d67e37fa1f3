"""The frame map as a live widget: tens of thousands of page frames on one canvas, to be walked with the arrow keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmemlab.boot.memblock import Memblock
from kmemlab.machine.snapshot import FrameMap, frame_map
from kmemlab.mm.zone import Zone
from kmemlab.types.errors import KmemlabError
from kmemlab.views.carry import frames_data
from kmemlab.views.colours import ORDERS
from kmemlab.views.figure import Figure
from kmemlab.views.frame_map import columns_for, frame_map_figure
from kmemlab.views.widget import make_widget, mime_bundle, page

MOST = 1 << 16


class FrameView:
    """A frame map of at most 65,536 page frames; `cursor` is the frame that is told, counted from the first."""

    def __init__(self, frames: FrameMap, title: str = "Page frames") -> None:
        """Raises `KmemlabError` for a map that is too large to be looked at."""
        if not 0 < len(frames.cells) <= MOST:
            raise KmemlabError(
                f"a frame map shows 1 to {MOST} page frames, not {len(frames.cells)}",
                where="FrameView",
                remedy="choose a window: frame_map(zone, start_pfn, frames)",
            )
        self.frames = frames
        self.title = title
        self._widget: Any = None

    @classmethod
    def of(
        cls, zone: Zone, start_pfn: int | None = None, frames: int | None = None, memblock: Memblock | None = None
    ) -> FrameView:
        """The map of a zone as it is now, or of a window of it; with `memblock` it shows what boot kept for itself."""
        start = zone.zone_start_pfn if start_pfn is None else start_pfn
        count = min(MOST, zone.spanned_pages) if frames is None else frames
        return cls(
            frame_map(zone, start, count, memblock), f"Zone {zone.name}, page frames {start} to {start + count - 1}"
        )

    def text(self) -> str:
        """The map as text, a line a run."""
        return self.figure().text()

    def figure(self) -> Figure:
        """The map as a still figure."""
        return frame_map_figure(self.frames, self.title)

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
