"""The player: a recorded run, step by step, forwards and backwards, with the code that ran and what it did.

It carries every step with it, so a move asks no kernel: it plays in an exported page too. The one trait that changes is
`cursor`. Source lines are shown for runs that were recorded with them: `machine.record(lines=True)`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from kmemlab.machine.snapshot import FrameMap
from kmemlab.sim.timeline import Timeline
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.views.carry import Interned, drawings_data, frames_data
from kmemlab.views.colours import ORDERS
from kmemlab.views.figure import Figure
from kmemlab.views.frame_map import columns_for
from kmemlab.views.panel import STAGES, Panel
from kmemlab.views.steps import Source, Step, Within, steps_of
from kmemlab.views.still import still
from kmemlab.views.svg import HATCH_DEFS, Svg
from kmemlab.views.widget import make_widget, mime_bundle, page


class Player:
    """Plays some commands of a timeline before a panel.

    `commands` are their numbers (all, if not given). `within` names C functions, or is one call: only what runs inside
    is shown. `folded` names C functions that are told as one step each. `shown` is the step of the still picture (the
    last one), `opened` the one at which the player opens.
    """

    tree_name = "call tree"

    def __init__(
        self,
        timeline: Timeline,
        panel: Panel,
        commands: Collection[int] | None = None,
        *,
        within: Within | str = (),
        folded: Collection[str] | str = (),
        title: str = "",
        shown: int = -1,
        opened: int = 0,
    ) -> None:
        """Raises `BadRequest` where there is nothing to show, `KmemlabError` where there is far too much."""
        numbers = range(len(timeline.commands)) if commands is None else commands
        within = (within,) if isinstance(within, str) else within
        folded = (folded,) if isinstance(folded, str) else folded
        self.steps: list[Step] = steps_of(timeline, panel, numbers, within, folded)
        if not self.steps:
            raise BadRequest(
                "there is nothing to play",
                where="Player",
                remedy="record some commands first, and look that within= names a function that ran",
            )
        self.stage = panel.stage
        self.proc_name = panel.proc_name
        self.title = title or f"{panel.stage}, step by step"
        self.shown = shown
        self.opened = opened
        self._widget: Any = None

    # -- the same facts, four ways ---------------------------------------------------------------------------------

    @property
    def alt(self) -> str:
        """The still picture in words."""
        return self._step(None).sight.alt

    def text(self, step: int | None = None) -> str:
        """A step as text; steps count from 0, negative ones from the end."""
        at = self._number(step)
        here = self.steps[at]
        parts = [f"Step {at + 1} of {len(self.steps)}. {here.said.replace('`', '')}", "", here.sight.alt]
        if here.source:
            lines = [("> " if i == here.line else "  ") + line for i, line in enumerate(here.source.lines)]
            parts += ["", here.source.title, *lines]
        parts += ["", self.tree_name, *(f"  {line}" for line in here.stack)]
        if here.sight.proc:
            parts += ["", self.proc_name, *(f"  {line}" for line in here.sight.proc.split("\n"))]
        parts += ["", "what changed", *(f"  {line}" for line in here.changed or ("nothing",))]
        return "\n".join(parts)

    def figure(self, step: int | None = None) -> Figure:
        """A step as a still figure."""
        at = self._number(step)
        drawing = still(self.steps[at], at, len(self.steps), self.stage, self.proc_name, self.tree_name)
        return Figure.drawn(drawing, self.text(at))

    def svg(self, step: int | None = None) -> str:
        """A step as an SVG document."""
        return self.figure(step).svg()

    def png(self, step: int | None = None) -> bytes:
        """A step as a PNG; raises `KmemlabError` without matplotlib."""
        return self.figure(step).png()

    def html(self) -> str:
        """A page that plays without Python and without a network."""
        at = self._number(None)
        return page("player.js", "mountPlayer", self.data(), self.opened, self.title, self.svg(at))

    def save(self, path: str | Path, step: int | None = None) -> Path:
        """Write the whole player as .html, or a step as .svg, .png or .txt."""
        path = Path(path)
        if path.suffix != ".html":
            return self.figure(step).save(path)
        path.write_text(self.html(), encoding="utf-8")
        return path

    # -- the widget ------------------------------------------------------------------------------------------------

    @property
    def widget(self) -> Any:
        """The live widget; raises `KmemlabError` where anywidget is missing."""
        if self._widget is None:
            self._widget = make_widget("player.js", "mountPlayer", self.data(), self.opened)
        return self._widget

    @property
    def cursor(self) -> int:
        """The step that the widget shows."""
        return int(self.widget.cursor)

    @cursor.setter
    def cursor(self, step: int) -> None:
        self.widget.cursor = self._number(step)

    def data(self) -> dict[str, Any]:
        """All that the widget needs, as plain JSON: texts stand once, frames are keyframes and deltas."""
        texts = Interned()
        sources: list[Source] = []
        steps = []
        for step in self.steps:
            if step.source and step.source not in sources:
                sources.append(step.source)
            steps.append(
                {
                    "said": texts.number(step.said),
                    "alt": texts.number(step.sight.alt),
                    "proc": texts.number(step.sight.proc),
                    "source": sources.index(step.source) if step.source else -1,
                    "line": step.line,
                    "stack": texts.numbers(step.stack),
                    "changed": texts.numbers(step.changed),
                    "focus": step.focus,
                    "counts": step.sight.counts,
                    "depth": step.depth,
                    "tick": step.tick,
                }
            )
        return {
            "title": self.title,
            "stages": STAGES,
            "stage": STAGES.index(self.stage) if self.stage in STAGES else -1,
            "procName": self.proc_name,
            "treeName": self.tree_name,
            "orders": ORDERS,
            "steps": steps,
            "texts": texts.items,
            "sources": [{"title": source.title, "lines": source.lines} for source in sources],
            "picture": self._picture(),
        }

    def _picture(self) -> dict[str, Any]:
        pictures = [step.sight.picture for step in self.steps]
        maps = [picture for picture in pictures if isinstance(picture, FrameMap)]
        if maps:
            first = maps[0]
            return frames_data(first.start_pfn, columns_for(len(first.cells)), [frames.cells for frames in maps])
        return drawings_data([picture for picture in pictures if isinstance(picture, Svg)], HATCH_DEFS)

    def _number(self, step: int | None) -> int:
        at = self.shown if step is None else step
        count = len(self.steps)
        if not -count <= at < count:
            raise KmemlabError(f"there is no step {at}", where="Player", remedy=f"choose 0 to {count - 1}")
        return at % count

    def _step(self, step: int | None) -> Step:
        return self.steps[self._number(step)]

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"Player({self.title}, {len(self.steps)} steps)"

    def _repr_mimebundle_(self, **_kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return mime_bundle(lambda: self.widget, self.svg(), self.text())
