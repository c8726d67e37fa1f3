"""Requests without an event: pages taken in bulk, and lists that are emptied because somebody asked for it.

the CPU's list    7  9  4  2  …        mm_page_alloc takes 4: a list is taken from its head,
                  └──┘                 so the bulk allocator has taken 7 and 9 before
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from kmemlab.machine.replay_memory import ReplayMemory
from kmemlab.machine.trace_reader import TraceEvent
from kmemlab.mm.zone import get_pageblock_migratetype
from kmemlab.sim.kernel import invented
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_PCPTYPES

MOST_AT_ONCE = 64  # a list that is off by more is none that we know
ListKey = tuple[int, int, int, int]  # CPU, zone, order, type


@invented("an explicit drain leaves no event but those of its pages")
def drain_runs(events: Sequence[TraceEvent]) -> dict[int, int]:
    """The runs of drained pages that no free began: the place of the first event, and how many pages there are.

    A list that got too long is cut right behind the free that made it so; other runs somebody asked for: compaction,
    reclaim that finds nothing, statistics that find a list idle.
    """
    runs: dict[int, int] = {}
    last: dict[int, TraceEvent] = {}
    current: dict[int, int] = {}  # of a CPU: the run that goes on, or -1
    for at, event in enumerate(events):
        if event.name == "mm_page_pcpu_drain":
            before = last.get(event.cpu)
            if before is None or before.name != "mm_page_pcpu_drain":
                asked = before is None or before.name not in ("mm_page_free", "mm_page_free_batched")
                current[event.cpu] = at if asked else -1
            if current[event.cpu] >= 0:
                runs[current[event.cpu]] = runs.get(current[event.cpu], 0) + (1 << event.fields[1])
        last[event.cpu] = event
    return runs


@invented("the bulk allocator leaves no event")
class BulkRequests:
    """Linux's per-CPU lists, as its events tell of them."""

    def __init__(self, memory: ReplayMemory, waiting: Iterable[TraceEvent]) -> None:
        """`waiting` are the events whose blocks stood in the lists at the start, in the lists' order."""
        self.memory = memory
        self.lists: dict[ListKey, deque[int]] = {}
        self.where: dict[int, ListKey] = {}
        for event in waiting:
            self.put(event, event.fields[0], event.fields[1], event.fields[2], at_head=False)

    def put(self, event: TraceEvent, pfn: int, order: int, migratetype: int, *, at_head: bool) -> None:
        """A block comes to a list of the event's CPU: at its head when it is freed, at its tail from the buddy."""
        zone = self.memory.zone_of(pfn)
        if zone is None:
            return
        listed = migratetype if migratetype < MIGRATE_PCPTYPES else MIGRATE_MOVABLE
        key = (event.cpu, zone.slot, order, listed)
        self.drop(pfn)
        self.where[pfn] = key
        blocks = self.lists.setdefault(key, deque())
        blocks.appendleft(pfn) if at_head else blocks.append(pfn)

    def waiting(self, cpu: int, zone: int) -> int:
        """The pages that wait in the lists of a CPU for a zone."""
        return sum(len(blocks) << key[2] for key, blocks in self.lists.items() if key[:2] == (cpu, zone))

    def drop(self, pfn: int) -> None:
        """A block leaves its list, from wherever it stands."""
        key = self.where.pop(pfn, None)
        if key is None:
            return
        blocks = self.lists[key]
        if blocks[-1] == pfn:
            blocks.pop()
        else:
            blocks.remove(pfn)

    def taken(self, pfn: int) -> list[int]:
        """A caller got a block: the pages before it in its list, which nobody was said to have taken."""
        key = self.where.get(pfn)
        if key is None:
            return []
        blocks = self.lists[key]
        before: list[int] = []
        while blocks[0] != pfn and len(before) < MOST_AT_ONCE:
            before.append(blocks.popleft())
        if blocks[0] != pfn or key[2]:  # only single pages are taken in bulk
            blocks.extendleft(reversed(before))
            before = []
        for page in before:
            del self.where[page]
        self.drop(pfn)
        return before

    def freed(self, event: TraceEvent, pfn: int, order: int) -> None:
        """A block was given back to the CPU's list of its pageblock's type."""
        self.put(event, pfn, order, get_pageblock_migratetype(self.memory.page, pfn), at_head=True)
