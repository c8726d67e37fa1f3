"""NUMA: which memory and which CPU is of which node, and how far nodes are from each other.

SRAT    node 0 [0, 2G)   node 1 [4G, 6G)            blocks of memory (numa_meminfo)
        node 0: CPU 0    node 1: CPU 1
SLIT        0   1
         0  10  20      distance 10: here, 20: the usual way to another node
         1  20  10
"""

from __future__ import annotations

from kmemlab.boot.memblock import Memblock, for_each_mem_pfn_range
from kmemlab.boot.percpu_units import PcpuUnits
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell
from kmemlab.types.config import NUMA_NO_NODE

MAX_NUMNODES = 1024
NR_NODE_MEMBLKS = MAX_NUMNODES * 2
LOCAL_DISTANCE = 10
REMOTE_DISTANCE = 20


@kernel("arch/x86/mm/numa_internal.h", "struct numa_meminfo")
class NumaMeminfo(Struct):
    """The first `nr_blks` blocks of memory: block i is [start[i], end[i]) in bytes, of node nid[i]; in no order."""

    nr_blks = Cell()

    start: Column
    end: Column
    nid: Column

    def __init__(self, blocks: int = NR_NODE_MEMBLKS) -> None:
        self.start = column("Q", blocks)
        self.end = column("Q", blocks)
        self.nid = column("i", blocks)

    def blocks(self) -> list[tuple[int, int, int]]:
        """The blocks as (start, end, nid)."""
        return [(self.start[i], self.end[i], self.nid[i]) for i in range(self.nr_blks)]


@invented("C's global variables are fields here, so that a machine can be copied and rewound")
class NumaInfo(Struct):
    """What is known of nodes 0 … `nr_nodes` - 1 and of the node of each possible CPU (-1: not known).

    `apicid_to_node` is what the SRAT says, `cpu_to_node` what is used; APIC id and CPU number are the same here.
    """

    numa_off = Cell()
    acpi_numa = Cell()  # -1: the SRAT was bad or is not wanted
    distance_cnt = Cell()
    distance_addr = U64Cell()

    distance: Column

    def __init__(self, nr_nodes: int, cpus: int, emu_cmdline: str = "") -> None:
        """`emu_cmdline` is what stands behind numa=fake= on the command line."""
        self.nr_nodes = nr_nodes
        self.emu_cmdline = emu_cmdline
        self.meminfo = NumaMeminfo()
        self.reserved_meminfo = NumaMeminfo()  # what the SRAT says of places without memory: hot-plug ranges
        self.distance = column("B", nr_nodes * nr_nodes)
        self.nodes_parsed = column("B", nr_nodes)
        self.node_possible = column("B", nr_nodes)  # node_states[N_POSSIBLE]
        self.node_online = column("B", nr_nodes)  # node_states[N_ONLINE]
        self.apicid_to_node = column("i", cpus)
        self.cpu_to_node = column("i", cpus)
        self.pcpu_units = PcpuUnits(cpus)  # mm/percpu.c: where each CPU's own variables are
        self.node_data_pa = column("Q", nr_nodes)  # where each node's pg_data_t lies
        # numa=fake: the emulated blocks, what is left of the physical ones, and the physical node of each fake one.
        self.emulated = NumaMeminfo()
        self.physical = NumaMeminfo()
        self.emu_nid_to_phys = column("i", nr_nodes)


@kernel("arch/x86/mm/numa.c", "numa_add_memblk_to")
def numa_add_memblk_to(mi: NumaMeminfo, nid: int, start: int, end: int) -> None:
    """Append a block; an empty one is left out."""
    if start == end:
        return
    at = mi.nr_blks
    mi.start[at], mi.end[at], mi.nid[at] = start, end, nid
    mi.nr_blks = at + 1


@kernel("arch/x86/mm/numa.c", "numa_remove_memblk_from")
def numa_remove_memblk_from(mi: NumaMeminfo, idx: int) -> None:
    """Take block `idx` out; the later ones move down."""
    mi.nr_blks -= 1
    for at in range(idx, mi.nr_blks):
        mi.start[at], mi.end[at], mi.nid[at] = mi.start[at + 1], mi.end[at + 1], mi.nid[at + 1]


@invented("C assigns the struct", traced=False)
def copy_meminfo(source: NumaMeminfo, target: NumaMeminfo) -> None:
    """Make `target` hold the same blocks."""
    target.nr_blks = 0
    for start, end, nid in source.blocks():
        numa_add_memblk_to(target, nid, start, end)


@kernel("arch/x86/mm/numa.c", "numa_nodemask_from_meminfo")
def numa_nodemask_from_meminfo(nodemask: Column, mi: NumaMeminfo) -> None:
    """Add every node that has a block to the mask."""
    for start, end, nid in mi.blocks():
        if start != end and nid != NUMA_NO_NODE:
            nodemask[nid] = 1


@invented("nodes in a mask, ascending: C's for_each_node_mask", traced=False)
def nodes_of(nodemask: Column) -> list[int]:
    """The nodes of a mask."""
    return [nid for nid, is_set in enumerate(nodemask) if is_set]


@invented("C clears bits of a word", traced=False)
def nodes_clear(nodemask: Column) -> None:
    """Make the mask empty."""
    for nid in nodes_of(nodemask):
        nodemask[nid] = 0


@kernel("arch/x86/mm/numa.c", "__node_distance", traced=False)
def node_distance(numa: NumaInfo, source: int, target: int) -> int:
    """How far memory of node `target` is from CPUs of node `source`; 10 is local."""
    if source >= numa.distance_cnt or target >= numa.distance_cnt:
        return LOCAL_DISTANCE if source == target else REMOTE_DISTANCE
    return numa.distance[source * numa.distance_cnt + target]


@kernel("mm/page_alloc.c", "__absent_pages_in_range", formerly=("absent_pages_in_range",), traced=False)
def absent_pages_in_range(memblock: Memblock, start_pfn: int, end_pfn: int, nid: int | None = None) -> int:
    """How many page frames of [start_pfn, end_pfn) are no memory (of node `nid`, if one is given)."""
    nr_absent = end_pfn - start_pfn
    for region_start, region_end, _ in for_each_mem_pfn_range(memblock, nid):
        first, last = max(region_start, start_pfn), min(region_end, end_pfn)
        if first < last:
            nr_absent -= last - first
    return nr_absent
