"""boot_params, the "zero page": the 4096 bytes in which the setup code hands over what it found out in real mode.

0x002  ext_mem_k      u16   KiB above 1 MiB, by int 0x15 AH=88h
0x1e0  alt_mem_k      u32   the same, by AX=E801h
0x1e8  e820_entries   u8    how many entries follow at
0x250  setup_data     u64   the physical address of what did not fit into this page; 0 if all did
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
SETUP_DATA_HEAD = struct.Struct("<QII")  # where the next node is, the type of this one, the bytes that follow
SETUP_E820_EXT = 1
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
    setup_data = ZeroPageField(0x250, 8)

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


@kernel("arch/x86/include/uapi/asm/bootparam.h", "struct setup_data", left_out="a list of several; other types")
class SetupData(Struct):
    """The node with the memory map's entries beyond the 128th: a head (next u64, type u32, len u32), then the entries.

    It stands in RAM at `boot_params.setup_data`. Its bytes are kept here, for RAM is as large as the map says.
    """

    data: Column

    def __init__(self, nr_entries: int) -> None:
        self.data = column("B", SETUP_DATA_HEAD.size + max(nr_entries, 0) * BOOT_E820_ENTRY.size)

    @property
    def type(self) -> int:
        """What the node holds; 0 if nobody has written it."""
        return int(SETUP_DATA_HEAD.unpack(bytes(self.data[: SETUP_DATA_HEAD.size]))[1])

    @property
    def size(self) -> int:
        """The bytes of head and entries."""
        return SETUP_DATA_HEAD.size + int(SETUP_DATA_HEAD.unpack(bytes(self.data[: SETUP_DATA_HEAD.size]))[2])

    def write(self, packed: list[bytes]) -> None:
        """Write the head and these packed entries."""
        entries = b"".join(packed)
        data = SETUP_DATA_HEAD.pack(0, SETUP_E820_EXT, len(entries)) + entries
        self.data[: len(data)] = data

    def entries(self) -> list[E820Entry]:
        """The entries behind the head."""
        data = bytes(self.data[SETUP_DATA_HEAD.size : self.size])
        return [E820Entry(*entry) for entry in BOOT_E820_ENTRY.iter_unpack(data)]


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
