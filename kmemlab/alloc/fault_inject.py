"""Failures on demand: the allocator below says no, though there is memory, so that one sees what its callers do."""

from __future__ import annotations

from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Cell, Struct

FOREVER = -1


@kernel("include/linux/fault-inject.h", "struct fault_attr", left_out="probability, filters, the stack")
class FaultAttr(Struct):
    """When to fail: every `interval`-th request, `times` times (-1: for ever, 0: never), once `space` is used up.

    >>> attr = FaultAttr()
    >>> attr.interval, attr.times, attr.space = 2, 2, 1
    >>> [should_fail(attr, 1) for _ in range(7)]
    [False, False, True, False, True, False, False]
    """

    interval = Cell()
    times = Cell()
    space = Cell()
    count = Cell()


@kernel("lib/fault-inject.c", "should_fail", left_out="what it prints")
def should_fail(attr: FaultAttr, size: int) -> bool:
    """Whether this request fails."""
    if attr.times == 0:
        return False
    if attr.space > 0:
        attr.space -= size
        return False
    if attr.interval > 1:
        attr.count += 1
        if attr.count % attr.interval:
            return False
    if attr.times != FOREVER:
        attr.times -= 1
    return True
