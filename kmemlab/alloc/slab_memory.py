"""What stands in objects: bytes of RAM, by their addresses in the direct map."""

from __future__ import annotations

from kmemlab.alloc.slab_pages import SlabPages
from kmemlab.hardware.ram import WORDS
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

IN_PAGE = PAGE_SIZE - 1
_ZEROS = memoryview(bytes(PAGE_SIZE)).cast("Q")


@kernel("arch/x86/lib/memset_64.S", "memset", traced=False)
def memset(pages: SlabPages, address: int, value: int, size: int) -> None:
    """Fill `size` bytes from an address on."""
    paddr = address - pages.page_offset
    ram, within = pages.ram, paddr & IN_PAGE
    place = ram.place[paddr >> PAGE_SHIFT]
    if place and not value and not (within | size) & 7 and within + size <= PAGE_SIZE:
        # Most fills clear whole words of one page.
        first = place * WORDS + (within >> 3)
        ram.words[first : first + (size >> 3)] = _ZEROS[: size >> 3]
    else:
        ram.write_bytes(paddr, bytes([value]) * size)


@kernel("arch/x86/lib/memcpy_64.S", "memcpy", traced=False)
def memcpy(pages: SlabPages, to: int, source: int, size: int) -> None:
    """Copy `size` bytes."""
    write_memory(pages, to, read_memory(pages, source, size))


@invented("a load", traced=False)
def read_memory(pages: SlabPages, address: int, size: int) -> bytes:
    """The bytes from an address on."""
    return pages.ram.read_bytes(address - pages.page_offset, size)


@invented("a store", traced=False)
def write_memory(pages: SlabPages, address: int, data: bytes) -> None:
    """Write bytes from an address on."""
    pages.ram.write_bytes(address - pages.page_offset, data)


@invented("a load of a pointer or an unsigned int", traced=False)
def read_number(pages: SlabPages, address: int, size: int) -> int:
    """The number of `size` (4 or 8) bytes at an address that is a multiple of `size`."""
    return pages.ram.read(address - pages.page_offset, size)


@invented("a store of a pointer or an unsigned int", traced=False)
def write_number(pages: SlabPages, address: int, value: int, size: int) -> None:
    """Write a number of `size` (4 or 8) bytes at an address that is a multiple of `size`."""
    pages.ram.write(address - pages.page_offset, value, size)


@invented("a constructor in C writes through its pointer")
class KernelMemory:
    """What a constructor gets to write with: `memory.write(address, b"...")`, `memory.read(address, size)`."""

    def __init__(self, pages: SlabPages) -> None:
        self._pages = pages

    def read(self, address: int, size: int) -> bytes:
        """The bytes from an address on."""
        return read_memory(self._pages, address, size)

    def write(self, address: int, data: bytes) -> None:
        """Write bytes from an address on."""
        write_memory(self._pages, address, data)
