"""Memory that is plugged in: made known, mapped, given a memory map, and put on line block by block.

acpi_memory_enable_device      ACPI announces a DIMM
  add_memory_resource          /proc/iomem, direct map, memory map          there, but nobody uses it: offline
    online_pages               into a zone, to the buddy, new watermarks    once a memory block, if that is the policy
"""

from __future__ import annotations

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.boot.direct_map import init_memory_mapping, late_tables_needed
from kmemlab.boot.firmware_map import firmware_map_add_hotplug
from kmemlab.boot.memory_hotplug import probe_memory_block_size, register_memory_resource
from kmemlab.boot.numa import nodes_of
from kmemlab.machine.deferred_init import free_pages_core
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.free_area_init import init_currently_empty_zone
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER, PAGEBLOCK_ORDER, PAGES_PER_SECTION
from kmemlab.mm.memmap_init import init_pages
from kmemlab.mm.pageset import setup_zone_pageset
from kmemlab.mm.watermark import init_per_zone_wmark_min
from kmemlab.mm.zone import Zone, zone_end_pfn
from kmemlab.mm.zonelist import build_all_zonelists_late
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import PAGE_SHIFT
from kmemlab.types.zone_type import ZONE_MOVABLE, ZONE_NORMAL

MMOP_OFFLINE, MMOP_ONLINE, MMOP_ONLINE_KERNEL, MMOP_ONLINE_MOVABLE = range(4)
ONLINE_TYPES = ("offline", "online", "online_kernel", "online_movable")


@kernel("mm/memory_hotplug.c", "setup_memhp_default_state")
def setup_memhp_default_state(mm: Mm, value: str) -> None:
    """memhp_default_state=online, online_kernel, online_movable or offline: what happens to new memory."""
    if value in ONLINE_TYPES:
        mm.memhp_default_online_type = ONLINE_TYPES.index(value)


@kernel("arch/x86/mm/init_64.c", "memory_block_size_bytes")
def memory_block_size_bytes(kernel: Kernel) -> None:
    """Find the size of a memory block once, and say it."""
    size = probe_memory_block_size(kernel.boot)
    kernel.boot.printk.info(f"x86/mm: Memory block size: {size >> 20}MB")
    kernel.boot.memory_block_size = size


@kernel("drivers/acpi/acpi_memhotplug.c", "acpi_memory_enable_device")
def acpi_memory_enable_device(kernel: Kernel) -> None:
    """Add each DIMM that ACPI announces."""
    for start, end in kernel.boot.spec.dimms:
        add_memory_resource(kernel, start, end + 1 - start)


@kernel("mm/memory_hotplug.c", "add_memory_resource", left_out="memory map within the new memory itself; rollback")
def add_memory_resource(kernel: Kernel, start: int, size: int) -> None:
    """Make [start, start + size) known to the kernel; on line only if that is the policy."""
    boot, mm = kernel.boot, kernel.mm
    if not register_memory_resource(boot, start, size):
        return
    block = boot.memory_block_size
    if start % block or size % block:
        boot.printk.info(f"Block size [{block:#x}] unaligned hotplug range: start {start:#x}, size {size:#x}")
        return
    nid = phys_to_target_node(kernel, start)
    arch_add_memory(kernel, nid, start, size)
    firmware_map_add_hotplug(boot, start, start + size)
    if mm.memhp_default_online_type != MMOP_OFFLINE:
        for first in range(start, start + size, block):
            online_pages(mm, nid, first >> PAGE_SHIFT, block >> PAGE_SHIFT, mm.memhp_default_online_type)


@kernel("arch/x86/mm/numa.c", "phys_to_target_node", traced=False)
def phys_to_target_node(kernel: Kernel, start: int) -> int:
    """The node that the SRAT has for an address where memory may be plugged in; node 0 if it says nothing."""
    for blocks in (kernel.numa.meminfo, kernel.numa.reserved_meminfo):
        for block_start, block_end, nid in blocks.blocks():
            if block_start <= start < block_end:
                return nid
    return 0


