"""Exact replay: every block that Linux took off the free lists or put back on them, on the model's own lists.

                mm_page_alloc_zone_locked                 mm_page_alloc
      ┌──────┐ ──────────────────────────▶ ┌───────────┐ ───────────────▶ ┌──────┐
      │ free │                             │ a CPU's   │                  │ used │
      └──────┘ ◀────────────────────────── │ own lists │ ◀─────────────── └──────┘
          ▲         mm_page_pcpu_drain     └───────────┘   mm_page_free       │
          └────────────────────────────────────────────────────────────────────┘
                 mm_page_free of an order that per-CPU lists don't take

What is kept here are the free lists alone. Linux's own events tell which block; what splits and joins is the model's
`__free_one_page`, `break_down_buddy_pages` and the lists themselves. An event
that the lists contradict wins: the lists are brought to where it can have happened, and that is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from kmemlab.machine.replay_memory import ReplayMemory, blocks_taken, break_down_buddy_pages, free_parts
from kmemlab.machine.trace_reader import SkippedLines, TraceEvent
from kmemlab.mm.buddy import expand, find_buddy_pfn, free_one_page, rmqueue_smallest
from kmemlab.mm.fallback import change_pageblock_range, move_freepages_block
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    Zone,
    del_page_from_free_list,
    free_block_around,
    get_pageblock_migratetype,
    move_to_free_list,
    set_pageblock_migratetype,
    zone_end_pfn,
)
from kmemlab.sim.kernel import invented
from kmemlab.types.migratetype import MIGRATE_MOVABLE

_LRU_PAGE = re.compile(r"(?:page|folio)=\S+ pfn=0x([0-9a-f]{1,16}) ")

# While a CPU's list is locked, nothing but these events can come from the code that holds the lock.
HOLDS_PCP_LOCK = ("mm_page_free_batched", "mm_page_pcpu_drain", "mm_page_alloc_zone_locked")


@invented("Linux's own events drive the model's free lists")
class ExactReplay:
    """The free lists of a machine, and what each event does to them.

    `steals_are_logged_alone`: kernels from 6.10 on log a stolen block by mm_page_alloc_extfrag only.
    """

    def __init__(self, memory: ReplayMemory, skipped: SkippedLines, steals_are_logged_alone: bool) -> None:
        self.memory = memory
        self.skipped = skipped
        self.steals_are_logged_alone = steals_are_logged_alone
        self.placed = bytearray(memory.page.max_pfn)  # 1: we know why this block stands where it does in its list
        self.last_of_task: dict[int, TraceEvent] = {}  # of each CPU, outside interrupts
        self.contradictions: Counter[str] = Counter()
        self.first_contradiction = ""
        self.direct_frees = 0
        self.went_to_buddy = False  # the last free
        self.heads_known = self.heads_agree = 0
        self.first_other_head = ""
        self.isolated: list[tuple[int, int]] = []  # blocks that compaction last took as targets
        self.compacted = False
        self.handlers: dict[str, Callable[..., None]] = {
            "mm_page_alloc_zone_locked": self.zone_locked,
            "mm_page_alloc": self.page_alloc,
            "mm_page_free": self.page_free,
            "mm_page_free_batched": self.page_free_batched,
            "mm_page_pcpu_drain": self.pcpu_drain,
            "mm_page_alloc_extfrag": self.steal_alone if steals_are_logged_alone else self.steal,
            "mm_compaction_isolate_freepages": self.isolate_freepages,
        }

    def follow(self, event: TraceEvent) -> bool:
        """Do what one event says. False for pages that the machine doesn't have: that is added to the skipped lines."""
        handler = self.handlers.get(event.name)
        sound = True
        if event.name == "mm_lru_insertion":
            self.lru_insertion(event)
        failed = event.name == "mm_page_alloc" and not event.fields[0]  # a request that failed has pfn 0
        if handler is not None and not failed:
            zone = self.memory.zone_of(event.fields[0])
            if zone is not None and self.fits(event, zone):
                handler(event, zone, *event.fields)
            else:
                sound = False
                what = f"{event.name}: page frame {event.fields[0]:#x} is no block of this machine's memory"
                self.skipped.add(event.line, what, "")
        if event.flags[2] == ".":
            self.last_of_task[event.cpu] = event
        return sound

    def fits(self, event: TraceEvent, zone: Zone) -> bool:
        """Whether the block that an event names is aligned and lies within its zone."""
        if event.name == "mm_compaction_isolate_freepages":
            return int(event.fields[1]) <= self.memory.page.max_pfn
        pfn: int = event.fields[0]
        order: int = event.fields[1]
        return pfn & ((1 << order) - 1) == 0 and pfn + (1 << order) <= zone_end_pfn(zone)

    # -- events --------------------------------------------------------------------------------------------------------

    def zone_locked(self, event: TraceEvent, zone: Zone, pfn: int, order: int, migratetype: int, _refill: int) -> None:
        """A block left the free list of a type: for a CPU's list, or (large ones) straight for a caller."""
        first = self.compare_head(event, zone, pfn, order, migratetype)
        if first == pfn:
            self.take_first(zone, order, migratetype)
        elif self.take(zone, pfn, order, migratetype) != 1 << order:
            self.contradict(event, "it was not all free")

    def page_alloc(self, event: TraceEvent, zone: Zone, pfn: int, order: int, migratetype: int, _gfp: int) -> None:
        """A caller got a block. Direct compaction hands on what it has just made free, with no event before."""
        taken = self.take(zone, pfn, order, migratetype)
        if taken and not self.compacted:
            self.contradict(event, "it was still on a free list")

    def page_free(self, event: TraceEvent, zone: Zone, pfn: int, order: int) -> None:
        """A caller gave a block back: to this CPU's list, or to the buddy if its order or the moment don't allow it."""
        direct = not self.pcp_allowed_order(order)
        if not direct and self.pcp_is_locked(event, zone):
            self.direct_frees += 1
            direct = True
        self.went_to_buddy = direct
        if self.take(zone, pfn, order, get_pageblock_migratetype(zone.page, pfn)):
            self.contradict(event, "it was free already")
        if direct:
            self.give(zone, pfn, order, get_pageblock_migratetype(zone.page, pfn))

    def page_free_batched(self, event: TraceEvent, zone: Zone, pfn: int, order: int) -> None:
        """A page of a list, freed before, reaches the CPU's list: the free lists don't change."""

    def pcpu_drain(self, event: TraceEvent, zone: Zone, pfn: int, order: int, migratetype: int) -> None:
        """A block left a CPU's list for the buddy."""
        if self.take(zone, pfn, order, migratetype):
            self.contradict(event, "it was free already")
        self.give(zone, pfn, order, migratetype)

    def steal(
        self, event: TraceEvent, zone: Zone, pfn: int, alloc_order: int, order: int, _pageblock_order: int,
        migratetype: int, _fallback: int, _fragmenting: int, change_ownership: int,
    ) -> None:  # fmt: skip
        """A type takes over a block of another (6.1): blocks change lists; which one is taken is told right after."""
        page = zone.page
        if free_block_around(zone, pfn) != (pfn, order):
            self.contradict(event, f"there was no free block of order {order}")
        elif order >= page.pageblock_order:
            change_pageblock_range(zone, pfn, order, migratetype)
            move_to_free_list(zone, pfn, order, migratetype)
        else:
            # As can_steal_fallback decides: what movable pages take from a small block is that block only.
            if order >= page.pageblock_order // 2 or migratetype != MIGRATE_MOVABLE:
                move_freepages_block(zone, pfn, migratetype)
            else:
                move_to_free_list(zone, pfn, order, migratetype)
            if change_ownership:
                set_pageblock_migratetype(page, pfn, migratetype)

    def steal_alone(
        self, event: TraceEvent, zone: Zone, pfn: int, alloc_order: int, order: int, _pageblock_order: int,
        migratetype: int, fallback: int, _fragmenting: int, change_ownership: int,
    ) -> None:  # fmt: skip
        """A type takes over a block of another (since 6.10): unless mm_page_alloc_zone_locked told, it is taken now."""
        if free_block_around(zone, pfn) is None:
            if change_ownership:  # the rest of the pageblock goes with it
                set_pageblock_migratetype(zone.page, pfn, migratetype)
                self.move_rest(zone, pfn, order, migratetype)
            return
        whole = order >= zone.page.pageblock_order
        if whole:
            change_pageblock_range(zone, pfn, order, migratetype)
        self.take(zone, pfn, alloc_order, migratetype if whole else fallback)

    def move_rest(self, zone: Zone, pfn: int, order: int, migratetype: int) -> None:
        """Move the pageblock's free blocks to a type's lists, but for those that were just split off a block."""
        start = pfn & -zone.page.pageblock_nr_pages
        split = pfn & -(1 << order)
        for head, size in list(free_parts(zone, start, zone.page.pageblock_order)):
            if not split <= head < split + (1 << order):
                move_to_free_list(zone, head, size, migratetype)

    def isolate_freepages(
        self, event: TraceEvent, zone: Zone, start: int, end: int, nr_scanned: int, nr_taken: int
    ) -> None:
        """Compaction took free blocks as targets for migration: `nr_taken` pages of [start, end), ascending."""
        self.compacted = True
        self.isolated = blocks_taken(zone, start, end, nr_scanned, nr_taken)
        for head, order in self.isolated:
            self.take(zone, head, order, MIGRATE_MOVABLE)

    def lru_insertion(self, event: TraceEvent) -> None:
        """A page in use comes to an LRU list. If it still seems free, compaction took its block without an event.

        fast_isolate_freepages takes whole free blocks; what of them is not needed is freed again, with events.
        """
        self.isolated.clear()
        found = _LRU_PAGE.match(event.fields[0])
        pfn = int(found[1], 16) if found else -1
        zone = self.memory.zone_of(pfn)
        block = free_block_around(zone, pfn) if zone is not None else None
        if zone is not None and block is not None:
            self.compacted = True
            self.take(zone, *block, MIGRATE_MOVABLE)
            self.isolated.append(block)

    # -- what they have in common --------------------------------------------------------------------------------------

    def pcp_allowed_order(self, order: int) -> bool:
        """Per-CPU lists hold small blocks, and huge pages."""
        return order <= PAGE_ALLOC_COSTLY_ORDER or order == self.memory.page.pageblock_order

    def pcp_is_locked(self, event: TraceEvent, zone: Zone) -> bool:
        """Whether an interrupt frees while the code that it interrupted holds the lock of the same per-CPU list."""
        if not event.in_interrupt or event.preempt_depth < 2:
            return False
        last = self.last_of_task.get(event.cpu)
        return last is not None and last.name in HOLDS_PCP_LOCK and self.memory.zone_of(last.fields[0]) is zone

    def take_first(self, zone: Zone, order: int, migratetype: int) -> None:
        """Take the first block of a type's lists, as the page allocator does."""
        pfn = rmqueue_smallest(zone, order, migratetype)
        assert pfn is not None
        zone.vm_stat[NR_FREE_PAGES] -= 1 << order
        self.split_around(pfn, order, MAX_ORDER - 1)

    def take(self, zone: Zone, pfn: int, order: int, migratetype: int) -> int:
        """Take a block off the free lists as far as it is free; returns how many of its pages were."""
        taken = 0
        for head, high in list(free_parts(zone, pfn, order)):
            low, target = min(order, high), max(head, pfn)
            del_page_from_free_list(zone, head, high)
            if target == head:
                expand(zone, head, low, high, migratetype)
            else:
                break_down_buddy_pages(zone, head, target, low, high, migratetype)
            self.split_around(target, low, high)
            taken += 1 << low
        zone.vm_stat[NR_FREE_PAGES] -= taken
        return taken

    def split_around(self, pfn: int, low: int, high: int) -> None:
        """The halves that a split leaves stand first in their lists: we know why they stand there."""
        for order in range(low, high):
            buddy = find_buddy_pfn(pfn & -(1 << order), order)
            if self.memory.page.buddy[buddy] != 1 + order:
                break
            self.placed[buddy] = 1

    def give(self, zone: Zone, pfn: int, order: int, migratetype: int) -> None:
        """Put a block on the free lists."""
        free_one_page(zone, pfn, order, migratetype)
        block = free_block_around(zone, pfn)
        if block is not None:
            self.placed[block[0]] = 1

    def compare_head(self, event: TraceEvent, zone: Zone, pfn: int, order: int, migratetype: int) -> int | None:
        """The first block of the smallest order that will do, which Linux takes; count where that is the same.

        Blocks that were free from the start are left out: the order in which they stood was not saved.
        """
        following = zone.page.lru.next
        for current_order in range(order, MAX_ORDER):
            head = zone.free_list[current_order][migratetype]
            first = following[head]
            if first != head:
                break
        else:
            return None
        if not self.placed[first]:
            return first
        self.heads_known += 1
        if first == pfn:
            self.heads_agree += 1
        elif not self.first_other_head:
            self.first_other_head = f"line {event.line}: Linux took {pfn:#x}, the model's list begins with {first:#x}"
        return first

    def contradict(self, event: TraceEvent, what: str) -> None:
        """Count an event that can't have happened to pages that stand as ours do."""
        self.contradictions[event.name] += 1
        if not self.first_contradiction:
            pfn, order = event.fields[0], event.fields[1]
            self.first_contradiction = f"line {event.line}: {event.name} of {pfn:#x}, order {order}: {what}"

    def facts(self) -> dict[str, Any]:
        """What was counted on the way."""
        return {
            "contradictions": dict(self.contradictions),
            "first_contradiction": self.first_contradiction,
            "direct_frees": self.direct_frees,
            "moves_logged": not (self.compacted or self.steals_are_logged_alone),
            "heads_known": self.heads_known,
            "heads_agree": self.heads_agree,
            "first_other_head": self.first_other_head,
        }
