"""Colours that have a job: one ramp for orders, a few kinds with a letter each, one accent, one highlight."""

from __future__ import annotations

# Orders are ordinal: cividis, which is read alike with and without colour blindness.
ORDERS = (
    "#FEE838", "#ECD246", "#D6BE57", "#BEAB69", "#A69D75", "#8E8D78",
    "#777776", "#626D73", "#4C5C6E", "#31446B", "#00224E",
)  # fmt: skip
ORDER_INK = ("#111827",) * 6 + ("#ffffff",) * 5

# Kinds are categorical: Okabe-Ito, paled so that large areas stay calm, and a letter as second channel.
KINDS = {
    "usable": ("U", "#9fd8c5"),
    "reserved": ("R", "#f3cf85"),
    "ACPI data": ("A", "#b3dcf5"),
    "ACPI NVS": ("N", "#e6c3d6"),
    "unusable": ("X", "#e9a878"),
    "persistent": ("P", "#f4eb8f"),
}
HOLE_KIND = "hole"
COLOURS = tuple(colour for _, colour in KINDS.values())
"""The same six, for what has a number and no kind: nodes, zones, levels of page tables."""

INK = "#1f2328"
SOFT_INK = "#57606a"
PAPER = "#ffffff"
PANEL = "#f6f8fa"
LINE = "#8c959f"
ACCENT = "#1f5fa8"
NOW = "#fff3c4"
NOW_BAR = "#E69F00"
IN_USE = "#d9dde3"
HATCH = "#a9b1bd"

SANS = "Helvetica, 'DejaVu Sans', Arial, sans-serif"
MONO = "'DejaVu Sans Mono', Menlo, Consolas, monospace"


def kind_of(name: str) -> tuple[str, str]:
    """The letter and the colour of a kind of memory; kinds beyond the six share the last colour.

    >>> kind_of("usable")[0], kind_of("persistent (type 7)")[0], kind_of("type 9")[0]
    ('U', 'P', '?')
    """
    for kind, look in KINDS.items():
        if name.startswith(kind):
            return look
    return ("S" if name.startswith("soft") else "?"), KINDS["persistent"][1]
