"""A brute-force buddy allocator: sets of blocks, no lists, no columns. It knows which blocks exist, not their order."""

from __future__ import annotations

MAX_ORDER = 11


class SetBuddy:
    """Free blocks as a set of (first page, order); a block to take is chosen by the caller."""

    def __init__(self, blocks: int, order: int) -> None:
        self.free = {(pfn, order) for pfn in range(0, blocks << order, 1 << order)}

    def take(self, pfn: int, order: int) -> None:
        """Take the lowest part of the smallest free block that is large enough and begins at `pfn`."""
        size = min(o for _, o in self.free if o >= order)
        self.free.remove((pfn, size))
        while size > order:
            size -= 1
            self.free.add((pfn + 2**size, size))

    def give(self, pfn: int, order: int) -> None:
        """Put a block back; while its other half is there, they are one."""
        while order < MAX_ORDER - 1:
            other = pfn + 2**order if pfn % 2 ** (order + 1) == 0 else pfn - 2**order
            if (other, order) not in self.free:
                break
            self.free.remove((other, order))
            pfn, order = min(pfn, other), order + 1
        self.free.add((pfn, order))
