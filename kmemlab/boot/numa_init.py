"""initmem_init: find out about nodes by one method after another, and give each node its struct.

SRAT  ──bad or none──▶  one node for all memory ("dummy")
  │                        │
  └──▶ clean up ──▶ (numa=fake) ──▶ memblock learns the nodes ──▶ NODE_DATA
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import (
    MEMBLOCK_HOTPLUG,
    for_each_mem_pfn_range,
    memblock_dump_all,
    memblock_phys_alloc_try_nid,
    memblock_set_node,
    memblock_setclr_flag,
)
from kmemlab.boot.numa import (
    NumaInfo,
    NumaMeminfo,
    absent_pages_in_range,
    nodes_clear,
    nodes_of,
    numa_add_memblk_to,
    numa_nodemask_from_meminfo,
)
from kmemlab.boot.numa_cleanup import numa_cleanup_meminfo
from kmemlab.boot.numa_distance import numa_reset_distance
from kmemlab.boot.numa_fake import numa_emulation
from kmemlab.boot.smp import num_present_cpus
from kmemlab.boot.srat import acpi_numa_init
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import BadParameter, KernelPanic
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, SMP_CACHE_BYTES, U64_MAX, round_up


@kernel("arch/x86/mm/numa.c", "numa_setup", left_out="numa=nohmat")
def numa_setup(boot: Boot, numa: NumaInfo, value: str) -> None:
    """numa=off: one node for everything. numa=noacpi: don't read the SRAT. Raises `BadParameter` without a value.

    numa=fake= is read by `numa_emulation`.
    """
    if not value:
        raise BadParameter("numa needs a value", where="the command line", remedy="write numa=off, for example")
    if value.startswith("off"):
        numa.numa_off = 1
    elif value.startswith("noacpi"):
        numa.acpi_numa = -1


@kernel("arch/x86/mm/numa.c", "x86_numa_init", formerly=("initmem_init",), left_out="AMD northbridges before the SRAT")
def x86_numa_init(boot: Boot, numa: NumaInfo) -> None:
    """Try the SRAT; when it is missing, bad or not wanted, all memory is one node."""
    if numa.numa_off or not numa_init(boot, numa, x86_acpi_numa_init):
        numa_init(boot, numa, dummy_numa_init)
    check_memory_has_nodes(boot)


@invented("C finds out by a page fault, when it first looks for the struct of node 1024")
def check_memory_has_nodes(boot: Boot) -> None:
    """Memory of no node is the end of the boot.

    It happens where the SRAT leaves out less than 1 MiB, which passes as covered, or behind the last page frame.
    """
    for start, end, nid in for_each_mem_pfn_range(boot.memblock):
        if nid == boot.config.max_numnodes:
            where = f"[mem {start << PAGE_SHIFT:#010x}-{(end << PAGE_SHIFT) - 1:#010x}]"
            raise KernelPanic(
                f"Unable to handle kernel page fault: {where} is memory of no node",
                where="x86_numa_init",
                remedy="let the SRAT cover all of the e820 map's memory, or boot with numa=off",
            )


@kernel("arch/x86/mm/srat.c", "x86_acpi_numa_init")
def x86_acpi_numa_init(boot: Boot, numa: NumaInfo) -> bool:
    """The SRAT as a source of nodes."""
    return numa.acpi_numa == 0 and acpi_numa_init(boot, numa)


@kernel("arch/x86/mm/numa.c", "dummy_numa_init")
def dummy_numa_init(boot: Boot, numa: NumaInfo) -> bool:
    """One node with all memory."""
    end = boot.max_pfn << PAGE_SHIFT
    boot.printk.info("NUMA turned off" if numa.numa_off else "No NUMA configuration found")
    boot.printk.info(f"Faking a node at [mem {0:#018x}-{end - 1:#018x}]")
    numa.nodes_parsed[0] = 1
    numa_add_memblk_to(numa.meminfo, 0, 0, end)
    return True


@kernel("arch/x86/mm/numa.c", "numa_init")
def numa_init(boot: Boot, numa: NumaInfo, init_func: Callable[[Boot, NumaInfo], bool]) -> bool:
    """Forget what another method said, ask this one, and set nodes up by it. False if it was of no use."""
    memblock = boot.memblock
    for cpu in range(len(numa.cpu_to_node)):
        numa.apicid_to_node[cpu] = numa.cpu_to_node[cpu] = NUMA_NO_NODE
    for mask in (numa.nodes_parsed, numa.node_possible, numa.node_online):
        nodes_clear(mask)
    numa.meminfo.nr_blks = 0
    for regions in (memblock.memory, memblock.reserved):
        memblock_set_node(memblock, 0, U64_MAX, regions, boot.config.max_numnodes)
    memblock_setclr_flag(memblock, 0, U64_MAX, False, MEMBLOCK_HOTPLUG)
    numa_reset_distance(boot, numa)

    if not init_func(boot, numa):
        return False
    memblock.bottom_up = 0  # the SRAT has told what movable_node must spare
    if not numa_cleanup_meminfo(boot, numa, numa.meminfo):
        return False
    numa_emulation(boot, numa)
    if not numa_register_memblks(boot, numa):
        return False
    numa_init_array(numa)
    return True


@kernel("arch/x86/mm/numa.c", "numa_register_memblks")
def numa_register_memblks(boot: Boot, numa: NumaInfo) -> bool:
    """Tell memblock which memory is of which node, check that nothing is missing, and bring the nodes online."""
    mi = numa.meminfo
    for nid in nodes_of(numa.nodes_parsed):
        numa.node_possible[nid] = 1
    numa_nodemask_from_meminfo(numa.node_possible, mi)
    for start, end, nid in mi.blocks():
        memblock_set_node(boot.memblock, start, end - start, boot.memblock.memory, nid)
    numa_clear_kernel_node_hotplug(boot, mi)
    if not numa_meminfo_cover_memory(boot, mi):
        return False
    for nid in nodes_of(numa.node_possible):
        if any(start < end for start, end, block_nid in mi.blocks() if block_nid == nid):
            alloc_node_data(boot, numa, nid)
    memblock_dump_all(boot.memblock)
    return True


@kernel("arch/x86/mm/numa.c", "numa_clear_kernel_node_hotplug")
def numa_clear_kernel_node_hotplug(boot: Boot, mi: NumaMeminfo) -> None:
    """Memory of a node in which the kernel has something reserved can't be unplugged."""
    memblock = boot.memblock
    for start, end, nid in mi.blocks():
        memblock_set_node(memblock, start, end - start, memblock.reserved, nid)
    in_use = {nid for _, _, nid, _ in memblock.reserved.regions()}
    for start, end, nid in mi.blocks():
        if nid in in_use:
            memblock_setclr_flag(memblock, start, end - start, False, MEMBLOCK_HOTPLUG)


