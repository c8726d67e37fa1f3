"""SPARSEMEM: the memory map exists only for sections of 128 MiB that hold memory, and looks like one array (vmemmap).

physical    | section 0 | section 1 |   hole    | section 3 |
vmemmap     |  2 MiB    |  2 MiB    | unmapped  |  2 MiB    |      64 bytes a page frame, so 2 MiB a section
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.memblock import (
    Memblock,
    for_each_mem_pfn_range,
    memblock_alloc_exact_nid_raw,
    memblock_alloc_or_panic,
    memblock_alloc_try_nid,
    memblock_alloc_try_nid_raw,
)
from kmemlab.boot.numa_init import early_pfn_to_nid
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import PAGES_PER_SECTION
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import MIB, PAGE_SHIFT, PAGE_SIZE
from kmemlab.types.zone_type import MAX_DMA_ADDRESS

SECTIONS_PER_ROOT = 128  # as many structs mem_section as fit into a page
SECTION_BYTES = PAGES_PER_SECTION << PAGE_SHIFT
# How much of vmemmap one page-table page maps: entries of 1 GiB by a PMD page, and so on upwards.
PMD_PAGE_SPAN, PUD_PAGE_SPAN, P4D_PAGE_SPAN = 1 << 30, 1 << 39, 1 << 48


@kernel("mm/sparse.c", "sparse_init", left_out="sections of memory that is plugged in later")
def sparse_init(mm: Mm) -> None:
    """Take memory for the memory map, node by node."""
    memblocks_present(mm)
    touched: set[tuple[int, int]] = set()
    for nid, runs in groupby(section_runs(mm.boot.memblock), key=lambda run: run[2]):
        sparse_init_nid(mm, nid, [range(first, behind) for first, behind, _ in runs], touched)


@kernel("mm/sparse.c", "memblocks_present")
def memblocks_present(mm: Mm) -> None:
    """Make the table of sections: a root, and a page of it for each 16 GiB in which there is memory."""
    config = mm.boot.config
    nr_sections = 1 << (config.max_physmem_bits(mm.boot.page_table_levels) - config.section_size_bits)
    roots = nr_sections // SECTIONS_PER_ROOT
    memblock_alloc_or_panic(mm.boot.memblock, config.sizeof_pointer * roots, 64, "memblocks_present")
    made = set()
    for first, behind, nid in section_runs(mm.boot.memblock):
        for root in range(first // SECTIONS_PER_ROOT, (behind - 1) // SECTIONS_PER_ROOT + 1):
            if root not in made:
                made.add(root)
                size = config.sizeof_mem_section * SECTIONS_PER_ROOT
                memblock_alloc_try_nid(mm.boot.memblock, size, 64, nid=nid, caller="sparse_index_alloc")


@invented("C keeps the node of each section in the section")
def section_runs(memblock: Memblock, pages_per_section: int = PAGES_PER_SECTION) -> Iterator[tuple[int, int, int]]:
    """The sections that hold memory in runs, ascending: (first, the one behind, node of the first memory in them)."""
    following = 0
    for start_pfn, end_pfn, nid in for_each_mem_pfn_range(memblock):
        first = max(following, start_pfn // pages_per_section)
        following = max(following, (end_pfn - 1) // pages_per_section + 1)
        if first < following:
            yield first, following, nid


@invented("C keeps the node of each section in the section")
def present_sections(memblock: Memblock, pages_per_section: int = PAGES_PER_SECTION) -> Iterator[tuple[int, int]]:
    """The same one by one: each section that holds memory, and its node."""
    for first, behind, nid in section_runs(memblock, pages_per_section):
        for number in range(first, behind):
            yield number, nid


@kernel("mm/sparse.c", "sparse_init_nid")
def sparse_init_nid(mm: Mm, nid: int, runs: list[range], touched: set[tuple[int, int]]) -> None:
    """Take what the sections of one node need: usage maps, the memory map, and page tables to map it."""
    memblock = mm.boot.memblock
    sections = sum(len(run) for run in runs)
    sparse_early_usemaps_alloc_pgdat_section(mm, nid, sections)
    map_size = PAGES_PER_SECTION * mm.boot.config.sizeof_page
    size = map_size * sections
    memblock_alloc_exact_nid_raw(memblock, size, 2 * MIB, MAX_DMA_ADDRESS, 0, nid, caller="sparse_init_nid")
    spans = vmemmap_spans(mm.boot.page_table_levels, boot_cpu_has(mm.boot, "pse"))
    for run in runs:
        address, end = run.start * map_size, run.stop * map_size
        while address < end:
            for span in spans:
                if (span, address // span) not in touched:
                    touched.add((span, address // span))
                    vmemmap_alloc_block(mm, nid)
            # C goes section by section; nothing new comes before the end of what the lowest table maps.
            address = (address // spans[-1] + 1) * spans[-1]


@invented("how far each kind of page table reaches", traced=False)
def vmemmap_spans(levels: int, large_pages: bool) -> tuple[int, ...]:
    """The bytes of vmemmap that one page table of each kind maps, the highest first."""
    highest = (P4D_PAGE_SPAN,) if levels == 5 else ()
    return (*highest, PUD_PAGE_SPAN, PMD_PAGE_SPAN, *(() if large_pages else (2 * MIB,)))


@kernel("mm/sparse-vmemmap.c", "vmemmap_alloc_block", left_out="after boot: memory hotplug")
def vmemmap_alloc_block(mm: Mm, nid: int) -> None:
    """Take one page for a page table of vmemmap."""
    memblock_alloc_try_nid_raw(
        mm.boot.memblock, PAGE_SIZE, PAGE_SIZE, MAX_DMA_ADDRESS, 0, nid, caller="__earlyonly_bootmem_alloc"
    )


@kernel("mm/sparse.c", "sparse_early_usemaps_alloc_pgdat_section")
def sparse_early_usemaps_alloc_pgdat_section(mm: Mm, nid: int, sections: int) -> None:
    """Take the usage maps, in the section that holds the node's pg_data_t if it has room.

    They are needed for as long as anything in that section is: together they can be unplugged together.
    """
    memblock = mm.boot.memblock
    goal = mm.numa.node_data_pa[nid] // SECTION_BYTES * SECTION_BYTES
    goal_nid = early_pfn_to_nid(mm.boot, goal >> PAGE_SHIFT)
    size = mm.boot.config.sizeof_mem_section_usage * sections
    caller = "sparse_early_usemaps_alloc_pgdat_section"
    if not memblock_alloc_try_nid(memblock, size, 64, goal, goal + SECTION_BYTES, goal_nid, caller):
        memblock_alloc_try_nid(memblock, size, 64, goal, 0, goal_nid, caller)
