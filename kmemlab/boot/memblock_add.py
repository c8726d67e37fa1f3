"""What memblock is told: this is memory, this is taken, this is free again."""

from __future__ import annotations

from kmemlab.boot.memblock_free import (
    MEMBLOCK_ALLOC_ANYWHERE,
    Memblock,
    memblock_dbg,
    memblock_find_in_range,
    pa_range,
)
from kmemlab.boot.memblock_regions import (
    CAPACITY,
    INIT_MEMBLOCK_REGIONS,
    MEMBLOCK_NONE,
    MemblockType,
    memblock_insert_region,
    memblock_merge_regions,
    memblock_remove_region,
    memblock_split_region,
    uncovered,
)
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import PAGE_SIZE, round_down, round_up


@kernel("mm/memblock.c", "memblock", left_out="C fills the struct at compile time")
def memblock_init(memblock: Memblock) -> None:
    """Give both lists their one empty region, as they stand in the kernel image."""
    for type in (memblock.memory, memblock.reserved):
        type.cnt = 1
        type.max = INIT_MEMBLOCK_REGIONS
    memblock.current_limit = MEMBLOCK_ALLOC_ANYWHERE


@kernel("mm/memblock.c", "memblock_cap_size", traced=False)
def memblock_cap_size(memblock: Memblock, base: int, size: int) -> int:
    """The size cut so that the range ends within what a phys_addr_t can say."""
    return min(size, memblock.config.phys_addr_max - base)


@kernel("mm/memblock.c", "memblock_add_range")
def memblock_add_range(memblock: Memblock, type: MemblockType, base: int, size: int, nid: int, flags: int) -> None:
    """Add [base, base + size). What is there already stays as it is; only the parts between are new."""
    size = memblock_cap_size(memblock, base, size)
    if not size:
        return
    end = base + size
    if not type.size[0]:
        assert type.cnt == 1
        assert not type.total_size
        type.base[0], type.size[0] = base, size
        type.nid[0], type.flags[0] = nid, flags
        type.total_size = size
        return
    # The new range may fall apart into one piece more than there are regions.
    if type.cnt * 2 + 1 >= type.max:
        pieces = len(uncovered(type, base, end))
        while type.cnt + pieces > type.max:
            memblock_double_array(memblock, type, base, size)
    for idx, piece, piece_end in reversed(uncovered(type, base, end)):
        memblock_insert_region(type, idx, piece, piece_end - piece, nid, flags)
    memblock_merge_regions(type)


@kernel("mm/memblock.c", "memblock_double_array", left_out="allocation by slab once that is up")
def memblock_double_array(memblock: Memblock, type: MemblockType, new_area_start: int, new_area_size: int) -> None:
    """Make room for twice as many regions; the larger array takes memory of its own."""
    if not memblock.can_resize or type.max * 2 > CAPACITY:
        raise KernelPanic(
            f"memblock: cannot resize {type.name} array",
            where="memblock_double_array",
            remedy="give the machine fewer separate ranges of memory",
        )
    new_max = type.max * 2
    new_size = round_up(new_max * memblock.config.sizeof_memblock_region, PAGE_SIZE)
    # The area that is being reserved is not in the list yet, so the array must keep off it: above it first, else below.
    above = new_area_start + new_area_size if type is memblock.reserved else 0
    addr = memblock_find_in_range(memblock, above, memblock.current_limit, new_size, PAGE_SIZE)
    if not addr and above:
        addr = memblock_find_in_range(memblock, 0, min(new_area_start, memblock.current_limit), new_size, PAGE_SIZE)
    if not addr:
        raise KernelPanic(
            f"memblock: Failed to double {type.name} array from {type.max} to {new_max} entries !",
            where="memblock_double_array",
        )
    if memblock.debug:
        memblock.printk.info(f"memblock: {type.name} is doubled to {new_max} at {pa_range(memblock, addr, new_size)}")
    old_addr, old_size = type.array, round_up(type.max * memblock.config.sizeof_memblock_region, PAGE_SIZE)
    type.array, type.max = addr, new_max
    if old_addr:
        memblock_phys_free(memblock, old_addr, old_size, caller="memblock_double_array")
    memblock_reserve(memblock, addr, new_size, caller="memblock_double_array")


@kernel("mm/memblock.c", "memblock_isolate_range")
def memblock_isolate_range(memblock: Memblock, type: MemblockType, base: int, size: int) -> tuple[int, int]:
    """Split regions at both ends of the range; returns the indexes [first, last) of the regions within it."""
    size = memblock_cap_size(memblock, base, size)
    if not size:
        return 0, 0
    while type.cnt + 2 > type.max:
        memblock_double_array(memblock, type, base, size)
    for cut in (base, base + size):
        for idx in range(type.cnt):
            if type.base[idx] < cut < type.end(idx):
                memblock_split_region(type, idx, cut)
                break
    inside = [idx for idx in range(type.cnt) if type.size[idx] and base <= type.base[idx] < base + size]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


