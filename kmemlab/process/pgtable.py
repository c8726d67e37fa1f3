"""The page tables of a process: made level by level where a fault needs them, freed when no VMA needs them.

pgd  0 … 255   the process's own           pgd_alloc ──▶ __pte_alloc, … ──▶ free_pgtables ──▶ pgd_free
   256 … 511   the kernel's: copies of swapper_pg_dir's entries, so the tables below are the same ones
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from kmemlab.alloc.page_alloc import free_pages_inner, page_zone
from kmemlab.alloc.page_api import alloc_pages
from kmemlab.alloc.vmap_tables import pieces
from kmemlab.boot.pgtable import (
    PageTables,
    entry_of,
    get_entry,
    pgd_offset,
    populate,
    set_entry,
    table_alloc,
    table_offset,
)
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.hardware.mmu import Mmu
from kmemlab.mm.globals import Mm
from kmemlab.mm.vmstat import NR_PAGETABLE
from kmemlab.process.mm_struct import MmStruct, ProcessMemory
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_ACCOUNT, __GFP_ZERO, GFP_KERNEL
from kmemlab.types.pgtable import P4D, PAGE_PRESENT, PGD, PMD, PTE, PUD, PgtableLayout
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

GFP_PGTABLE_USER = GFP_KERNEL | __GFP_ZERO | __GFP_ACCOUNT
COUNTED_AS_PAGETABLE = (PMD, PTE)
"""Levels whose tables 6.1 counts in nr_page_table_pages; in VmPTE those of level pud as well."""


@kernel("include/linux/vmstat.h", "mod_lruvec_page_state", left_out="control groups", traced=False)
def mod_lruvec_page_state(mm: Mm, pfn: int, item: int, count: int) -> None:
    """Count something with the node that a page belongs to."""
    zone = page_zone(mm, pfn)
    assert zone is not None
    mm.node_data[zone.node].vm_stat[item] += count


@invented("C's macros KERNEL_PGD_BOUNDARY and KERNEL_PGD_PTRS", traced=False)
def kernel_entries(mm: MmStruct) -> range:
    """Which entries of the top table are the kernel's."""
    boot = mm.common.mm.boot
    layout = mm.tables.layout
    return range(layout.pgd_index(va(boot, 0)) if boot.config.highmem else 256, layout.levels[PGD].entries)


@invented("C decides it when it is compiled: with page-table isolation built in, a second table lies behind the first")
def pgd_order(mm: MmStruct) -> int:
    """The order of the block for a top table (PGD_ALLOCATION_ORDER)."""
    return int(mm.tables.layout.entry_size == 8)


@kernel("arch/x86/mm/pgtable.c", "pgd_ctor", left_out="the list of all pgds", lock="pgd_lock")
def pgd_ctor(mm: MmStruct) -> None:
    """Let the kernel's part of a top table be as swapper_pg_dir has it.

    On i386 this is done again before the process runs: there the kernel may have got new tables meanwhile.
    """
    kernel_tables, size = mm.common.mm.boot.swapper_pg_dir, mm.tables.layout.entry_size
    for index in kernel_entries(mm):
        entry = get_entry(kernel_tables, kernel_tables.pgd + index * size)
        if entry != get_entry(mm.tables, mm.tables.pgd + index * size):
            set_entry(mm.tables, mm.tables.pgd + index * size, entry)


@kernel("arch/x86/mm/pgtable.c", "pgd_alloc", left_out="pgd_cache of PAE; the second table of page-table isolation")
def pgd_alloc(mm: MmStruct) -> bool:
    """Give a process its top table, with PAE also the tables below it. False: there is no memory."""
    page_alloc = mm.common.mm
    pfn = alloc_pages(page_alloc, GFP_PGTABLE_USER, pgd_order(mm))
    if pfn is None:
        return False
    page_alloc.boot.ram.fill_pages(pfn, 1 << pgd_order(mm), 0)
    mm.tables.pgd = pfn << PAGE_SHIFT
    if not preallocate_pmds(mm):
        free_preallocated(mm)
        free_pages_inner(page_alloc, pfn, pgd_order(mm))
        mm.tables.pgd = 0
        return False
    pgd_ctor(mm)
    return True


