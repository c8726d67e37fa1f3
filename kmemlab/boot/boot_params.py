"""boot_params, the "zero page": the 4096 bytes in which the setup code hands over what it found out in real mode.

0x002  ext_mem_k      u16   KiB above 1 MiB, by int 0x15 AH=88h
0x1e0  alt_mem_k      u32   the same, by AX=E801h
0x1e8  e820_entries   u8    how many entries follow at
0x2d0  e820_table     128 entries of 20 bytes:   addr u64 │ size u64 │ type u32
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Self, overload

from kmemlab.boot.e820 import E820Entry
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.config import E820_MAX_ENTRIES_ZEROPAGE
from kmemlab.types.units import PAGE_SIZE

BOOT_E820_ENTRY = struct.Struct("<QQI")  # packed: 20 bytes, so every second entry is unaligned
E820_TABLE_OFFSET = 0x2D0


@invented("C lays a struct over the page")
class ZeroPageField(Cell):
    """A little-endian unsigned number of `width` bytes at `offset`; what doesn't fit is lost, as in a C assignment."""

    def __init__(self, offset: int, width: int) -> None:
        self.offset, self.width = offset, width

    @overload
    def __get__(self, struct: None, owner: type[Struct]) -> Self: ...
    @overload
    def __get__(self, struct: Struct, owner: type[Struct]) -> int: ...
    def __get__(self, struct: Struct | None, owner: type[Struct]) -> Self | int:
        if struct is None:
            return self
        assert isinstance(struct, BootParams)
        return int.from_bytes(bytes(struct.zero_page[self.offset : self.offset + self.width]), "little")

    def __set__(self, struct: Struct, value: int) -> None:
        assert isinstance(struct, BootParams)
        struct.put(self.offset, (value & ((1 << 8 * self.width) - 1)).to_bytes(self.width, "little"))


@kernel("arch/x86/include/uapi/asm/bootparam.h", "struct boot_params", left_out="what memory detection does not use")
class BootParams(Struct):
    """The zero page as bytes; its fields are read and written where they stand.

    >>> params = BootParams()
    >>> params.alt_mem_k = 65536
    >>> bytes(params.zero_page[0x1E0:0x1E4]).hex(" ")
    '00 00 01 00'
    """

    ext_mem_k = ZeroPageField(0x002, 2)
    alt_mem_k = ZeroPageField(0x1E0, 4)
    e820_entries = ZeroPageField(0x1E8, 1)

    zero_page: Column

    def __init__(self) -> None:
        self.zero_page = column("B", PAGE_SIZE)

    def put(self, offset: int, data: Iterable[int]) -> None:
        """Write bytes at `offset`."""
        for at, byte in enumerate(data, offset):
            self.zero_page[at] = byte

    def e820_entry(self, index: int) -> E820Entry:
        """Entry `index` of the e820_table field."""
        assert 0 <= index < E820_MAX_ENTRIES_ZEROPAGE
        offset = E820_TABLE_OFFSET + index * BOOT_E820_ENTRY.size
        return unpack_boot_e820_entry(bytes(self.zero_page[offset : offset + BOOT_E820_ENTRY.size]))

    def set_e820_entry(self, index: int, packed: bytes) -> None:
        """Copy 20 packed bytes into entry `index` of the e820_table field."""
        assert 0 <= index < E820_MAX_ENTRIES_ZEROPAGE
        assert len(packed) == BOOT_E820_ENTRY.size
        self.put(E820_TABLE_OFFSET + index * BOOT_E820_ENTRY.size, packed)


@invented("C casts a pointer")
def pack_boot_e820_entry(addr: int, size: int, type: int) -> bytes:
    """The 20 bytes of a struct boot_e820_entry.

    >>> pack_boot_e820_entry(0x100000, 0x7EE0000, 1).hex()
    '00001000000000000000ee070000000001000000'
    """
    return BOOT_E820_ENTRY.pack(addr, size, type)


@invented("C casts a pointer")
def unpack_boot_e820_entry(packed: bytes) -> E820Entry:
    """The entry that 20 packed bytes say."""
    return E820Entry(*BOOT_E820_ENTRY.unpack(packed))