@kernel("arch/x86/mm/numa.c", "numa_meminfo_cover_memory")
def numa_meminfo_cover_memory(boot: Boot, mi: NumaMeminfo) -> bool:
    """Whether the nodes together have all of the e820's memory, but for less than 1 MiB."""
    numaram = 0
    for start, end, nid in mi.blocks():
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        numaram += last - first - absent_pages_in_range(boot.memblock, first, last, nid)
    e820ram = boot.max_pfn - absent_pages_in_range(boot.memblock, 0, boot.max_pfn)
    if e820ram - numaram < 1 << (20 - PAGE_SHIFT):
        return True
    shift = 20 - PAGE_SHIFT
    boot.printk.info(f"NUMA: nodes only cover {numaram >> shift}MB of your {e820ram >> shift}MB e820 RAM. Not used.")
    return False


@kernel("arch/x86/mm/numa.c", "alloc_node_data", formerly=("setup_node_data", "setup_node_bootmem"))
def alloc_node_data(boot: Boot, numa: NumaInfo, nid: int) -> None:
    """Take memory for the node's `pg_data_t`, in the node itself if it has room, and bring the node online."""
    nd_size = round_up(boot.config.sizeof_pglist_data, PAGE_SIZE)
    nd_pa = memblock_phys_alloc_try_nid(boot.memblock, nd_size, SMP_CACHE_BYTES, nid)
    if not nd_pa:
        boot.printk.info(f"Cannot find {nd_size} bytes in any node (initial node: {nid})")
        return
    boot.printk.info(f"NODE_DATA({nid}) allocated [mem {nd_pa:#010x}-{nd_pa + nd_size - 1:#010x}]")
    tnid = early_pfn_to_nid(boot, nd_pa >> PAGE_SHIFT)
    if tnid != nid:
        boot.printk.info(f"    NODE_DATA({nid}) on node {tnid}")
    numa.node_data_pa[nid] = nd_pa
    numa.node_online[nid] = 1


@kernel("mm/page_alloc.c", "early_pfn_to_nid", traced=False)
def early_pfn_to_nid(boot: Boot, pfn: int) -> int:
    """The node of a page frame, as memblock knows it; node 0 where there is no memory."""
    return next((nid for start, end, nid in for_each_mem_pfn_range(boot.memblock) if start <= pfn < end), 0)


@kernel("arch/x86/mm/numa.c", "numa_init_array")
def numa_init_array(numa: NumaInfo) -> None:
    """Spread the CPUs over the online nodes, round robin; `init_cpu_to_node` corrects those that a table knows.

    If no node could be brought online for lack of memory, CPUs stay without one: the next to ask for memory panics.
    """
    online = nodes_of(numa.node_online)
    if not online:
        return
    following = 0
    for cpu, nid in enumerate(numa.cpu_to_node):
        if nid == NUMA_NO_NODE:
            numa.cpu_to_node[cpu] = online[following % len(online)]
            following += 1


@kernel("arch/x86/mm/numa.c", "init_cpu_to_node")
def init_cpu_to_node(boot: Boot, numa: NumaInfo) -> None:
    """A node that has CPUs but no memory comes online, too: its CPUs must be able to ask for memory from somewhere.

    A CPU that may be plugged in later has no APIC id yet, so nobody knows its node.
    """
    for cpu, nid in enumerate(numa.apicid_to_node[: num_present_cpus(boot.spec)]):
        if nid != NUMA_NO_NODE:
            numa.node_online[nid] = 1
            numa.cpu_to_node[cpu] = nid
