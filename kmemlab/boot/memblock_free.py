"""What of memory is free: the walk over memory minus reserved, and the search for a place in it."""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.boot.memblock_regions import MEMBLOCK_HOTPLUG, MEMBLOCK_NOMAP, MemblockType
from kmemlab.boot.printk import Printk
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell
from kmemlab.types.config import AMD64, NUMA_NO_NODE, KernelConfig
from kmemlab.types.units import U64_MAX, round_down, round_up

MEMBLOCK_ALLOC_ANYWHERE = U64_MAX
MEMBLOCK_ALLOC_ACCESSIBLE = 0  # as an upper limit: whatever memblock.current_limit says


@kernel("include/linux/memblock.h", "struct memblock", left_out="physmem (s390)", formerly=("bootmem_data",))
class Memblock(Struct):
    """Memory known and memory taken. `printk` hears what memblock=debug asks for; `debug` is that parameter."""

    current_limit = U64Cell()
    bottom_up = Cell()
    movable_node = Cell()  # memory that can be unplugged is not given out
    can_resize = Cell()
    debug = Cell()

    def __init__(self, printk: Printk | None = None, config: KernelConfig = AMD64) -> None:
        self.printk = printk or Printk()
        self.config = config
        self.memory = MemblockType("memory")
        self.reserved = MemblockType("reserved")


@invented("printk's %pa: an address in as many digits as phys_addr_t has", traced=False)
def pa(memblock: Memblock, address: int) -> str:
    """An address as printk's %pa writes it."""
    address &= memblock.config.phys_addr_max
    return f"{address:#0{2 + memblock.config.phys_addr_bits // 4}x}"


@kernel("mm/memblock.c", "memblock_dbg", traced=False)
def memblock_dbg(memblock: Memblock, function: str, base: int, size: int, caller: str, nid: str = "") -> None:
    """Say one line if memblock=debug was asked for. C finds the caller by its return address; ours is told."""
    if memblock.debug:
        memblock.printk.info(f"{function}: {pa_range(memblock, base, size)} {nid}{caller}")


@invented("a range as memblock's messages write it", traced=False)
def pa_range(memblock: Memblock, base: int, size: int) -> str:
    """[first byte-last byte]."""
    return f"[{pa(memblock, base)}-{pa(memblock, base + size - 1)}]"


@kernel("include/linux/memblock.h", "for_each_mem_range", traced=False)
def for_each_mem_range(memblock: Memblock) -> Iterator[tuple[int, int, int]]:
    """Every region of memory, ascending: (start, end, nid) in bytes."""
    type = memblock.memory
    for idx in range(type.cnt):
        if type.size[idx]:
            yield type.base[idx], type.end(idx), type.nid[idx]


