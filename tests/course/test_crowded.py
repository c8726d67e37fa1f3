"""The crowded machine is what it says: much is free, nothing in a row, and what is not free is a program's."""

from __future__ import annotations

import pytest

from kmemlab.course.crowded import FIRST, LAST, QUICK, crowded, taken
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.types.errors import OutOfMemory


def test_pages_are_free_but_no_row_of_them() -> None:
    machine, pid, area = crowded(stays=300, goes=2700)
    zone = machine.zone("DMA32")
    for order in (10, 9):
        taken(machine, order)
    machine.check()
    assert sum(zone.nr_free[order] << order for order in range(MAX_ORDER)) > 2000
    with pytest.raises(OutOfMemory):
        machine.alloc_pages(QUICK, 9)
    frames = [machine.user_pfn(pid, area + page * 4096) for page in range(300)]
    inside = sum(FIRST <= pfn < LAST for pfn in frames if pfn is not None)
    assert None not in frames
    assert inside > 200
    assert len({pfn // 512 for pfn in frames if pfn is not None and FIRST <= pfn < LAST}) >= 5


def test_it_is_the_same_each_time() -> None:
    first, second = (crowded(stays=100, goes=400) for _ in range(2))
    assert [first.machine.user_pfn(first.pid, first.area + page * 4096) for page in range(100)] == [
        second.machine.user_pfn(second.pid, second.area + page * 4096) for page in range(100)
    ]
