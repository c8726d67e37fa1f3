"""Requests that a trace does not show: __alloc_pages_bulk has no event, and takes pages out of a CPU's own lists.

A CPU that gives many pages back goes round its lists, and leaves each when it is empty:

drain  0x5bf4 0x6802 …  │  0x3a1 …  │  0x2958        a page that went to the second list before, is not among these,
       reclaimable      │  movable  │  unmovable     and was not asked for: somebody took it in between
"""

from __future__ import annotations

from collections.abc import Sequence

from kmemlab.machine.replay_start import PAGE_EVENTS
from kmemlab.machine.saved_state import SavedState
from kmemlab.machine.trace_reader import TraceEvent
from kmemlab.mm.per_cpu_pages import NR_PCP_LISTS, order_to_pindex
from kmemlab.sim.kernel import invented
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_PCPTYPES

COMES = ("mm_page_free", "mm_page_alloc_zone_locked")
WAS_FREE = ("mm_page_alloc", "mm_page_pcpu_drain", "mm_page_alloc_zone_locked")


@invented("the lists that are empty when free_pcppages_bulk goes from one to another", traced=False)
def emptied(first: int, then: int) -> set[int]:
    """The lists from `first` on, round, before `then`.

    >>> sorted(emptied(2, 4)), emptied(NR_PCP_LISTS - 1, 1) == {NR_PCP_LISTS - 1, 0}
    ([2, 3], True)
    """
    return {pindex % NR_PCP_LISTS for pindex in range(first, then if then > first else then + NR_PCP_LISTS)}


@invented("what CPUs' lists hold, as far as single pages' events tell")
class WaitingPages:
    """Follows single pages into CPUs' lists. `taken` are the places of the events after which one was taken unseen."""

    def __init__(self, types: dict[int, int], state: SavedState) -> None:
        """`types` are the pageblocks' mobility types by number at the start."""
        self.types = dict(types)
        self.order = state.pageblock_order
        self.zones = state.populated()
        self.waits: dict[int, tuple[tuple[int, int], int, int]] = {}  # page → zone and CPU, list, place of the event
        self.unseen: dict[int, int] = {}  # pages that were taken → place of the event
        self.taken: set[int] = set()
        self.draining: tuple[tuple[int, int], int] | None = None  # zone and CPU, list, if the last event was a drain

    def zone_of(self, pfn: int) -> int:
        """The number of the zone of a page frame; -1 for none."""
        return next((n for n, zone in enumerate(self.zones) if zone.start_pfn <= pfn < zone.end_pfn), -1)

    def follow(self, at: int, event: TraceEvent) -> None:
        """What event number `at` tells."""
        if event.name not in PAGE_EVENTS:
            if event.name == "mm_page_free_batched":
                self.draining = None  # another round begins
            return
        pfn, order = event.fields[0], event.fields[1]
        self.waits.pop(pfn, None)
        if pfn in self.unseen and event.name in WAS_FREE:
            self.taken.discard(self.unseen[pfn])  # nobody had it
        self.unseen.pop(pfn, None)
        if event.name == "mm_page_pcpu_drain":
            self.drain(event)
            return
        self.draining = None
        block = pfn >> self.order
        # What an interrupt gives back while the lists are locked goes past them.
        if event.name in COMES and not order and block in self.types and not event.in_interrupt:
            self.waits[pfn] = (self.zone_of(pfn), event.cpu), self.types[block], at

    def drain(self, event: TraceEvent) -> None:
        """A CPU gives a block back; if the last was of another list, that list is empty."""
        pfn, order, migratetype = event.fields[:3]
        self.types[pfn >> self.order] = migratetype
        listed = migratetype if migratetype < MIGRATE_PCPTYPES else MIGRATE_MOVABLE
        now = (self.zone_of(pfn), event.cpu), order_to_pindex(listed, order)
        if self.draining is not None and self.draining[0] == now[0] and self.draining[1] != now[1]:
            empty = emptied(self.draining[1], now[1])
            for page in [page for page, (of, pindex, _) in self.waits.items() if of == now[0] and pindex in empty]:
                self.unseen[page] = self.waits.pop(page)[2]
                self.taken.add(self.unseen[page])
        self.draining = now


@invented("__alloc_pages_bulk has no event")
def taken_in_bulk(events: Sequence[TraceEvent], types: dict[int, int], state: SavedState) -> set[int]:
    """The places of the events after which a page left its CPU's list without an event of its own."""
    pages = WaitingPages(types, state)
    for at, event in enumerate(events):
        pages.follow(at, event)
    return pages.taken
