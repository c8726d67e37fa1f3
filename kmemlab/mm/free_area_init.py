"""free_area_init: cut the memory of each node into zones, and count what is in them.

limits        | DMA  ≤ 16 MiB | DMA32  ≤ 4 GiB |      Normal            |
node 0        | ██ ███████████ ███████████     |                          spanned: from the first to the last page frame
node 1        |                                |  ████████████████████    present: without holes
"""

from __future__ import annotations

from kmemlab.boot.memblock import for_each_mem_pfn_range, memblock_alloc
from kmemlab.boot.numa import absent_pages_in_range, nodes_of
from kmemlab.mm.flatmem import alloc_node_mem_map, setup_usemap
from kmemlab.mm.globals import Mm
from kmemlab.mm.highmem import is_highmem
from kmemlab.mm.lruvec import lruvec_init
from kmemlab.mm.memmap_init import memmap_init
from kmemlab.mm.mminit import MMINIT_TRACE, mminit_dprintk, mminit_verify_pageflags_layout
from kmemlab.mm.node import PglistData
from kmemlab.mm.zone import Zone, zone_init_free_lists, zone_pcp_init
from kmemlab.mm.zone_movable import find_zone_movable_pfns_for_nodes
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import KernelConfig
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, U64_MAX
from kmemlab.types.zone_type import MAX_DMA32_PFN, MAX_DMA_PFN, MAX_NR_ZONES, ZONE_MOVABLE


@kernel("arch/x86/mm/init.c", "zone_sizes_init")
def zone_sizes_init(mm: Mm) -> None:
    """Say where each zone must end at the latest, and have the zones made."""
    limits = {
        "DMA": min(MAX_DMA_PFN, mm.boot.max_low_pfn),
        "DMA32": min(MAX_DMA32_PFN, mm.boot.max_low_pfn),
        "Normal": mm.boot.max_low_pfn,
        "HighMem": mm.boot.max_pfn,
    }
    max_zone_pfn = [limits.get(name, 0) for name in mm.boot.config.zone_names]
    free_area_init(mm, (*max_zone_pfn, *[0] * (MAX_NR_ZONES - len(max_zone_pfn))))


@kernel(
    "mm/page_alloc.c", "free_area_init", formerly=("free_area_init_nodes",), left_out="zones in descending order (arc)"
)
def free_area_init(mm: Mm, max_zone_pfn: tuple[int, ...]) -> None:
    """Make all zones of all nodes; `max_zone_pfn` holds the first page frame behind each zone."""
    set_zone_limits(mm, max_zone_pfn)
    find_zone_movable_pfns_for_nodes(mm)
    print_zone_ranges(mm)
    mminit_verify_pageflags_layout(mm)
    for nid in nodes_of(mm.numa.node_possible):
        pgdat = mm.node_data[nid]
        if not mm.numa.node_online[nid]:
            mm.boot.printk.info(f"Initializing node {nid} as memoryless")
            # Its pg_data_t was not made by alloc_node_data; the zones of a node without memory are all empty.
            memblock_alloc(mm.boot.memblock, mm.boot.config.sizeof_pglist_data, caller="arch_alloc_nodedata")
            free_area_init_node(mm, pgdat)
            continue
        free_area_init_node(mm, pgdat)
        if pgdat.node_present_pages:
            mm.node_has_memory[nid] = 1
    memmap_init(mm)


@invented("the first loop of free_area_init")
def set_zone_limits(mm: Mm, max_zone_pfn: tuple[int, ...]) -> None:
    """Zones follow each other without a gap, from the first page of memory on."""
    start_pfn = next((start for start, _, _ in for_each_mem_pfn_range(mm.boot.memblock)), 0)
    for index in range(MAX_NR_ZONES):
        if index == ZONE_MOVABLE:
            continue
        end_pfn = max(max_zone_pfn[index], start_pfn)
        mm.arch_zone_lowest_possible_pfn[index] = start_pfn
        mm.arch_zone_highest_possible_pfn[index] = end_pfn
        start_pfn = end_pfn


