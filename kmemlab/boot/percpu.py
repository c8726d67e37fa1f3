"""Per-CPU memory, first chunk: each possible CPU gets a copy of the kernel's per-CPU variables, a *unit*.

group (the CPUs of a node)   0                       1
allocation, 2 MiB           |unit 0|unit 1|         |unit 2|unit 3|        a large page holds several units
unit                         static · reserved · dynamic · given back
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_alloc_or_panic, memblock_alloc_try_nid, memblock_phys_free
from kmemlab.boot.numa import NumaInfo
from kmemlab.boot.percpu_units import PcpuUnits
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, round_up
from kmemlab.types.zone_type import MAX_DMA_ADDRESS

PERCPU_DYNAMIC_EARLY_SIZE = 12 << 10
PCPU_MIN_UNIT_SIZE = 32 << 10
PCPU_MIN_ALLOC_SIZE = 4  # one bit of a chunk's maps
PCPU_SLOT_BASE_SHIFT = 5
SIZEOF_BLOCK_MD = 32
SIZEOF_ALLOC_INFO, SIZEOF_GROUP_INFO, SIZEOF_CPU_NUMBER = 48, 24, 4
NO_CPU = -1  # C: NR_CPUS in a cpu_map


@kernel("include/linux/percpu.h", "struct pcpu_alloc_info", left_out="the groups' offsets")
@dataclass(frozen=True, slots=True)
class PcpuAllocInfo:
    """How the first chunk is laid out, in bytes; `groups` holds for each group the CPU of each unit, NO_CPU for none.

    A note that the set-up functions pass on; C frees it, too, when they are done.
    """

    static_size: int
    reserved_size: int
    dyn_size: int
    unit_size: int
    atom_size: int
    alloc_size: int
    groups: tuple[tuple[int, ...], ...]

    @property
    def size_sum(self) -> int:
        """What of a unit is used."""
        return self.static_size + self.reserved_size + self.dyn_size


@kernel("mm/percpu.c", "pcpu_build_alloc_info", left_out="CPUs that are near each other though of different nodes")
def pcpu_build_alloc_info(boot: Boot, numa: NumaInfo, dyn_size: int, atom_size: int) -> PcpuAllocInfo:
    """Decide how large a unit is, and how many units share one allocation."""
    image = boot.spec.image
    fixed = image.percpu_static + image.percpu_reserved
    size_sum = round_up(fixed + max(dyn_size, PERCPU_DYNAMIC_EARLY_SIZE), PAGE_SIZE)
    min_unit_size = max(size_sum, PCPU_MIN_UNIT_SIZE)
    alloc_size = round_up(min_unit_size, atom_size)
    cpus = groups_of(numa)
    upa = best_units_per_alloc(alloc_size, min_unit_size, [len(group) for group in cpus])
    padded = tuple((*group, *[NO_CPU] * (-len(group) % upa)) for group in cpus)
    return PcpuAllocInfo(
        static_size=image.percpu_static,
        reserved_size=image.percpu_reserved,
        dyn_size=size_sum - fixed,
        unit_size=alloc_size // upa,
        atom_size=atom_size,
        alloc_size=alloc_size,
        groups=padded,
    )


@invented("C's group_map, filled by pcpu_cpu_distance")
def groups_of(numa: NumaInfo) -> list[list[int]]:
    """The possible CPUs in groups, one a node, in the order of each group's first CPU."""
    groups: dict[int, list[int]] = {}
    for cpu, nid in enumerate(numa.cpu_to_node):
        groups.setdefault(nid, []).append(cpu)
    return list(groups.values())


