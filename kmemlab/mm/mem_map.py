"""struct page: one number a page frame, one column a field.

pfn          0     1     2     3   …   max_pfn-1 │ list heads (no pages)
buddy        0     4     0     0                 │            1 + order while the page heads a free block
owned        1     0     0     0                 │            1 + order while somebody holds the block it heads
lru.next     .     ●─────────────────────────────┼──▶ …       threads the free lists
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column, index_typecode
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import ListHead
from kmemlab.sim.struct import Struct
from kmemlab.types.units import round_up

MAX_ORDER = 11  # 6.1 counts exclusively: orders 0..10
MAX_ORDER_NR_PAGES = 1 << (MAX_ORDER - 1)
PAGEBLOCK_ORDER = 9
"""Pages of one mobility type come in blocks of 2**9 (2 MiB), the size of a huge page (686: 2**10)."""

PAGES_PER_SECTION = 1 << 15
"""The memory map exists for whole sections of 128 MiB, so it covers a little more than the RAM."""


@kernel("include/linux/mm_types.h", "struct page", left_out="mapping, index, mapcount, memcg: with the page cache")
class MemMap(Struct):
    """The page frames 0 … `max_pfn` - 1 of a machine, then `list_heads` nodes for the lists they are on.

    All cells are 0 at power-on, so a frame that nobody touched takes no memory. `buddy` holds C's `PageBuddy` and
    `private` in one cell; `owned` is ours: C's callers must remember the order of what they hold.
    """

    buddy: Column
    owned: Column
    refcount: Column
    flags: Column
    nodezone: Column

    def __init__(self, max_pfn: int, list_heads: int = 0) -> None:
        max_pfn = round_up(max_pfn, PAGES_PER_SECTION)
        self.max_pfn = max_pfn
        self.lru = ListHead(max_pfn + list_heads)
        self.buddy = column("B", max_pfn + list_heads)
        self.owned = column("B", max_pfn)
        self.refcount = column("i", max_pfn)
        # Per pageblock: its mobility type, and 1 + the slot of the zone that it belongs to (0: no memory map there).
        # C keeps node and zone in each page's flags; no zone border cuts a pageblock that holds memory of both sides.
        self.pageblock = column("B", max_pfn >> PAGEBLOCK_ORDER)
        self.zone_slot = column("H", max_pfn >> PAGEBLOCK_ORDER)
