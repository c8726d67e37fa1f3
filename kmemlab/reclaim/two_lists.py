"""The two lists alone, without a machine: second chance by PG_referenced, and nothing else.

miss ─▶ head of inactive … tail ── referenced? ── no ─▶ thrown out
              ▲   └── used a second time ─▶ head of active … tail
              └──────── active longer than inactive ◀──────────┘ (a referenced page goes round once more)
"""

from __future__ import annotations

from collections.abc import Iterable

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import ListHead, init_list_head, list_add, list_del
from kmemlab.sim.struct import Cell, Struct

ABSENT, INACTIVE, INACTIVE_REFERENCED, ACTIVE, ACTIVE_REFERENCED = range(5)
AFTER_USE = (ABSENT, INACTIVE_REFERENCED, ACTIVE, ACTIVE_REFERENCED, ACTIVE_REFERENCED)
"""What a page is after a use, by what it was before."""


@invented("page replacement without anything around it, for comparing policies and for measuring")
class TwoLists(Struct):
    """`frames` page frames for the pages 0 … `nr_pages` - 1 of some file.

    >>> lists = TwoLists(4, frames=2)
    >>> lists.misses([0, 0, 0, 1, 2, 0])  # 0 is active when 2 comes, so 1 goes
    3
    """

    nr_inactive = Cell()
    nr_active = Cell()

    state: Column

    def __init__(self, nr_pages: int, frames: int) -> None:
        self.frames = frames
        self.state = column("B", nr_pages)
        self.lru = ListHead(nr_pages + 2)
        self.inactive, self.active = nr_pages, nr_pages + 1
        init_list_head(self.lru, self.inactive)
        init_list_head(self.lru, self.active)

    def misses(self, accesses: Iterable[int]) -> int:
        """Use pages one after the other; how many of the uses found their page absent."""
        state, missed = self.state, 0
        for page in accesses:
            before = state[page]
            if before == ABSENT:
                missed += 1
                self.bring(page)
            else:
                if before == INACTIVE_REFERENCED:
                    self.activate(page)
                state[page] = AFTER_USE[before]
        return missed

    def bring(self, page: int) -> None:
        """A page comes: at the head of the inactive list. If no frame is free, another goes."""
        if self.nr_inactive + self.nr_active == self.frames:
            if self.nr_inactive < self.nr_active or not self.nr_inactive:
                self.shrink_active()
            self.evict()
        list_add(self.lru, page, self.inactive)
        self.state[page] = INACTIVE
        self.nr_inactive += 1

    def activate(self, page: int) -> None:
        """A page goes from the inactive list to the head of the active one."""
        list_del(self.lru, page)
        list_add(self.lru, page, self.active)
        self.nr_inactive -= 1
        self.nr_active += 1

    def shrink_active(self) -> None:
        """Move pages from the tail of the active list to the inactive one until that is no longer the shorter."""
        while self.nr_inactive < self.nr_active or not self.nr_inactive:
            page = self.lru.prev[self.active]
            list_del(self.lru, page)
            if self.state[page] == ACTIVE_REFERENCED:
                self.state[page] = ACTIVE
                list_add(self.lru, page, self.active)
            else:
                self.state[page] = INACTIVE
                list_add(self.lru, page, self.inactive)
                self.nr_active -= 1
                self.nr_inactive += 1

    def evict(self) -> None:
        """Throw out the first page from the tail of the inactive list that was not used since it came there."""
        lru, state, inactive = self.lru, self.state, self.inactive
        while True:
            page = lru.prev[inactive]
            list_del(lru, page)
            if state[page] == INACTIVE:
                break
            state[page] = INACTIVE
            list_add(lru, page, inactive)
        state[page] = ABSENT
        self.nr_inactive -= 1
