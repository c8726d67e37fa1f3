"""Page tables as the kernel handles them: pgd → p4d → pud → pmd → pte, five steps in every mode.

A table is a frame of simulated RAM. What C has as a pointer to an entry (pgd_t *, pte_t *) is here the physical
address of that entry. A folded level hands back what it was given:

    4 levels:   pgdp = pgd_offset(tables, address)
                p4dp = p4d_offset(tables, pgdp, address)      # the same entry again
                pudp = pud_offset(tables, p4dp, address)      # an entry of the table that *p4dp names
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.hardware.ram import Ram
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Struct, U64Cell
from kmemlab.types.pgtable import LAYOUTS, P4D, PAGE_PRESENT, PAGE_TABLE, PGD, PMD, PTE, PUD
from kmemlab.types.units import PAGE_SHIFT

AllocTable = Callable[[], int]
"""Gives the page frame of a new table, all zeros."""


@invented("C finds a set of page tables through mm->pgd or swapper_pg_dir, and its mode in global variables")
class PageTables(Struct):
    """One set of page tables; `pgd` is the physical address of the top one.

    >>> tables = PageTables(Ram(1 << 16), levels=4, pgd=0x1000)
    >>> new = iter(range(2, 9))
    >>> pmdp = pmd_alloc(tables, pud_alloc(tables, p4d_alloc(tables, pgd_offset(tables, 0x200000), 0x200000,
    ...     lambda: next(new)), 0x200000, lambda: next(new)), 0x200000, lambda: next(new))
    >>> hex(pmdp), next(new)
    ('0x3008', 4)
    """

    pgd = U64Cell()

    def __init__(self, ram: Ram, levels: int, pgd: int = 0) -> None:
        self.ram = ram
        self.layout = LAYOUTS[levels]
        self.pgd = pgd


@kernel("arch/x86/include/asm/pgtable_types.h", "native_pte_val", traced=False)
def get_entry(tables: PageTables, entryp: int) -> int:
    """The entry, of any level, at a physical address."""
    return tables.ram.read(entryp, tables.layout.entry_size)


@kernel("arch/x86/include/asm/pgtable_64.h", "native_set_pte", traced=False)
def set_entry(tables: PageTables, entryp: int, entry: int) -> None:
    """Write the entry, of any level, at a physical address. No TLB hears of it."""
    tables.ram.write(entryp, entry, tables.layout.entry_size)


@invented("C has one function a level: pgd_none, p4d_none, pud_none, pmd_none, pte_none", traced=False)
def entry_none(tables: PageTables, entryp: int) -> bool:
    """Whether the entry is empty."""
    return get_entry(tables, entryp) == 0


@invented("C has one function a level: pmd_leaf, pud_leaf, …", traced=False)
def entry_leaf(tables: PageTables, level: int, entryp: int) -> bool:
    """Whether the entry maps a page, large or small."""
    entry = get_entry(tables, entryp)
    return bool(entry & PAGE_PRESENT) and tables.layout.is_leaf(level, entry)


@kernel("include/linux/pgtable.h", "pgd_offset_pgd", formerly=("pgd_offset", "pgd_offset_k"), traced=False)
def pgd_offset(tables: PageTables, address: int) -> int:
    """The entry of the top table that an address goes through."""
    layout = tables.layout
    return tables.pgd + layout.index(PGD, address) * layout.entry_size


@invented("p4d_offset, pud_offset, pmd_offset and pte_offset_kernel are this, one level each", traced=False)
def table_offset(tables: PageTables, level: int, above: int, address: int) -> int:
    """The entry at `level` below the entry `above`, which is the same one where the level is folded."""
    if tables.layout.levels[level].folded:
        return above
    return entry_below(tables, level, get_entry(tables, above), address)


@invented("p4d_pgtable, pud_pgtable, … with an index: the second half of p4d_offset, pud_offset, …", traced=False)
def entry_below(tables: PageTables, level: int, entry: int, address: int) -> int:
    """Where the entry at `level` stands in the table that `entry`, one level up, names."""
    layout = tables.layout
    return (entry & layout.address_mask) + layout.index(level, address) * layout.entry_size


@invented("C goes down with its loops over entries", traced=False)
def entry_of(tables: PageTables, level: int, address: int) -> int:
    """The entry at `level` that an address goes through; the tables above must be there."""
    entryp = pgd_offset(tables, address)
    for below in range(P4D, level + 1):
        entryp = table_offset(tables, below, entryp, address)
    return entryp


@kernel("arch/x86/include/asm/pgtable.h", "p4d_offset", traced=False)
def p4d_offset(tables: PageTables, pgdp: int, address: int) -> int:
    """The entry of the second table; without five levels it is the pgd's own."""
    return table_offset(tables, P4D, pgdp, address)


