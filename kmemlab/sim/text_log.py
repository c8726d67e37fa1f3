"""Lines of text that rewind: how many there are is a cell, so undoing the cell takes lines back."""

from __future__ import annotations

from kmemlab.sim.struct import Cell, Struct


class TextLog(Struct):
    """An append-only list of lines.

    >>> log = TextLog()
    >>> log.append("one"); log.append("two")
    >>> log.count = 1  # what a rewind does
    >>> log.append("three"); log.lines()
    ('one', 'three')
    """

    count = Cell()

    def __init__(self) -> None:
        # Lines behind `count` are of a future that was rewound; a redo only moves `count` and finds them again.
        self._text: list[str] = []

    def append(self, line: str) -> None:
        """Add a line behind the last one that counts."""
        count = self.count
        if len(self._text) > count and self._text[count] != line:
            del self._text[count:]
        if len(self._text) == count:
            self._text.append(line)
        self.count = count + 1

    def lines(self) -> tuple[str, ...]:
        """The lines that count, oldest first."""
        return tuple(self._text[: self.count])

    def line(self, at: int) -> str:
        """One of the lines that count, by its number from 0."""
        return self._text[at]
