"""Knobs: a slider or a choice that runs a function anew, and shows what it returns.

What the function returns for the first setting is stored as text (and as a picture, if it is one), so that the cell
reads well where no widget lives.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any, Protocol

from kmemlab.types.errors import BadParameter, KmemlabError


class Picture(Protocol):
    """What a figure gives: the same facts as picture and as text."""

    def svg(self) -> str:
        """The picture as an SVG document."""

    def text(self) -> str:
        """The facts of the picture as text."""


Shown = str | Picture
Setting = tuple[int, int, int] | list[Any]


class Knob:
    """A function of one or more settings, with controls for them.

    A setting is `(lowest, highest, first)` for a slider of whole numbers, or a list of choices, the first one first.
    """

    def __init__(self, function: Callable[..., Shown], settings: dict[str, Setting]) -> None:
        """Raises `BadParameter` for a setting that is neither."""
        for name, setting in settings.items():
            fits = (isinstance(setting, tuple) and len(setting) == 3) or (isinstance(setting, list) and setting)
            if not fits:
                raise BadParameter(
                    f"the setting {name}={setting!r} is no knob",
                    where="knob",
                    remedy="write (lowest, highest, first) for a slider, or a list of choices",
                )
        self.function = function
        self.settings = settings

    def first(self) -> dict[str, Any]:
        """The settings that it begins with."""
        return {name: s[2] if isinstance(s, tuple) else s[0] for name, s in self.settings.items()}

    def text(self) -> str:
        """What the function gives for the first settings, with those settings."""
        return self._told(self.function(**self.first()))

    def _told(self, shown: Shown) -> str:
        settings = ", ".join(f"{name} = {value}" for name, value in self.first().items())
        return f"{settings}\n\n{_text(shown)}"

    def widget(self) -> Any:
        """The controls and, below them, what the function gives; needs ipywidgets."""
        return self._widget(self.function(**self.first()))

    def _widget(self, first: Shown) -> Any:
        import ipywidgets

        controls = {name: _control(ipywidgets, name, setting) for name, setting in self.settings.items()}
        shown = ipywidgets.HTML(_html(first))

        def turn(_change: object) -> None:
            try:
                shown.value = _html(self.function(**{name: control.value for name, control in controls.items()}))
            except KmemlabError as error:
                shown.value = f"<pre>{escape(str(error))}</pre>"

        for control in controls.values():
            control.observe(turn, names="value")
        return ipywidgets.VBox([*controls.values(), shown])

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, Any]:
        shown = self.function(**self.first())  # once for all: a function may take seconds
        text = self._told(shown)
        bundle: dict[str, Any] = {"text/plain": text, "text/html": f"<pre>{escape(text)}</pre>"}
        if not isinstance(shown, str):
            bundle["text/html"] = shown.svg()
        try:
            live = self._widget(shown)._repr_mimebundle_()
        except ImportError:
            return bundle
        data = live[0] if isinstance(live, tuple) else live
        return bundle | {mime: value for mime, value in data.items() if mime.startswith("application/")}


def knob(function: Callable[..., Shown], **settings: Setting) -> Knob:
    """Show what `function` returns (a text or a figure) under controls for its arguments.

    >>> print(knob(lambda order: f"{1 << order} pages", order=(0, 10, 3)).text())
    order = 3
    <BLANKLINE>
    8 pages
    """
    return Knob(function, settings)


def _control(ipywidgets: Any, name: str, setting: Setting) -> Any:
    named = {"description": name, "style": {"description_width": "initial"}}  # else a long name is cut off
    if isinstance(setting, tuple):
        lowest, highest, first = setting
        return ipywidgets.IntSlider(value=first, min=lowest, max=highest, continuous_update=False, **named)
    return ipywidgets.Dropdown(options=setting, value=setting[0], **named)


def _text(shown: Shown) -> str:
    return shown if isinstance(shown, str) else shown.text()


def _html(shown: Shown) -> str:
    return f'<pre style="line-height:1.35">{escape(shown)}</pre>' if isinstance(shown, str) else shown.svg()
