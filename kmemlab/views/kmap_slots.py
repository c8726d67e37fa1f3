"""kmap's slots: which are free, which only wait for the flush at the end of the round, and which are in use.

┌─┬─┬─┬─┬─┬─┬─┬─┐     a cell a slot, 32 in a row, in the order of the round
│ │2│▨│1│ │ │ │ │     a number: users          hatched: no user, but mapped still
└─┴─┴─┴─┴─┴─┴─┴─┘     thick outline: where the round is
"""

from __future__ import annotations

from kmemlab.machine.kmap_snapshot import KmapSnapshot
from kmemlab.views.colours import INK, LINE, NOW_BAR, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg

_CELL, _LEFT, _TOP, _IN_A_ROW = 20, 96, 54, 32
_USED = "#b3dcf5"
_LOCAL = 16  # slots of a CPU in the fixmap


def kmap_figure(kmap: KmapSnapshot) -> Figure:
    """The slots of kmap and of kmap_local_page as a picture, with the same facts as text."""
    return Figure.drawn(drawn(kmap), kmap_text(kmap))


def summary(kmap: KmapSnapshot) -> str:
    """How many slots are in which state, as one sentence.

    >>> summary(KmapSnapshot(0, 0, 0, (), (), 1, ()))
    'This machine has no HighMem: every page has an address of its own, and kmap needs no slots.'
    """
    if not kmap.slots:
        return "This machine has no HighMem: every page has an address of its own, and kmap needs no slots."
    used = sum(1 for slot in kmap.taken if slot.users)
    users = sum(slot.users for slot in kmap.taken)
    waits = f" Waiting for a slot: pid {', '.join(map(str, kmap.waiting))}." if kmap.waiting else ""
    return (
        f"Of {kmap.slots} slots of kmap {kmap.slots - len(kmap.taken)} are free, {used} are in use by {users} users, "
        f"and {len(kmap.taken) - used} have no user but are mapped until the round is over; it is at slot {kmap.last}."
        f"{waits}"
    )


def kmap_text(kmap: KmapSnapshot) -> str:
    """Each slot that is not free, and what the running task has in its CPU's own slots."""
    lines = [summary(kmap)]
    if kmap.taken:
        lines.append(f"{'slot':>6}  address   users  {'pfn':>8}  first mapped by")
    lines += [
        f"{slot.nr:>6}  {slot.address:08x}  {slot.users or '-':>5}  {slot.pfn:>8}  pid {slot.owner}"
        for slot in kmap.taken
    ]
    lines += [f"CPU {local.cpu}, place {local.idx}  {local.address:08x}  pfn {local.pfn}" for local in kmap.local]
    return "\n".join(lines)


def drawn(kmap: KmapSnapshot) -> Svg:
    """The grid of slots, then a row of 16 for each CPU."""
    rows = -(-kmap.slots // _IN_A_ROW)
    below = _TOP + rows * _CELL + 40
    height = below + (kmap.cpus * (_CELL + 6) + 8 if kmap.slots else 0)
    drawing = Svg(_LEFT + _IN_A_ROW * _CELL + 20, height, "The slots of kmap", summary(kmap))
    drawing.text(12, 20, "kmap: addresses for pages of HighMem", size=13, bold=True)
    drawing.text(12, 40, "number: users   hatched: no user, mapped until the round is over", size=10.5, fill=SOFT_INK)
    taken = {slot.nr: slot for slot in kmap.taken}
    for nr in range(kmap.slots):
        x, y = _LEFT + nr % _IN_A_ROW * _CELL, _TOP + nr // _IN_A_ROW * _CELL
        if nr % _IN_A_ROW == 0:
            drawing.text(12, y + 14, f"{kmap.base + (nr << 12):08x}", size=10.5, fill=SOFT_INK, mono=True)
        slot = taken.get(nr)
        fill = "none" if slot is None else _USED if slot.users else HATCHED
        note = "" if slot is None else f"slot {nr}: pfn {slot.pfn}, {slot.users} users"
        drawing.rect(x, y, _CELL, _CELL, fill=fill, stroke=LINE, note=note)
        if slot is not None and slot.users:
            drawing.text(x + _CELL / 2, y + 14, str(slot.users), size=10.5, mono=True, anchor="middle")
    if kmap.slots:
        x, y = _LEFT + kmap.last % _IN_A_ROW * _CELL, _TOP + kmap.last // _IN_A_ROW * _CELL
        drawing.rect(x, y, _CELL, _CELL, stroke=NOW_BAR, line=3)
        draw_local(drawing, kmap, below)
    return drawing


def draw_local(drawing: Svg, kmap: KmapSnapshot, top: float) -> None:
    """The stacks of slots in the fixmap; only the running task's are filled."""
    drawing.text(12, top - 12, "kmap_local_page: 16 slots a CPU, used as a stack", size=11, bold=True)
    filled = {(local.cpu, local.idx): local for local in kmap.local}
    for cpu in range(kmap.cpus):
        y = top + cpu * (_CELL + 6)
        drawing.text(12, y + 14, f"CPU {cpu}", size=10.5, mono=True)
        for idx in range(_LOCAL):
            local = filled.get((cpu, idx))
            fill, stroke = (_USED, INK) if local else ("none", LINE)
            note = f"{local.address:08x}: pfn {local.pfn}" if local else ""
            drawing.rect(_LEFT + idx * _CELL, y, _CELL, _CELL, fill=fill, stroke=stroke, note=note)
            if local:
                drawing.text(_LEFT + (idx + 0.5) * _CELL, y + 14, str(idx), size=10.5, mono=True, anchor="middle")
