"""A column's stand-in while recording: the same cells, but each write is logged with the value it replaces."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

from kmemlab.sim.column import Column
from kmemlab.types.units import U64_MAX

# One flat log of 64-bit words. The top byte of an entry's first word is its kind:
#
#   WRITE    0  | column (16 bits) | index (40 bits)      then the value that is NOT in the cell now
#   CALL     1  | function (16)    | words that follow    then one word an argument
#   RETURN…  2-4| value, 0, or the number of an object
#   RAISE    5
#   LINE     6  | source line of the running kernel function (only where a player asked for lines)
#   COMMAND  7  | number of the command
KIND = 56
WRITE, CALL, RETURN, RETURN_NONE, RETURN_OBJECT, RAISE, LINE, COMMAND = range(8)
INDEX_BITS = 40
INDEX_MASK = (1 << INDEX_BITS) - 1


def signed(value: int) -> int:
    """The 64-bit pattern of `value` as the log's signed word.

    >>> signed(2**64 - 1)
    -1
    """
    return value - (U64_MAX + 1) if value >> 63 > 0 else value


class RecordingColumn:
    """Reads like the column that it stands for; logs writes.

    >>> log = array("q")
    >>> cells = memoryview(bytearray(4))
    >>> view = RecordingColumn(cells, 0, log)
    >>> view[2] = 9
    >>> cells[2], log.tolist()
    (9, [2, 0])
    """

    __slots__ = ("base", "fromlist", "log", "plain")

    def __init__(self, plain: Column, number: int, log: array[int]) -> None:
        self.plain = plain
        self.base = number << INDEX_BITS
        self.log = log
        self.fromlist = log.fromlist

    def __getitem__(self, index: int) -> int:
        return self.plain[index]

    def __setitem__(self, index: int | slice, value: int | Iterable[int]) -> None:
        plain = self.plain
        if isinstance(index, slice):
            for at, item in zip(range(*index.indices(len(plain))), value, strict=True):  # type: ignore[arg-type]
                self[at] = item
            return
        if index < 0:
            index += len(plain)
        old = plain[index]
        plain[index] = value  # type: ignore[assignment]
        self.fromlist([self.base | index, old])

    def __len__(self) -> int:
        return len(self.plain)

    def __iter__(self) -> Iterator[int]:
        return iter(self.plain)

    @property
    def format(self) -> str:
        """The typecode of the cells."""
        return self.plain.format


def plain_column(view: Column | RecordingColumn) -> Column:
    """The cells themselves, for whoever reads many at once."""
    return view.plain if isinstance(view, RecordingColumn) else view


class RecordingU64(RecordingColumn):
    """The same for cells whose values may not fit the log's signed word."""

    __slots__ = ()

    def __setitem__(self, index: int | slice, value: int | Iterable[int]) -> None:
        if isinstance(index, slice):
            super().__setitem__(index, value)
            return
        index = index % len(self.plain)
        old = self.plain[index]
        self.plain[index] = value  # type: ignore[assignment]
        self.fromlist([self.base | index, signed(old)])


class RecordingLines(RecordingU64):
    """The same, and each write is preceded by the source line that made it: slower, for a player's few steps."""

    __slots__ = ("line_of_caller",)

    def __init__(self, plain: Column, number: int, log: array[int], line_of_caller: Callable[[], None]) -> None:
        super().__init__(plain, number, log)
        self.line_of_caller = line_of_caller

    def __setitem__(self, index: int | slice, value: int | Iterable[int]) -> None:
        if not isinstance(index, slice):
            self.line_of_caller()
        super().__setitem__(index, value)
