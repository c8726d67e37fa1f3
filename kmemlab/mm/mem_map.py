"""struct page: one number a page frame, one column a field.

pfn          0     1     2     3   …   max_pfn-1 │ list heads (no pages)
buddy        0     4     0     0                 │            1 + order while the page heads a free block
owned        1     0     0     0                 │            1 + order while somebody holds the block it heads
lru.next     .     ●─────────────────────────────┼──▶ …       threads the free lists
"""

from __future__ import annotations

from array import array

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead
from kmemlab.sim.struct import Struct
from kmemlab.types.units import round_up

MAX_ORDER = 11  # 6.1 counts exclusively: orders 0..10
MAX_ORDER_NR_PAGES = 1 << (MAX_ORDER - 1)
PAGEBLOCK_ORDER = 9
"""Pages of one mobility type come in blocks of 2**9 (2 MiB), the size of a huge page (686: 2**10)."""

MIXED = 0xFFFF
"""What stands for a zone where the pages of a pageblock are of several."""

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
        # C keeps node and zone in each page's flags. Where nodes meet within a pageblock it is MIXED, and pages tell.
        self.pageblock = column("B", max_pfn >> PAGEBLOCK_ORDER)
        self.zone_slot = column("H", max_pfn >> PAGEBLOCK_ORDER)
        self.mixed_slot = column("H", max_pfn)


@kernel("include/linux/mm.h", "page_zone_id", traced=False)
def page_zone_id(page: MemMap, pfn: int) -> int:
    """1 + the slot of the zone that a page frame belongs to; 0 where there is no memory map."""
    slot = page.zone_slot[pfn >> PAGEBLOCK_ORDER]
    return page.mixed_slot[pfn] if slot == MIXED else slot


@kernel("include/linux/mm.h", "set_page_links", left_out="one page: ours are set range by range", traced=False)
def set_page_links(page: MemMap, start_pfn: int, end_pfn: int, slot: int) -> None:
    """Make the page frames [start_pfn, end_pfn) those of a zone; a pageblock that another zone shares becomes MIXED.

    An SRAT may let a node end anywhere:

    pageblock   |      512      |     1024      |     1536      |
    nodes       000000000000000000000011111111111111111111111111
    zone_slot   |       3       |     MIXED     |       9       |      mixed_slot tells page by page
    """
    first, last = start_pfn >> PAGEBLOCK_ORDER, (end_pfn - 1 >> PAGEBLOCK_ORDER) + 1
    for block in {first, last - 1}:
        if page.zone_slot[block] in (0, slot):
            page.zone_slot[block] = slot
        else:
            mix_slots(page, block, start_pfn, end_pfn, slot)
    if last - first > 2:
        page.zone_slot[first + 1 : last - 1] = array("H", [slot]) * (last - first - 2)


@invented("C's pages have zone numbers of their own in any case", traced=False)
def mix_slots(page: MemMap, block: int, start_pfn: int, end_pfn: int, slot: int) -> None:
    """Give each page of a pageblock its own zone: those of [start_pfn, end_pfn) the new one, the others the old one."""
    block_start, block_end = block << PAGEBLOCK_ORDER, (block + 1) << PAGEBLOCK_ORDER
    before = page.zone_slot[block]
    if before != MIXED:
        page.mixed_slot[block_start:block_end] = array("H", [before]) * (block_end - block_start)
        page.zone_slot[block] = MIXED
    start_pfn, end_pfn = max(start_pfn, block_start), min(end_pfn, block_end)
    page.mixed_slot[start_pfn:end_pfn] = array("H", [slot]) * (end_pfn - start_pfn)
