"""The slabs of a cache of SLUB: a box an object, and the freelist as arrows from each free object to the next.

pfn 18516   CPU 0         │ H │ H │>4 │ H │>7 │ H │ H │end│     freelist: 2 ▶ 4 ▶ 7
                                    └───▶──┘
"""

from __future__ import annotations

from itertools import pairwise

from kmemlab.machine.slub_snapshot import NOBODY, SlubShot, SlubSlab
from kmemlab.types.units import PAGE_SIZE
from kmemlab.views.colours import INK, LINE, NOW_BAR, PAPER, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg
from kmemlab.views.text import pages_text

_WIDTH, _LEFT, _BAR, _LANE, _TOP = 514, 8, 30, 7, 84  # a player has 516 pixels for it
_HELD, _MINE, _OWN = "#9fd8c5", "#b3dcf5", PAPER
_MOST_ARROWS, _MOST_SLABS = 10, 8


def slub_text(shot: SlubShot) -> str:
    """Each slab with its keeper, its objects and its freelists."""
    lines = [
        f"{shot.name}: objects of {shot.object_size} bytes in slots of {shot.size}, slabs of "
        f"{pages_text(1 << shot.order)}; a free object holds the next one's address from byte {shot.offset} on"
    ]
    for slab in shot.slabs:
        letters = "".join(
            "H" if slab.next_of(at) is None else "c" if at in slab.cpu_freelist else "." for at in range(slab.objects)
        )
        lines.append(f"pfn {slab.pfn}  {keeper_text(slab)}:  {letters}  {slab.held} held")
        for name, row in (("the CPU's freelist", slab.cpu_freelist), ("the slab's own freelist", slab.freelist)):
            if row:
                lines.append(f"  {name}: {chain_text(row)}")
    return "\n".join(lines if shot.slabs else [*lines, "no slab"])


def chain_text(row: tuple[int, ...]) -> str:
    """A freelist by the numbers of its objects.

    >>> chain_text((5, 2)), chain_text(tuple(range(20)))
    ('5 > 2', '0 > 1 > 2 > 3 > 4 > 5 > 6 > 7 > 8 > 9 > 10 > 11 > … (20)')
    """
    shown = " > ".join(map(str, row[:12]))
    return shown if len(row) <= 12 else f"{shown} > … ({len(row)})"


def keeper_text(slab: SlubSlab) -> str:
    """Who keeps a slab; SLUB keeps full ones on no list."""
    return f"full, {slab.keeper}" if slab.keeper == NOBODY and slab.held == slab.objects else slab.keeper


def slub_alt(shot: SlubShot) -> str:
    """The picture in words."""
    told = [
        f"Slab at pfn {slab.pfn}, {keeper_text(slab)}: {slab.held} of {slab.objects} objects held"
        + (f", the CPU's freelist is {chain_text(slab.cpu_freelist)}" if slab.cpu_freelist else "")
        + (f", its own freelist is {chain_text(slab.freelist)}" if slab.freelist else "")
        + "."
        for slab in shot.slabs
    ]
    return " ".join([f"Cache {shot.name}.", *(told or ["It has no slab."])])


def slub_figure(shot: SlubShot) -> Figure:
    """A cache's slabs as a picture."""
    return Figure.drawn(slub_svg(shot), slub_text(shot))


def slub_svg(shot: SlubShot, rows: int = 0, current: int = 0) -> Svg:
    """Draw a cache; `rows` keeps room for that many slabs, the slab at pfn `current` is outlined."""
    drawing = Svg(_WIDTH, 0, f"The slabs of {shot.name}", slub_alt(shot))
    title = f"{shot.name}: {shot.object_size} bytes in slots of {shot.size}, slabs of {pages_text(1 << shot.order)}"
    drawing.text(_LEFT, 24, title, size=13, bold=True)
    _legend(drawing, 48)
    y = float(_TOP)
    for slab in shot.slabs[:_MOST_SLABS]:
        y = _draw_slab(drawing, shot, slab, y, slab.pfn == current)
    if len(shot.slabs) > _MOST_SLABS:
        drawing.text(_LEFT, y, f"and {len(shot.slabs) - _MOST_SLABS} more slabs", size=11, fill=SOFT_INK)
    if not shot.slabs:
        drawing.text(_LEFT, y, "no slab yet: the first request will have one made", size=12, fill=SOFT_INK)
    full = _BAR + 30 + 8 * _LANE + 12
    drawing.height = max(y + 8, _TOP + min(rows, _MOST_SLABS) * full)
    return drawing


