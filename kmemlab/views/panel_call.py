"""One call, whatever it is about: what it was given, and every cell that it has changed so far.

calculate_min_free_kbytes        the call
mm = Mm                          what it was given
  Mm.min_free_kbytes   0 → 1416  a cell, what stood in it, and what stands in it now
"""

from __future__ import annotations

from kmemlab.sim.column import Column
from kmemlab.sim.recording import plain_column
from kmemlab.sim.struct import Struct, structs_of
from kmemlab.sim.timeline import Call, Event, Timeline
from kmemlab.views.colours import LINE, NOW, NOW_BAR, SOFT_INK
from kmemlab.views.panel import Sight, What
from kmemlab.views.svg import Svg
from kmemlab.views.told import told

MOST = 18  # cells that are drawn
_WIDE, _ROW, _TOP = 512, 22, 62


class CallPanel:
    """The cells that one recorded call changes, under the names that they have in the machine's structs."""

    stage = ""
    proc_name = "the call"

    def __init__(self, root: Struct, timeline: Timeline, command: int, call: Call) -> None:
        """`root` is the machine's kernel; the call is one of the numbered command."""
        self.call = call
        names = {
            id(plain_column(view)): (struct, name) for struct in structs_of(root) for name, view in struct.columns()
        }
        self.columns: list[Column] = []
        self.cells: dict[tuple[int, int], str] = {}  # (place in columns, index): its name
        self.first: dict[tuple[int, int], int] = {}  # what stood in the cells at the call's start
        for event in timeline.events(command, call):
            if event.column is not None:
                if self._number(event.column) < 0:
                    self.columns.append(event.column)
                key = self._number(event.column), event.index
                self.cells[key] = cell_name(*names[id(event.column)], event.index)

    def _number(self, column: Column | None) -> int:
        # Not `in`: two columns that hold the same are equal, but they are two.
        return next((at for at, known in enumerate(self.columns) if known is column), -1)

    def prepare(self, calls: list[Call]) -> None:
        """The cells were chosen with the call."""
        self.first = {}

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the cells."""
        now = {(of, at): self.columns[of][at] for of, at in self.cells}
        self.first = self.first or now
        changed = [
            (
                of,
                name,
                f"{_number_text(self.columns[of], self.first[of, at])} → {_number_text(self.columns[of], value)}",
            )
            for ((of, at), value), name in zip(now.items(), self.cells.values(), strict=True)
            if value != self.first[of, at]
        ]
        given = ", ".join(f"{name} = {_short(value)}" for name, value in told((self.call,)).args.items())
        told_changes = "; ".join(f"{name} {change}" for _, name, change in changed[:MOST])
        alt = f"The call of {self.call.name} with {given}. {told_changes or 'Nothing is changed so far'}."
        picture = self._drawn(given, changed, what.number if what else -1, alt)
        facts = tuple((name, change.partition(" → ")[2]) for _, name, change in changed)
        return Sight(picture, alt, f"{self.call.name}({given})", facts)

    def _drawn(self, given: str, changed: list[tuple[int, str, str]], written: int, alt: str) -> Svg:
        rows = max(1, min(len(self.cells), MOST))
        drawing = Svg(_WIDE, _TOP + _ROW * (rows + 1), f"A call of {self.call.name}", alt)
        drawing.text(10, 20, self.call.name, size=13, bold=True, mono=True)
        drawing.text(10, 40, given, size=10.5, fill=SOFT_INK, mono=True)
        drawing.line(10, 50, _WIDE - 10, 50, stroke=LINE)
        if not self.cells:
            drawing.text(10, _TOP + 11, "It writes nothing: what counts is what it returns.", size=11.5)
        for row, (of, name, change) in enumerate(changed[-MOST:]):
            y = _TOP + row * _ROW
            if of == written:
                drawing.rect(6, y - 4, _WIDE - 12, _ROW - 2, fill=NOW, stroke=NOW_BAR, line=2.0)
            drawing.text(12, y + 11, name, size=11, mono=True)
            drawing.text(_WIDE - 16, y + 11, change, size=11, mono=True, anchor="end")
        if len(changed) > MOST:
            drawing.text(12, _TOP + MOST * _ROW + 11, f"and {len(changed) - MOST} more", size=10.5, fill=SOFT_INK)
        return drawing

    def wrote(self, event: Event) -> What | None:
        """A cell, or several of one column in a row."""
        return What("column", self._number(event.column))

    def write_sentence(self, by: str, what: What) -> str:
        """The cell and what stands in it now, or which cells were written."""
        cells = [(at, name) for (of, at), name in self.cells.items() if of == what.number]
        column = self.columns[what.number]
        if len(cells) == 1:
            return f"{by} writes {_number_text(column, column[cells[0][0]])} to {cells[0][1]}."
        return f"{by} writes to {cells[0][1].rpartition('[')[0] or cells[0][1].rpartition('.')[0]}."


def cell_name(struct: Struct, column: str, index: int) -> str:
    """A cell as the source would name it: a field of the struct, or a place in one of its columns."""
    if column != "cells":
        return f"{struct!r}.{column}[{index}]"
    return f"{struct!r}.{next(name for name, cell in struct._cells.items() if cell.index == index)}"


def _number_text(column: Column, value: int) -> str:
    """A cell's number: addresses and limits, which have 64 bits and no sign, in hex."""
    return hex(value) if column.format == "Q" and value >= 10 else str(value)


def _short(value: object) -> str:
    if isinstance(value, int):
        return hex(value) if value >= 1 << 20 else str(value)
    text = repr(value)
    return text if len(text) <= 40 and " at 0x" not in text else type(value).__name__
