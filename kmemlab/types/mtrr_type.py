"""Memory types: how the CPU may cache what it reads and writes."""

from __future__ import annotations

MTRR_TYPE_UNCACHABLE = 0
MTRR_TYPE_WRCOMB = 1
MTRR_TYPE_WRTHROUGH = 4
MTRR_TYPE_WRPROT = 5
MTRR_TYPE_WRBACK = 6
MTRR_NUM_TYPES = 7
MTRR_TYPE_INVALID = 0xFF
PAT_UC_MINUS = 7  # only in the PAT: uncached, but an MTRR may make it write-combining

MTRR_NAMES = ("uncachable", "write-combining", "?", "?", "write-through", "write-protect", "write-back")
PAT_NAMES = {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB", 7: "UC-"}

MTRR_DEF_TYPE_FIXED_ENABLED = 1 << 10
MTRR_DEF_TYPE_ENABLED = 1 << 11
MTRR_MASK_VALID = 1 << 11

PAT_POWER_ON = 0x0007040600070406
"""What the PAT register holds after a reset: entry 0 in the lowest byte, WB WT UC- UC, twice."""


def mtrr_attrib_to_str(type: int) -> str:
    """The name of a type in /proc/mtrr.

    >>> mtrr_attrib_to_str(6), mtrr_attrib_to_str(2)
    ('write-back', '?')
    """
    return MTRR_NAMES[type] if type < MTRR_NUM_TYPES else "?"
