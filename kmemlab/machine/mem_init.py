"""mem_init: memblock hands all free memory over to the page allocator.

    memblock    free [0x1000, 0x5400)
    buddy       order 10 at 0x1000, 0x1400, …, then order 9 … : as large as the address is aligned and the range allows
                at the tail of its free list, so low addresses are taken first

The loop lives here and not in memblock, because memblock lies below the page allocator.
"""

from __future__ import annotations

from functools import partial

from kmemlab.boot.cmdline import bool_option, cmdline_find_option
from kmemlab.boot.direct_map import kaslr_memory_enabled
from kmemlab.boot.globals import kaslr_base
from kmemlab.boot.memblock import (
    MEMBLOCK_HOTPLUG,
    for_each_free_mem_range,
    memblock_setclr_flag,
)
from kmemlab.boot.pgtable import p4d_alloc, pgd_offset, pud_alloc
from kmemlab.boot.vmalloc_area import VMALLOC_AREA
from kmemlab.machine.deferred_init import alloc_pages_early, free_pages_core, zone_of
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import GIB, U64_MAX, pfn_down, pfn_up


@kernel("mm/page_alloc.c", "init_mem_debugging_and_hardening", left_out="debug_pagealloc, page_owner")
def init_mem_debugging_and_hardening(mm: Mm) -> None:
    """Find out what shall be done to the contents of pages; poisoning rules out clearing."""
    cmdline = mm.boot.spec.cmdline
    alloc = bool_option(cmdline_find_option(cmdline, "init_on_alloc"), default=True)
    free = bool_option(cmdline_find_option(cmdline, "init_on_free"), default=False)
    poison = bool_option(cmdline_find_option(cmdline, "page_poison"), default=False)
    if (alloc or free) and poison:
        mm.boot.printk.info(
            "mem auto-init: CONFIG_PAGE_POISONING is on, will take precedence over init_on_alloc and init_on_free"
        )
        alloc = free = False
    mm.init_on_alloc, mm.init_on_free, mm.page_poisoning = int(alloc), int(free), int(poison)


@kernel("init/main.c", "report_meminit", left_out="other compilers")
def report_meminit(mm: Mm) -> None:
    """Say whether pages and objects are cleared when they are given out, and when they come back."""
    on = ("off", "on")
    mm.boot.printk.info(
        f"mem auto-init: stack:all(zero), heap alloc:{on[mm.init_on_alloc]}, heap free:{on[mm.init_on_free]}"
    )
    if mm.init_on_free:
        mm.boot.printk.info("mem auto-init: clearing system memory may take some time...")


@kernel("mm/memblock.c", "memblock_free_all", formerly=("free_all_bootmem",))
def memblock_free_all(mm: Mm) -> None:
    """Give every free page to its zone, and count what the machine can use.

    Pages whose struct page is deferred are counted, too; they follow in `page_alloc_init_late`.
    """
    reset_all_zones_managed_pages(mm)
    mm.totalram_pages += free_low_memory_core_early(mm)


@kernel("mm/memblock.c", "reset_all_zones_managed_pages")
def reset_all_zones_managed_pages(mm: Mm) -> None:
    """Forget the guess of free_area_init, once: what is freed from now on counts."""
    if mm.reset_managed_pages_done:
        return
    for zone in mm.zones():
        zone.managed_pages = 0
    mm.reset_managed_pages_done = 1


@kernel("mm/memblock.c", "free_low_memory_core_early", left_out="PG_reserved of reserved pages: they stay all zero")
def free_low_memory_core_early(mm: Mm) -> int:
    """Free all ranges that nobody reserved, in ascending order; gives the number of pages."""
    memblock_setclr_flag(mm.boot.memblock, 0, U64_MAX, False, MEMBLOCK_HOTPLUG)
    count = 0
    for start, end, nid in for_each_free_mem_range(mm.boot.memblock):
        start_pfn, end_pfn = pfn_up(start), min(pfn_down(end), mm.boot.max_low_pfn)
        if start_pfn < end_pfn:
            free_pages_memory(mm, nid, start_pfn, end_pfn)
            count += end_pfn - start_pfn
    return count


@kernel("mm/memblock.c", "__free_pages_memory")
def free_pages_memory(mm: Mm, nid: int, start: int, end: int) -> None:
    """Free [start, end) in blocks, each as large as its address is aligned and the range allows."""
    first_deferred_pfn = mm.node_data[nid].first_deferred_pfn
    while start < end:
        order = min(MAX_ORDER - 1, (start & -start).bit_length() - 1)
        while start + (1 << order) > end:
            order -= 1
        if start >= first_deferred_pfn:
            return  # C goes on, block by block, and skips each
        free_pages_core(mm, zone_of(mm, nid, start), start, order)
        start += 1 << order


@kernel("arch/x86/mm/init_64.c", "preallocate_vmalloc_pages")
def preallocate_vmalloc_pages(mm: Mm) -> None:
    """Take a page table for each top-level entry of the vmalloc area: then all processes share what is below them."""
    start, size, entry = VMALLOC_AREA[mm.boot.page_table_levels]
    if kaslr_memory_enabled(mm.boot):
        # KASLR moves it by some GiB, so that it touches one entry more.
        start = kaslr_base(mm.boot.spec, "vmalloc_base") or start + GIB
    tables, alloc = mm.boot.swapper_pg_dir, partial(preallocated_table, mm)
    for nth in range(start // entry, (start + size - 1) // entry + 1):
        address = nth * entry
        p4dp = p4d_alloc(tables, pgd_offset(tables, address), address, alloc)
        if mm.boot.page_table_levels == 4:
            pud_alloc(tables, p4dp, address, alloc)


@invented("C's p4d_alloc_one and pud_alloc_one", traced=False)
def preallocated_table(mm: Mm) -> int:
    """A page for a page table, zeroed."""
    pfn = alloc_pages_early(mm, GFP_KERNEL, 0, mm.numa.cpu_to_node[0])
    if pfn is None:
        raise KernelPanic(
            "Failed to pre-allocate p4d pages for vmalloc area",
            where="preallocate_vmalloc_pages",
            remedy="give the machine more memory",
        )
    mm.boot.ram.clear_page(pfn)
    return pfn


@kernel("mm/page_alloc.c", "mem_init_print_info")
def mem_init_print_info(mm: Mm) -> None:
    """Say what is free of what is there, and what took the rest."""
    kib = mm.boot.spec.image.kib
    present = sum(zone.present_pages for zone in mm.zones())
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.zones())
    reserved = present - mm.totalram_pages
    highmem = f", {mm.totalhigh_pages * 4}K highmem" if mm.boot.config.highmem else ""
    mm.boot.printk.info(
        f"Memory: {free * 4}K/{present * 4}K available ({kib.code}K kernel code, {kib.rwdata}K rwdata, "
        f"{kib.rodata}K rodata, {kib.init}K init, {kib.bss}K bss, {reserved * 4}K reserved, 0K cma-reserved{highmem})"
    )