@kernel(
    "include/linux/memblock.h",
    "for_each_mem_pfn_range",
    formerly=("for_each_active_range_index_in_nid", "node_active_region"),
    traced=False,
)
def for_each_mem_pfn_range(memblock: Memblock, nid: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Every region that holds a whole page, ascending: (first pfn, pfn behind, nid); of one node if `nid` is given."""
    for start, end, region_nid in for_each_mem_range(memblock):
        start_pfn, end_pfn = (start + 4095) >> 12, end >> 12
        if start_pfn < end_pfn and nid in (None, NUMA_NO_NODE, region_nid):
            yield start_pfn, end_pfn, region_nid


@kernel("include/linux/memblock.h", "for_each_reserved_mem_range", traced=False)
def for_each_reserved_mem_range(memblock: Memblock) -> Iterator[tuple[int, int]]:
    """Every reserved region, ascending: (start, end) in bytes."""
    type = memblock.reserved
    for idx in range(type.cnt):
        if type.size[idx]:
            yield type.base[idx], type.end(idx)


@kernel("include/linux/memblock.h", "for_each_free_mem_range", left_out="mirrored memory", traced=False)
def for_each_free_mem_range(
    memblock: Memblock, start: int = 0, end: int | None = None, nid: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """Every free range (memory that nobody reserved) within [start, end), ascending: (start, end, nid) in bytes."""
    memory, reserved = memblock.memory, memblock.reserved
    limit = U64_MAX if end is None else end
    taken = 0  # regions of `reserved` before this one end below where we are
    for idx in range(memory.cnt):
        if should_skip_region(memblock, idx, nid):
            continue
        at, region_end = max(memory.base[idx], start), min(memory.end(idx), limit)
        while taken < reserved.cnt and reserved.end(taken) <= at:
            taken += 1
        hole = taken
        while at < region_end:
            here = hole < reserved.cnt and reserved.size[hole] > 0
            gap_end = min(reserved.base[hole], region_end) if here else region_end
            if at < gap_end:
                yield at, gap_end, memory.nid[idx]
            if gap_end == region_end:
                break
            # What was reserved since the yield stands at `hole` now: what is left of the gap comes next, as in C.
            at = reserved.end(hole)
            hole += 1


@kernel("include/linux/memblock.h", "for_each_free_mem_range_reverse", left_out="mirrored memory", traced=False)
def for_each_free_mem_range_reverse(
    memblock: Memblock, start: int = 0, end: int | None = None, nid: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """The same, descending: who looks for a place from the top mostly finds it in the first range."""
    memory, reserved = memblock.memory, memblock.reserved
    limit = U64_MAX if end is None else end
    taken = reserved.cnt - 1  # regions of `reserved` behind this one start above where we are
    for idx in reversed(range(memory.cnt)):
        if should_skip_region(memblock, idx, nid):
            continue
        region_start, at = max(memory.base[idx], start), min(memory.end(idx), limit)
        while taken >= 0 and reserved.base[taken] >= at:
            taken -= 1
        hole = taken
        while at > region_start:
            here = hole >= 0 and reserved.size[hole] > 0
            gap_start = max(reserved.end(hole), region_start) if here else region_start
            if gap_start < at:
                yield gap_start, at, memory.nid[idx]
            at = reserved.base[hole] if here else region_start
            hole -= 1


@kernel("mm/memblock.c", "should_skip_region", left_out="mirrored memory", traced=False)
def should_skip_region(memblock: Memblock, idx: int, nid: int | None) -> bool:
    """Whether memory region `idx` has nothing to give to who asks for node `nid` (None or -1: any)."""
    memory = memblock.memory
    if not memory.size[idx] or nid not in (None, NUMA_NO_NODE, memory.nid[idx]):
        return True
    if memblock.movable_node and memory.flags[idx] & MEMBLOCK_HOTPLUG:
        return True
    return bool(memory.flags[idx] & MEMBLOCK_NOMAP)


@kernel("mm/memblock.c", "memblock_find_in_range_node", left_out="mirrored memory")
def memblock_find_in_range_node(
    memblock: Memblock, size: int, align: int, start: int, end: int, nid: int = NUMA_NO_NODE
) -> int:
    """The highest (lowest if `bottom_up`) free place of `size` bytes within [start, end); 0 if there is none."""
    if end == MEMBLOCK_ALLOC_ACCESSIBLE:
        end = memblock.current_limit
    start = max(start, 1 << 12)  # page 0 is never given: address 0 means failure
    end = max(start, end)
    if memblock.bottom_up:
        for this_start, this_end, _ in for_each_free_mem_range(memblock, start, end, nid):
            place = round_up(this_start, align)
            if place < this_end and this_end - place >= size:
                return place
        return 0
    for this_start, this_end, _ in for_each_free_mem_range_reverse(memblock, start, end, nid):
        if this_end < size:
            continue
        place = round_down(this_end - size, align)
        if place >= this_start:
            return place
    return 0


@kernel("mm/memblock.c", "memblock_find_in_range")
def memblock_find_in_range(memblock: Memblock, start: int, end: int, size: int, align: int) -> int:
    """The same on any node."""
    return memblock_find_in_range_node(memblock, size, align, start, end)
