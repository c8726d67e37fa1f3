"""HighMem's pages reach the page allocator: before low memory does, and one by one.

page by page      0 1 2 3 4 5 6 7     each joins its buddy, if that is free: 0+1, 2+3, 0…3, …
block by block    |    order 3    |   the same block, in the same place of the same list

A page that comes last to a block decides where the block goes, and all smaller blocks that were on the lists meanwhile
have left them again without a trace. So the model gives block by block: 8 GiB in milliseconds.
"""

from __future__ import annotations

from kmemlab.boot.memblock import for_each_free_mem_range
from kmemlab.machine.mem_init import reset_all_zones_managed_pages
from kmemlab.mm.buddy import free_one_page
from kmemlab.mm.globals import Mm
from kmemlab.mm.highmem import highmem_zones
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.page_poison import treat_free_pages
from kmemlab.mm.vm_event import PGFREE
from kmemlab.mm.zone import Zone, get_pageblock_migratetype, zone_end_pfn
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import pfn_down, pfn_up


@kernel("arch/x86/mm/highmem_32.c", "set_highmem_pages_init")
def set_highmem_pages_init(mm: Mm) -> None:
    """Free all of HighMem that nobody reserved."""
    reset_all_zones_managed_pages(mm)
    for zone in highmem_zones(mm):
        start, end = zone.zone_start_pfn, zone_end_pfn(zone)
        mm.boot.printk.info(f"Initializing {zone.name} for node {zone.node} ({start:08x}:{end:08x})")
        add_highpages_with_active_regions(mm, zone)


@kernel("arch/x86/mm/init_32.c", "add_highpages_with_active_regions")
def add_highpages_with_active_regions(mm: Mm, zone: Zone) -> None:
    """Free the zone's part of each range of memory that is not reserved, ascending."""
    for start, end, _ in for_each_free_mem_range(mm.boot.memblock, nid=zone.node):
        pfn = max(pfn_up(start), zone.zone_start_pfn)
        end_pfn = min(pfn_down(end), zone_end_pfn(zone))
        while pfn < end_pfn:
            order = min(MAX_ORDER - 1, (pfn & -pfn).bit_length() - 1)
            while pfn + (1 << order) > end_pfn:
                order -= 1
            free_highmem_block(mm, zone, pfn, order)
            pfn += 1 << order


@kernel("mm/page_alloc.c", "free_highmem_page", left_out="page by page: blocks come out the same")
def free_highmem_block(mm: Mm, zone: Zone, pfn: int, order: int) -> None:
    """Free a block that no page lies beside but in its own zone; its last page decides whose list it goes on."""
    migratetype = get_pageblock_migratetype(zone.page, pfn + (1 << order) - 1)
    treat_free_pages(mm, pfn, 1 << order)
    free_one_page(zone, pfn, order, migratetype)
    mm.vm_event[PGFREE] += 1 << order
    zone.managed_pages += 1 << order
    mm.totalram_pages += 1 << order
    mm.totalhigh_pages += 1 << order
