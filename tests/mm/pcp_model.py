"""A brute-force page allocator for one zone: Python lists that are searched, nothing threaded, nothing marked.

Pages below `border` are movable, the others unmovable; nobody borrows from the other type.
"""

from __future__ import annotations

UNMOVABLE, MOVABLE = 0, 1
ORDERS = (0, 1, 2, 3, 9)  # those that have per-CPU lists


class PcpModel:
    """Free lists by type and order, and per-CPU lists by CPU, order and type; the front of a list is its index 0."""

    def __init__(self, pages: int, border: int, nr_cpus: int, high: int, batch: int) -> None:
        self.border, self.high, self.batch = border, high, batch
        self.free: dict[tuple[int, int], list[int]] = {(t, o): [] for t in (UNMOVABLE, MOVABLE) for o in range(11)}
        for pfn in range(0, pages, 1024):
            self.free[self.type_of(pfn), 10].append(pfn)
        # In the order in which a CPU's lists are gone through when pages go back.
        self.lists = [{(o, t): [] for o in ORDERS for t in (UNMOVABLE, MOVABLE)} for _ in range(nr_cpus)]
        self.factor = [0] * nr_cpus
        self.reclaiming = False

    def type_of(self, pfn: int) -> int:
        return MOVABLE if pfn < self.border else UNMOVABLE

    def count(self, cpu: int) -> int:
        return sum(len(pfns) << order for (order, _), pfns in self.lists[cpu].items())

    def take_from_buddy(self, order: int, kind: int) -> int | None:
        for found in range(order, 11):
            if self.free[kind, found]:
                pfn = self.free[kind, found].pop(0)
                for smaller in reversed(range(order, found)):
                    self.free[kind, smaller].insert(0, pfn + 2**smaller)
                return pfn
        return None

    def give_to_buddy(self, pfn: int, order: int, kind: int) -> None:
        while order < 10 and (other := pfn ^ 2**order) in self.free[kind, order]:
            self.free[kind, order].remove(other)
            pfn, order = min(pfn, other), order + 1
        pair = pfn - pfn % 2 ** (order + 1)
        soon = order < 9 and pair ^ 2 ** (order + 1) in self.free[kind, order + 1]
        self.free[kind, order].insert(len(self.free[kind, order]) if soon else 0, pfn)

    def alloc(self, cpu: int, order: int, kind: int) -> int | None:
        if order not in ORDERS:
            return self.take_from_buddy(order, kind)
        self.factor[cpu] //= 2
        mine = self.lists[cpu][order, kind]
        if not mine:
            for _ in range(max(self.batch // 2**order, 2) if self.batch > 1 else 1):
                pfn = self.take_from_buddy(order, kind)
                if pfn is not None:
                    mine.append(pfn)
        return mine.pop(0) if mine else None

    def give(self, cpu: int, pfn: int, order: int) -> None:
        kind = self.type_of(pfn)
        if order not in ORDERS:
            self.give_to_buddy(pfn, order, kind)
            return
        self.lists[cpu][order, kind].insert(0, pfn)
        all_of_it = self.factor[cpu] > 0 and order in (1, 2, 3)
        high = min(4 * self.batch, self.high) if self.reclaiming else self.high
        if all_of_it:
            self.give_back(cpu, self.count(cpu), (order, kind))
        elif self.count(cpu) >= high:
            self.give_back(cpu, self.how_many(cpu, high), (order, kind))

    def how_many(self, cpu: int, high: int) -> int:
        if high < self.batch:
            return 1
        wanted = self.batch * 2 ** self.factor[cpu]
        if wanted < high - self.batch and self.factor[cpu] < 5:
            self.factor[cpu] += 1
        return min(max(wanted, self.batch), high - self.batch)

    def give_back(self, cpu: int, pages: int, first: tuple[int, int] = (0, UNMOVABLE)) -> None:
        keys = list(self.lists[cpu])
        turn = keys.index(first)
        pages = min(pages, self.count(cpu))
        while pages > 0:
            order, kind = keys[turn % len(keys)]
            if self.lists[cpu][order, kind]:
                self.give_to_buddy(self.lists[cpu][order, kind].pop(), order, kind)
                pages -= 2**order
            else:
                turn += 1

    def drain(self, cpu: int) -> None:
        while self.count(cpu):
            self.give_back(cpu, self.batch * 32)
