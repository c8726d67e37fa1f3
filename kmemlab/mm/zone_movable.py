"""kernelcore= and movablecore=: where ZONE_MOVABLE starts on each node.

node 0   | DMA | DMA32 ………………………………|                    kernelcore=768M on one node:
         |◀────── kernelcore ─────▶|◀── Movable ──▶|     what the kernel may use ends at zone_movable_pfn
"""

from __future__ import annotations

from kmemlab.boot.memblock import MEMBLOCK_HOTPLUG, for_each_mem_pfn_range
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER_NR_PAGES
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import GIB, PAGE_SHIFT, memparse, round_up, simple_strtoull
from kmemlab.types.zone_type import MAX_NR_ZONES, ZONE_MOVABLE


@kernel("mm/page_alloc.c", "cmdline_parse_core", left_out="the warning about more than 100 per cent")
def cmdline_parse_core(value: str) -> tuple[int, int]:
    """Read a size, or a percentage of all memory: gives (pages, per cent), one of them 0; what is neither is 0 pages.

    >>> cmdline_parse_core("512M"), cmdline_parse_core("30%"), cmdline_parse_core("lots")
    ((131072, 0), (0, 30), (0, 0))
    """
    percent, rest = simple_strtoull(value)
    if rest.startswith("%"):
        return 0, min(percent, 100)
    return memparse(value)[0] >> PAGE_SHIFT, 0


@kernel("mm/page_alloc.c", "cmdline_parse_kernelcore")
def cmdline_parse_kernelcore(mm: Mm, value: str) -> None:
    """kernelcore=SIZE, N% or mirror: how much memory must stay good for the kernel itself."""
    if value == "mirror":
        mm.mirrored_kernelcore = 1
        return
    mm.required_kernelcore, mm.required_kernelcore_percent = cmdline_parse_core(value)


@kernel("mm/page_alloc.c", "cmdline_parse_movablecore")
def cmdline_parse_movablecore(mm: Mm, value: str) -> None:
    """movablecore=SIZE or N%: how much memory shall hold only what can be moved."""
    mm.required_movablecore, mm.required_movablecore_percent = cmdline_parse_core(value)


@kernel("mm/page_alloc.c", "find_usable_zone_for_movable")
def find_usable_zone_for_movable(mm: Mm) -> None:
    """ZONE_MOVABLE is cut from the highest zone whose limits are not empty."""
    for index in range(MAX_NR_ZONES - 1, -1, -1):
        if index == ZONE_MOVABLE:
            continue
        if mm.arch_zone_highest_possible_pfn[index] > mm.arch_zone_lowest_possible_pfn[index]:
            break
    mm.movable_zone = index


@kernel("mm/page_alloc.c", "early_calculate_totalpages")
def early_calculate_totalpages(mm: Mm) -> int:
    """Count all pages that memblock knows, and note which nodes have any."""
    total = 0
    for start_pfn, end_pfn, nid in for_each_mem_pfn_range(mm.boot.memblock):
        total += end_pfn - start_pfn
        mm.node_has_memory[nid] = 1
    return total


@kernel("mm/page_alloc.c", "find_zone_movable_pfns_for_nodes")
def find_zone_movable_pfns_for_nodes(mm: Mm) -> None:
    """Work out at which page frame ZONE_MOVABLE begins on each node; 0 where there is none."""
    totalpages = early_calculate_totalpages(mm)
    find_usable_zone_for_movable(mm)
    if mm.boot.memblock.movable_node:
        keep_hotpluggable_movable(mm)
        align_zone_movable_pfns(mm)
    elif mm.mirrored_kernelcore:
        keep_mirrored_for_kernel(mm)
        align_zone_movable_pfns(mm)
    else:
        required = required_kernelcore_pages(mm, totalpages)
        if 0 < required < totalpages:
            spread_kernelcore(mm, required)
            align_zone_movable_pfns(mm)
    # N_MEMORY was only borrowed: free_area_init sets it for good.
    mm.node_has_memory[:] = bytes(len(mm.node_has_memory))


@invented("the branch of find_zone_movable_pfns_for_nodes for movable_node")
def keep_hotpluggable_movable(mm: Mm) -> None:
    """From its first memory that can be unplugged on, a node is ZONE_MOVABLE's; kernelcore= is not heard."""
    memory = mm.boot.memblock.memory
    for base, _, nid, flags in memory.regions():
        if flags & MEMBLOCK_HOTPLUG and not 0 < mm.zone_movable_pfn[nid] <= base >> PAGE_SHIFT:
            mm.zone_movable_pfn[nid] = base >> PAGE_SHIFT


