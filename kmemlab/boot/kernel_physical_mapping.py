"""kernel_physical_mapping_init: fill the page tables of the direct map, from the top level down.

Each level does the same: for every entry in the range, make a page of it if it may be one, else see that a table is
below it and go on there. A table is taken when its first entry is needed.
"""

from __future__ import annotations

from itertools import pairwise

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_phys_alloc_range
from kmemlab.boot.page_tables import (
    ENTRY_NONE,
    ENTRY_PAGE,
    ENTRY_TABLE,
    P4D_SHIFT,
    PG_LEVEL_1G,
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    PGDIR_SHIFT_L5,
    PMD_SHIFT,
    PUD_SHIFT,
    update_page_count,
)
from kmemlab.boot.swapper_pg_dir import enter_pages, enter_table, place_swapper_pg_dir, va
from kmemlab.sim.column import Column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.pgtable import P4D, PGD, PMD, PTE, PUD
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE


@kernel("arch/x86/mm/init.c", "early_alloc_pgt_buf")
def early_alloc_pgt_buf(boot: Boot) -> None:
    """Keep the last pages of the brk for the first page tables: when they are needed, no other memory is mapped."""
    tables = boot.direct_map
    tables.pgt_buf_top = (boot.spec.image.brk[1] + 1) >> PAGE_SHIFT
    tables.pgt_buf_start = tables.pgt_buf_end = tables.pgt_buf_top - boot.config.init_pgt_buf_pages
    tables.can_use_brk_pgt = 1
    place_swapper_pg_dir(boot)


@kernel("arch/x86/include/asm/init.h", "alloc_low_page", traced=False)
def alloc_low_page(boot: Boot) -> int:
    """A page for a page table; its page frame number."""
    return alloc_low_pages(boot, 1)


@kernel("arch/x86/mm/init.c", "alloc_low_pages")
def alloc_low_pages(boot: Boot, num: int) -> int:
    """Pages in a row for page tables, from the buffer or from memory that is mapped already; the first one's number.

    After boot C asks the page allocator. That lies above this file, so here its pages have been put by beforehand.
    """
    tables = boot.direct_map
    if tables.after_bootmem:
        tables.nr_late_pages -= 1
        return tables.late_page[tables.nr_late_pages]
    if tables.can_use_brk_pgt and tables.pgt_buf_end + num <= tables.pgt_buf_top:
        tables.pgt_buf_end += num
        return tables.pgt_buf_end - num
    found = 0
    if tables.min_pfn_mapped < boot.max_pfn_mapped:
        start, end = tables.min_pfn_mapped << PAGE_SHIFT, boot.max_pfn_mapped << PAGE_SHIFT
        size = num << PAGE_SHIFT
        found = memblock_phys_alloc_range(boot.memblock, size, PAGE_SIZE, start, end, caller="alloc_low_pages")
    if not found:
        raise KernelPanic(
            "alloc_low_pages: can not alloc memory",
            where="alloc_low_pages",
            remedy="give the machine more memory",
        )
    return found >> PAGE_SHIFT


@kernel("arch/x86/mm/init_64.c", "kernel_physical_mapping_init", left_out="flushing what the boot code had mapped")
def kernel_physical_mapping_init(boot: Boot, start: int, end: int, mask: int) -> None:
    """Map [start, end) with pages of the sizes whose bits are set in `mask`, 4 KiB where none fits."""
    if boot.page_table_levels == 4:
        phys_p4d_init(boot, start, end, mask)  # the fifth level is folded: what C calls P4D is the top
        return
    for paddr, paddr_end in entries_of(start, end, PGDIR_SHIFT_L5, within_entry(boot, PGDIR_SHIFT_L5)):
        need_table(boot, PGD, paddr)
        phys_p4d_init(boot, paddr, paddr_end, mask)


@kernel("arch/x86/mm/init_64.c", "phys_p4d_init")
def phys_p4d_init(boot: Boot, start: int, end: int, mask: int) -> None:
    """The level of 512 GiB: always tables."""
    for paddr, paddr_end in entries_of(start, end, P4D_SHIFT, within_entry(boot, P4D_SHIFT)):
        need_table(boot, P4D, paddr)
        phys_pud_init(boot, paddr, paddr_end, mask)


