"""numa_cleanup_meminfo: make sense of a list of blocks before memory is given to nodes.

SRAT        0: [0, 640K)   0: [1M, 2G)   1: [2G, 3G)   0: [4G, 12G) hot-plug, no memory there
cleaned up  0: [0, 2G)                   1: [2G, 3G)
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import for_each_mem_range
from kmemlab.boot.numa import NumaInfo, NumaMeminfo, numa_add_memblk_to, numa_remove_memblk_from
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SHIFT


@kernel("arch/x86/mm/numa.c", "numa_cleanup_meminfo")
def numa_cleanup_meminfo(boot: Boot, numa: NumaInfo, mi: NumaMeminfo) -> bool:
    """Cut the blocks down to memory that exists, and make one of blocks of a node with nothing foreign between them.

    False if blocks of two nodes overlap: nobody can tell whose the memory is.
    """
    trim_meminfo(boot, numa, mi)
    i = 0
    while i < mi.nr_blks:
        j = i + 1
        while j < mi.nr_blks:
            if mi.end[i] > mi.start[j] and mi.start[i] < mi.end[j] and not may_overlap(boot, mi, i, j):
                return False
            if not merge_blocks(boot, mi, i, j):
                j += 1
        i += 1
    return True


@invented("the first loop of numa_cleanup_meminfo")
def trim_meminfo(boot: Boot, numa: NumaInfo, mi: NumaMeminfo) -> None:
    """Leave out blocks without memory, and what lies behind the last page frame; both are kept as reserved."""
    high = boot.max_pfn << PAGE_SHIFT
    i = 0
    while i < mi.nr_blks:
        start, end, nid = mi.start[i], mi.end[i], mi.nid[i]
        if not any(base < end and start < limit for base, limit, _ in for_each_mem_range(boot.memblock)):
            numa_remove_memblk_from(mi, i)
            numa_add_memblk_to(numa.reserved_meminfo, nid, start, end)
            continue
        if end > high:
            numa_add_memblk_to(numa.reserved_meminfo, nid, high, end)
            mi.end[i] = high
        if start >= mi.end[i]:
            numa_remove_memblk_from(mi, i)
            continue
        i += 1


@invented("a part of the second loop of numa_cleanup_meminfo")
def may_overlap(boot: Boot, mi: NumaMeminfo, i: int, j: int) -> bool:
    """Complain of two blocks that overlap; it only does harm when they are of different nodes."""
    first, second = (f"[mem {mi.start[k]:#010x}-{mi.end[k] - 1:#010x}]" for k in (i, j))
    if mi.nid[i] != mi.nid[j]:
        boot.printk.info(f"NUMA: node {mi.nid[i]} {first} overlaps with node {mi.nid[j]} {second}")
        return False
    boot.printk.info(f"NUMA: Warning: node {mi.nid[i]} {first} overlaps with itself {second}")
    return True


@invented("a part of the second loop of numa_cleanup_meminfo")
def merge_blocks(boot: Boot, mi: NumaMeminfo, i: int, j: int) -> bool:
    """Make one block of i and j, if they are of one node and no other node has memory between them."""
    nid = mi.nid[i]
    start, end = min(mi.start[i], mi.start[j]), max(mi.end[i], mi.end[j])
    if mi.nid[j] != nid or any(start < stop and end > begin and other != nid for begin, stop, other in mi.blocks()):
        return False
    first, second = (f"[mem {mi.start[k]:#010x}-{mi.end[k] - 1:#010x}]" for k in (i, j))
    boot.printk.info(f"NUMA: Node {nid} {first} + {second} -> [mem {start:#010x}-{end - 1:#010x}]")
    mi.start[i], mi.end[i] = start, end
    numa_remove_memblk_from(mi, j)
    return True
