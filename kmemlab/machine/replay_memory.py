"""Free lists that stand as a saved state says: real zones of the model, without a boot before them.

    kpageflags    free pages 0x8ed … 0x913          free_list[0]  0x8ed
                                          ──▶       free_list[1]  0x8ee
                                                    free_list[4]  0x8f0, 0x900
                                                    free_list[1]  0x910, …

Free pages make blocks in one way only: whatever could be joined has been. The order within a list nobody saved, so
lists start in ascending order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from kmemlab.machine.saved_state import SavedState, SavedZone
from kmemlab.mm.buddy import FPI_TO_TAIL, free_one_page
from kmemlab.mm.compact_control import COMPACT_CLUSTER_MAX
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER, MAX_ORDER_NR_PAGES, MemMap, page_zone_id, set_page_links
from kmemlab.mm.zone import (
    LISTS_PER_ZONE,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    Zone,
    add_to_free_list,
    free_block_around,
    free_blocks,
    get_pageblock_migratetype,
    set_pageblock_migratetype,
    zone_end_pfn,
    zone_init_free_lists,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add
from kmemlab.sim.struct import Struct
from kmemlab.types.errors import KmemlabError
from kmemlab.types.migratetype import MIGRATE_TYPES
from kmemlab.types.zone_type import MAX_NR_ZONES


@invented("a replay needs the free lists of a machine, and nothing else of it")
class ReplayMemory(Struct):
    """The zones of a machine, and the memory map that their lists are threaded through."""

    def __init__(self, page: MemMap, zones: tuple[Zone, ...]) -> None:
        self.page = page
        self.zones = zones
        self.by_slot = {zone.slot: zone for zone in zones}

    def zone_of(self, pfn: int) -> Zone | None:
        """The zone of a page frame; None where the machine has no memory."""
        return self.by_slot.get(page_zone_id(self.page, pfn)) if 0 <= pfn < self.page.max_pfn else None


@invented("a replay starts from a saved state")
def memory_of_saved(state: SavedState, types: Mapping[int, int] | None = None) -> ReplayMemory:
    """Zones as the state's zoneinfo says, with its free pages on their lists.

    `types` gives pageblocks (by number) their mobility types; the others are movable.
    """
    populated = state.populated()
    nodes = 1 + max((zone.node for zone in populated), default=0)
    end = max((zone.end_pfn for zone in populated), default=0)
    page = MemMap(end, nodes * MAX_NR_ZONES * LISTS_PER_ZONE, state.pageblock_order)
    memory = ReplayMemory(page, tuple(zone_of_saved(page, saved) for saved in populated))
    set_types(page, types or {})
    put_free_ranges(memory, state.free_ranges())
    return memory


@invented("a replay starts from a saved state", traced=False)
def set_types(page: MemMap, types: Mapping[int, int]) -> None:
    """Give pageblocks, by their number, mobility types."""
    for block, migratetype in types.items():
        set_pageblock_migratetype(page, block << page.pageblock_order, migratetype)


@invented("a replay can also start from the model's own boot")
def memory_of_booted(mm: Mm) -> ReplayMemory:
    """The zones of a machine as it stands, every free block threaded."""
    for zone in mm.populated_zones():
        thread_runs(zone)
    return ReplayMemory(mm.page, tuple(mm.populated_zones()))


@invented("a trace may take any block, not only the first of a list", traced=False)
def thread_runs(zone: Zone) -> None:
    """Thread the blocks of every run: free memory that stands in a list as one."""
    page, runs = zone.page, zone.runs
    for number in range(runs.count):
        first = runs.start[number]
        for pfn in range(first + MAX_ORDER_NR_PAGES, runs.end[number], MAX_ORDER_NR_PAGES):
            page.buddy[pfn] = page.buddy[first]
            list_add(page.lru, pfn, pfn - MAX_ORDER_NR_PAGES)
    runs.count = 0


@invented("a replay starts from a saved state")
def zone_of_saved(page: MemMap, saved: SavedZone) -> Zone:
    """An empty zone where zoneinfo says it lies, with its watermarks."""
    zone = Zone(page, saved.node, saved.index, saved.name, saved.node * MAX_NR_ZONES + saved.index)
    zone.zone_start_pfn = saved.start_pfn
    zone.spanned_pages = saved.numbers["spanned"]
    zone.present_pages = saved.numbers["present"]
    zone.managed_pages = saved.numbers["managed"]
    zone.watermark_boost = saved.numbers.get("boost", 0)
    for mark, name in ((WMARK_MIN, "min"), (WMARK_LOW, "low"), (WMARK_HIGH, "high")):
        # What zoneinfo prints contains the boost.
        zone.watermark[mark] = saved.numbers[name] - zone.watermark_boost
    for index, pages in enumerate(saved.protection[:MAX_NR_ZONES]):
        zone.lowmem_reserve[index] = pages
    zone_init_free_lists(zone)
    set_page_links(page, saved.start_pfn, saved.end_pfn, zone.slot)
    return zone


@invented("a replay starts from a saved state")
def put_free_ranges(
    memory: ReplayMemory, ranges: list[tuple[int, int]], turn: Callable[[int, int], float] = lambda pfn, order: 0
) -> None:
    """Put the pages of ascending ranges [start, end) on the free lists, each block behind those before it.

    `turn` tells of a block (page frame, order) when it is taken: what comes sooner stands further in front.
    """
    for zone in memory.zones:
        blocks: list[tuple[int, int]] = []
        for start, end in ranges:
            blocks += whole_blocks(max(start, zone.zone_start_pfn), min(end, zone_end_pfn(zone)))
        for pfn, order in sorted(blocks, key=lambda block: turn(*block)):
            free_one_page(zone, pfn, order, get_pageblock_migratetype(zone.page, pfn), FPI_TO_TAIL)


@invented("free pages make blocks in one way only", traced=False)
def whole_blocks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The blocks (page frame, order) that the free pages [start, end) make when all that can be joined is.

    >>> list(whole_blocks(5, 17))
    [(5, 0), (6, 1), (8, 3), (16, 0)]
    """
    while start < end:
        aligned = (start & -start).bit_length() - 1 if start else MAX_ORDER
        order = min(aligned, (end - start).bit_length() - 1, MAX_ORDER - 1)
        yield start, order
        start += 1 << order