@kernel("arch/x86/mm/init_64.c", "phys_pud_init", left_out="splitting a page of 1 GiB that is there")
def phys_pud_init(boot: Boot, start: int, end: int, mask: int) -> None:
    """The level of 1 GiB: a page, or a table. A page that an earlier window made is counted once more, as in C.

    A whole table's worth of fresh entries is filled in one step.
    """
    pud, pages = boot.direct_map.pud, 0
    first, last = start >> PUD_SHIFT, (end - 1 >> PUD_SHIFT) + 1
    if mask & 1 << PG_LEVEL_1G and not any(pud[first:last]):
        pud[first:last] = bytes([ENTRY_PAGE]) * (last - first)
        enter_pages(boot, PUD, first, last)
        update_page_count(boot.direct_map, PG_LEVEL_1G, last - first)
        return
    for paddr, paddr_end in entries_of(start, end, PUD_SHIFT):
        at = paddr >> PUD_SHIFT
        if pud[at] != ENTRY_TABLE and mask & 1 << PG_LEVEL_1G:
            pud[at] = ENTRY_PAGE
            enter_pages(boot, PUD, at, at + 1)
            pages += 1
            continue
        need_table(boot, PUD, paddr)
        phys_pmd_init(boot, paddr, paddr_end, mask)
    update_page_count(boot.direct_map, PG_LEVEL_1G, pages)


@kernel("arch/x86/mm/init_64.c", "phys_pmd_init", left_out="splitting a page of 2 MiB that is there")
def phys_pmd_init(boot: Boot, start: int, end: int, mask: int) -> None:
    """The level of 2 MiB: a page, or a table. A whole table's worth of fresh entries is filled in one step."""
    pmd = boot.direct_map.pmd
    first, last = start >> PMD_SHIFT, (end - 1 >> PMD_SHIFT) + 1
    if mask & 1 << PG_LEVEL_2M and not any(pmd[first:last]):
        pmd[first:last] = bytes([ENTRY_PAGE]) * (last - first)
        enter_pages(boot, PMD, first, last)
        update_page_count(boot.direct_map, PG_LEVEL_2M, last - first)
        return
    pages = 0
    for paddr, paddr_end in entries_of(start, end, PMD_SHIFT):
        at = paddr >> PMD_SHIFT
        if pmd[at] != ENTRY_TABLE and mask & 1 << PG_LEVEL_2M:
            pmd[at] = ENTRY_PAGE
            enter_pages(boot, PMD, at, at + 1)
            pages += 1
            continue
        need_table(boot, PMD, paddr)
        phys_pte_init(boot, paddr, paddr_end)
    update_page_count(boot.direct_map, PG_LEVEL_2M, pages)


@kernel("arch/x86/mm/init_64.c", "phys_pte_init")
def phys_pte_init(boot: Boot, start: int, end: int) -> None:
    """The level of 4 KiB: pages."""
    first, last = start >> PAGE_SHIFT, (end - 1 >> PAGE_SHIFT) + 1
    boot.direct_map.pte[first:last] = bytes([ENTRY_PAGE]) * (last - first)
    enter_pages(boot, PTE, first, last)
    update_page_count(boot.direct_map, PG_LEVEL_4K, last - first)


@invented("the loop that each level of C writes out: the range cut at the borders of the level's entries", traced=False)
def entries_of(start: int, end: int, shift: int, offset: int = 0) -> list[tuple[int, int]]:
    """[start, end) in pieces, one an entry; physical address 0 lies `offset` bytes behind the start of its entry.

    >>> entries_of(0x1FF000, 0x201000, PMD_SHIFT) == [(0x1FF000, 0x200000), (0x200000, 0x201000)]
    True
    """
    size = 1 << shift
    cuts = [start, *range(((start + offset) // size + 1) * size - offset, end, size), end]
    return list(pairwise(cuts))


@invented("C counts entries by address, ours are counted by physical address", traced=False)
def within_entry(boot: Boot, shift: int) -> int:
    """How far behind the start of an entry the direct map begins: KASLR moves it by whole GiB, not by whole tables."""
    return va(boot, 0) & (1 << shift) - 1


@invented("two lines that each level of C has", traced=False)
def need_table(boot: Boot, level: int, paddr: int) -> None:
    """See that the entry at `level` for a physical address names a table of the level below."""
    tables = boot.direct_map
    entries: Column = (tables.pgd, tables.p4d, tables.pud, tables.pmd)[level]
    shift = (PGDIR_SHIFT_L5, P4D_SHIFT, PUD_SHIFT, PMD_SHIFT)[level]
    at = paddr + within_entry(boot, shift) >> shift
    if entries[at] == ENTRY_NONE:
        enter_table(boot, level, paddr, alloc_low_page(boot))
        entries[at] = ENTRY_TABLE
