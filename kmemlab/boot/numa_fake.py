"""numa=fake: cut one real node into several, to try NUMA code on a machine that has none (mm/numa_emulation.c).

numa=fake=4      four nodes of a quarter of the memory each
numa=fake=512M   as many nodes as there are 512 MiB
numa=fake=2U     each physical node in two

physical   |             node 0               |
emulated   |  node 0  |  node 1  |  node 2  |3|
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_phys_alloc_range, memblock_phys_free
from kmemlab.boot.numa import (
    LOCAL_DISTANCE,
    MAX_NUMNODES,
    NR_NODE_MEMBLKS,
    REMOTE_DISTANCE,
    NumaInfo,
    absent_pages_in_range,
    copy_meminfo,
    node_distance,
    nodes_clear,
    nodes_of,
    numa_nodemask_from_meminfo,
    numa_remove_memblk_from,
)
from kmemlab.boot.numa_cleanup import numa_cleanup_meminfo
from kmemlab.boot.numa_distance import numa_reset_distance, numa_set_distance
from kmemlab.hardware.spec import MachineSpec
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import CONFIGS, NUMA_NO_NODE
from kmemlab.types.units import GIB, MIB, PAGE_SHIFT, PAGE_SIZE, memparse, pfn_up, round_down, round_up, simple_strtoull

FAKE_NODE_MIN_SIZE = 32 * MIB
DMA32_END = 4 * GIB


@invented("C looks for the letters with strchr, and reads the number where it needs it")
def parse_fake(value: str) -> tuple[str, int, list[int]]:
    """What numa=fake= asks for: ("nodes" | "size" | "uniform", a number, a list of distances).

    Only a number with a comma behind it is a distance, and those of "uniform" are never reached: so C reads them.

    >>> parse_fake("4"), parse_fake("512M"), parse_fake("2:10,20,20,10"), parse_fake("2U:10,20,20,10")
    (('nodes', 4, []), ('size', 536870912, []), ('nodes', 2, [10, 20, 20]), ('uniform', 2, []))
    """
    if "U" in value:
        return "uniform", simple_strtoull(value)[0], []
    how, read = ("size", memparse) if "M" in value or "G" in value else ("nodes", simple_strtoull)
    number, rest = read(value)
    distances: list[int] = []
    rest = rest.removeprefix(":")
    while True:
        distance, behind = simple_strtoull(rest)
        if behind == rest or not behind.startswith(","):
            return how, number, distances
        distances.append(distance)
        rest = behind[1:]


@kernel("arch/x86/mm/numa_emulation.c", "mem_hole_size", traced=False)
def mem_hole_size(boot: Boot, start: int, end: int) -> int:
    """Bytes of [start, end) that are no memory."""
    start_pfn, end_pfn = pfn_up(start), end >> PAGE_SHIFT
    return absent_pages_in_range(boot.memblock, start_pfn, end_pfn) << PAGE_SHIFT if start_pfn < end_pfn else 0


@kernel("arch/x86/mm/numa_emulation.c", "emu_setup_memblk")
def emu_setup_memblk(boot: Boot, numa: NumaInfo, nid: int, phys_blk: int, size: int) -> bool:
    """Give the first `size` bytes of a physical block to the emulated node `nid`."""
    ei, pi = numa.emulated, numa.physical
    at = ei.nr_blks
    if at >= NR_NODE_MEMBLKS:
        boot.printk.info("NUMA: Too many emulated memblks, failing emulation")
        return False
    start = pi.start[phys_blk]
    ei.start[at], ei.end[at], ei.nid[at] = start, start + size, nid
    ei.nr_blks = at + 1
    if numa.emu_nid_to_phys[nid] == NUMA_NO_NODE:
        numa.emu_nid_to_phys[nid] = pi.nid[phys_blk]
    pi.start[phys_blk] = start + size
    if start + size >= pi.end[phys_blk]:
        numa_remove_memblk_from(pi, phys_blk)
    boot.printk.info(f"Faking node {nid} at [mem {start:#018x}-{start + size - 1:#018x}] ({size >> 20}MB)")
    return True


@kernel("arch/x86/mm/numa_emulation.c", "emu_find_memblk_by_nid", traced=False)
def emu_find_memblk_by_nid(numa: NumaInfo, nid: int) -> int | None:
    """The first block that is left of a physical node."""
    return next((i for i, (_, _, block_nid) in enumerate(numa.physical.blocks()) if block_nid == nid), None)


@kernel("arch/x86/mm/numa_emulation.c", "find_end_of_node", traced=False)
def find_end_of_node(boot: Boot, start: int, limit: int, size: int) -> int:
    """Where a node that starts at `start` ends if it shall have `size` bytes of memory, holes not counted."""
    end = start + size
    while end - start - mem_hole_size(boot, start, end) < size:
        end += FAKE_NODE_MIN_SIZE
        if end > limit:
            return limit
    return end


@invented("the part that both ways of splitting share")
def stretch_end(boot: Boot, end: int, limit: int, size: int, uniform: bool = False) -> int:
    """Push a node's end out, so that no crumb is left below 4 GiB or at the end of the physical node."""
    if end < DMA32_END and DMA32_END - end - mem_hole_size(boot, end, DMA32_END) < FAKE_NODE_MIN_SIZE:
        end = DMA32_END
    if not uniform and end <= limit and limit - end - mem_hole_size(boot, end, limit) < size:
        end = limit
    return min(end, limit)