@kernel("arch/x86/mm/pgtable.c", "preallocate_pmds")
def preallocate_pmds(mm: MmStruct) -> bool:
    """PAE: the CPU reads its four top entries only with CR3, so they are filled before the process runs."""
    if mm.tables.layout.name != "PAE":
        return True
    try:
        for index in range(kernel_entries(mm).start):
            populate(mm.tables, mm.tables.pgd + index * 8, pmd_page(mm))
    except OutOfMemory:
        return False
    return True


@invented("pgd_mop_up_pmds and free_pmds of C")
def free_preallocated(mm: MmStruct) -> None:
    """Free the tables that `preallocate_pmds` made."""
    if mm.tables.layout.name == "PAE":
        for index in range(kernel_entries(mm).start):
            entryp = mm.tables.pgd + index * 8
            if get_entry(mm.tables, entryp):
                free_table(mm, PMD, entryp)


@invented("preallocate_pmds makes them of level pmd", traced=False)
def pmd_page(mm: MmStruct) -> int:
    """A page for a table of level pmd."""
    return pte_alloc_one(mm, PMD)


@kernel("arch/x86/mm/pgtable.c", "pgd_free", lock="pgd_lock")
def pgd_free(mm: MmStruct) -> None:
    """Take the top table of a process away; nothing of its own may be below it any more."""
    free_preallocated(mm)
    free_pages_inner(mm.common.mm, mm.tables.pgd >> PAGE_SHIFT, pgd_order(mm))
    mm.tables.pgd = 0


@kernel("arch/x86/mm/pgtable.c", "pte_alloc_one", left_out="tables in HighMem (CONFIG_HIGHPTE); their locks")
def pte_alloc_one(mm: MmStruct, level: int) -> int:
    """A page for a table of a process, all zeros, and counted. Raises `OutOfMemory`."""
    page_alloc = mm.common.mm
    pfn = alloc_pages(page_alloc, GFP_PGTABLE_USER, 0)
    if pfn is None:
        raise OutOfMemory("there is no page for a page table", where="pte_alloc_one", remedy="free some memory")
    page_alloc.boot.ram.clear_page(pfn)
    count_table(mm, level, pfn, 1)
    return pfn


@kernel("include/linux/mm.h", "pgtable_pte_page_ctor", formerly=("pgtable_page_ctor",), traced=False)
def count_table(mm: MmStruct, level: int, pfn: int, count: int) -> None:
    """Count a table in or out: with its process, and with its node."""
    if level >= PUD:
        mm.pgtables_bytes += count * PAGE_SIZE
    if level in COUNTED_AS_PAGETABLE:
        mod_lruvec_page_state(mm.common.mm, pfn, NR_PAGETABLE, count)


@kernel("mm/memory.c", "__pte_alloc", formerly=("pte_alloc_map",), lock="mm->page_table_lock")
def pte_alloc(mm: MmStruct, address: int) -> int:
    """The last entry on the way to an address; tables that are missing are made. Raises `OutOfMemory`."""
    entryp = pgd_offset(mm.tables, address)
    for level in (P4D, PUD, PMD, PTE):
        entryp = table_alloc(mm.tables, level, entryp, address, partial(pte_alloc_one, mm, level))
    return entryp


@kernel("include/linux/pgtable.h", "pte_offset_map", traced=False)
def pte_offset_map(tables: PageTables, address: int) -> int | None:
    """The last entry on the way to an address; None where a table is missing."""
    entryp = pgd_offset(tables, address)
    for level in (P4D, PUD, PMD, PTE):
        if not tables.layout.levels[level].folded and not get_entry(tables, entryp) & PAGE_PRESENT:
            return None
        entryp = table_offset(tables, level, entryp, address)
    return entryp