@invented("the branch of find_zone_movable_pfns_for_nodes for kernelcore=mirror")
def keep_mirrored_for_kernel(mm: Mm) -> None:
    """Leave to the kernel what the firmware mirrors, and the low 4 GiB; only EFI firmware can tell of mirrors."""
    below_4gb = False
    for start_pfn, _, nid in for_each_mem_pfn_range(mm.boot.memblock):
        if start_pfn < 4 * GIB >> PAGE_SHIFT:
            below_4gb = True
        elif not mm.zone_movable_pfn[nid] or start_pfn < mm.zone_movable_pfn[nid]:
            mm.zone_movable_pfn[nid] = start_pfn
    if below_4gb:
        mm.boot.printk.info("This configuration results in unmirrored kernel memory.")


@invented("a part of find_zone_movable_pfns_for_nodes")
def required_kernelcore_pages(mm: Mm, totalpages: int) -> int:
    """What kernelcore= and movablecore= come to together, in pages: the larger of the two wishes wins."""
    if mm.required_kernelcore_percent:
        mm.required_kernelcore = totalpages * 100 * mm.required_kernelcore_percent // 10000
    if mm.required_movablecore_percent:
        mm.required_movablecore = totalpages * 100 * mm.required_movablecore_percent // 10000
    if mm.required_movablecore:
        # Rounded up, so that ZONE_MOVABLE is never smaller than asked for.
        mm.required_movablecore = min(totalpages, round_up(mm.required_movablecore, MAX_ORDER_NR_PAGES))
        mm.required_kernelcore = max(mm.required_kernelcore, totalpages - mm.required_movablecore)
    return mm.required_kernelcore


@invented("a part of find_zone_movable_pfns_for_nodes")
def spread_kernelcore(mm: Mm, required: int) -> None:
    """Take `required` pages evenly from all nodes with memory; what one lacks, the others give in a new round."""
    nodes = [nid for nid, has in enumerate(mm.node_has_memory) if has]
    usable_nodes = len(nodes)
    while True:
        share = required // usable_nodes
        for nid in nodes:
            if required < share:
                share = required // usable_nodes
            required = take_kernelcore(mm, nid, share, required)
        usable_nodes -= 1
        if not usable_nodes or required <= usable_nodes:
            return


@invented("a part of find_zone_movable_pfns_for_nodes")
def take_kernelcore(mm: Mm, nid: int, share: int, required: int) -> int:
    """Push the node's ZONE_MOVABLE up by `share` pages; gives what is still required of the machine."""
    usable_startpfn = mm.arch_zone_lowest_possible_pfn[mm.movable_zone]
    remaining = share
    for start, end_pfn, _ in for_each_mem_pfn_range(mm.boot.memblock, nid):
        start_pfn = max(start, mm.zone_movable_pfn[nid])
        if start_pfn >= end_pfn:
            continue
        if start_pfn < usable_startpfn:
            # Below the zone that ZONE_MOVABLE is cut from, memory is the kernel's in any case.
            kernel_pages = min(end_pfn, usable_startpfn) - start_pfn
            remaining -= min(kernel_pages, remaining)
            required -= min(kernel_pages, required)
            if end_pfn <= usable_startpfn:
                mm.zone_movable_pfn[nid] = end_pfn
                continue
            start_pfn = usable_startpfn
        size_pages = min(end_pfn - start_pfn, remaining)
        mm.zone_movable_pfn[nid] = start_pfn + size_pages
        required -= min(required, size_pages)
        remaining -= size_pages
        if not remaining:
            break
    return required


@invented("a part of find_zone_movable_pfns_for_nodes")
def align_zone_movable_pfns(mm: Mm) -> None:
    """ZONE_MOVABLE starts at a whole block of the largest order; none where that lies behind the node."""
    for nid in range(len(mm.zone_movable_pfn)):
        start = round_up(mm.zone_movable_pfn[nid], MAX_ORDER_NR_PAGES)
        end_pfn = max((end for _, end, _ in for_each_mem_pfn_range(mm.boot.memblock, nid)), default=0)
        mm.zone_movable_pfn[nid] = 0 if start >= end_pfn else start
