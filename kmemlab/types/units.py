"""Pages, page frames and sizes: the arithmetic that every floor shares."""

from __future__ import annotations

import re

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = ~(PAGE_SIZE - 1)
U64_MAX = (1 << 64) - 1
INT_MAX = (1 << 31) - 1
SMP_CACHE_BYTES = 64  # a line of the processor's cache, as the kernel is built for it

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
PAGE_KIB = PAGE_SIZE // KIB

_SUFFIX = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_NUMBER = re.compile(r"0[xX]([0-9a-fA-F]+)|(0[0-7]*)|[1-9][0-9]*")


def round_up(value: int, align: int) -> int:
    """The smallest multiple of `align` (any positive number) that is not below `value`.

    >>> round_up(4097, PAGE_SIZE)
    8192
    """
    return -(-value // align) * align


def round_down(value: int, align: int) -> int:
    """The largest multiple of `align` that is not above `value`.

    >>> round_down(4097, PAGE_SIZE)
    4096
    """
    return value // align * align


def pfn_up(addr: int) -> int:
    """The first page frame that starts at or above the byte address `addr`.

    >>> pfn_up(1), pfn_up(4096)
    (1, 1)
    """
    return (addr + PAGE_SIZE - 1) >> PAGE_SHIFT


def pfn_down(addr: int) -> int:
    """The page frame that holds the byte address `addr`.

    >>> pfn_down(8191)
    1
    """
    return addr >> PAGE_SHIFT


def get_order(size: int) -> int:
    """The smallest order whose block of 2**order pages holds `size` bytes.

    >>> get_order(1), get_order(4096), get_order(4097), get_order(1 << 22)
    (0, 0, 1, 10)
    """
    return max(0, (size - 1) >> PAGE_SHIFT).bit_length()


def simple_strtoull(text: str) -> tuple[int, str]:
    """Read a number as the kernel does: 0x… is hexadecimal, 0… octal; what follows is handed back.

    Where no digit stands, the number is 0 and all of the text is handed back: C has no error for that. Of a number that
    needs more than 64 bits the low ones are left.

    >>> simple_strtoull("0x20%"), simple_strtoull("010"), simple_strtoull("09"), simple_strtoull("some")
    ((32, '%'), (8, ''), (0, '9'), (0, 'some'))
    """
    found = _NUMBER.match(text)
    if not found:
        return 0, text
    if found[1] or found[2]:
        return int(found[0], 16 if found[1] else 8) & U64_MAX, text[found.end() :]
    number = 0
    for digit in found[0]:  # one by one: Python refuses to read thousands at once, C just runs over
        number = (10 * number + int(digit)) & U64_MAX
    return number, text[found.end() :]


def memparse(text: str) -> tuple[int, str]:
    """Read a size: a number, then perhaps one of K M G T P E; the rest is handed back.

    >>> memparse("64M$0x10000000"), memparse("all")
    ((67108864, '$0x10000000'), (0, 'all'))
    """
    size, rest = simple_strtoull(text)
    shift = _SUFFIX.get(rest[:1].upper(), 0)
    return size << shift & U64_MAX, rest[1:] if shift else rest


def size_text(size: int) -> str:
    """A size in bytes for people: the largest unit that leaves at most one decimal.

    >>> size_text(640 << 10), size_text(3 << 29), size_text(4096)
    ('640 KiB', '1.5 GiB', '4 KiB')
    """
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            value = size / (1 << shift)
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
    return f"{size} B"