@kernel("mm/page_alloc.c", "break_down_buddy_pages", left_out="guard pages (CONFIG_DEBUG_PAGEALLOC)")
def break_down_buddy_pages(zone: Zone, pfn: int, target: int, low: int, high: int, migratetype: int) -> None:
    """Split the block at `pfn` until a block of order `low` is left around `target`, wherever in it that lies.

    As `expand`, which always keeps the lower half.
    """
    while high > low:
        high -= 1
        upper = pfn + (1 << high)
        other, pfn = (pfn, upper) if target >= upper else (upper, pfn)
        add_to_free_list(zone, other, high, migratetype)


@invented("which pages are free, for a comparison with a saved state")
def free_page_map(memory: ReplayMemory) -> bytearray:
    """A byte a page frame: 1 + the order of the free block that holds it, 0 where it is not free.

    Walks the free lists themselves: what is on no list is not free, whatever its page says, and a list that is broken
    ends there.
    """
    free = bytearray(memory.page.max_pfn)
    for zone in memory.zones:
        for order in range(MAX_ORDER):
            for migratetype in range(MIGRATE_TYPES):
                with suppress(KmemlabError):
                    for pfn in free_blocks(zone, order, migratetype):
                        free[pfn : pfn + (1 << order)] = bytes([1 + order]) * (1 << order)
    return free


@invented("a trace says that a block was taken; the free lists say what was free of it")
def free_parts(zone: Zone, pfn: int, order: int) -> Iterator[tuple[int, int]]:
    """The free blocks (page frame, order) that share pages with the block of `order` at `pfn`, ascending."""
    at, end = pfn, pfn + (1 << order)
    while at < end:
        block = free_block_around(zone, at)
        if block is None:
            at += 1
            continue
        yield block
        at = block[0] + (1 << block[1])


@invented("a part of isolate_freepages_block, as its event lets us see it", traced=False)
def blocks_seen(zone: Zone, start: int, end: int, stride: int) -> tuple[list[tuple[int, int]], int]:
    """The free blocks (page frame, order) of [start, end) that begin at a page the scanner looks at, and `nr_scanned`.

    It looks at every `stride`-th page; the pages of a block that it takes count as looked at.
    """
    blocks, scanned, at = [], 0, start
    while at < end:
        block = free_block_around(zone, at)
        if block is not None and block[0] == at:
            blocks.append(block)
            scanned += 1 << block[1]
            at += (1 << block[1]) - 1
        else:
            scanned += 1
        at += stride
    return blocks, scanned


@invented("the event tells how many pages were taken, not which", traced=False)
def blocks_taken(zone: Zone, start: int, end: int, nr_scanned: int, nr_taken: int) -> list[tuple[int, int]]:
    """The free blocks that compaction's free scanner took in [start, end).

    With each pageblock that has none for it, the scanner's steps get twice as long, up to COMPACT_CLUSTER_MAX: the
    stride is the one that comes nearest to the event's numbers. What it passed and did not count can't have been free:
    fast_isolate_freepages, which has no event, had taken it before.
    """
    if not nr_taken:
        return []

    def off(blocks: list[tuple[int, int]], scanned: int) -> tuple[int, int]:
        return abs(sum(1 << order for _, order in blocks) - nr_taken), abs(scanned - nr_scanned)

    strides = [1 << shift for shift in range(COMPACT_CLUSTER_MAX.bit_length())]
    blocks, _ = min((blocks_seen(zone, start, end, stride) for stride in strides), key=lambda seen: off(*seen))
    return blocks