@kernel("arch/x86/mm/init_64.c", "arch_add_memory")
def arch_add_memory(kernel: Kernel, nid: int, start: int, size: int) -> None:
    """Map the memory, and make the memory map of each of its sections, from pages of the machine as it is."""
    boot, tables = kernel.boot, kernel.boot.direct_map
    tables.after_bootmem = 1
    for pfn in take_pages(kernel.mm, nid, 0, late_tables_needed(boot, start, start + size)):
        tables.late_page[tables.nr_late_pages] = pfn
        tables.nr_late_pages += 1
    init_memory_mapping(boot, start, start + size)
    take_pages(kernel.mm, nid, PAGEBLOCK_ORDER, size // (PAGES_PER_SECTION << PAGE_SHIFT))
    boot.max_pfn = boot.max_low_pfn = max(boot.max_pfn, (start + size) >> PAGE_SHIFT)


@invented("C's allocations within arch_add_memory")
def take_pages(mm: Mm, nid: int, order: int, count: int) -> list[int]:
    """Take blocks for page tables or for the memory map, near the node; raises `OutOfMemory` where C gives up."""
    near = nid if mm.numa.node_online[nid] else nodes_of(mm.numa.node_online)[0]
    taken = [pfn for _ in range(count) if (pfn := alloc_pages_inner(mm, GFP_KERNEL, order, near)) is not None]
    if len(taken) < count:
        raise OutOfMemory(
            "no room for the tables of memory that is plugged in",
            where="arch_add_memory",
            remedy="plug in less, or give the machine more memory to begin with",
        )
    return taken


@kernel("mm/memory_hotplug.c", "zone_for_pfn_range", left_out="online_policy=auto-movable")
def zone_for_pfn_range(mm: Mm, nid: int, start_pfn: int, nr_pages: int, online_type: int) -> Zone:
    """The zone for new pages: Movable if it shall be possible to unplug them, else the one they lie in, or Normal."""
    zones = mm.node_data[nid].node_zones
    movable = zones[ZONE_MOVABLE]
    if online_type == MMOP_ONLINE_MOVABLE:
        return movable
    kernel_zone = next(
        (zone for zone in zones[:ZONE_NORMAL] if zone_intersects(zone, start_pfn, nr_pages)), zones[ZONE_NORMAL]
    )
    in_kernel = zone_intersects(kernel_zone, start_pfn, nr_pages)
    in_movable = zone_intersects(movable, start_pfn, nr_pages)
    if online_type == MMOP_ONLINE_KERNEL:
        return kernel_zone
    if in_kernel != in_movable:
        return movable if in_movable else kernel_zone
    return movable if mm.boot.memblock.movable_node else kernel_zone


@kernel("include/linux/mmzone.h", "zone_intersects", traced=False)
def zone_intersects(zone: Zone, start_pfn: int, nr_pages: int) -> bool:
    """Whether the zone's span holds any of these page frames."""
    return zone.spanned_pages > 0 and start_pfn < zone_end_pfn(zone) and zone.zone_start_pfn < start_pfn + nr_pages


@kernel("mm/memory_hotplug.c", "online_pages", left_out="notifiers, isolation, kswapd and kcompactd of a new node")
def online_pages(mm: Mm, nid: int, pfn: int, nr_pages: int, online_type: int) -> None:
    """Put a memory block into a zone and its pages into the buddy, then work all limits out anew."""
    zone = zone_for_pfn_range(mm, nid, pfn, nr_pages, online_type)
    move_pfn_range_to_zone(mm, zone, pfn, nr_pages)
    need_zonelists_rebuild = not zone.present_pages
    if need_zonelists_rebuild:
        setup_zone_pageset(mm, zone)
    zone.present_pages += nr_pages
    mm.node_data[nid].node_present_pages += nr_pages
    online_pages_range(mm, zone, pfn, nr_pages)
    mm.node_has_memory[nid] = mm.numa.node_online[nid] = 1
    if need_zonelists_rebuild:
        build_all_zonelists_late(mm)
    init_per_zone_wmark_min(mm)


@kernel("mm/memory_hotplug.c", "move_pfn_range_to_zone")
def move_pfn_range_to_zone(mm: Mm, zone: Zone, start_pfn: int, nr_pages: int) -> None:
    """Let the zone and its node span the pages, and make these the zone's."""
    pgdat = mm.node_data[zone.node]
    if not zone.spanned_pages:
        zone.zone_start_pfn, zone.spanned_pages = start_pfn, nr_pages
        init_currently_empty_zone(mm, pgdat, zone)
    old_end = max(zone_end_pfn(zone), start_pfn + nr_pages)
    zone.zone_start_pfn = min(zone.zone_start_pfn, start_pfn)
    zone.spanned_pages = old_end - zone.zone_start_pfn
    node_start = min(pgdat.node_start_pfn, start_pfn) if pgdat.node_spanned_pages else start_pfn
    node_end = max(pgdat.node_start_pfn + pgdat.node_spanned_pages, start_pfn + nr_pages)
    pgdat.node_start_pfn, pgdat.node_spanned_pages = node_start, node_end - node_start
    init_pages(mm, zone, start_pfn, start_pfn + nr_pages)


@kernel("mm/memory_hotplug.c", "online_pages_range")
def online_pages_range(mm: Mm, zone: Zone, start_pfn: int, nr_pages: int) -> None:
    """Free the pages in blocks as large as their alignment allows."""
    pfn, end_pfn = start_pfn, start_pfn + nr_pages
    while pfn < end_pfn:
        order = min(MAX_ORDER - 1, (pfn & -pfn).bit_length() - 1)
        free_pages_core(mm, zone, pfn, order)
        pfn += 1 << order
    mm.totalram_pages += nr_pages
