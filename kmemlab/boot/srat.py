"""SRAT and SLIT: the ACPI tables that tell the kernel about nodes (drivers/acpi/numa/srat.c)."""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import MEMBLOCK_HOTPLUG, memblock_setclr_flag
from kmemlab.boot.numa import LOCAL_DISTANCE, NumaInfo, nodes_of, numa_add_memblk_to
from kmemlab.boot.numa_distance import numa_set_distance
from kmemlab.hardware.spec import NumaRange
from kmemlab.sim.kernel import kernel
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import BadSpec
from kmemlab.types.units import pfn_up


@kernel("drivers/acpi/numa/srat.c", "acpi_numa_init", left_out="memory behind CXL windows, generic initiators")
def acpi_numa_init(boot: Boot, numa: NumaInfo) -> bool:
    """Read the SRAT, then the SLIT. False if the SRAT names no memory: then there is no NUMA configuration."""
    tables = boot.spec.numa
    nodes = [block.node for block in tables.nodes] + list(boot.spec.cpus.node_of)
    if tables.nodes and max(nodes) >= boot.config.max_numnodes:
        boot.printk.info("SRAT: Too many proximity domains.")
        numa.acpi_numa = -1
        return False
    if tables.nodes:
        for cpu, node in enumerate(boot.spec.cpus.node_of):
            if node != NUMA_NO_NODE:
                acpi_numa_processor_affinity_init(boot, numa, cpu, node)
        for block in tables.nodes:
            acpi_numa_memory_affinity_init(boot, numa, block)
    if tables.slit:
        acpi_parse_slit(boot, numa)
    return bool(tables.nodes)


@kernel("arch/x86/mm/srat.c", "acpi_numa_processor_affinity_init", left_out="APIC ids that differ from CPU numbers")
def acpi_numa_processor_affinity_init(boot: Boot, numa: NumaInfo, cpu: int, node: int) -> None:
    """One CPU's entry of the SRAT, though the kernel may have no use for the CPU; the description has PXM = node."""
    if cpu < len(numa.apicid_to_node):
        numa.apicid_to_node[cpu] = node
    numa.nodes_parsed[node] = 1
    width = 2 if cpu < 0xFF else 4  # larger ids need an x2APIC, whose entries are printed wider
    boot.printk.info(f"SRAT: PXM {node} -> APIC {cpu:#0{width + 2}x} -> Node {node}")


@kernel("drivers/acpi/numa/srat.c", "acpi_numa_memory_affinity_init", left_out="non-volatile memory")
def acpi_numa_memory_affinity_init(boot: Boot, numa: NumaInfo, block: NumaRange) -> None:
    """One memory entry of the SRAT: [start, end] is of a node, and may be a place where memory can be plugged in."""
    end = block.end + 1
    if block.start > end:
        boot.printk.info(f"NUMA: Warning: invalid memblk node {block.node} [mem {block.start:#010x}-{block.end:#010x}]")
        return
    hotplug = block in boot.spec.numa.hotplug
    numa_add_memblk_to(numa.meminfo, block.node, block.start, end)
    numa.nodes_parsed[block.node] = 1
    where = f"[mem {block.start:#010x}-{block.end:#010x}]{' hotplug' if hotplug else ''}"
    boot.printk.info(f"ACPI: SRAT: Node {block.node} PXM {block.node} {where}")
    if hotplug:
        memblock_setclr_flag(boot.memblock, block.start, end - block.start, True, MEMBLOCK_HOTPLUG)
    boot.max_possible_pfn = max(boot.max_possible_pfn, pfn_up(block.end))


@kernel("drivers/acpi/numa/srat.c", "acpi_parse_slit")
def acpi_parse_slit(boot: Boot, numa: NumaInfo) -> None:
    """Take the distances over, if the table is sane as a whole. Raises `BadSpec` for one that can't be in memory."""
    slit = boot.spec.numa.slit
    if any(len(row) != len(slit) for row in slit):
        raise BadSpec(
            "the SLIT is not square",
            where=f"machine {boot.spec.name!r}, numa.slit",
            remedy="give one row a node, with one distance a node",
        )
    if not slit_valid(slit):
        boot.printk.info("ACPI: SLIT table looks invalid. Not used.")
        return
    known = [nid for nid in nodes_of(numa.nodes_parsed) if nid < len(slit)]
    for source in known:
        for target in known:
            numa_set_distance(boot, numa, source, target, slit[source][target])


@kernel("drivers/acpi/numa/srat.c", "slit_valid")
def slit_valid(slit: tuple[tuple[int, ...], ...]) -> bool:
    """A node is at distance 10 from itself and farther from all others, or the table is nonsense.

    >>> slit_valid(((10, 20), (20, 10))), slit_valid(((10, 10), (10, 10)))
    (True, False)
    """
    for source, row in enumerate(slit):
        for target, distance in enumerate(row):
            if (distance != LOCAL_DISTANCE) if source == target else (distance <= LOCAL_DISTANCE):
                return False
    return True