@invented("the printing part of free_area_init")
def print_zone_ranges(mm: Mm) -> None:
    """Say the limits of the zones, where ZONE_MOVABLE starts, and what memory each node has."""
    say = mm.boot.printk.info
    say("Zone ranges:")
    for index, name in enumerate(mm.boot.config.zone_names):
        if index == ZONE_MOVABLE:
            continue
        low, high = mm.arch_zone_lowest_possible_pfn[index], mm.arch_zone_highest_possible_pfn[index]
        say(f"  {name:<8} " + ("empty" if low == high else pfn_range(low, high)))
    say("Movable zone start for each node")
    for nid, pfn in enumerate(mm.zone_movable_pfn):
        if pfn:
            say(f"  Node {nid}: {pfn << PAGE_SHIFT:#018x}")
    say("Early memory node ranges")
    for start_pfn, end_pfn, nid in for_each_mem_pfn_range(mm.boot.memblock):
        say(f"  node {nid:3}: {pfn_range(start_pfn, end_pfn)}")


@invented("the range of addresses as several lines print it", traced=False)
def pfn_range(start_pfn: int, end_pfn: int) -> str:
    """Page frames [start_pfn, end_pfn) as a range of byte addresses."""
    return f"[mem {start_pfn << PAGE_SHIFT:#018x}-{(end_pfn << PAGE_SHIFT) - 1:#018x}]"


@kernel("mm/page_alloc.c", "free_area_init_node")
def free_area_init_node(mm: Mm, pgdat: PglistData) -> None:
    """Find out what the node spans, and make its zones."""
    ranges = list(for_each_mem_pfn_range(mm.boot.memblock, pgdat.node_id))
    start_pfn = min((start for start, _, _ in ranges), default=0)
    end_pfn = max((end for _, end, _ in ranges), default=0)
    pgdat.node_start_pfn = start_pfn
    if start_pfn != end_pfn:
        mm.boot.printk.info(f"Initmem setup node {pgdat.node_id} {pfn_range(start_pfn, end_pfn)}")
    else:
        mm.boot.printk.info(f"Initmem setup node {pgdat.node_id} as memoryless")
    calculate_node_totalpages(mm, pgdat, start_pfn, end_pfn)
    pgdat.first_deferred_pfn = U64_MAX
    if not mm.boot.config.sparsemem and pgdat.node_spanned_pages:
        config = mm.boot.config
        end_pfn = start_pfn + pgdat.node_spanned_pages  # memory that highmem= leaves unused is in no zone
        alloc_node_mem_map(mm.boot.memblock, config.page_offset, pgdat.node_id, start_pfn, end_pfn, config.sizeof_page)
    free_area_init_core(mm, pgdat)


@kernel("mm/page_alloc.c", "calculate_node_totalpages")
def calculate_node_totalpages(mm: Mm, pgdat: PglistData, node_start_pfn: int, node_end_pfn: int) -> None:
    """Set what each zone spans and what of it is memory."""
    for zone in pgdat.node_zones:
        start_pfn, end_pfn = zone_spanned_pages_in_node(mm, pgdat.node_id, zone.index, node_start_pfn, node_end_pfn)
        spanned = end_pfn - start_pfn
        absent = absent_pages_in_range(mm.boot.memblock, start_pfn, end_pfn, pgdat.node_id)
        if mm.mirrored_kernelcore and mm.zone_movable_pfn[pgdat.node_id] and zone.index == mm.boot.config.zone_normal:
            absent = spanned  # nothing is mirrored, so all of it is ZONE_MOVABLE's
        zone.zone_start_pfn = start_pfn if spanned else 0
        zone.spanned_pages = spanned
        zone.present_pages = spanned - absent
        pgdat.node_spanned_pages += spanned
        pgdat.node_present_pages += spanned - absent


@kernel("mm/page_alloc.c", "zone_spanned_pages_in_node")
def zone_spanned_pages_in_node(mm: Mm, nid: int, index: int, node_start_pfn: int, node_end_pfn: int) -> tuple[int, int]:
    """The part [start, end) of the node that lies within a zone's limits; (0, 0) if there is none."""
    if node_start_pfn == node_end_pfn:
        return 0, 0
    low, high = mm.arch_zone_lowest_possible_pfn[index], mm.arch_zone_highest_possible_pfn[index]
    start_pfn = min(max(node_start_pfn, low), high)
    end_pfn = min(max(node_end_pfn, low), high)
    start_pfn, end_pfn = adjust_zone_range_for_zone_movable(mm, nid, index, node_end_pfn, start_pfn, end_pfn)
    if end_pfn < node_start_pfn or start_pfn > node_end_pfn:
        return 0, 0
    return max(start_pfn, node_start_pfn), min(end_pfn, node_end_pfn)


