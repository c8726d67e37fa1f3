"""memblock: the allocator before the page allocator. Two sorted lists: what is memory, what of it is taken.

    memory      ████████████        ██████████████████████
    reserved    █  ███                    ██     █████████
    free         ██   ██████        ██████  █████             = memory minus reserved

Who allocates gets the highest free place that fits, so allocations stack downwards from the end of memory.
"""

from __future__ import annotations

from kmemlab.boot.memblock_add import (
    memblock_add,
    memblock_add_node,
    memblock_add_range,
    memblock_allow_resize,
    memblock_double_array,
    memblock_init,
    memblock_isolate_range,
    memblock_phys_free,
    memblock_remove,
    memblock_remove_range,
    memblock_reserve,
    memblock_set_current_limit,
    memblock_set_node,
    memblock_setclr_flag,
    memblock_trim_memory,
)
from kmemlab.boot.memblock_free import (
    MEMBLOCK_ALLOC_ACCESSIBLE,
    MEMBLOCK_ALLOC_ANYWHERE,
    Memblock,
    for_each_free_mem_range,
    for_each_free_mem_range_reverse,
    for_each_mem_pfn_range,
    for_each_mem_range,
    for_each_reserved_mem_range,
    memblock_dbg,
    memblock_find_in_range,
    memblock_find_in_range_node,
    pa,
    pa_range,
)
from kmemlab.boot.memblock_regions import MEMBLOCK_HOTPLUG, MEMBLOCK_NOMAP, MEMBLOCK_NONE, MemblockType
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import SMP_CACHE_BYTES

# C has one large file: whoever uses memblock finds all of it here.
__all__ = [
    "MEMBLOCK_ALLOC_ACCESSIBLE",
    "MEMBLOCK_ALLOC_ANYWHERE",
    "MEMBLOCK_HOTPLUG",
    "MEMBLOCK_NOMAP",
    "MEMBLOCK_NONE",
    "Memblock",
    "MemblockType",
    "for_each_free_mem_range",
    "for_each_free_mem_range_reverse",
    "for_each_mem_pfn_range",
    "for_each_mem_range",
    "for_each_reserved_mem_range",
    "memblock_add",
    "memblock_add_node",
    "memblock_add_range",
    "memblock_alloc",
    "memblock_alloc_exact_nid_raw",
    "memblock_alloc_or_panic",
    "memblock_alloc_range_nid",
    "memblock_alloc_try_nid",
    "memblock_alloc_try_nid_raw",
    "memblock_allow_resize",
    "memblock_dbg",
    "memblock_double_array",
    "memblock_dump",
    "memblock_dump_all",
    "memblock_end_of_DRAM",
    "memblock_find_in_range",
    "memblock_find_in_range_node",
    "memblock_init",
    "memblock_is_region_memory",
    "memblock_is_region_reserved",
    "memblock_isolate_range",
    "memblock_phys_alloc_range",
    "memblock_phys_alloc_try_nid",
    "memblock_phys_free",
    "memblock_phys_mem_size",
    "memblock_remove",
    "memblock_remove_range",
    "memblock_reserve",
    "memblock_reserved_size",
    "memblock_set_current_limit",
    "memblock_set_node",
    "memblock_setclr_flag",
    "memblock_start_of_DRAM",
    "memblock_trim_memory",
]


@kernel("mm/memblock.c", "memblock_alloc_range_nid", left_out="mirrored memory, kmemleak")
def memblock_alloc_range_nid(
    memblock: Memblock, size: int, align: int, start: int, end: int, nid: int = NUMA_NO_NODE, exact_nid: bool = False
) -> int:
    """Find a place and reserve it: on node `nid` if it has one, else (unless `exact_nid`) anywhere; 0 if none."""
    align = align or SMP_CACHE_BYTES  # C warns here
    found = memblock_find_in_range_node(memblock, size, align, start, end, nid)
    if not found and nid != NUMA_NO_NODE and not exact_nid:
        found = memblock_find_in_range_node(memblock, size, align, start, end)
    if found:
        memblock_reserve(memblock, found, size, caller="memblock_alloc_range_nid")
    return found