@invented("C has a loop for each level and each purpose: zap_pte_range, copy_pte_range, change_pte_range", traced=False)
def present_ptes(tables: PageTables, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Each page of [start, end) whose last entry is not empty: (address, where the entry stands)."""
    layout = tables.layout
    size = layout.entry_size
    for address, stop in table_spans(tables, start, end):
        entryp = pte_offset_map(tables, address)
        if entryp is not None and not tables.ram.is_blank(entryp, (stop - address >> PAGE_SHIFT) * size):
            for at in range(address, stop, PAGE_SIZE):
                if get_entry(tables, entryp):
                    yield at, entryp
                entryp += size


@invented("a part of C's loops: what one last table covers, where there is one", traced=False)
def table_spans(tables: PageTables, start: int, end: int, level: int = PGD) -> Iterator[tuple[int, int]]:
    """[start, end) cut by last tables, without what no last table covers."""
    below = next_level(tables.layout, level)
    for address, stop in pieces(start, end, tables.layout.levels[level].size):
        entryp = entry_of(tables, level, address)
        if not get_entry(tables, entryp) & PAGE_PRESENT:
            continue
        if below == PTE:
            yield address, stop
        else:
            yield from table_spans(tables, address, stop, below)


@invented("folded levels are passed over", traced=False)
def next_level(layout: PgtableLayout, level: int) -> int:
    """The level below that has tables of its own."""
    return next(below for below in range(level + 1, PTE + 1) if not layout.levels[below].folded)


@kernel("mm/memory.c", "free_pgd_range", left_out="gathering: a table is freed at once")
def free_pgd_range(mm: MmStruct, addr: int, end: int, floor: int, ceiling: int, level: int = PGD) -> None:
    """Free the tables for [addr, end), as far as nobody needs them: all that a table covers lies in [floor, ceiling).

    floor is where the VMA below ends, ceiling where the one above begins.
    """
    layout = mm.tables.layout
    size = layout.levels[level].size
    below = next_level(layout, level)
    for address, stop in pieces(addr, end, size):
        entryp = entry_of(mm.tables, level, address)
        if not get_entry(mm.tables, entryp) & PAGE_PRESENT:
            continue
        if below != PTE:
            free_pgd_range(mm, address, stop, floor, ceiling, below)
        first = address & -size
        if floor <= first and first + size <= ceiling and not (level == PGD and layout.name == "PAE"):
            free_table(mm, below, entryp)


@kernel("mm/memory.c", "free_pte_range", traced=False)
def free_table(mm: MmStruct, level: int, entryp: int) -> None:
    """Free a table of a level, and clear the entry that names it."""
    pfn = (get_entry(mm.tables, entryp) & mm.tables.layout.address_mask) >> PAGE_SHIFT
    set_entry(mm.tables, entryp, 0)
    count_table(mm, level, pfn, -1)
    free_pages_inner(mm.common.mm, pfn, 0)


@kernel("arch/x86/mm/tlb.c", "flush_tlb_mm_range", left_out="other CPUs; lazy ones", formerly=("flush_tlb_page",))
def flush_tlb_mm_range(mm: MmStruct, start: int, end: int) -> None:
    """Let the CPU forget what it has of [start, end), if it uses these tables now."""
    mmu: Mmu = mm.common.mm.boot.mmu
    if mmu.cr3 != mm.tables.pgd:
        return
    if end - start > 33 << PAGE_SHIFT:
        mmu.write_cr3(mmu.cr3)
        return
    for address in range(start, end, PAGE_SIZE):
        mmu.invlpg(address)


@kernel("arch/x86/mm/tlb.c", "switch_mm_irqs_off", left_out="address space numbers (PCID), lazy TLBs")
def switch_mm(common: ProcessMemory, mm: MmStruct | None) -> None:
    """Use the tables of a process from now on, or the kernel's own again."""
    boot = common.mm.boot
    if mm is not None and boot.config.highmem:
        pgd_ctor(mm)
    boot.mmu.write_cr3(mm.tables.pgd if mm else boot.swapper_pg_dir.pgd)
