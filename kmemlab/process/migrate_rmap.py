"""Migration seen by the programs: their page-table entries wait while a page moves, and then map the new one.

| present, frame 0x1234, RW |  ─▶  | not present: "0x1234 moves, was RW" |  ─▶  | present, frame 0x5678, RW |
        try_to_migrate                                              remove_migration_ptes

Whoever touched the page in between would wait in the page fault. Here nobody can: a page moves in one go.
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.migrate_table import REMOVE_MIGRATION_PTES, TRY_TO_MIGRATE
from kmemlab.mm.mlock import mlock_vma_page, munlock_vma_page
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, page_ref_inc, set_page_flag
from kmemlab.mm.page_writeback import folio_mark_dirty
from kmemlab.mm.swapops import (
    SWP_MIGRATION_READ,
    SWP_MIGRATION_READ_EXCLUSIVE,
    SWP_MIGRATION_WRITE,
    is_swap_pte,
    pte_to_swp_entry,
    swp_entry,
    swp_entry_to_pte,
    swp_offset,
    swp_type,
)
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import vm_get_page_prot
from kmemlab.process.pgtable import pte_offset_map
from kmemlab.process.rmap import page_add_anon_rmap, page_add_file_rmap, page_anon_exclusive, page_remove_rmap
from kmemlab.process.rmap_walk import mapped_entries, rmap_walk, vma_address
from kmemlab.process.try_to_unmap import ptep_clear_flush
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_anon_exclusive, PG_dirty
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW, PgtableLayout
from kmemlab.types.units import PAGE_SHIFT
from kmemlab.types.vm_flags import VM_WRITE


@kernel("include/linux/swapops.h", "SWP_PFN_BITS", traced=False)
def swp_pfn_bits(layout: PgtableLayout) -> int:
    """How many bits of a migration entry hold the page frame; two more say whether it was used, and written into."""
    if layout.virt_bits > 32:
        return 52 - PAGE_SHIFT
    return 36 - PAGE_SHIFT if layout.entry_size == 8 else 32 - PAGE_SHIFT


@kernel("include/linux/swapops.h", "make_writable_migration_entry", formerly=("make_migration_entry",), traced=False)
def make_migration_entry(layout: PgtableLayout, pfn: int, entry: int, exclusive: bool) -> int:
    """The entry that stands in a page table while page `pfn`, which `entry` maps, moves."""
    read = SWP_MIGRATION_READ_EXCLUSIVE if exclusive else SWP_MIGRATION_READ
    kind = SWP_MIGRATION_WRITE if entry & PAGE_RW else read
    young, dirty = bool(entry & PAGE_ACCESSED), bool(entry & PAGE_DIRTY)
    bits = swp_pfn_bits(layout)
    return swp_entry_to_pte(layout, swp_entry(kind, pfn | young << bits | dirty << bits + 1))


@invented("is_migration_entry, pfn_swap_entry_to_page, is_migration_entry_young and _dirty at once", traced=False)
def read_migration_entry(layout: PgtableLayout, pte: int) -> tuple[int, int, bool, bool] | None:
    """(kind, page frame, used, written into) of a migration entry; None if it is something else.

    >>> from kmemlab.types.pgtable import LAYOUTS
    >>> pte = make_migration_entry(LAYOUTS[4], 0x1234, PAGE_RW | PAGE_ACCESSED, exclusive=True)
    >>> read_migration_entry(LAYOUTS[4], pte) == (SWP_MIGRATION_WRITE, 0x1234, True, False)
    True
    """
    if not is_swap_pte(pte):
        return None
    entry, bits = pte_to_swp_entry(layout, pte), swp_pfn_bits(layout)
    if not SWP_MIGRATION_READ <= swp_type(entry) <= SWP_MIGRATION_WRITE:
        return None
    offset = swp_offset(entry)
    return swp_type(entry), offset & (1 << bits) - 1, bool(offset >> bits & 1), bool(offset >> bits + 1 & 1)


@kernel("mm/rmap.c", "try_to_migrate", left_out="huge pages, pages of devices", lock="the page's lock")
def migrate_everywhere(mm: Mm, pfn: int) -> None:
    """Put a migration entry in place of each entry that maps a page."""
    vm_flags = mm.processes.common.vmas.vm_flags
    for space, vma, address, ptep in mapped_entries(mm, pfn):
        try_to_migrate_one(space, pfn, address, ptep, vm_flags[vma])


@kernel("mm/rmap.c", "try_to_migrate_one", left_out="pages that a device uses (pinned)", lock="the page table's lock")
def try_to_migrate_one(mm: MmStruct, pfn: int, address: int, ptep: int, vm_flags: int) -> None:
    """Put a migration entry in place of one entry. The process keeps the page in its count."""
    page_alloc = mm.common.mm
    page, anon = page_alloc.page, page_anon(page_alloc.page, pfn)
    exclusive = anon and page_anon_exclusive(page, pfn)
    entry = ptep_clear_flush(mm, address, ptep)
    if entry & PAGE_DIRTY:
        if anon:
            set_page_flag(page, pfn, PG_dirty)
        else:
            folio_mark_dirty(page_alloc, pfn)
    if exclusive:
        clear_page_flag(page, pfn, PG_anon_exclusive)  # the entry remembers it
    set_entry(mm.tables, ptep, make_migration_entry(mm.tables.layout, pfn, entry, exclusive))
    page_remove_rmap(page_alloc, pfn)
    munlock_vma_page(page_alloc, pfn, vm_flags)
    put_page(page_alloc, pfn)


@invented("rmap_walk with remove_migration_pte")
def restore_everywhere(mm: Mm, src: int, dst: int) -> None:
    """Let each entry that waits for page `src` map page `dst`."""
    for space, vma, address in rmap_walk(mm, dst):
        ptep = pte_offset_map(space.tables, address)
        found = read_migration_entry(space.tables.layout, get_entry(space.tables, ptep)) if ptep is not None else None
        if ptep is not None and found is not None and found[1] == src:
            remove_migration_pte(space, vma, ptep, dst)


@kernel("mm/migrate.c", "remove_migration_pte", left_out="huge pages, soft-dirty bits", lock="the page table's lock")
def remove_migration_pte(mm: MmStruct, vma: int, ptep: int, dst: int) -> None:
    """Let an entry that waits map a page, with the rights that it had before the page moved."""
    page_alloc = mm.common.mm
    found = read_migration_entry(mm.tables.layout, get_entry(mm.tables, ptep))
    assert found is not None, "the entry does not wait for a page"
    kind, _, young, dirty = found
    page_ref_inc(page_alloc.page, dst)
    vm_flags = mm.common.vmas.vm_flags[vma]
    entry = dst << PAGE_SHIFT | vm_get_page_prot(page_alloc.boot, vm_flags) & ~PAGE_RW
    if not young:
        entry &= ~PAGE_ACCESSED
    if dirty and page_has_flag(page_alloc.page, dst, PG_dirty):
        entry |= PAGE_DIRTY
    if kind == SWP_MIGRATION_WRITE and vm_flags & VM_WRITE:
        entry |= PAGE_RW
    if page_anon(page_alloc.page, dst):
        address = vma_address(mm.common.vmas, vma, page_alloc.page.index[dst])
        page_add_anon_rmap(mm.common, dst, vma, address, exclusive=kind != SWP_MIGRATION_READ)
    else:
        page_add_file_rmap(page_alloc, dst)
    mlock_vma_page(page_alloc, dst, vm_flags)
    set_entry(mm.tables, ptep, entry)


TRY_TO_MIGRATE.append(migrate_everywhere)
REMOVE_MIGRATION_PTES.append(restore_everywhere)