@kernel("mm/memblock.c", "memblock_phys_alloc_range")
def memblock_phys_alloc_range(memblock: Memblock, size: int, align: int, start: int, end: int, caller: str = "") -> int:
    """Take `size` bytes within [start, end), unzeroed; the address, or 0."""
    if memblock.debug:
        limits = f"from={pa(memblock, start)} max_addr={pa(memblock, end)}"
        memblock.printk.info(f"memblock_phys_alloc_range: {size} bytes align={align:#x} {limits} {caller}")
    return memblock_alloc_range_nid(memblock, size, align, start, end)


@kernel("mm/memblock.c", "memblock_phys_alloc_try_nid")
def memblock_phys_alloc_try_nid(memblock: Memblock, size: int, align: int, nid: int) -> int:
    """Take `size` bytes on node `nid`, or anywhere if it has none; the address, or 0."""
    return memblock_alloc_range_nid(memblock, size, align, 0, MEMBLOCK_ALLOC_ACCESSIBLE, nid)


@kernel("mm/memblock.c", "memblock_alloc_internal")
def memblock_alloc_internal(
    memblock: Memblock, size: int, align: int, min_addr: int, max_addr: int, nid: int, exact_nid: bool
) -> int:
    """Take `size` bytes that the kernel can touch, above `min_addr` if possible; the address, or 0."""
    max_addr = min(max_addr, memblock.current_limit)
    found = memblock_alloc_range_nid(memblock, size, align, min_addr, max_addr, nid, exact_nid)
    if not found and min_addr:
        found = memblock_alloc_range_nid(memblock, size, align, 0, max_addr, nid, exact_nid)
    return found


@kernel(
    "mm/memblock.c",
    "memblock_alloc_try_nid",
    left_out="zeroing: contents are no state here",
    formerly=("memblock_virt_alloc_try_nid", "alloc_bootmem"),
)
def memblock_alloc_try_nid(
    memblock: Memblock,
    size: int,
    align: int,
    min_addr: int = 0,
    max_addr: int = 0,
    nid: int = NUMA_NO_NODE,
    caller: str = "",
) -> int:
    """Take `size` zeroed bytes, on node `nid` if it has them; the physical address, or 0."""
    memblock_dbg_alloc(memblock, "memblock_alloc_try_nid", size, align, nid, min_addr, max_addr, caller)
    return memblock_alloc_internal(memblock, size, align, min_addr, max_addr, nid, False)


@kernel("mm/memblock.c", "memblock_alloc_try_nid_raw")
def memblock_alloc_try_nid_raw(
    memblock: Memblock,
    size: int,
    align: int,
    min_addr: int = 0,
    max_addr: int = 0,
    nid: int = NUMA_NO_NODE,
    caller: str = "",
) -> int:
    """The same, not zeroed."""
    memblock_dbg_alloc(memblock, "memblock_alloc_try_nid_raw", size, align, nid, min_addr, max_addr, caller)
    return memblock_alloc_internal(memblock, size, align, min_addr, max_addr, nid, False)


@kernel("mm/memblock.c", "memblock_alloc_exact_nid_raw")
def memblock_alloc_exact_nid_raw(
    memblock: Memblock,
    size: int,
    align: int,
    min_addr: int = 0,
    max_addr: int = 0,
    nid: int = NUMA_NO_NODE,
    caller: str = "",
) -> int:
    """The same, not zeroed, and on no other node."""
    memblock_dbg_alloc(memblock, "memblock_alloc_exact_nid_raw", size, align, nid, min_addr, max_addr, caller)
    return memblock_alloc_internal(memblock, size, align, min_addr, max_addr, nid, True)


@kernel("include/linux/memblock.h", "memblock_alloc", formerly=("alloc_bootmem",))
def memblock_alloc(memblock: Memblock, size: int, align: int = 64, caller: str = "") -> int:
    """Take `size` zeroed bytes anywhere that is mapped; the physical address, or 0."""
    return memblock_alloc_try_nid(memblock, size, align, caller=caller)


