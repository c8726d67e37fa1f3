"""i386's page tables: those the kernel starts with, the direct map of lowmem, and the tables of what lies above it.

brk   |tables of the boot mapping … |  DMI  |1|2|3|4|5|6|       the buffer of early_alloc_pgt_buf

1 … 6 go to the ragged end of lowmem, to the fixmap and to kmap's area; what comes when they are used up (the CPU entry
area, on a PAE kernel) is taken from memblock. The tables themselves lie in RAM, so an entry that is there is seen.
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.kernel_physical_mapping import alloc_low_page, alloc_low_pages, entries_of
from kmemlab.boot.layout_32 import (
    FIX_BTMAP_BEGIN,
    FIX_KMAP_BEGIN,
    FIX_KMAP_END,
    FIXADDR_TOP,
    cpu_entry_area_base,
    cpu_entry_area_map_size,
    fix_to_virt,
    pkmap_base,
)
from kmemlab.boot.page_tables import (
    ENTRY_NONE,
    ENTRY_PAGE,
    ENTRY_TABLE,
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    update_page_count,
)
from kmemlab.boot.pgtable import entry_none, entry_of, populate
from kmemlab.boot.swapper_pg_dir import enter_pages, enter_table, place_swapper_pg_dir
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pgtable import PGD, PMD, PTE
from kmemlab.types.units import GIB, KIB, MIB, PAGE_SHIFT, round_down, round_up

KERNEL_IMAGE_SIZE = 512 * MIB
DMI_BRK = 64 * KIB


@kernel("arch/x86/include/asm/pgtable_32.h", "PAGE_TABLE_SIZE", traced=False)
def page_table_size(boot: Boot, pages: int) -> int:
    """The bytes of the page tables that map so many pages with small entries."""
    layout = boot.swapper_pg_dir.layout
    top = layout.levels[PGD].entries if layout.entry_size == 8 else 0
    return (pages // layout.levels[PTE].entries + top) << PAGE_SHIFT


@invented("head_32.S reserves it with RESERVE_BRK, and the linker adds it up", traced=False)
def image_limit(boot: Boot) -> int:
    """_end: where the kernel's image ends, with all of the brk that it may use."""
    beyond_end = page_table_size(boot, GIB >> PAGE_SHIFT)
    pagetables = page_table_size(boot, (KERNEL_IMAGE_SIZE + beyond_end) >> PAGE_SHIFT)
    return boot.spec.image.brk[0] + pagetables + DMI_BRK + (boot.config.init_pgt_buf_pages << PAGE_SHIFT)


