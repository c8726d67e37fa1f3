"""Pages, page frames and sizes: the arithmetic that every floor shares."""

from __future__ import annotations

import re

from kmemlab.types.errors import BadParameter

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = ~(PAGE_SIZE - 1)
U64_MAX = (1 << 64) - 1

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

_SUFFIX = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)([kKmMgGtTpPeE]?)")


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

    >>> get_order(4096), get_order(4097), get_order(9000)
    (0, 1, 2)
    """
    return max(0, (size - 1) >> PAGE_SHIFT).bit_length()


def memparse(text: str) -> tuple[int, str]:
    """Read a size as the kernel's `memparse` does: digits (or 0x…), then one of K M G T P E; the rest is handed back.

    Raises `BadParameter` where no digit stands.

    >>> memparse("64M$0x10000000")
    (67108864, '$0x10000000')
    """
    found = _SIZE.match(text)
    if not found:
        raise BadParameter(f"{text!r} is not a size", where="a size on the command line", remedy="write digits and K, M or G, such as 512M")
    digits = found[1]
    base = 16 if digits[:2].lower() == "0x" else 8 if len(digits) > 1 and digits[0] == "0" and set(digits) <= set("01234567") else 10
    return int(digits, base) << _SUFFIX[found[2].upper()], text[found.end() :]


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
