"""Flat integer memory: one field of many structs, indexed by number, and where that memory lives."""

from __future__ import annotations

import mmap
import struct
import sys
from typing import Literal, TypeAlias

from kmemlab.types.errors import TooLarge

Column: TypeAlias = "memoryview[int]"
Typecode: TypeAlias = Literal["B", "H", "i", "I", "q", "Q"]

# Private so that a forked child gets its own copy, and on Linux not charged for untouched pages: MAP_NORESERVE, a name
# that the mmap module gets in Python 3.13 only (elsewhere that bit means something else).
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0
UNTOUCHED_IS_FREE = hasattr(mmap, "MAP_PRIVATE") and sys.platform != "emscripten"
"""Whether cells of a large column that nobody touches take no memory on this computer."""

_SMALL = 1 << 16  # below this a mapping costs more than it saves


def column(typecode: Typecode, cells: int) -> Column:
    """A column of `cells` integers, all 0, each as wide as the struct `typecode` says ("B", "i", "q", "Q", …).

    Large columns take memory only where they are touched. Raises `TooLarge` when this computer can't hold one.

    >>> order = column("B", 1 << 40)
    >>> order[123] = 3
    >>> order[123], order[124]
    (3, 0)
    """
    size = cells * struct.calcsize(typecode)
    if size < _SMALL:
        return memoryview(bytearray(size)).cast(typecode)
    try:
        if hasattr(mmap, "MAP_PRIVATE"):
            memory: mmap.mmap | bytearray = mmap.mmap(
                -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
            )
        else:
            memory = bytearray(size)
    except (OSError, OverflowError, MemoryError) as error:
        raise TooLarge(
            f"a column of {cells:,} cells ({size:,} bytes) does not fit on this computer ({error})",
            where="kmemlab.sim.column",
            remedy="boot a machine with less memory",
        ) from None
    return memoryview(memory).cast(typecode)


def index_typecode(highest: int) -> Typecode:
    """The narrowest typecode whose signed cells hold every number up to `highest`.

    >>> index_typecode(2**31 - 1), index_typecode(2**31)
    ('i', 'q')
    """
    return "i" if highest < 1 << 31 else "q"


def copy_column(source: Column) -> Column:
    """A column with the same cells as `source`, touching only pages that hold something."""
    typecode: Typecode = source.format  # type: ignore[assignment]
    copy = column(typecode, len(source))
    raw_from, raw_to = source.cast("B"), copy.cast("B")
    empty = bytes(_SMALL)
    for start in range(0, len(raw_from), _SMALL):
        piece = bytes(raw_from[start : start + _SMALL])  # bytes: a memoryview compares cell by cell, ten times slower
        if piece != empty[: len(piece)]:
            raw_to[start : start + _SMALL] = piece
    return copy
