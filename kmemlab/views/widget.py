"""The front end of our widgets: one script and one style sheet, read from the package; no build, no network."""

from __future__ import annotations

import html
import json
from functools import cache
from importlib.resources import files
from typing import Any

from kmemlab.types.errors import KmemlabError


@cache
def asset(name: str) -> str:
    """A file of views/assets as text."""
    return (files("kmemlab.views") / "assets" / name).read_text(encoding="utf-8")


Scripts = str | tuple[str, ...]
"""The assets that a widget is made of, besides what all share."""


def parts_of(names: Scripts) -> str:
    """The scripts of a widget, what all share first."""
    return "\n".join(asset(name) for name in ("frames.js", *((names,) if isinstance(names, str) else names)))


def script(names: Scripts, mount: str) -> str:
    """The JavaScript module of a widget: what it shares with the others, its own part, and how it is mounted."""
    render = f"render({{ model, el }}) {{ return {mount}(model, el); }}"
    return f"{parts_of(names)}\nexport default {{ {render} }};\n"


def make_widget(
    names: Scripts, mount: str, data: dict[str, Any], cursor: int, more: dict[str, Any] | None = None
) -> Any:
    """A live widget. `cursor` changes, and so do the traits that `more` names with their first values.

    Raises `KmemlabError` where anywidget is missing.
    """
    try:
        import anywidget
        import traitlets
    except ImportError:
        raise KmemlabError(
            "widgets need the Python package anywidget",
            where="widget",
            remedy="pip install anywidget, or use .svg() and .text()",
        ) from None
    traits = {
        "_esm": script(names, mount),
        "_css": asset("style.css"),
        "data": traitlets.Dict().tag(sync=True),
        "cursor": traitlets.Int(0).tag(sync=True),
    }
    traits |= {name: traitlets.Any(first).tag(sync=True) for name, first in (more or {}).items()}
    kind: Any = type(mount.removeprefix("mount"), (anywidget.AnyWidget,), traits)
    return kind(data=data, cursor=cursor)


def mime_bundle(make: Any, svg: str, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The widget where one can live, and always the still picture and the text."""
    still = {"image/svg+xml": svg, "text/plain": text}
    try:
        live = make()._repr_mimebundle_()
    except KmemlabError:
        return still, {}
    data, metadata = live if isinstance(live, tuple) else (live or {}, {})
    return {**data, **still}, metadata


def page(names: Scripts, mount: str, data: dict[str, Any], cursor: int, title: str, still: str) -> str:
    """An HTML page that plays without Python and without a network."""
    carried = json.dumps({"data": data, "cursor": cursor}, separators=(",", ":")).replace("</", "<\\/")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{asset("style.css")}
body {{ margin: 12px; background: #ffffff; }}
body.kml-dark {{ background: #16191d; }}
</style>
</head>
<body>
<div id="here"></div>
<noscript>{still}</noscript>
<script type="module">
const state = {carried};
const heard = new Set();
const model = {{
  get: (name) => state[name],
  set: (name, value) => {{ state[name] = value; }},
  save_changes: () => {{}},
  on: (name, hear) => heard.add(hear),
  off: (name, hear) => heard.delete(hear),
}};
const media = window.matchMedia("(prefers-color-scheme: dark)");
const theme = () => document.body.classList.toggle("kml-dark", media.matches);
media.addEventListener("change", theme);
theme();
{parts_of(names)}
{mount}(model, document.getElementById("here"));
</script>
</body>
</html>
"""
