"""How each mode of paging cuts an address: a row a mode, the folded levels beside it.

LA57      copies │ pgd │ p4d │ pud │ pmd │ pte │ offset
4-level   copies       │ pgd │ pud │ pmd │ pte │ offset     p4d folded
"""

from __future__ import annotations

from typing import NamedTuple

from kmemlab.types.pgtable import LAYOUTS, PgtableLayout
from kmemlab.types.units import PAGE_SHIFT, size_text
from kmemlab.views.colours import COLOURS, LINE, PAPER, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg

LEVEL_COLOURS = {"pgd": COLOURS[0], "p4d": COLOURS[4], "pud": COLOURS[1], "pmd": COLOURS[2], "pte": COLOURS[3]}
OFFSET_COLOUR, COPIES_COLOUR = PAPER, "#eef1f4"


class Field(NamedTuple):
    """A run of address bits, `low` to `high`, and what they are: a level's index, the offset, or copies."""

    name: str
    high: int
    low: int

    @property
    def width(self) -> int:
        """How many bits."""
        return self.high - self.low + 1

    def of(self, address: int) -> int:
        """The number that these bits of an address are."""
        return address >> self.low & (1 << self.width) - 1


def fields(layout: PgtableLayout) -> list[Field]:
    """The fields of an address from its highest bit down; folded levels have none.

    >>> [(f.name, f.high, f.low) for f in fields(LAYOUTS[3])]
    [('pgd', 31, 30), ('pmd', 29, 21), ('pte', 20, 12), ('offset', 11, 0)]
    """
    cut = [Field("copies", 63, layout.virt_bits)] if layout.virt_bits > 32 else []
    high = layout.virt_bits - 1
    for level in layout.levels:
        if not level.folded:
            cut.append(Field(level.name, high, level.shift))
            high = level.shift - 1
    return [*cut, Field("offset", PAGE_SHIFT - 1, 0)]


def colour_of(name: str) -> str:
    """The colour of a field; its name stands beside it wherever it is used."""
    return LEVEL_COLOURS.get(name, COPIES_COLOUR if name == "copies" else OFFSET_COLOUR)


def folded_names(layout: PgtableLayout) -> list[str]:
    """The levels that this mode doesn't have."""
    return [level.name for level in layout.levels if level.folded]


def levels_text() -> str:
    """All four modes, one line a level."""
    lines = []
    for count, layout in LAYOUTS.items():
        entry = f"entries of {layout.entry_size} bytes"
        lines.append(f"{layout.name}: {count} levels, {layout.virt_bits} bits of address, {entry}")
        folded = [level for level in layout.levels if level.folded]
        for level in layout.levels:
            if level.folded:
                lines.append(f"  {level.name}  folded: one entry, no bits")
                continue
            field = next(field for field in fields(layout) if field.name == level.name)
            # A folded pmd is the pgd's entry: what maps a large page there is an entry of the pgd.
            large = level.large or any(other.folded and other.large and other.shift == level.shift for other in folded)
            page = f", or a page of {size_text(level.size)}" if large else ""
            what = f"{level.entries} entries, each for {size_text(level.size)}{page}"
            lines.append(f"  {level.name}  bits {field.high}-{field.low}: {what}")
    return "\n".join(lines)


def levels_figure() -> Figure:
    """The four modes as rows of address bits, drawn to one scale."""
    per_bit, left, row, top = 10.4, 92, 62, 56
    alt = "; ".join(
        f"{layout.name}: "
        + ", ".join(f"{field.name} bits {field.high} to {field.low}" for field in fields(layout))
        + (f"; folded: {', '.join(folded_names(layout))}" if folded_names(layout) else "")
        for layout in LAYOUTS.values()
    )
    drawing = Svg(left + 64 * per_bit + 210, top + row * len(LAYOUTS) + 8, "How an address is cut", f"{alt}.")
    drawing.text(10, 22, "How an address is cut", size=13, bold=True)
    drawing.text(left + 64 * per_bit + 16, 22, "folded (one entry, no bits)", size=11, fill=SOFT_INK)
    drawing.text(left, 44, "bit 63", size=10.5, fill=SOFT_INK)
    drawing.text(left + 64 * per_bit, 44, "bit 0", size=10.5, fill=SOFT_INK, anchor="end")
    for nth, layout in enumerate(reversed(LAYOUTS.values())):
        y = top + nth * row
        drawing.text(10, y + 24, layout.name, size=12, bold=True)
        for field in fields(layout):
            x, width = left + (63 - field.high) * per_bit, field.width * per_bit
            note = f"{layout.name}, {field.name}: bits {field.high} to {field.low}"
            drawing.rect(x, y, width, 34, fill=colour_of(field.name), stroke=LINE, note=note)
            if width < 40:  # the two bits of PAE's pgd: their words stand beside them
                drawing.text(x - 6, y + 15, field.name, size=11.5, anchor="end", bold=True)
                drawing.text(
                    x - 6, y + 28, f"{field.high}-{field.low}: {field.width} bits", size=9, anchor="end", mono=True
                )
                continue
            bits = f"{field.high}-{field.low}" + (f": {field.width} bits" if width > 80 else "")
            drawing.text(x + width / 2, y + 15, field.name, size=11.5, anchor="middle", bold=True)
            drawing.text(x + width / 2, y + 28, bits, size=9, anchor="middle", mono=True)
        for at, name in enumerate(folded_names(layout)):
            x = left + 64 * per_bit + 16 + at * 58
            drawing.rect(x, y + 5, 50, 24, fill=HATCHED, stroke=LINE, dash=True, note=f"{name} is folded")
            drawing.rect(x + 11, y + 9, 28, 16, fill=PAPER)
            drawing.text(x + 25, y + 21, name, size=11, anchor="middle", mono=True)
    return Figure.drawn(drawing, levels_text())
