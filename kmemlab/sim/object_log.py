"""Things that are no numbers (a student's function) and that rewind: how many there are is a cell."""

from __future__ import annotations

from typing import Any

from kmemlab.sim.struct import Cell, Struct


class ObjectLog(Struct):
    """An append-only list of things; a struct keeps a thing as its number.

    >>> log = ObjectLog()
    >>> log.add(print), log.add(len), log.add(print)
    (0, 1, 0)
    >>> log[1]
    <built-in function len>
    """

    count = Cell()

    def __init__(self) -> None:
        # As with lines of text: what stands behind `count` is of a future that was rewound.
        self._things: list[Any] = []

    def __getitem__(self, at: int) -> Any:
        return self._things[at]

    def add(self, thing: Any) -> int:
        """The number of a thing, which is added if it is new."""
        count = self.count
        for at in range(count):
            if self._things[at] is thing:
                return at
        if len(self._things) > count and self._things[count] is not thing:
            del self._things[count:]
        if len(self._things) == count:
            self._things.append(thing)
        self.count = count + 1
        return count
