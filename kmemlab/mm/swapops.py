"""Swap entries: where on which swap area a page went. What stands in a page table in place of a page frame.

swp_entry_t      | type 5 | offset 58 |           which area, and which slot of it (slot 0 is the area's header)

entry of a page table, P = 0, G = 0 (nobody may take it for a page)
 63  59 58                            9 8 7     4 3 2 1 0
| type |      offset, inverted         |G|       |E|     |P|     4 and 5 levels; PAE, without E
         31            9 8           6 5      1  0
        |    offset     |G|           | type  | |P|              2 levels, not inverted

Inverted, since a CPU that guesses ahead may take P = 0 for P = 1: then the address shall be one where no memory is.
"""

from __future__ import annotations

from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pgtable import PAGE_GLOBAL, PAGE_PRESENT, PgtableLayout
from kmemlab.types.units import U64_MAX

MAX_SWAPFILES_SHIFT = 5
SWP_TYPE_SHIFT = 63 - MAX_SWAPFILES_SHIFT
SWP_OFFSET_MASK = (1 << SWP_TYPE_SHIFT) - 1

SWP_HWPOISON_NUM, SWP_MIGRATION_NUM, SWP_DEVICE_NUM, SWP_PTE_MARKER_NUM, SWP_SWAPIN_ERROR_NUM = 1, 3, 4, 1, 1
MAX_SWAPFILES = (
    (1 << MAX_SWAPFILES_SHIFT)
    - (SWP_HWPOISON_NUM + SWP_MIGRATION_NUM + SWP_DEVICE_NUM + SWP_PTE_MARKER_NUM + SWP_SWAPIN_ERROR_NUM)
)  # fmt: skip
"""Types from here on stand for something else than a swap area: a page that is on the move, a broken one, …"""

# The type of an entry while its page moves: only to be read, the process's alone, to be written.
SWP_MIGRATION_READ = MAX_SWAPFILES + SWP_HWPOISON_NUM
SWP_MIGRATION_READ_EXCLUSIVE = SWP_MIGRATION_READ + 1
SWP_MIGRATION_WRITE = SWP_MIGRATION_READ + 2

SWP_TYPE_BITS = 5
SWP_OFFSET_FIRST_BIT = 9
SWP_OFFSET_SHIFT = SWP_OFFSET_FIRST_BIT + SWP_TYPE_BITS
PAGE_SWP_EXCLUSIVE = 1 << 3
"""E: the page that went was one process's alone (PG_anon_exclusive). Only 64-bit kernels remember it."""


@kernel("include/linux/swapops.h", "swp_entry", left_out="32 bits, where the offset has 26", traced=False)
def swp_entry(type: int, offset: int) -> int:
    """The entry for a slot of an area.

    >>> hex(swp_entry(1, 5)), swp_type(swp_entry(1, 5)), swp_offset(swp_entry(1, 5))
    ('0x400000000000005', 1, 5)
    """
    return type << SWP_TYPE_SHIFT | offset & SWP_OFFSET_MASK


@kernel("include/linux/swapops.h", "swp_type", traced=False)
def swp_type(entry: int) -> int:
    """The area of an entry."""
    return entry >> SWP_TYPE_SHIFT


@kernel("include/linux/swapops.h", "swp_offset", traced=False)
def swp_offset(entry: int) -> int:
    """The slot of an entry within its area."""
    return entry & SWP_OFFSET_MASK


@kernel("include/linux/swapops.h", "non_swap_entry", traced=False)
def non_swap_entry(entry: int) -> bool:
    """Whether an entry stands for something else than a slot on a swap area."""
    return swp_type(entry) >= MAX_SWAPFILES


@kernel("include/linux/swapops.h", "swp_entry_to_pte", formerly=("__swp_entry_to_pte",), traced=False)
def swp_entry_to_pte(layout: PgtableLayout, entry: int) -> int:
    """The entry as it stands in a page table.

    >>> from kmemlab.types.pgtable import LAYOUTS
    >>> hex(swp_entry_to_pte(LAYOUTS[4], swp_entry(0, 1))), hex(swp_entry_to_pte(LAYOUTS[2], swp_entry(1, 1)))
    ('0x7fffffffffffc00', '0x202')
    """
    type, offset = swp_type(entry), swp_offset(entry)
    if layout.entry_size == 4:
        return type << 1 | offset << SWP_OFFSET_FIRST_BIT
    # Shifted up too far and down again, so that the bits of the type come out as 0.
    return (~offset << SWP_OFFSET_SHIFT & U64_MAX) >> SWP_TYPE_BITS | type << 64 - SWP_TYPE_BITS


@kernel("include/linux/swapops.h", "pte_to_swp_entry", formerly=("__pte_to_swp_entry",), traced=False)
def pte_to_swp_entry(layout: PgtableLayout, pte: int) -> int:
    """The entry that a page table holds.

    >>> from kmemlab.types.pgtable import LAYOUTS
    >>> [pte_to_swp_entry(LAYOUTS[n], swp_entry_to_pte(LAYOUTS[n], 1234)) for n in (2, 3, 4, 5)]
    [1234, 1234, 1234, 1234]
    """
    if layout.entry_size == 4:
        return swp_entry(pte >> 1 & (1 << SWP_TYPE_BITS) - 1, pte >> SWP_OFFSET_FIRST_BIT)
    offset = (~pte << SWP_TYPE_BITS & U64_MAX) >> SWP_OFFSET_SHIFT
    return swp_entry(pte >> 64 - SWP_TYPE_BITS, offset)


@kernel("include/linux/swapops.h", "is_swap_pte", traced=False)
def is_swap_pte(pte: int) -> bool:
    """Whether an entry of a page table is neither empty nor a page."""
    return bool(pte) and not pte & (PAGE_PRESENT | PAGE_GLOBAL)


@kernel("arch/x86/include/asm/pgtable.h", "pte_swp_mkexclusive", traced=False)
def pte_swp_mkexclusive(layout: PgtableLayout, pte: int) -> int:
    """The same with the mark that the page was one process's alone, if the kernel can remember that."""
    return pte | PAGE_SWP_EXCLUSIVE if layout.virt_bits > 32 else pte


@kernel("arch/x86/include/asm/pgtable.h", "pte_swp_exclusive", traced=False)
def pte_swp_exclusive(layout: PgtableLayout, pte: int) -> bool:
    """Whether the page that went was one process's alone, as far as the kernel remembers."""
    return layout.virt_bits > 32 and bool(pte & PAGE_SWP_EXCLUSIVE)


@kernel("arch/x86/include/asm/pgtable.h", "pte_swp_clear_exclusive", traced=False)
def pte_swp_clear_exclusive(layout: PgtableLayout, pte: int) -> int:
    """The same without that mark."""
    return pte & ~PAGE_SWP_EXCLUSIVE if layout.virt_bits > 32 else pte


@invented("generic_max_swapfile_size tries it out with an offset of all ones", traced=False)
def max_swapfile_pages(layout: PgtableLayout) -> int:
    """How many slots an area can have at most, the header counted.

    >>> from kmemlab.types.pgtable import LAYOUTS
    >>> [max_swapfile_pages(LAYOUTS[n]).bit_length() - 1 for n in (2, 3, 4)]
    [23, 26, 50]
    """
    if layout.virt_bits == 32:
        return 1 << (32 - SWP_OFFSET_FIRST_BIT if layout.entry_size == 4 else 31 - SWP_TYPE_BITS)
    return 1 << 64 - SWP_OFFSET_SHIFT
