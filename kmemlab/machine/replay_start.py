"""What a saved state does not say, and the first events of a trace do: pageblocks' types, the order of lists.

A pageblock's type is told by the first event that names one: a block that left a type's free list, or went back on it.
A page that is handed to a caller, and was neither free nor seen before, had waited in a CPU's list. Of the free blocks
of a list those that are taken first stood in front.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from kmemlab.machine.saved_state import KPF_ANON, KPF_LRU, KPF_SLAB, SavedState, ranges_with
from kmemlab.machine.trace_reader import TraceEvent
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.sim.kernel import invented
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE

# Which of an event's fields is the mobility type that tells the pageblock's.
TYPE_FIELD = {
    "mm_page_alloc_zone_locked": 2,
    "mm_page_pcpu_drain": 2,
    "mm_page_alloc": 2,
    "mm_page_alloc_extfrag": 5,  # the type that the block is taken from
}
PAGE_EVENTS = ("mm_page_alloc", "mm_page_free", "mm_page_alloc_zone_locked", "mm_page_pcpu_drain")


@invented("a saved state leaves it out")
def first_types(events: Iterable[TraceEvent], pageblock_order: int) -> dict[int, int]:
    """The types of the pageblocks (by number) that an event names, each as its first event says."""
    types: dict[int, int] = {}
    for event in events:
        field = TYPE_FIELD.get(event.name)
        if field is None or not event.fields[0]:
            continue
        first = event.fields[0] >> pageblock_order
        # A stolen block may be larger than a pageblock.
        order = event.fields[2] if event.name == "mm_page_alloc_extfrag" else event.fields[1]
        for block in range(first, first + (1 << max(0, order - pageblock_order))):
            types.setdefault(block, event.fields[field])
    return types


@invented("a saved state leaves it out")
def pageblock_types(state: SavedState, first: dict[int, int]) -> dict[int, int]:
    """The types of all pageblocks: as their first event says, the others so that pagetypeinfo's counts come out.

    Of those without an event the ones with most slab pages and fewest of programs are taken for what can't be moved.
    """
    types: dict[int, int] = {}
    for zone in state.populated():
        order = state.pageblock_order
        blocks = range(zone.start_pfn >> order, (zone.end_pfn - 1 >> order) + 1)
        types.update({block: first[block] for block in blocks if block in first})
        left = Counter(dict(enumerate(state.pageblocks.get(zone.key, ()))))
        left.subtract(first[block] for block in blocks if block in first)
        unknown = sorted((block for block in blocks if block not in first), key=movable_rank(state))
        for migratetype in (MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE):
            for _ in range(min(left[migratetype], len(unknown))):
                types[unknown.pop(0)] = migratetype
        types.update(dict.fromkeys(unknown, MIGRATE_MOVABLE))
    return types


@invented("a part of pageblock_types", traced=False)
def movable_rank(state: SavedState) -> Callable[[int], tuple[int, int]]:
    """How likely a pageblock is movable: pages that programs use count for it, pages of slabs against."""
    rank: Counter[int] = Counter()
    for start, pages, flags in state.flags:
        weight = 1 if flags >> KPF_LRU & 1 or flags >> KPF_ANON & 1 else -1 if flags >> KPF_SLAB & 1 else 0
        if not weight:
            continue
        for block in range(start >> state.pageblock_order, (start + pages - 1 >> state.pageblock_order) + 1):
            first, last = block << state.pageblock_order, block + 1 << state.pageblock_order
            rank[block] += weight * (min(last, start + pages) - max(first, start))
    return lambda block: (rank[block], block)


@invented("a saved state leaves it out")
def waiting_in_pcp(
    events: Iterable[TraceEvent], free: bytearray, state: SavedState, pageblock_order: int
) -> list[TraceEvent]:
    """The first events of blocks that waited in CPUs' lists at the start, in the order of these lists.

    `free` tells which pages were free then. What is handed out first stood first; what is drained first, last. A page
    that was on an LRU list was in use: its first events are lost.
    """
    seen = bytearray(len(free))
    elsewhere = bytearray(free)
    for start, end in ranges_with(state.flags, KPF_LRU):
        end = min(end, len(elsewhere))
        elsewhere[start:end] = b"\1" * (end - start)
    taken, drained = [], []
    for event in events:
        if event.name not in PAGE_EVENTS:
            continue
        pfn, order = event.fields[0], event.fields[1]
        if not pfn or pfn + (1 << order) > len(seen) or seen[pfn]:
            continue
        seen[pfn : pfn + (1 << order)] = b"\1" * (1 << order)
        waited = not any(elsewhere[pfn : pfn + (1 << order)])
        if waited and (order <= PAGE_ALLOC_COSTLY_ORDER or order == pageblock_order):
            if event.name == "mm_page_alloc":
                taken.append(event)
            elif event.name == "mm_page_pcpu_drain":
                drained.append(event)
    return taken + drained[::-1]


@invented("a saved state leaves it out")
def turns_of_blocks(events: Iterable[TraceEvent]) -> Callable[[int, int], float]:
    """When each block (page frame, order) that is free at the start is taken: at the first event of one of its pages.

    In units of events; never is infinity.
    """
    first: dict[int, int] = {}
    for at, event in enumerate(events):
        if event.name in PAGE_EVENTS and event.fields[0]:
            pfn, order = event.fields[0], event.fields[1]
            for each in range(pfn, pfn + (1 << order)):
                first.setdefault(each, at)

    def turn(pfn: int, order: int) -> float:
        return min((first[each] for each in range(pfn, pfn + (1 << order)) if each in first), default=float("inf"))

    return turn
