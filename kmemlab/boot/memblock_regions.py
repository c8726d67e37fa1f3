"""A sorted list of regions of physical memory: how memblock keeps what is memory, and what of it is taken."""

from __future__ import annotations

from array import array

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell

INIT_MEMBLOCK_REGIONS = 128
CAPACITY = INIT_MEMBLOCK_REGIONS << 7  # regions our columns have room for, however often the array is doubled

MEMBLOCK_NONE = 0
MEMBLOCK_HOTPLUG = 1
MEMBLOCK_MIRROR = 2
MEMBLOCK_NOMAP = 4
MEMBLOCK_DRIVER_MANAGED = 8


@kernel("include/linux/memblock.h", "struct memblock_type")
class MemblockType(Struct):
    """A sorted list of regions that never overlap: `base`, `size` in bytes, `flags`, `nid` of 0 … `cnt` - 1."""

    cnt = Cell()
    max = Cell()
    total_size = U64Cell()
    array = U64Cell()  # where the array itself lies; 0: in the kernel image

    base: Column
    size: Column
    flags: Column
    nid: Column

    def __init__(self, name: str) -> None:
        self.name = name
        self.base = column("Q", CAPACITY)
        self.size = column("Q", CAPACITY)
        self.flags = column("B", CAPACITY)
        self.nid = column("i", CAPACITY)

    def move(self, source: int, target: int) -> None:
        """Move the regions from index `source` on to index `target` on, as C does with memmove()."""
        count = self.cnt - source
        for cells in (self.base, self.size, self.flags, self.nid):
            cells[target : target + count] = array(cells.format, cells[source : source + count])

    def end(self, index: int) -> int:
        """The first byte behind region `index`."""
        return self.base[index] + self.size[index]

    def regions(self) -> tuple[tuple[int, int, int, int], ...]:
        """All regions as (base, size, nid, flags), for those who look from outside."""
        if self.cnt == 1 and not self.size[0]:
            return ()
        return tuple((self.base[at], self.size[at], self.nid[at], self.flags[at]) for at in range(self.cnt))


@kernel("mm/memblock.c", "memblock_insert_region")
def memblock_insert_region(type: MemblockType, idx: int, base: int, size: int, nid: int, flags: int) -> None:
    """Put a region in at place `idx`; the others move up."""
    assert type.cnt < type.max
    type.move(idx, idx + 1)
    type.base[idx] = base
    type.size[idx] = size
    type.nid[idx] = nid
    type.flags[idx] = flags
    type.cnt += 1
    type.total_size += size


@kernel("mm/memblock.c", "memblock_remove_region")
def memblock_remove_region(type: MemblockType, idx: int) -> None:
    """Take region `idx` out; of the last one an empty region stays."""
    type.total_size -= type.size[idx]
    type.move(idx + 1, idx)
    type.cnt -= 1
    if type.cnt == 0:
        type.cnt = 1
        type.base[0] = type.size[0] = type.flags[0] = 0
        type.nid[0] = 0


@kernel("mm/memblock.c", "memblock_merge_regions", left_out="6.1 walks all regions; so do we")
def memblock_merge_regions(type: MemblockType) -> None:
    """Make one of neighbours that touch and agree in node and flags."""
    idx = 0
    while idx < type.cnt - 1:
        after = idx + 1
        if (
            type.end(idx) != type.base[after]
            or type.nid[idx] != type.nid[after]
            or type.flags[idx] != type.flags[after]
        ):
            idx += 1
            continue
        type.size[idx] += type.size[after]
        type.move(after + 1, after)
        type.cnt -= 1


@invented("C splits within memblock_isolate_range", traced=False)
def memblock_split_region(type: MemblockType, idx: int, cut: int) -> None:
    """Make two regions of one at the address `cut`."""
    base, nid, flags = type.base[idx], type.nid[idx], type.flags[idx]
    type.size[idx] -= cut - base
    type.base[idx] = cut
    type.total_size -= cut - base
    memblock_insert_region(type, idx, base, cut - base, nid, flags)


@invented("C finds the gaps while it inserts, in two passes over one loop", traced=False)
def uncovered(type: MemblockType, base: int, end: int) -> list[tuple[int, int, int]]:
    """The parts of [base, end) that no region covers: (place in the list, start, end) of each, ascending."""
    parts = []
    idx = 0
    for idx in range(type.cnt):
        region, region_end = type.base[idx], type.end(idx)
        if region >= end:
            break
        if region_end <= base:
            continue
        if region > base:
            parts.append((idx, base, region))
        base = min(region_end, end)
    else:
        idx = type.cnt
    if base < end:
        parts.append((idx, base, end))
    return parts
