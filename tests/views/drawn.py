"""What a drawing tells who points at its parts."""

from __future__ import annotations

from xml.etree import ElementTree

from kmemlab.views.figure import Figure


def notes(figure: Figure) -> list[str]:
    """The notes of a figure that can be read as SVG, by a screen reader, and as PNG."""
    root = ElementTree.fromstring(figure.svg())
    assert root.get("role") == "img"
    assert root.get("aria-label") == figure.alt
    assert figure.png().startswith(b"\x89PNG")
    return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}title")]