@kernel("arch/x86/mm/numa_emulation.c", "split_nodes_interleave")
def split_nodes_interleave(boot: Boot, numa: NumaInfo, nr_nodes: int) -> bool:
    """Make `nr_nodes` nodes of about the same size, going round the physical nodes."""
    if nr_nodes <= 0:
        return False
    if nr_nodes > MAX_NUMNODES:
        boot.printk.info(f"numa=fake={nr_nodes} too large, reducing to {MAX_NUMNODES}")
        nr_nodes = MAX_NUMNODES
    max_addr = boot.max_pfn << PAGE_SHIFT
    memory = max_addr - mem_hole_size(boot, 0, max_addr)
    even = (memory >> PAGE_SHIFT) // nr_nodes << PAGE_SHIFT
    size = round_down(even, FAKE_NODE_MIN_SIZE)
    # What rounding down leaves over makes the first nodes bigger.
    big = (even - size) * nr_nodes // FAKE_NODE_MIN_SIZE
    if not size:
        boot.printk.info("Not enough memory for each node.  NUMA emulation disabled.")
        return False
    nid = 0
    left = nodes_of(numa.nodes_parsed)
    while left:
        for node in tuple(left):
            phys_blk = emu_find_memblk_by_nid(numa, node)
            if phys_blk is None:
                left.remove(node)
                continue
            start, limit = numa.physical.start[phys_blk], numa.physical.end[phys_blk]
            end = start + size + (FAKE_NODE_MIN_SIZE if nid < big else 0)
            while end - start - mem_hole_size(boot, start, end) < size:
                end += FAKE_NODE_MIN_SIZE
                if end > limit:
                    end = limit
                    break
            end = stretch_end(boot, end, limit, size)
            if not emu_setup_memblk(boot, numa, nid % nr_nodes, phys_blk, end - start):
                return False
            nid += 1
    return True


@kernel(
    "arch/x86/mm/numa_emulation.c", "split_nodes_size_interleave_uniform", formerly=("split_nodes_size_interleave",)
)
def split_nodes_size_interleave_uniform(
    boot: Boot, numa: NumaInfo, size: int, nr_nodes: int = 0, phys_blk: int | None = None, nid: int = 0
) -> int | None:
    """Make nodes of `size` bytes of memory, or cut the physical block `phys_blk` evenly into `nr_nodes`.

    Returns the number behind the last node made, or None if it can't be done.
    """
    if (not size and not nr_nodes) or (nr_nodes and phys_blk is None):
        return None
    uniform = phys_blk is not None
    if phys_blk is not None:
        left = [numa.physical.nid[phys_blk]]
        pages = (numa.physical.end[phys_blk] >> PAGE_SHIFT) - (numa.physical.start[phys_blk] >> PAGE_SHIFT)
        size = min_size = pages // nr_nodes << PAGE_SHIFT
    else:
        left = nodes_of(numa.nodes_parsed)
        max_addr = boot.max_pfn << PAGE_SHIFT
        # There can be no more than MAX_NUMNODES nodes, so each needs a certain size.
        min_size = (boot.max_pfn - (mem_hole_size(boot, 0, max_addr) >> PAGE_SHIFT)) // MAX_NUMNODES << PAGE_SHIFT
    min_size = round_up(max(min_size, FAKE_NODE_MIN_SIZE), FAKE_NODE_MIN_SIZE)
    if size < min_size:
        boot.printk.info(f"Fake node size {size >> 20}MB too small, increasing to {min_size >> 20}MB")
        size = min_size
    size = round_down(size, FAKE_NODE_MIN_SIZE)
    while left:
        for node in tuple(left):
            block = emu_find_memblk_by_nid(numa, node)
            if block is None:
                left.remove(node)
                continue
            start, limit = numa.physical.start[block], numa.physical.end[block]
            end = start + size if uniform else find_end_of_node(boot, start, limit, size)
            end = stretch_end(boot, end, limit, size, uniform)
            if not emu_setup_memblk(boot, numa, nid % MAX_NUMNODES, block, end - start):
                return None
            nid += 1
    return nid


