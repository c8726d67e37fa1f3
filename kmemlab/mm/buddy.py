"""The buddy system: blocks of 2**order pages, split in halves when taken, joined again when given back.

order 3   |               8               |
order 2   |       8       |      12       |      8 ^ (1 << 2) = 12: the one bit in which buddies differ
order 1   |   8   |  10   |  12   |  14   |
order 0   | 8 | 9 |10 |11 |12 |13 |14 |15 |
"""

from __future__ import annotations

from kmemlab.mm.mem_map import MAX_ORDER, MIXED, PAGEBLOCK_ORDER, SECTION_ORDER, page_zone_id
from kmemlab.mm.zone import (
    CAPTURE_ORDER,
    NR_FREE_PAGES,
    Zone,
    add_to_free_list,
    add_to_free_list_tail,
    bare_zone,
    del_page_from_free_list,
    get_pageblock_migratetype,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES

FPI_NONE = 0
FPI_TO_TAIL = 1 << 1  # boot and hotplug hand pages over at the tail: used last, so they stay whole


@kernel("mm/internal.h", "__find_buddy_pfn", traced=False)
def find_buddy_pfn(pfn: int, order: int) -> int:
    """The buddy of a block is the block that differs from it in one bit of its page frame number.

    >>> find_buddy_pfn(8, 2), find_buddy_pfn(12, 2)
    (12, 8)
    """
    return pfn ^ (1 << order)


@kernel("mm/internal.h", "page_is_buddy", left_out="guard pages (CONFIG_DEBUG_PAGEALLOC)", traced=False)
def page_is_buddy(zone: Zone, buddy_pfn: int, order: int) -> bool:
    """A buddy can be joined when it is free, whole (of the same order), and in the same zone."""
    page = zone.page
    if page.buddy[buddy_pfn] != 1 + order:
        return False
    slot = page.section_slot[buddy_pfn >> SECTION_ORDER]
    return slot == zone.slot or (slot == MIXED and page_zone_id(page, buddy_pfn) == zone.slot)


@kernel("mm/page_alloc.c", "buddy_merge_likely", left_out="the shuffled free list", traced=False)
def buddy_merge_likely(zone: Zone, pfn: int, order: int) -> bool:
    """Whether the buddy of the block one order up is free: then this block will probably be joined soon."""
    if order >= MAX_ORDER - 2:
        return False
    parent_pfn = pfn & find_buddy_pfn(pfn, order)
    return page_is_buddy(zone, find_buddy_pfn(parent_pfn, order + 1), order + 1)


@kernel("mm/page_alloc.c", "expand", left_out="guard pages (CONFIG_DEBUG_PAGEALLOC)")
def expand(zone: Zone, pfn: int, low: int, high: int, migratetype: int) -> None:
    """Split a block of order `high` in halves until a block of order `low` is left at `pfn`.

    >>> zone = example_zone(order=3)  # one free block of 8 pages
    >>> rmqueue_smallest(zone, 0, MIGRATE_MOVABLE), zone.nr_free[:4].tolist()
    (0, [1, 1, 1, 0])
    """
    while high > low:
        high -= 1
        # The caller keeps the lower half: splitting never moves `pfn`, so a
        # block stays aligned to its size and its buddy stays an XOR away.
        add_to_free_list(zone, pfn + (1 << high), high, migratetype)


@kernel("mm/page_alloc.c", "__rmqueue_smallest")
def rmqueue_smallest(zone: Zone, order: int, migratetype: int) -> int | None:
    """Take the first block of the smallest order that is large enough, and give back what is too much.

    Returns the block's first page frame, or None when no list of this type has one.
    """
    following = zone.page.lru.next
    for current_order in range(order, MAX_ORDER):
        head = zone.free_list[current_order][migratetype]
        pfn = following[head]
        if pfn == head:
            continue
        del_page_from_free_list(zone, pfn, current_order)
        expand(zone, pfn, order, current_order, migratetype)
        return pfn
    return None


@invented("the two lines that __free_one_page has inside its loop, with their reason")
def pageblocks_may_join(zone: Zone, pfn: int, buddy_pfn: int) -> bool:
    """Whole pageblocks are joined only if of one type, or both of types that may mix (not isolated, not reserved)."""
    mine = get_pageblock_migratetype(zone.page, pfn)
    other = get_pageblock_migratetype(zone.page, buddy_pfn)
    return mine == other or (mine < MIGRATE_PCPTYPES and other < MIGRATE_PCPTYPES)


@kernel("mm/page_alloc.c", "compaction_capture", traced=False)
def compaction_capture(zone: Zone, pfn: int, migratetype: int) -> bool:
    """A block of the order for which a task compacts has come about: it is that task's, on no list. Whether it was.

    Not a small block of a movable pageblock: pages that can't move would come into it.
    """
    small = zone.capture_order < zone.page.pageblock_order
    if migratetype == MIGRATE_ISOLATE or (small and migratetype == MIGRATE_MOVABLE):
        return False
    zone.captured_pfn, zone.capture_order = 1 + pfn, 0
    return True


@kernel("mm/page_alloc.c", "__free_one_page", left_out="free page reporting", lock="zone->lock")
def free_one_page(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = FPI_NONE) -> None:
    """Give a block back and join it with its buddy for as long as the buddy is free too.

    `migratetype` is that of the block's pageblock, which says whose list it goes on.
    """
    zone.vm_stat[NR_FREE_PAGES] += 1 << order
    capture_order = zone.cells[CAPTURE_ORDER]
    while order < MAX_ORDER - 1:
        if capture_order and order == capture_order and compaction_capture(zone, pfn, migratetype):
            zone.vm_stat[NR_FREE_PAGES] -= 1 << order
            return
        buddy_pfn = find_buddy_pfn(pfn, order)
        if not page_is_buddy(zone, buddy_pfn, order):
            break
        if order >= PAGEBLOCK_ORDER and not pageblocks_may_join(zone, pfn, buddy_pfn):
            break
        del_page_from_free_list(zone, buddy_pfn, order)
        pfn &= buddy_pfn
        order += 1
    # A block that will soon be joined is taken last, or the joining never comes.
    if fpi_flags & FPI_TO_TAIL or buddy_merge_likely(zone, pfn, order):
        add_to_free_list_tail(zone, pfn, order, migratetype)
    else:
        add_to_free_list(zone, pfn, order, migratetype)


@invented("the smallest zone with something in it, for examples and exercises")
def example_zone(order: int = MAX_ORDER - 1, blocks: int = 1) -> Zone:
    """A zone of `blocks` free blocks of `order`, the lowest first in the list.

    Between blocks that would join lies one that is in use.

    >>> example_zone(order=3, blocks=2).nr_free[:5].tolist()
    [0, 0, 0, 2, 0]
    """
    apart = blocks > 1 and order < MAX_ORDER - 1
    stride = 1 << (order + apart)
    zone = bare_zone(blocks * stride)
    for pfn in range(0, blocks * stride, stride):
        free_one_page(zone, pfn, order, MIGRATE_MOVABLE, FPI_TO_TAIL)
    return zone