@kernel("include/linux/pgtable.h", "pud_offset", traced=False)
def pud_offset(tables: PageTables, p4dp: int, address: int) -> int:
    """The entry of the third table; on i386 it is the pgd's own."""
    return table_offset(tables, PUD, p4dp, address)


@kernel("include/linux/pgtable.h", "pmd_offset", traced=False)
def pmd_offset(tables: PageTables, pudp: int, address: int) -> int:
    """The entry of the fourth table; with two levels it is the pgd's own."""
    return table_offset(tables, PMD, pudp, address)


@kernel("include/linux/pgtable.h", "pte_offset_kernel", formerly=("pte_offset",), traced=False)
def pte_offset_kernel(tables: PageTables, pmdp: int, address: int) -> int:
    """The entry of the last table, which maps 4 KiB."""
    return table_offset(tables, PTE, pmdp, address)


@invented("C's pgd_populate … pmd_populate_kernel, one level each", traced=False)
def populate(tables: PageTables, entryp: int, pfn: int, flags: int = PAGE_TABLE) -> None:
    """Let an entry name the table in page frame `pfn`."""
    if tables.layout.name == "PAE" and tables.pgd <= entryp < tables.pgd + 32:
        # The four top entries of PAE have no permission bits: they are reserved.
        flags = PAGE_PRESENT
    set_entry(tables, entryp, pfn << PAGE_SHIFT | flags)


@invented("p4d_alloc, pud_alloc, pmd_alloc and pte_alloc_kernel are this, one level each")
def table_alloc(tables: PageTables, level: int, above: int, address: int, alloc: AllocTable) -> int:
    """As `table_offset`, and where the entry `above` is empty, it gets a new table from `alloc` first."""
    if tables.layout.levels[level].folded:
        return above
    entry = get_entry(tables, above)
    if not entry:
        populate(tables, above, alloc())
        entry = get_entry(tables, above)
    return entry_below(tables, level, entry, address)


@kernel("include/linux/mm.h", "p4d_alloc", lock="init_mm.page_table_lock", traced=False)
def p4d_alloc(tables: PageTables, pgdp: int, address: int, alloc: AllocTable) -> int:
    """The entry of the second table, which is made if it is not there."""
    return table_alloc(tables, P4D, pgdp, address, alloc)


@kernel("include/linux/mm.h", "pud_alloc", lock="init_mm.page_table_lock", traced=False)
def pud_alloc(tables: PageTables, p4dp: int, address: int, alloc: AllocTable) -> int:
    """The entry of the third table, which is made if it is not there."""
    return table_alloc(tables, PUD, p4dp, address, alloc)


@kernel("include/linux/mm.h", "pmd_alloc", lock="init_mm.page_table_lock", traced=False)
def pmd_alloc(tables: PageTables, pudp: int, address: int, alloc: AllocTable) -> int:
    """The entry of the fourth table, which is made if it is not there."""
    return table_alloc(tables, PMD, pudp, address, alloc)


@kernel("include/linux/mm.h", "pte_alloc_kernel", lock="init_mm.page_table_lock", traced=False)
def pte_alloc_kernel(tables: PageTables, pmdp: int, address: int, alloc: AllocTable) -> int:
    """The entry of the last table, which is made if it is not there."""
    return table_alloc(tables, PTE, pmdp, address, alloc)


@kernel("arch/x86/mm/pat/set_memory.c", "lookup_address_in_pgd", formerly=("lookup_address",), traced=False)
def lookup_address(tables: PageTables, address: int) -> tuple[int, int] | None:
    """The entry that maps an address and its level, or None where a table is missing.

    A small page's entry is given even if it is empty, as in C: somebody may want to fill it.
    """
    entryp = pgd_offset(tables, address)
    for level in range(PGD, PTE):
        if level != PGD:
            entryp = table_offset(tables, level, entryp, address)
        if entry_none(tables, entryp):
            return None
        if entry_leaf(tables, level, entryp) or not get_entry(tables, entryp) & PAGE_PRESENT:
            return entryp, level
    return table_offset(tables, PTE, entryp, address), PTE
