"""Knobs: turn one, and the figure is drawn anew from a fresh run.

With ipywidgets the knobs live; without them (GitHub, an exported page) the figure of the first setting is shown.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.views.figure import Figure
from kmemlab.views.widget import mime_bundle


@dataclass(frozen=True, slots=True)
class Knob:
    """One knob: the values it can have, each with its name; `slider` says whether they have an order."""

    label: str
    values: tuple[tuple[str, Any], ...]
    start: Any
    slider: bool


def slider(label: str, values: Sequence[int], start: int, shown: Callable[[int], str] = str) -> Knob:
    """A slider over some numbers; `shown` writes a number for the reader."""
    return _knob(label, tuple((shown(value), value) for value in values), start, slider=True)


def choice(label: str, values: Mapping[str, Any], start: Any) -> Knob:
    """A list to choose from."""
    return _knob(label, tuple(values.items()), start, slider=False)


def _knob(label: str, values: tuple[tuple[str, Any], ...], start: Any, *, slider: bool) -> Knob:
    if start not in [value for _, value in values]:
        raise BadRequest(
            f"{start!r} is none of its values", where=f"the knob {label!r}", remedy="start with one of them"
        )
    return Knob(label, values, start, slider)


class Knobs:
    """Some knobs over a figure. `draw` takes a value for each knob, by name, and returns a figure.

    >>> from kmemlab.machine.snapshot import ranges_snapshot
    >>> from kmemlab.views.memory_map import memory_map_figure
    >>> draw = lambda pages: memory_map_figure(ranges_snapshot([(0, pages << 12, 1)]))
    >>> print(Knobs(draw, pages=slider("usable pages", range(1, 9), 2)).text(pages=4))
    usable pages: 4
    <BLANKLINE>
      0  [mem 0x0000000000000000-0x0000000000003fff] usable  16 KiB
    """

    def __init__(self, draw: Callable[..., Figure], **knobs: Knob) -> None:
        self.draw = draw
        self.knobs = knobs

    def values(self, **changed: Any) -> dict[str, Any]:
        """The value of each knob: where it starts, or as changed. Raises `BadRequest` for a knob that isn't there."""
        for name in changed:
            if name not in self.knobs:
                raise BadRequest(f"there is no knob {name!r}", where="Knobs", remedy=f"choose {', '.join(self.knobs)}")
        return {name: changed.get(name, knob.start) for name, knob in self.knobs.items()}

    def figure(self, **changed: Any) -> Figure:
        """The figure for these values."""
        return self.draw(**self.values(**changed))

    def text(self, **changed: Any) -> str:
        """The values, and the figure as text."""
        lines = [f"{knob.label}: {self._shown(name, changed)}" for name, knob in self.knobs.items()]
        return "\n".join([*lines, "", self.figure(**changed).text()])

    def _shown(self, name: str, changed: dict[str, Any]) -> str:
        value = self.values(**changed)[name]
        return next((shown for shown, known in self.knobs[name].values if known == value), str(value))

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return mime_bundle(self.widget, self.figure().svg(), self.text())

    def widget(self) -> Any:
        """The live knobs over the live figure. Raises `KmemlabError` where ipywidgets is missing."""
        try:
            import ipywidgets
        except ImportError:
            raise KmemlabError(
                "knobs need the Python package ipywidgets",
                where="widget",
                remedy="pip install ipywidgets, or use .figure() and .text()",
            ) from None
        controls = {name: _control(ipywidgets, knob) for name, knob in self.knobs.items()}
        picture = ipywidgets.HTML()

        def redraw(_change: Any = None) -> None:
            picture.value = self._live({name: control.value for name, control in controls.items()})

        for control in controls.values():
            control.observe(redraw, names="value")
        redraw()
        return ipywidgets.VBox([*controls.values(), picture])

    def _live(self, values: dict[str, Any]) -> str:
        """The figure as HTML, with its words for who can't see it; an error of ours in its place, never silence."""
        try:
            figure = self.draw(**values)
        except KmemlabError as error:
            return f'<p role="alert">{html.escape(str(error))}</p>'
        return (
            f'{figure.svg()}<p aria-live="polite" style="max-width:60em;line-height:1.4">{html.escape(figure.alt)}</p>'
        )


def _control(ipywidgets: Any, knob: Knob) -> Any:
    kind = ipywidgets.SelectionSlider if knob.slider else ipywidgets.Dropdown
    options: dict[str, Any] = {"continuous_update": True} if knob.slider else {}
    return kind(
        options=knob.values,
        value=knob.start,
        description=knob.label,
        style={"description_width": "12em"},
        layout={"width": "40em", "max_width": "100%"},
        **options,
    )