@invented("a part of numa_emulation")
def split_each_uniformly(boot: Boot, numa: NumaInfo, nr_nodes: int) -> bool:
    """numa=fake=NU: cut each physical node into `nr_nodes`."""
    nid = 0
    for node in nodes_of(numa.nodes_parsed):
        following = split_nodes_size_interleave_uniform(boot, numa, 0, nr_nodes, 0, nid)
        if following is None:
            return False
        made = following - nid
        if 0 < made < nr_nodes:  # none at all: a node of CPUs only
            boot.printk.info(f"numa_emulation: phys: {node} only got {made} of {nr_nodes} nodes, failing")
            return False
        nid = following
    return True


@kernel("arch/x86/mm/numa_emulation.c", "numa_emulation")
def numa_emulation(boot: Boot, numa: NumaInfo) -> None:
    """Replace the physical nodes by emulated ones, if numa=fake= asks for it and it can be done."""
    if not numa.emu_cmdline:
        return
    numa.emulated.nr_blks = 0
    copy_meminfo(numa.meminfo, numa.physical)
    for nid in range(numa.nr_nodes):
        numa.emu_nid_to_phys[nid] = NUMA_NO_NODE
    how, number, distances = parse_fake(numa.emu_cmdline)
    if how == "uniform":
        done = split_each_uniformly(boot, numa, number)
    elif how == "size":
        done = split_nodes_size_interleave_uniform(boot, numa, number) is not None
    else:
        done = split_nodes_interleave(boot, numa, number)
    if done and numa_cleanup_meminfo(boot, numa, numa.emulated):
        commit_emulation(boot, numa, distances)
        return
    if done:
        boot.printk.info("NUMA: Warning: constructed meminfo invalid, disabling emulation")
    numa.emulated.nr_blks = 0


@invented("the second half of numa_emulation")
def commit_emulation(boot: Boot, numa: NumaInfo, distances: list[int]) -> None:
    """Let the emulated nodes take the physical ones' place: blocks, CPUs and distances."""
    cnt = numa.distance_cnt
    phys_dist = {(i, j): node_distance(numa, i, j) for i in range(cnt) for j in range(cnt)}
    limit = boot.max_pfn_mapped << PAGE_SHIFT
    addr = (
        memblock_phys_alloc_range(boot.memblock, cnt * cnt, PAGE_SIZE, 0, limit, caller="numa_emulation") if cnt else 0
    )
    phys_of = list(numa.emu_nid_to_phys)
    used = [nid for nid, phys in enumerate(phys_of) if phys != NUMA_NO_NODE]

    copy_meminfo(numa.emulated, numa.meminfo)
    nodes_clear(numa.nodes_parsed)
    numa_nodemask_from_meminfo(numa.nodes_parsed, numa.emulated)
    for cpu, phys in enumerate(numa.apicid_to_node):
        if phys != NUMA_NO_NODE:
            numa.apicid_to_node[cpu] = phys_of.index(phys) if phys in phys_of else 0
    for nid in range(used[-1]):
        if numa.emu_nid_to_phys[nid] == NUMA_NO_NODE:
            numa.emu_nid_to_phys[nid] = phys_of[used[0]]

    numa_reset_distance(boot, numa)
    told = iter(distances)
    for i in range(used[-1] + 1):
        for j in range(used[-1] + 1):
            pair = numa.emu_nid_to_phys[i], numa.emu_nid_to_phys[j]
            default = phys_dist.get(pair, LOCAL_DISTANCE if pair[0] == pair[1] else REMOTE_DISTANCE)
            numa_set_distance(boot, numa, i, j, next(told, default))
    if cnt:
        memblock_phys_free(boot.memblock, addr, cnt * cnt, caller="numa_emulation")


@invented("C has room for 1024 nodes; all structs of ours exist before boot, so we count first")
def count_possible_nodes(spec: MachineSpec, max_pfn: int, fake: str) -> int:
    """How many nodes this machine can come to have: those of its SRAT, or the fake ones if they may be more.

    `max_pfn` is the end of its memory.
    """
    physical = 1
    config = CONFIGS.get(spec.kernel)
    if config is not None and not config.numa:
        return physical
    if spec.numa.nodes:
        physical = 1 + max([block.node for block in spec.numa.nodes] + list(spec.cpus.node_of))
    physical = min(physical, MAX_NUMNODES)
    if not fake:
        return physical
    how, number, _ = parse_fake(fake)
    if how == "uniform":
        # A node of several blocks is cut into more: the size is that of its first block's parts.
        blocks = len(spec.numa.nodes)
        parts_of_others = (max_pfn << PAGE_SHIFT) // FAKE_NODE_MIN_SIZE + blocks
        number *= physical
        number += parts_of_others if blocks > len({block.node for block in spec.numa.nodes}) else 0
    elif how == "size":
        number = (max_pfn << PAGE_SHIFT) // max(number, FAKE_NODE_MIN_SIZE) + physical + len(spec.numa.nodes) + 1
    return min(max(number, physical), MAX_NUMNODES)