@invented("C writes the test behind each call")
def memblock_alloc_or_panic(memblock: Memblock, size: int, align: int, caller: str) -> int:
    """The same for what boot can't do without: if there is no room, the machine stops. `caller` is who asks."""
    found = memblock_alloc(memblock, size, align, caller)
    if not found:
        raise KernelPanic(
            f"{caller}: Failed to allocate {size} bytes", where=caller, remedy="give the machine more memory"
        )
    return found


@invented("the one line that three allocators of C print", traced=False)
def memblock_dbg_alloc(
    memblock: Memblock, function: str, size: int, align: int, nid: int, min_addr: int, max_addr: int, caller: str
) -> None:
    """Say who asks for how much, if memblock=debug was asked for."""
    if memblock.debug:
        limits = f"from={pa(memblock, min_addr)} max_addr={pa(memblock, max_addr)}"
        memblock.printk.info(f"{function}: {size} bytes align={align:#x} nid={nid} {limits} {caller}")


@kernel("mm/memblock.c", "memblock_phys_mem_size", traced=False)
def memblock_phys_mem_size(memblock: Memblock) -> int:
    """Bytes of memory as they were added (trimming does not correct this sum)."""
    return memblock.memory.total_size


@kernel("mm/memblock.c", "memblock_reserved_size", traced=False)
def memblock_reserved_size(memblock: Memblock) -> int:
    """Bytes that are reserved."""
    return memblock.reserved.total_size


@kernel("mm/memblock.c", "memblock_start_of_DRAM", traced=False)
def memblock_start_of_DRAM(memblock: Memblock) -> int:
    """The first byte of memory."""
    return memblock.memory.base[0]


@kernel("mm/memblock.c", "memblock_end_of_DRAM", traced=False)
def memblock_end_of_DRAM(memblock: Memblock) -> int:
    """The first byte behind all memory."""
    return memblock.memory.end(memblock.memory.cnt - 1)


@kernel("mm/memblock.c", "memblock_is_region_memory", traced=False)
def memblock_is_region_memory(memblock: Memblock, base: int, size: int) -> bool:
    """Whether all of [base, base + size) lies in one region of memory."""
    return any(start <= base and base + size <= end for start, end, _ in for_each_mem_range(memblock))


@kernel("mm/memblock.c", "memblock_is_region_reserved", traced=False)
def memblock_is_region_reserved(memblock: Memblock, base: int, size: int) -> bool:
    """Whether any byte of [base, base + size) is reserved."""
    return any(start < base + size and base < end for start, end in for_each_reserved_mem_range(memblock))


@kernel("mm/memblock.c", "memblock_dump_all")
def memblock_dump_all(memblock: Memblock) -> None:
    """Print both lists, if memblock=debug was asked for."""
    if not memblock.debug:
        return
    say = memblock.printk.info
    say("MEMBLOCK configuration:")
    memory_size, reserved_size = pa(memblock, memblock.memory.total_size), pa(memblock, memblock.reserved.total_size)
    say(f" memory size = {memory_size} reserved size = {reserved_size}")
    for type in (memblock.memory, memblock.reserved):
        memblock_dump(memblock, type)


@kernel("mm/memblock.c", "memblock_dump")
def memblock_dump(memblock: Memblock, type: MemblockType) -> None:
    """Print one list."""
    memblock.printk.info(f" {type.name}.cnt  = {type.cnt:#x}")
    for idx in range(type.cnt):
        base, size, nid = type.base[idx], type.size[idx], type.nid[idx]
        on_node = f" on node {nid}" if memblock.config.numa and nid != memblock.config.max_numnodes else ""
        memblock.printk.info(
            f" {type.name}[{idx:#x}]\t{pa_range(memblock, base, size)}, {pa(memblock, size)} bytes"
            f"{on_node} flags: {type.flags[idx]:#x}"
        )
