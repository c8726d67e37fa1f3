"""RAM: what stands in page frames. Only frames that were written take memory.

pfn      0   1   2   3   4  …          place   0        1        2      …
place    0   2   0   0   1             words  [512 ⋅ 8 bytes] [frame 4] [frame 1]
frame                                         -        4        1

A frame without a place holds zeros. Most frames of a simulated machine never get one: the model keeps who owns a
frame, and contents only where the hardware itself reads them, as it does with page tables.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Any, Self

from kmemlab.sim.column import UNTOUCHED_IS_FREE, Column, column, copy_column, index_typecode
from kmemlab.sim.kernel import invented
from kmemlab.sim.recording import plain_column
from kmemlab.sim.struct import Cell, Struct, empty_struct
from kmemlab.types.errors import TooLarge
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

WORDS = PAGE_SIZE // 8  # words of 8 bytes in a frame
_EACH_BYTE = 0x0101010101010101


@invented("RAM is hardware")
class Ram(Struct):
    """The contents of the page frames 0 … `max_pfn` - 1; all zeros at power-on.

    >>> ram = Ram(1 << 20)
    >>> ram.write(0x1008, 0x123456789ABCDEF0)
    >>> hex(ram.read(0x1008)), hex(ram.read(0x100C, 4)), ram.read(0x5000)
    ('0x123456789abcdef0', '0x12345678', 0)
    """

    nr_places = Cell()  # how many frames have a place
    has_filled = Cell()  # whether `filled` was ever written

    words: Column
    place: Column
    frame: Column
    filled: Column

    def __init__(self, max_pfn: int, nr_places: int = 0) -> None:
        """`nr_places` is how many frames can have contents, if not as many as this computer takes without cost."""
        # All three take memory only where they are touched, at least on most systems.
        nr_places = nr_places or (min(max_pfn, max_pfn // 4 + (1 << 18)) if UNTOUCHED_IS_FREE else max_pfn // 64 + 1024)
        self.max_pfn = max_pfn
        self.words = column("Q", (1 + nr_places) * WORDS)
        self.place = column(index_typecode(nr_places), max_pfn)
        self.frame = column("q", 1 + nr_places)  # place 0 stays empty: a 0 in `place` means "none"
        self.filled = column("B", max_pfn)  # the byte that a frame without a place is full of

    def read(self, addr: int, size: int = 8) -> int:
        """The number of `size` (4 or 8) bytes at a physical address that is a multiple of `size`.

        Where there is no RAM, all bits are 1: nobody answers on the bus.
        """
        pfn = addr >> PAGE_SHIFT
        if pfn >= self.max_pfn:
            return (1 << 8 * size) - 1
        place = self.place[pfn]
        word = self.words[place * WORDS + (addr >> 3) % WORDS] if place else self.filled[pfn] * _EACH_BYTE
        return word if size == 8 else word >> 8 * (addr & 4) & 0xFFFFFFFF

    def write(self, addr: int, value: int, size: int = 8) -> None:
        """Write a number of `size` (4 or 8) bytes; where there is no RAM, it is lost.

        Raises `TooLarge` when no more frames can have contents.
        """
        pfn = addr >> PAGE_SHIFT
        if pfn >= self.max_pfn:
            return
        at = self.place_of(pfn) * WORDS + (addr >> 3) % WORDS
        if size == 4:
            shift = 8 * (addr & 4)
            value = self.words[at] & ~(0xFFFFFFFF << shift) | value << shift
        self.words[at] = value

    def fill(self, addr: int, values: array[int]) -> None:
        """Write numbers of 8 bytes one behind the other, all into the same frame."""
        if addr >> PAGE_SHIFT < self.max_pfn:
            at = self.place_of(addr >> PAGE_SHIFT) * WORDS + (addr >> 3) % WORDS
            self.words[at : at + len(values)] = memoryview(values)

    def read_bytes(self, addr: int, size: int) -> bytes:
        """The bytes from a physical address on; where there is no RAM they are 0xff."""
        found = bytearray()
        while size > 0:
            within = addr & PAGE_SIZE - 1
            length = min(size, PAGE_SIZE - within)
            found += self._frame_bytes(addr >> PAGE_SHIFT, within, length)
            addr += length
            size -= length
        return bytes(found)

    def is_blank(self, addr: int, size: int) -> bool:
        """Whether all of `size` bytes from a physical address on, which lie in one frame, are 0."""
        return self._frame_bytes(addr >> PAGE_SHIFT, addr % PAGE_SIZE, size) == bytes(size)

    def write_bytes(self, addr: int, data: bytes) -> None:
        """Write bytes from a physical address on; where there is no RAM they are lost."""
        while data:
            within = addr & PAGE_SIZE - 1
            piece, data = data[: PAGE_SIZE - within], data[PAGE_SIZE - within :]
            if addr >> PAGE_SHIFT < self.max_pfn:
                self._write_frame(self.place_of(addr >> PAGE_SHIFT), within, piece)
            addr += len(piece)

    def _frame_bytes(self, pfn: int, within: int, length: int) -> bytes:
        if pfn >= self.max_pfn:
            return b"\xff" * length
        place = self.place[pfn]
        if not place:
            return bytes((self.filled[pfn],)) * length
        first, last = within >> 3, within + length + 7 >> 3
        words = plain_column(self.words)[place * WORDS + first : place * WORDS + last]
        bytes_of_words = words.tobytes() if sys.byteorder == "little" else struct.pack(f"<{last - first}Q", *words)
        return bytes_of_words[within & 7 : (within & 7) + length]

    def _write_frame(self, place: int, within: int, piece: bytes) -> None:
        # Whole words are written; what lies before and behind the piece in the first and last word stays.
        first, last = within >> 3, within + len(piece) + 7 >> 3
        at = place * WORDS
        words = self.words
        head, tail = within & 7, -(within + len(piece)) & 7
        if head:
            piece = words[at + first].to_bytes(8, "little")[:head] + piece
        if tail:
            piece += words[at + last - 1].to_bytes(8, "little")[8 - tail :]
        words[at + first : at + last] = memoryview(array("Q", struct.unpack(f"<{last - first}Q", piece)))

    def place_of(self, pfn: int) -> int:
        """The place of a frame, which gets one if it has none."""
        place = self.place[pfn]
        if not place:
            place = self.nr_places + 1
            if place >= len(self.frame):
                raise TooLarge(
                    f"more than {len(self.frame) - 1} page frames of this machine have contents",
                    where=f"writing into page frame {pfn:#x}",
                    remedy="map less memory with small pages, or boot a machine with more memory",
                )
            self.nr_places = place
            self.place[pfn] = place
            self.frame[place] = pfn
            if self.filled[pfn]:
                self._fill_place(place, self.filled[pfn])
                self.filled[pfn] = 0
        return place

    def clear_page(self, pfn: int) -> None:
        """Fill a frame with zeros."""
        if self.place[pfn] or self.filled[pfn]:
            self.fill_pages(pfn, 1, 0)

    def fill_pages(self, pfn: int, count: int, byte: int) -> None:
        """Fill frames with one byte; those that have no contents of their own still take no memory."""
        if byte or self.has_filled:
            self.filled[pfn : pfn + count] = memoryview(bytes((byte,)) * count)
            self.has_filled = 1
        places = self.place[pfn : pfn + count]
        if any(places):
            for nth, place in enumerate(places):
                if place:
                    self._fill_place(place, byte)
                    self.filled[pfn + nth] = 0

    def _fill_place(self, place: int, byte: int) -> None:
        page = array("Q", [byte * _EACH_BYTE]) * WORDS
        at = place * WORDS
        if plain_column(self.words)[at : at + WORDS] != memoryview(page):
            self.words[at : at + WORDS] = memoryview(page)

    def frames(self) -> tuple[int, ...]:
        """The frames that were ever written, in the order in which they were written first."""
        return tuple(self.frame[place] for place in range(1, self.nr_places + 1))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy costs what was written; the columns are far larger. (Fields are set past __setattr__: a recorder that
        # watches for new columns is none of the twin's business.)
        twin = empty_struct(type(self))
        memo[id(self)] = twin
        used = self.nr_places + 1
        twin.__dict__.update(
            max_pfn=self.max_pfn,
            cells=copy_column(plain_column(self.cells)),
            words=column("Q", len(self.words)),
            place=column(plain_column(self.place).format, self.max_pfn),  # type: ignore[arg-type]
            frame=column("q", len(self.frame)),
            filled=copy_column(plain_column(self.filled)) if self.has_filled else column("B", self.max_pfn),
        )
        twin.words[: used * WORDS] = plain_column(self.words)[: used * WORDS]
        twin.frame[:used] = plain_column(self.frame)[:used]
        for place in range(1, used):
            twin.place[twin.frame[place]] = place
        return twin