@kernel("arch/x86/kernel/head32.c", "mk_early_pgtbl_32", left_out="the copy below 1 GiB, for the first instructions")
def mk_early_pgtbl_32(boot: Boot) -> None:
    """The kernel's first act: map itself, and as much as the tables of all lowmem would need, by small pages."""
    place_swapper_pg_dir(boot)
    tables, direct_map = boot.swapper_pg_dir, boot.direct_map
    limit = image_limit(boot) + page_table_size(boot, GIB >> PAGE_SHIFT)
    spare = tables.pgd >> PAGE_SHIFT  # tables that the image brings along: the linker puts them behind the top one
    if tables.layout.entry_size == 8:
        enter_table(boot, PGD, 0, spare + 1)
    pmd_size = tables.layout.levels[PMD].size
    for nth in range(round_up(limit, pmd_size) // pmd_size):
        enter_table(boot, PMD, nth * pmd_size, (boot.spec.image.brk[0] >> PAGE_SHIFT) + nth)
        direct_map.pmd[nth] = ENTRY_TABLE
        per_table = tables.layout.levels[PTE].entries
        enter_pages(boot, PTE, nth * per_table, (nth + 1) * per_table)
    boot.max_pfn_mapped = round_up(limit, pmd_size) >> PAGE_SHIFT
    # The tables of the fixmap's top, and of what early_ioremap uses below it.
    for nth, address in enumerate((FIXADDR_TOP, fix_to_virt(FIX_BTMAP_BEGIN)), 2):
        entryp = entry_of(tables, PMD, address)
        if entry_none(tables, entryp):
            populate(tables, entryp, spare + nth)


@invented("a line of setup_arch")
def print_initial_mapping(boot: Boot) -> None:
    """Say how far the boot mapping reaches."""
    end = (boot.max_pfn_mapped << PAGE_SHIFT) - 1
    boot.printk.info(f"initial memory mapped: [mem 0x00000000-{end:#010x}]")


@kernel("arch/x86/mm/init_32.c", "kernel_physical_mapping_init", left_out="the first pass, for the TLB of Pentium IIIs")
def kernel_physical_mapping_init_32(boot: Boot, start: int, end: int, mask: int) -> None:
    """Map [start, end) of lowmem: large pages where `mask` allows, over the boot mapping's tables too; else small."""
    direct_map = boot.direct_map
    for paddr, paddr_end in entries_of(start, end, direct_map.pmd_shift):
        at = paddr >> direct_map.pmd_shift
        if mask & 1 << PG_LEVEL_2M:
            enter_pages(boot, PMD, at, at + 1)
            direct_map.pmd[at] = ENTRY_PAGE
            update_page_count(direct_map, PG_LEVEL_2M, 1)
            continue
        if direct_map.pmd[at] == ENTRY_NONE:
            enter_table(boot, PMD, paddr, alloc_low_page(boot))
            direct_map.pmd[at] = ENTRY_TABLE
        first, last = paddr >> PAGE_SHIFT, (paddr_end - 1 >> PAGE_SHIFT) + 1
        direct_map.pte[first:last] = bytes([ENTRY_PAGE]) * (last - first)
        enter_pages(boot, PTE, first, last)
        update_page_count(direct_map, PG_LEVEL_4K, last - first)


@kernel("arch/x86/mm/init_32.c", "one_page_table_init")
def one_page_table_init(boot: Boot, address: int) -> None:
    """See that there is a table of small pages for an address above lowmem."""
    entryp = entry_of(boot.swapper_pg_dir, PMD, address)
    if entry_none(boot.swapper_pg_dir, entryp):
        populate(boot.swapper_pg_dir, entryp, alloc_low_page(boot))


@kernel("arch/x86/mm/init_32.c", "page_table_range_init")
def page_table_range_init(boot: Boot, start: int, end: int) -> None:
    """See that there are tables for [start, end), whole ones.

    Those for kmap_local_page lie side by side, so that its slots are one array: they are new even if there were some.
    """
    tables, shift = boot.swapper_pg_dir, boot.direct_map.pmd_shift
    first, last = fix_to_virt(FIX_KMAP_END) >> shift, fix_to_virt(FIX_KMAP_BEGIN) >> shift
    addresses = range(start, end, boot.direct_map.pmd_size)
    side_by_side = [address for address in addresses if first != last and first <= address >> shift <= last]
    taken = alloc_low_pages(boot, len(side_by_side)) if side_by_side else 0
    for address in addresses:
        one_page_table_init(boot, address)
    for nth, address in enumerate(side_by_side):
        populate(tables, entry_of(tables, PMD, address), taken + nth)


@kernel("arch/x86/mm/init_32.c", "early_ioremap_page_table_range_init")
def early_ioremap_page_table_range_init(boot: Boot) -> None:
    """Tables for the whole fixmap."""
    pmd_size = boot.direct_map.pmd_size
    start = round_down(fix_to_virt(FIX_BTMAP_BEGIN + 1), pmd_size)
    page_table_range_init(boot, start, round_up(FIXADDR_TOP, pmd_size))


@kernel("arch/x86/mm/init_32.c", "permanent_kmaps_init")
def permanent_kmaps_init(boot: Boot) -> None:
    """A table for kmap(), which gives pages of HighMem an address for a while."""
    base = pkmap_base(boot)
    page_table_range_init(boot, base, base + boot.direct_map.pmd_size)


@kernel("arch/x86/mm/cpu_entry_area.c", "setup_cpu_entry_area_ptes")
def setup_cpu_entry_area_ptes(boot: Boot) -> None:
    """Tables for what a CPU needs at the same address before it has switched to the kernel's page tables."""
    start = cpu_entry_area_base(boot)
    for address in range(start, start + cpu_entry_area_map_size(boot), boot.direct_map.pmd_size):
        one_page_table_init(boot, address)
