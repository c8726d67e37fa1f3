"""struct page: one number a page frame, one column a field.

pfn          0     1     2     3   …   max_pfn-1 │ list heads (no pages)
buddy        0     4     0     0                 │            1 + order while the page heads a free block
owned        1     0     0     0                 │            1 + order while somebody holds the block it heads
lru.next     .     ●─────────────────────────────┼──▶ …       threads the free lists
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead
from kmemlab.sim.struct import Struct
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from kmemlab.types.units import round_down, round_up

MAX_ORDER = 11  # 6.1 counts exclusively: orders 0..10
MAX_ORDER_NR_PAGES = 1 << (MAX_ORDER - 1)
PAGEBLOCK_ORDER = 9
"""Pages of one mobility type come in blocks of 2**9 (2 MiB), the size of a huge page.

On a 686 a huge page has 2**10; there `MemMap.pageblock_order` says so, and two cells of the column go together.
"""

MIXED = 0xFFFF
"""What stands for a zone where the pages of a section are not all of one."""

FLIP = MIGRATE_MOVABLE
"""A pageblock's type is kept exclusive-or this, so that cells that nobody touched say movable."""

SECTION_ORDER = 15
PAGES_PER_SECTION = 1 << SECTION_ORDER
"""The memory map exists for whole sections of 128 MiB, so it covers a little more than the RAM."""


@kernel("include/linux/mm_types.h", "struct page", left_out="memcg, KASAN, NUMA balancing; virtual")
class MemMap(Struct):
    """The page frames 0 … `max_pfn` - 1 of a machine, then `list_heads` nodes for the lists they are on.

    All cells are 0 at power-on, so a frame that nobody touched takes no memory. `buddy` holds C's `PageBuddy` and
    `private` in one cell; `owned` is ours: C's callers must remember the order of what they hold.
    """

    buddy: Column
    owned: Column
    refcount: Column
    flags: Column
    mapcount: Column
    mapping: Column
    index: Column
    private: Column
    pageblock: Column
    pageblock_skip: Column
    section_slot: Column
    page_slot: Column

    def __init__(self, max_pfn: int, list_heads: int = 0, pageblock_order: int = PAGEBLOCK_ORDER) -> None:
        max_pfn = round_up(max_pfn, PAGES_PER_SECTION)
        self.max_pfn = max_pfn
        self.pageblock_order = pageblock_order
        self.pageblock_nr_pages = 1 << pageblock_order
        self.lru = ListHead(max_pfn + list_heads)
        self.buddy = column("B", max_pfn + list_heads)
        self.owned = column("B", max_pfn)
        self.refcount = column("i", max_pfn)
        self.flags = column("I", max_pfn)  # PG_… only; node and zone are kept by section, below
        self.mapcount = column("i", max_pfn)  # page tables that map the page; C counts from -1
        self.mapping = column("i", max_pfn)  # the number of what it is a page of (a file, anonymous memory); 0: nothing
        self.index = column("q", max_pfn)  # which page of that
        self.private = column("q", max_pfn)
        # Per 2**9 pages: their mobility type, flipped, so that movable ones (nearly all) are 0 and cost nothing.
        self.pageblock = column("B", max_pfn >> PAGEBLOCK_ORDER)
        # Per pageblock: compaction found nothing to do there lately (C: a fourth bit beside the type).
        self.pageblock_skip = column("B", max_pfn >> pageblock_order)
        # 1 + the slot of the zone, or 0 where there is no memory. C keeps node and zone in each page's flags; here a
        # section of 64 TiB costs as little as one of 1 GiB. A section that is MIXED lets its pages tell.
        self.section_slot = column("H", max_pfn // PAGES_PER_SECTION)
        self.page_slot = column("H", max_pfn)


@kernel("include/linux/mm.h", "page_zone_id", traced=False)
def page_zone_id(page: MemMap, pfn: int) -> int:
    """1 + the slot of the zone that a page frame belongs to; 0 where there is no memory."""
    slot = page.section_slot[pfn // PAGES_PER_SECTION]
    return page.page_slot[pfn] if slot == MIXED else slot


@invented("a range is treated by whole sections, and page by page at its ends", traced=False)
def ragged_ends(start_pfn: int, end_pfn: int) -> Iterator[tuple[int, int]]:
    """The parts of [start_pfn, end_pfn) in sections that it does not cover whole: at most two.

    >>> list(ragged_ends(0, PAGES_PER_SECTION)), list(ragged_ends(5, 2 * PAGES_PER_SECTION + 7))
    ([], [(5, 32768), (65536, 65543)])
    """
    head_end = min(end_pfn, round_up(start_pfn, PAGES_PER_SECTION))
    tail_start = max(head_end, round_down(end_pfn, PAGES_PER_SECTION))
    if start_pfn < head_end:
        yield start_pfn, head_end
    if tail_start < end_pfn:
        yield tail_start, end_pfn


@kernel("include/linux/mm.h", "set_page_links", left_out="one page: ours are set range by range", traced=False)
def set_page_links(page: MemMap, start_pfn: int, end_pfn: int, slot: int) -> None:
    """Make the page frames [start_pfn, end_pfn) those of a zone; a section that is not wholly its own becomes MIXED.

    section        |    128 MiB    |    128 MiB    |    128 MiB    |
    zone           .1111122222222222222222222222222222222222........
    section_slot   |     MIXED     |       2       |     MIXED     |      page_slot tells page by page
    """
    first, last = -(-start_pfn // PAGES_PER_SECTION), end_pfn // PAGES_PER_SECTION
    if first < last:
        page.section_slot[first:last] = array("H", [slot]) * (last - first)
    for start, end in ragged_ends(start_pfn, end_pfn):
        mix_section(page, start // PAGES_PER_SECTION)
        page.page_slot[start:end] = array("H", [slot]) * (end - start)


@invented("C's pages have zone numbers of their own in any case", traced=False)
def mix_section(page: MemMap, section: int) -> None:
    """Let the pages of a section tell their zones one by one; those of a section that had none are unmovable."""
    before = page.section_slot[section]
    if before == MIXED:
        return
    page.section_slot[section] = MIXED
    start, end = section * PAGES_PER_SECTION, (section + 1) * PAGES_PER_SECTION
    if before:
        page.page_slot[start:end] = array("H", [before]) * PAGES_PER_SECTION
    else:
        blocks = PAGES_PER_SECTION >> PAGEBLOCK_ORDER
        page.pageblock[start >> PAGEBLOCK_ORDER : end >> PAGEBLOCK_ORDER] = bytes([MIGRATE_UNMOVABLE ^ FLIP]) * blocks
