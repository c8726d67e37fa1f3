"""Bitmaps: bit n is bit n % 64 of word n / 64.

bit     63 … 3 2 1 0   127 … 64
word    [     0     ]  [   1   ]
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.sim.column import Column
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import U64_MAX

BITS_PER_WORD = 64


@kernel("lib/bitmap.c", "__bitmap_set", traced=False)
def bitmap_set(words: Column, start: int, nr: int) -> None:
    """Set the bits [start, start + nr)."""
    for at, mask in _masks(start, nr):
        words[at] |= mask


@kernel("lib/bitmap.c", "__bitmap_clear", traced=False)
def bitmap_clear(words: Column, start: int, nr: int) -> None:
    """Clear the bits [start, start + nr)."""
    for at, mask in _masks(start, nr):
        words[at] &= ~mask


def _masks(start: int, nr: int) -> Iterator[tuple[int, int]]:
    end = start + nr
    while start < end:
        stop = min(end, (start | BITS_PER_WORD - 1) + 1)
        yield start // BITS_PER_WORD, (1 << stop - start) - 1 << start % BITS_PER_WORD
        start = stop


@kernel("include/linux/bitops.h", "test_bit", traced=False)
def bit_is_set(words: Column, bit: int) -> bool:
    """Whether a bit is set."""
    return bool(words[bit // BITS_PER_WORD] >> bit % BITS_PER_WORD & 1)


@kernel("lib/find_bit.c", "_find_next_bit", traced=False)
def find_next_bit(words: Column, size: int, start: int) -> int:
    """The first bit from `start` on that is set; `size` if none below that is.

    >>> from kmemlab.sim.column import column
    >>> words = column("Q", 4)
    >>> bitmap_set(words, 70, 100)
    >>> find_next_bit(words, 256, 3), find_next_zero_bit(words, 256, 80), find_last_bit(words, 256)
    (70, 170, 169)
    """
    while start < size:
        word = words[start // BITS_PER_WORD] >> start % BITS_PER_WORD
        if word:
            return min(start + (word & -word).bit_length() - 1, size)
        start = (start | BITS_PER_WORD - 1) + 1
    return size


@kernel("lib/find_bit.c", "_find_next_zero_bit", traced=False)
def find_next_zero_bit(words: Column, size: int, start: int) -> int:
    """The first bit from `start` on that is clear; `size` if all below that are set."""
    while start < size:
        word = (words[start // BITS_PER_WORD] ^ U64_MAX) >> start % BITS_PER_WORD
        if word:
            return min(start + (word & -word).bit_length() - 1, size)
        start = (start | BITS_PER_WORD - 1) + 1
    return size


@kernel("lib/find_bit.c", "_find_last_bit", traced=False)
def find_last_bit(words: Column, size: int, lowest: int = 0) -> int:
    """The last bit below `size`, and not below `lowest`, that is set; `size` if there is none."""
    at = size
    while at > lowest:
        first = max((at - 1) // BITS_PER_WORD * BITS_PER_WORD, lowest)
        word = words[first // BITS_PER_WORD] >> first % BITS_PER_WORD & (1 << at - first) - 1
        if word:
            return first + word.bit_length() - 1
        at = first
    return size


@kernel("include/linux/find.h", "for_each_clear_bitrange", formerly=("pcpu_for_each_unpop_region",), traced=False)
def for_each_clear_bitrange(words: Column, start: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of clear bits within [start, size), lowest first."""
    while (start := find_next_zero_bit(words, size, start)) < size:
        end = find_next_bit(words, size, start)
        yield start, end
        start = end


@kernel("include/linux/find.h", "for_each_set_bitrange", formerly=("pcpu_for_each_pop_region",), traced=False)
def for_each_set_bitrange(words: Column, start: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of set bits within [start, size), lowest first."""
    while (start := find_next_bit(words, size, start)) < size:
        end = find_next_zero_bit(words, size, start)
        yield start, end
        start = end