@invented("the middle part of pcpu_build_alloc_info", traced=False)
def best_units_per_alloc(alloc_size: int, min_unit_size: int, group_sizes: list[int]) -> int:
    """As many units in an allocation as need the fewest allocations, with at most a third of a unit a CPU unused.

    >>> [best_units_per_alloc(2 << 20, 253952, group_sizes) for group_sizes in ([1], [2], [4], [8], [2, 2])]
    [1, 2, 4, 8, 2]
    """
    last_allocs, best = 1 << 31, 0
    for upa in range(alloc_size // min_unit_size, 0, -1):
        if alloc_size % upa or alloc_size // upa % PAGE_SIZE:
            continue
        allocs = sum(-(-size // upa) for size in group_sizes)
        wasted = allocs * upa - sum(group_sizes)
        if wasted > sum(group_sizes) // 3:
            continue
        if allocs > last_allocs:
            break
        last_allocs, best = allocs, upa
    return best


@kernel("mm/percpu.c", "pcpu_embed_first_chunk", left_out="areas too far apart for vmalloc's area")
def pcpu_embed_first_chunk(boot: Boot, numa: NumaInfo, dyn_size: int, atom_size: int) -> None:
    """Take the units from the direct map, near their CPUs, and give back what they don't use."""
    info = pcpu_build_alloc_info(boot, numa, dyn_size, atom_size)
    memblock = boot.memblock
    nr_units = sum(len(group) for group in info.groups)
    info_size = SIZEOF_ALLOC_INFO + len(info.groups) * SIZEOF_GROUP_INFO + nr_units * SIZEOF_CPU_NUMBER
    info_size = round_up(info_size, PAGE_SIZE)
    info_addr = memblock_alloc_or_panic(memblock, info_size, PAGE_SIZE, "pcpu_build_alloc_info")
    areas_size = round_up(len(info.groups) * boot.config.sizeof_pointer, PAGE_SIZE)
    areas_addr = memblock_alloc_or_panic(memblock, areas_size, 64, "pcpu_embed_first_chunk")
    areas = [pcpu_fc_alloc(boot, numa, group[0], len(group) * info.unit_size, atom_size) for group in info.groups]
    for group, area in zip(info.groups, areas, strict=True):
        for nth, cpu in enumerate(group):
            unit = area + nth * info.unit_size
            used = 0 if cpu == NO_CPU else info.size_sum
            memblock_phys_free(memblock, unit + used, info.unit_size - used, caller="pcpu_embed_first_chunk")
    boot.printk.info(
        f"percpu: Embedded {info.size_sum >> PAGE_SHIFT} pages/cpu s{info.static_size} r{info.reserved_size} "
        f"d{info.dyn_size} u{info.unit_size}"
    )
    set_pcpu_units(boot, numa.pcpu_units, info, areas)
    pcpu_setup_first_chunk(boot, info)
    memblock_phys_free(memblock, info_addr, info_size, caller="pcpu_embed_first_chunk")
    memblock_phys_free(memblock, areas_addr, areas_size, caller="pcpu_embed_first_chunk")


@kernel("mm/percpu.c", "pcpu_fc_alloc")
def pcpu_fc_alloc(boot: Boot, numa: NumaInfo, cpu: int, size: int, align: int) -> int:
    """Take a group's units above 16 MiB, in the node of its first CPU if that is online."""
    nid = numa.cpu_to_node[cpu]
    if not boot.config.numa:
        nid = NUMA_NO_NODE
    elif nid == NUMA_NO_NODE or not numa.node_online[nid]:
        boot.printk.info(f"cpu {cpu} has no node {nid} or node-local memory")
        nid = NUMA_NO_NODE
    area = memblock_alloc_try_nid(boot.memblock, size, align, MAX_DMA_ADDRESS, 0, nid, "pcpu_fc_alloc")
    if not area:
        raise KernelPanic(
            "cannot initialize percpu area (err=-12)",
            where="setup_per_cpu_areas",
            remedy="give the machine more memory or fewer CPUs",
        )
    return area


@invented("the parts of pcpu_embed_first_chunk and pcpu_setup_first_chunk that fill the tables of units and groups")
def set_pcpu_units(boot: Boot, units: PcpuUnits, info: PcpuAllocInfo, areas: list[int]) -> None:
    """Note where the units lie: group g starts at physical address `areas[g]`."""
    base = min(areas)
    units.base_addr = va(boot, base)
    units.static_size, units.reserved_size, units.dyn_size = info.static_size, info.reserved_size, info.dyn_size
    units.unit_size, units.atom_size = info.unit_size, info.atom_size
    units.nr_groups = len(info.groups)
    unit = 0
    for number, (group, area) in enumerate(zip(info.groups, areas, strict=True)):
        units.group_offset[number], units.group_size[number] = area - base, len(group) * info.unit_size
        for nth, cpu in enumerate(group):
            if cpu != NO_CPU:
                units.unit_map[cpu] = unit + nth
                units.unit_off[cpu] = area - base + nth * info.unit_size
        unit += len(group)
    units.nr_units = unit


@kernel("mm/percpu.c", "pcpu_setup_first_chunk", left_out="checks; the chunks: alloc/percpu_first_chunk.py")
def pcpu_setup_first_chunk(boot: Boot, info: PcpuAllocInfo) -> None:
    """Take the tables that say where the units are and what of them is free."""
    pointer, possible = boot.config.sizeof_pointer, num_possible_cpus(boot.spec)
    tables = (
        len(info.groups) * pointer,  # group_offsets
        len(info.groups) * pointer,  # group_sizes
        possible * SIZEOF_CPU_NUMBER,  # unit_map
        possible * pointer,  # unit_off
    )
    for size in tables:
        memblock_alloc_or_panic(boot.memblock, size, 64, "pcpu_setup_first_chunk")
    pcpu_dump_alloc_info(boot, info)
    nr_slots = max(info.unit_size.bit_length() - PCPU_SLOT_BASE_SHIFT + 2, 1) + 4
    memblock_alloc_or_panic(boot.memblock, nr_slots * 2 * pointer, 64, "pcpu_setup_first_chunk")
    start = info.static_size
    if info.reserved_size:
        pcpu_alloc_first_chunk(boot, start, info.reserved_size)
        start += info.reserved_size
    pcpu_alloc_first_chunk(boot, start, info.dyn_size)


@kernel("mm/percpu.c", "pcpu_alloc_first_chunk", left_out="filling the tables")
def pcpu_alloc_first_chunk(boot: Boot, start: int, map_size: int) -> None:
    """Take the bookkeeping of one region of the units: [start, start + map_size) bytes from a unit's start."""
    region_size = round_up(start % PAGE_SIZE + map_size, PAGE_SIZE)
    pages, bits = region_size >> PAGE_SHIFT, region_size // PCPU_MIN_ALLOC_SIZE
    bits_per_long = 8 * boot.config.sizeof_pointer
    tables = (
        boot.config.sizeof_pcpu_chunk + bitmap_bytes(pages, bits_per_long),  # pcpu_chunk, map of populated pages
        bitmap_bytes(bits, bits_per_long),  # alloc_map
        bitmap_bytes(bits + 1, bits_per_long),  # bound_map
        pages * SIZEOF_BLOCK_MD,  # md_blocks
    )
    for size in tables:
        memblock_alloc_or_panic(boot.memblock, size, 64, "pcpu_alloc_first_chunk")


@invented("BITS_TO_LONGS(bits) * sizeof(long)", traced=False)
def bitmap_bytes(bits: int, bits_per_long: int = 64) -> int:
    """The bytes of a bitmap, in whole longs."""
    return -(-bits // bits_per_long) * bits_per_long // 8


@kernel("mm/percpu.c", "pcpu_dump_alloc_info")
def pcpu_dump_alloc_info(boot: Boot, info: PcpuAllocInfo) -> None:
    """Say the sizes, and which CPU is where: an allocation in brackets by its group, several on a line."""
    group_width = len(str(len(info.groups)))
    cpu_width = len(str(num_possible_cpus(boot.spec)))
    upa = info.alloc_size // info.unit_size
    width = upa * (cpu_width + 1) + group_width + 3
    per_line = 1 << (max(60 // width, 1).bit_length() - 1)
    boot.printk.info(
        f"pcpu-alloc: s{info.static_size} r{info.reserved_size} d{info.dyn_size} u{info.unit_size} "
        f"alloc={info.alloc_size // info.atom_size}*{info.atom_size}"
    )
    shown = []
    for number, group in enumerate(info.groups):
        for first in range(0, len(group), upa):
            cpus = ("-" * cpu_width if cpu == NO_CPU else f"{cpu:0{cpu_width}}" for cpu in group[first : first + upa])
            shown.append(f"[{number:0{group_width}}] {' '.join(cpus)} ")
    for first in range(0, len(shown), per_line):
        boot.printk.info("pcpu-alloc: " + "".join(shown[first : first + per_line]))
