"""Mapping pages into vmalloc's area, and unmapping them: page-table entries are written and cleared.

addr  ffffc90000000000 ──▶ pte ──▶ pfn 812        the addresses follow one another, the page frames need not
      ffffc90000001000 ──▶ pte ──▶ pfn 77
      ffffc90000002000      -                     the guard page: nothing, so who runs over the end faults

Nobody tells a TLB: who unmaps must flush, at once or later.
"""

from __future__ import annotations

from array import array

from kmemlab.alloc.vmap_huge import clear_huge, vmap_try_huge
from kmemlab.alloc.vmap_tables import fill_entries, pieces, pte_alloc_kernel_track
from kmemlab.boot.pgtable import (
    PageTables,
    entry_below,
    entry_leaf,
    entry_none,
    get_entry,
    pgd_offset,
    set_entry,
    table_offset,
)
from kmemlab.boot.tlbflush import flush_tlb_kernel_range
from kmemlab.mm.context import might_sleep
from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pgtable import P4D, PMD, PTE, PUD
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE


@kernel("mm/vmalloc.c", "vmap_pages_pte_range", left_out="i386: other processes' tables, which C brings up to date")
def vmap_pages_pte_range(mm: Mm, address: int, pfns: list[int], prot: int) -> None:
    """Map pages from an address on, all below one entry of level pmd."""
    ptep = pte_alloc_kernel_track(mm, address)
    fill_entries(mm.boot.swapper_pg_dir, ptep, [pfn << PAGE_SHIFT | prot for pfn in pfns])


@kernel("mm/vmalloc.c", "vmap_small_pages_range_noflush")
def vmap_small_pages_range_noflush(mm: Mm, address: int, end: int, prot: int, pfns: list[int]) -> None:
    """Map [address, end) to pages that may lie anywhere. Raises `OutOfMemory`: some may be mapped then."""
    done = 0
    for start, stop in pieces(address, end, mm.boot.direct_map.pmd_size):
        count = (stop - start) >> PAGE_SHIFT
        vmap_pages_pte_range(mm, start, pfns[done : done + count], prot)
        done += count


@kernel("mm/vmalloc.c", "vmap_pages_range", formerly=("vmap_pages_range_noflush", "map_vm_area"))
def vmap_pages_range(mm: Mm, address: int, end: int, prot: int, pfns: list[int], page_shift: int = PAGE_SHIFT) -> None:
    """Map [address, end) to pages, or to blocks of 2**`page_shift` bytes whose pages follow one another in `pfns`.

    Raises `OutOfMemory` where no page can be had for a table.
    """
    if page_shift == PAGE_SHIFT:
        vmap_small_pages_range_noflush(mm, address, end, prot, pfns)
        return
    step = 1 << page_shift
    for nth, start in enumerate(range(address, end, step)):
        phys_addr = pfns[nth * step >> PAGE_SHIFT] << PAGE_SHIFT
        vmap_range_noflush(mm, start, start + step, phys_addr, prot, page_shift)


@kernel("mm/vmalloc.c", "vmap_range_noflush", formerly=("ioremap_page_range", "vmap_p4d_range", "vmap_pmd_range"))
def vmap_range_noflush(mm: Mm, address: int, end: int, phys_addr: int, prot: int, max_page_shift: int) -> None:
    """Map [address, end) to physical addresses in a row, by pages as large as can be. Raises `OutOfMemory`."""
    might_sleep(mm.current, "mm/vmalloc.c")
    levels = mm.boot.swapper_pg_dir.layout.levels
    while address < end:
        for level in (PUD, PMD):
            stop = min((address | levels[level].size - 1) + 1, end)
            if vmap_try_huge(mm, level, address, stop, phys_addr, prot, max_page_shift):
                break
        else:
            vmap_pte_range(mm, address, stop, phys_addr, prot)
        phys_addr += stop - address
        address = stop


@kernel("mm/vmalloc.c", "vmap_pte_range", traced=False)
def vmap_pte_range(mm: Mm, address: int, end: int, phys_addr: int, prot: int) -> None:
    """Map by pages of 4 KiB, all below one entry of level pmd."""
    ptep = pte_alloc_kernel_track(mm, address)
    paddrs = range(phys_addr, phys_addr + end - address, PAGE_SIZE)
    fill_entries(mm.boot.swapper_pg_dir, ptep, [paddr | prot for paddr in paddrs])


@kernel("mm/vmalloc.c", "vunmap_range_noflush", formerly=("__vunmap_range_noflush", "vunmap_page_range"))
def vunmap_range_noflush(mm: Mm, address: int, end: int) -> None:
    """Clear the entries of [address, end), where there are any. A TLB may go on using what it remembers."""
    tables = mm.boot.swapper_pg_dir
    levels = tables.layout.levels
    while address < end:
        level, entry = entry_to_unmap(tables, address)
        stop = min((address | levels[level].size - 1) + 1, end)
        if entry:
            vunmap_pte_range(tables, entry_below(tables, PTE, entry, address), (stop - address) >> PAGE_SHIFT)
        address = stop


@invented("vunmap_p4d_range, vunmap_pud_range and vunmap_pmd_range, one within the other", traced=False)
def entry_to_unmap(tables: PageTables, address: int) -> tuple[int, int]:
    """The entry of level pmd on the way to an address, with its level.

    Where the way ends above, the level of that end and 0: the entry is empty, or mapped a large page and is cleared.
    """
    entryp = pgd_offset(tables, address)
    entry = get_entry(tables, entryp)
    for level in range(P4D, PTE):
        if not entry:
            return level - 1, 0
        if not tables.layout.levels[level].folded:
            entryp = entry_below(tables, level, entry, address)
            entry = get_entry(tables, entryp)
        if clear_huge(tables, level, entryp, entry):
            return level, 0
    return PMD, entry


@kernel("mm/vmalloc.c", "vunmap_pte_range", traced=False)
def vunmap_pte_range(tables: PageTables, ptep: int, count: int) -> None:
    """Clear entries of one table, in a row."""
    size = tables.layout.entry_size
    if size == 8:
        tables.ram.fill(ptep, array("Q", bytes(8 * count)))
        return
    for entryp in range(ptep, ptep + size * count, size):
        set_entry(tables, entryp, 0)


@kernel("mm/vmalloc.c", "vunmap_range", formerly=("unmap_kernel_range",))
def vunmap_range(mm: Mm, address: int, end: int) -> None:
    """Clear the entries of [address, end), and let no TLB remember them."""
    vunmap_range_noflush(mm, address, end)
    flush_tlb_kernel_range(mm.boot.mmu, address, end)


@kernel("mm/vmalloc.c", "vmalloc_to_page", formerly=("vmalloc_to_pfn",), left_out="a warning for large pages")
def vmalloc_to_pfn(mm: Mm, address: int) -> int | None:
    """The page frame behind an address of vmalloc's area, by a walk over the tables; None where none is mapped."""
    tables = mm.boot.swapper_pg_dir
    entryp = pgd_offset(tables, address)
    for level in range(P4D, PTE + 1):
        if entry_none(tables, entryp):
            return None
        entryp = table_offset(tables, level, entryp, address)
        if entry_leaf(tables, level, entryp):
            size = tables.layout.levels[level].size
            paddr = get_entry(tables, entryp) & tables.layout.page_mask(level) | address & size - 1 & PAGE_MASK
            return paddr >> PAGE_SHIFT
    return None
