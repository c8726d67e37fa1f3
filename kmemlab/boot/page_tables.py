"""The direct map: every page of RAM at `page_offset + physical address`, mapped by pages as large as can be.

PGD ─▶ (P4D) ─▶ PUD ─▶ PMD ─▶ PTE
       512 GiB  1 GiB  2 MiB  4 KiB     what one entry stands for
                or a   or a
                page   page
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.units import PAGE_SHIFT

PMD_SHIFT, PUD_SHIFT, P4D_SHIFT, PGDIR_SHIFT_L5 = 21, 30, 39, 48
PUD_SIZE = 1 << PUD_SHIFT
ENTRY_NONE, ENTRY_TABLE, ENTRY_PAGE = range(3)
PG_LEVEL_4K, PG_LEVEL_2M, PG_LEVEL_1G = 1, 2, 3  # enum pg_level
MAX_MAPPED_RANGES = 3200  # C: E820_MAX_ENTRIES
MAX_LATE_PAGES = 1 << 20


@invented("C's tables hang below swapper_pg_dir; the direct map is linear, so ours lie flat, one column a level")
class DirectMap(Struct):
    """What each entry of each level is: nothing, a table of the level below, or a page.

    The entry for physical address `paddr` is `pmd[paddr >> pmd_shift]`, and so on; in `p4d` and `pgd` it lies behind by
    what KASLR's base is behind a border of entries. `pgd` is used with five levels only, with four the top is `p4d`.
    `direct_pages_count[PG_LEVEL_…]` counts pages by size. With two levels (i386 without PAE) an entry of `pmd` is one
    of 4 MiB, and what C calls a page of "2M" is as large.
    """

    page_size_mask = Cell()  # bit PG_LEVEL_…: this size may be used
    direct_gbpages = Cell()
    min_pfn_mapped = Cell()  # mapped from here to boot.max_pfn_mapped: tables may be taken from there
    can_use_brk_pgt = Cell()
    pgt_buf_start = Cell()  # page frames at the end of the brk that serve as the first tables
    pgt_buf_end = Cell()
    pgt_buf_top = Cell()
    nr_pfn_mapped = Cell()
    after_bootmem = Cell()  # memblock is gone: tables come from the page allocator
    nr_late_pages = Cell()  # pages that were taken from it for the next tables

    pgd: Column
    p4d: Column
    pud: Column
    pmd: Column
    pte: Column
    direct_pages_count: Column
    mapped_start: Column
    mapped_end: Column
    late_page: Column

    def __init__(self, max_pfn: int, pmd_shift: int = PMD_SHIFT) -> None:
        """`max_pfn` is the end of the highest memory that the machine can ever have."""
        self.pmd_shift = pmd_shift
        self.pmd_size = 1 << pmd_shift
        last = (max_pfn << PAGE_SHIFT) + PUD_SIZE
        self.pgd = column("B", (last >> PGDIR_SHIFT_L5) + 2)
        self.p4d = column("B", (last >> P4D_SHIFT) + 2)
        self.pud = column("B", (last >> PUD_SHIFT) + 1)
        self.pmd = column("B", (last >> pmd_shift) + 1)
        self.pte = column("B", (last >> PAGE_SHIFT) + 1)
        self.direct_pages_count = column("q", PG_LEVEL_1G + 1)
        self.late_page = column("q", MAX_LATE_PAGES)
        # pfn_mapped[]: the ranges of page frames that are mapped, ascending.
        self.mapped_start = column("q", MAX_MAPPED_RANGES)
        self.mapped_end = column("q", MAX_MAPPED_RANGES)


@kernel("arch/x86/mm/init.c", "add_pfn_range_mapped", left_out="max_pfn_mapped, which its caller raises")
def add_pfn_range_mapped(tables: DirectMap, start_pfn: int, end_pfn: int) -> None:
    """Note that page frames [start_pfn, end_pfn) are mapped; ranges that touch are joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted([*pfn_mapped(tables), (start_pfn, end_pfn)]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    for nth, (start, end) in enumerate(merged):
        tables.mapped_start[nth], tables.mapped_end[nth] = start, end
    tables.nr_pfn_mapped = len(merged)


@invented("C's array pfn_mapped", traced=False)
def pfn_mapped(tables: DirectMap) -> list[tuple[int, int]]:
    """The ranges [start, end) of page frames that are mapped."""
    return [(tables.mapped_start[nth], tables.mapped_end[nth]) for nth in range(tables.nr_pfn_mapped)]


@kernel("arch/x86/mm/init.c", "pfn_range_is_mapped", traced=False)
def pfn_range_is_mapped(tables: DirectMap, start_pfn: int, end_pfn: int) -> bool:
    """Whether all of [start_pfn, end_pfn) is mapped."""
    return any(start <= start_pfn and end_pfn <= end for start, end in pfn_mapped(tables))


@kernel("arch/x86/mm/pat/set_memory.c", "update_page_count", traced=False)
def update_page_count(tables: DirectMap, level: int, pages: int) -> None:
    """Count pages of a size into /proc/meminfo's DirectMap lines."""
    tables.direct_pages_count[level] += pages