def _legend(drawing: Svg, y: float) -> None:
    x = float(_LEFT)
    looks = (
        ("H", _HELD, "held"),
        (">n", _MINE, "on a CPU's list, then n"),
        (">n", _OWN, "on the slab's list"),
    )
    for letter, colour, words in (*looks, ("", HATCHED, "left over")):
        drawing.rect(x, y - 12, 22, 16, fill=colour, stroke=LINE)
        drawing.text(x + 11, y, letter, size=10, mono=True, anchor="middle")
        drawing.text(x + 28, y, words, size=11, fill=SOFT_INK)
        x += 28 + 5.6 * len(words) + 14


def _draw_slab(drawing: Svg, shot: SlubShot, slab: SlubSlab, y: float, current: bool) -> float:
    """One slab from `y` down; returns where the next begins."""
    whole = PAGE_SIZE << shot.order
    scale = (_WIDTH - 2 * _LEFT) / whole
    first = slab.cpu_freelist or slab.freelist
    begins = f"   freelist begins with object {first[0]}" if first else ""
    drawing.text(_LEFT, y, f"pfn {slab.pfn}", size=11, mono=True)
    drawing.text(_LEFT + 80, y, f"{keeper_text(slab)}{begins}", size=11.5, bold=slab.keeper != NOBODY)
    top = y + 8
    drawing.rect(_LEFT, top, whole * scale, _BAR, fill=HATCHED, stroke=LINE)
    for index in range(slab.objects):
        _draw_object(drawing, slab, index, _LEFT + index * shot.size * scale, top, shot.size * scale)
    if current:
        drawing.rect(_LEFT - 2, top - 2, whole * scale + 4, _BAR + 4, stroke=INK, line=2.5)
    lanes = 0
    if slab.objects <= _MOST_ARROWS:
        for row in (slab.cpu_freelist, slab.freelist):
            for at, (here, there) in enumerate(pairwise(row)):
                lanes = max(lanes, at + 1)
                middles = [_LEFT + (index + 0.5) * shot.size * scale for index in (here, there)]
                _arrow(drawing, middles[0] + 4, middles[1] - 4, top + _BAR, (at + 1) * _LANE)
    return top + _BAR + lanes * _LANE + 34


def _draw_object(drawing: Svg, slab: SlubSlab, index: int, x: float, y: float, width: float) -> None:
    following = slab.next_of(index)
    mine = index in slab.cpu_freelist
    fill = _HELD if following is None else _MINE if mine else _OWN
    told = "held" if following is None else "free, the last of its list" if following < 0 else f"free, then {following}"
    drawing.rect(x, y, width, _BAR, fill=fill, stroke=LINE, line=0.8, note=f"object {index}: {told}")
    if width >= 22:
        label = "H" if following is None else "end" if following < 0 else f">{following}"
        drawing.text(x + width / 2, y + 12, str(index), size=9.5, anchor="middle", fill=SOFT_INK)
        drawing.text(x + width / 2, y + 25, label, size=11, mono=True, anchor="middle")
    first = slab.cpu_freelist or slab.freelist
    if first and first[0] == index:
        drawing.rect(x + 1.5, y + 1.5, width - 3, _BAR - 3, stroke=NOW_BAR, line=2.5)


def _arrow(drawing: Svg, x1: float, x2: float, y: float, depth: float) -> None:
    """From below one box down into a lane of its own, along, and up to the next box."""
    for ends in ((x1, y, x1, y + depth), (x1, y + depth, x2, y + depth), (x2, y + depth, x2, y)):
        drawing.line(*ends, stroke=SOFT_INK, line=1.1)
    drawing.line(x2, y, x2 - 3, y + 5, stroke=SOFT_INK, line=1.1)
    drawing.line(x2, y, x2 + 3, y + 5, stroke=SOFT_INK, line=1.1)