@kernel("mm/page_alloc.c", "adjust_zone_range_for_zone_movable")
def adjust_zone_range_for_zone_movable(
    mm: Mm, nid: int, index: int, node_end_pfn: int, start_pfn: int, end_pfn: int
) -> tuple[int, int]:
    """Give to ZONE_MOVABLE what kernelcore= leaves, and cut it off the other zones."""
    movable_pfn = mm.zone_movable_pfn[nid]
    if not movable_pfn:
        return start_pfn, end_pfn
    if index == ZONE_MOVABLE:
        return movable_pfn, min(node_end_pfn, mm.arch_zone_highest_possible_pfn[mm.movable_zone])
    if not mm.mirrored_kernelcore and start_pfn < movable_pfn < end_pfn:
        return start_pfn, movable_pfn
    if start_pfn >= movable_pfn:
        return end_pfn, end_pfn
    return start_pfn, end_pfn


@kernel("mm/page_alloc.c", "free_area_init_core", left_out="debug prints")
def free_area_init_core(mm: Mm, pgdat: PglistData) -> None:
    """Guess how many pages each zone will have to give: present, without its memory map and what DMA has reserved.

    The guess sizes hash tables and orders zones; what is really given to the page allocator replaces it later.
    """
    lruvec_init(pgdat.lruvec)
    for zone in pgdat.node_zones:
        freesize = zone.present_pages
        memmap_pages = calc_memmap_size(mm.boot.config, zone.spanned_pages, freesize)
        high = is_highmem(mm, zone)
        if high:
            pass  # its part of the memory map lies in low memory
        elif freesize >= memmap_pages:
            freesize -= memmap_pages
        else:
            mm.boot.printk.info(f"  {zone.name} zone: {memmap_pages} memmap pages exceeds freesize {freesize}")
        if zone.index == 0 and freesize > mm.dma_reserve:
            freesize -= mm.dma_reserve
        if not high:
            mm.nr_kernel_pages += freesize
        elif mm.nr_kernel_pages > memmap_pages * 2:
            mm.nr_kernel_pages -= memmap_pages
        mm.nr_all_pages += freesize
        zone.managed_pages = freesize
        if zone.spanned_pages:
            if not mm.boot.config.sparsemem:
                setup_usemap(mm.boot.memblock, mm.boot.config, pgdat.node_id, zone.zone_start_pfn, zone.spanned_pages)
            init_currently_empty_zone(mm, pgdat, zone)


@kernel("mm/page_alloc.c", "calc_memmap_size", traced=False)
def calc_memmap_size(config: KernelConfig, spanned_pages: int, present_pages: int) -> int:
    """The pages that the memory map of a zone takes; big holes have none where SPARSEMEM works in sections.

    >>> from kmemlab.types.config import AMD64
    >>> calc_memmap_size(AMD64, 4095, 3998), calc_memmap_size(AMD64, 1048576, 524288)
    (64, 8192)
    """
    holes_are_left_out = config.sparsemem and spanned_pages > present_pages + (present_pages >> 4)
    pages = present_pages if holes_are_left_out else spanned_pages
    return (pages * config.sizeof_page + PAGE_SIZE - 1) >> PAGE_SHIFT


@kernel("mm/page_alloc.c", "init_currently_empty_zone")
def init_currently_empty_zone(mm: Mm, pgdat: PglistData, zone: Zone) -> None:
    """Make the free lists of a zone that has a span."""
    pgdat.nr_zones = max(pgdat.nr_zones, zone.index + 1)
    start_pfn = zone.zone_start_pfn
    mminit_dprintk(
        mm,
        MMINIT_TRACE,
        "memmap_init",
        f"Initialising map node {pgdat.node_id} zone {zone.index} pfns {start_pfn} -> {start_pfn + zone.spanned_pages}",
    )
    zone_init_free_lists(zone)
    zone_pcp_init(zone)