@kernel("mm/memblock.c", "memblock_remove_range")
def memblock_remove_range(memblock: Memblock, type: MemblockType, base: int, size: int) -> None:
    """Take [base, base + size) out of the list, whatever parts of it are there."""
    first, last = memblock_isolate_range(memblock, type, base, size)
    for idx in reversed(range(first, last)):
        memblock_remove_region(type, idx)


@kernel("mm/memblock.c", "memblock_add")
def memblock_add(memblock: Memblock, base: int, size: int, caller: str = "") -> None:
    """Say that [base, base + size) is memory, of a node not yet known."""
    memblock_dbg(memblock, "memblock_add", base, size, caller)
    memblock_add_range(memblock, memblock.memory, base, size, memblock.config.max_numnodes, MEMBLOCK_NONE)


@kernel("mm/memblock.c", "memblock_add_node")
def memblock_add_node(
    memblock: Memblock, base: int, size: int, nid: int, flags: int = MEMBLOCK_NONE, caller: str = ""
) -> None:
    """Say that [base, base + size) is memory of node `nid`."""
    memblock_dbg(memblock, "memblock_add_node", base, size, caller, f"nid={nid} flags={flags:x} ")
    memblock_add_range(memblock, memblock.memory, base, size, nid, flags)


@kernel("mm/memblock.c", "memblock_reserve", formerly=("reserve_bootmem", "reserve_early"))
def memblock_reserve(memblock: Memblock, base: int, size: int, caller: str = "") -> None:
    """Say that [base, base + size) is taken; it need not be memory."""
    memblock_dbg(memblock, "memblock_reserve", base, size, caller)
    memblock_add_range(memblock, memblock.reserved, base, size, memblock.config.max_numnodes, MEMBLOCK_NONE)


@kernel("mm/memblock.c", "memblock_remove")
def memblock_remove(memblock: Memblock, base: int, size: int, caller: str = "") -> None:
    """Say that [base, base + size) is no memory after all."""
    memblock_dbg(memblock, "memblock_remove", base, size, caller)
    memblock_remove_range(memblock, memblock.memory, base, size)


@kernel("mm/memblock.c", "memblock_phys_free", formerly=("memblock_free", "free_bootmem"))
def memblock_phys_free(memblock: Memblock, base: int, size: int, caller: str = "") -> None:
    """Give back what was reserved of [base, base + size)."""
    memblock_dbg(memblock, "memblock_phys_free", base, size, caller)
    memblock_remove_range(memblock, memblock.reserved, base, size)


@kernel("mm/memblock.c", "memblock_set_node")
def memblock_set_node(memblock: Memblock, base: int, size: int, type: MemblockType, nid: int) -> None:
    """Give the regions of the list within [base, base + size) to node `nid`."""
    first, last = memblock_isolate_range(memblock, type, base, size)
    for idx in range(first, last):
        type.nid[idx] = nid
    memblock_merge_regions(type)


@kernel("mm/memblock.c", "memblock_setclr_flag", formerly=("memblock_mark_hotplug",))
def memblock_setclr_flag(memblock: Memblock, base: int, size: int, set: bool, flag: int) -> None:
    """Set or clear a flag of memory within [base, base + size)."""
    type = memblock.memory
    first, last = memblock_isolate_range(memblock, type, base, size)
    for idx in range(first, last):
        type.flags[idx] = type.flags[idx] | flag if set else type.flags[idx] & ~flag
    memblock_merge_regions(type)


@kernel("mm/memblock.c", "memblock_trim_memory")
def memblock_trim_memory(memblock: Memblock, align: int) -> None:
    """Shrink each region of memory to whole units of `align` bytes; `total_size` keeps the old sum, as in C."""
    type = memblock.memory
    idx = 0
    while idx < type.cnt:
        start, end = round_up(type.base[idx], align), round_down(type.end(idx), align)
        if start < end:
            type.base[idx] = start
            type.size[idx] = end - start
            idx += 1
        else:
            memblock_remove_region(type, idx)
            if type.cnt == 1 and not type.size[0]:
                return


@kernel("mm/memblock.c", "memblock_set_current_limit")
def memblock_set_current_limit(memblock: Memblock, limit: int) -> None:
    """Let nobody allocate above `limit` from now on: only what the kernel has mapped can be used."""
    memblock.current_limit = limit


@kernel("mm/memblock.c", "memblock_allow_resize")
def memblock_allow_resize(memblock: Memblock) -> None:
    """Let the lists grow: memory is known now, so there is room for a larger array."""
    memblock.can_resize = 1
