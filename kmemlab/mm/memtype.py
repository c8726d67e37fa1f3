"""Memory types by range: who mapped which physical addresses how, so that nobody maps them in another way."""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import TooLarge

MOST_MEMTYPES = 4096


@kernel("arch/x86/include/asm/memtype.h", "struct memtype", left_out="the tree: ours are in a row, sorted by start")
class Memtypes(Struct):
    """The reserved ranges [start, end) and their types, ascending; a range may be there several times."""

    count = Cell()

    start: Column
    end: Column
    type: Column

    def __init__(self) -> None:
        self.start = column("Q", MOST_MEMTYPES)
        self.end = column("Q", MOST_MEMTYPES)
        self.type = column("B", MOST_MEMTYPES)


@kernel("arch/x86/mm/pat/memtype_interval.c", "interval_iter_first", formerly=("interval_iter_next",), traced=False)
def overlapping(types: Memtypes, start: int, end: int) -> list[int]:
    """The places of the ranges that overlap [start, end)."""
    return [at for at in range(types.count) if types.start[at] < end and start < types.end[at]]


@invented("C's interval_insert", traced=False)
def insert_memtype(types: Memtypes, start: int, end: int, type: int) -> None:
    """Add a range, behind those that start no later. Raises `TooLarge` when there is no room."""
    count = types.count
    if count == MOST_MEMTYPES:
        raise TooLarge(
            f"more than {count} ranges have a memory type", where="memtype_reserve", remedy="iounmap some of them"
        )
    at = count
    while at and types.start[at - 1] > start:
        move(types, at - 1, at)
        at -= 1
    types.start[at], types.end[at], types.type[at] = start, end, type
    types.count = count + 1


@kernel("arch/x86/mm/pat/memtype_interval.c", "memtype_erase", left_out="a part of a range", traced=False)
def memtype_erase(types: Memtypes, start: int, end: int) -> bool:
    """Take a range out; whether it was there."""
    for at in overlapping(types, start, end):
        if (types.start[at], types.end[at]) == (start, end):
            for later in range(at + 1, types.count):
                move(types, later, later - 1)
            types.count -= 1
            return True
    return False


@invented("C's tree moves pointers", traced=False)
def move(types: Memtypes, source: int, to: int) -> None:
    """Copy one range to another place."""
    types.start[to], types.end[to], types.type[to] = types.start[source], types.end[source], types.type[source]
