"""Tables for vmalloc's addresses: a level whose entry is empty gets one from the page allocator.

They stay when their last entry is cleared, except where a large page takes their place.

addr ─▶ pgd ─▶ p4d ─▶ pud ─▶ pmd ─▶ pte
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import partial

from kmemlab.alloc.mempolicy import policy_alloc
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.boot.pgtable import PageTables, pgd_offset, set_entry, table_alloc
from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_ZERO, GFP_KERNEL
from kmemlab.types.pgtable import P4D, PMD, PTE, PUD

GFP_PGTABLE_KERNEL = GFP_KERNEL | __GFP_ZERO


@kernel("include/asm-generic/pgalloc.h", "__pte_alloc_one_kernel", traced=False)
def pte_alloc_one_kernel(mm: Mm) -> int:
    """A zeroed page for a table of the kernel. Raises `OutOfMemory`.

    Only tables of programs are counted as such in /proc/meminfo, and those of level pmd, for which C has one function.
    """
    pfn = policy_alloc(mm, GFP_PGTABLE_KERNEL, 0, alloc_pages_inner)
    if pfn is None:
        raise OutOfMemory(
            "there is no page for a page table", where="pte_alloc_kernel", remedy="free some pages, or map less"
        )
    mm.boot.ram.clear_page(pfn)
    return pfn


@invented("C's loops over the entries of one level: pmd_addr_end and its like", traced=False)
def pieces(address: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """[address, end) cut at the multiples of `size`, a power of two.

    >>> list(pieces(3, 10, 4))
    [(3, 4), (4, 8), (8, 10)]
    """
    while address < end:
        stop = min((address | size - 1) + 1, end)
        yield address, stop
        address = stop


@invented("p4d_alloc_track, pud_alloc_track, pmd_alloc_track one after the other", traced=False)
def tables_down_to(mm: Mm, level: int, address: int) -> int:
    """The entry of a level for an address; tables above are made where they are missing. Raises `OutOfMemory`."""
    tables, alloc = mm.boot.swapper_pg_dir, partial(pte_alloc_one_kernel, mm)
    entryp = pgd_offset(tables, address)
    for below in range(P4D, level + 1):
        entryp = table_alloc(tables, below, entryp, address, alloc)
    return entryp


@kernel("include/linux/pgalloc-track.h", "pud_alloc_track", formerly=("p4d_alloc_track",), traced=False)
def pud_alloc_track(mm: Mm, address: int) -> int:
    """The entry of level pud for an address, as `tables_down_to` gives it."""
    return tables_down_to(mm, PUD, address)


@kernel("include/linux/pgalloc-track.h", "pmd_alloc_track", traced=False)
def pmd_alloc_track(mm: Mm, address: int) -> int:
    """The same of level pmd."""
    return tables_down_to(mm, PMD, address)


@kernel("include/linux/pgalloc-track.h", "pte_alloc_kernel_track", traced=False)
def pte_alloc_kernel_track(mm: Mm, address: int) -> int:
    """The same of level pte."""
    return tables_down_to(mm, PTE, address)


@invented("C writes entry after entry; a table's worth in one step costs less here", traced=False)
def fill_entries(tables: PageTables, entryp: int, entries: list[int]) -> None:
    """Write entries one behind the other, all in one table, where all must be empty."""
    size = tables.layout.entry_size
    assert tables.ram.is_blank(entryp, size * len(entries)), "a page is mapped where one is already"
    if size == 8:
        tables.ram.fill(entryp, array("Q", entries))
        return
    for nth, entry in enumerate(entries):
        set_entry(tables, entryp + size * nth, entry)
