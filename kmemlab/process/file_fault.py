"""do_fault: the first touch of a page that a file has, and the first write to one that is shared.

read             do_read_fault     pages around that are in memory are mapped as well; else filemap_fault
write, private   do_cow_fault      filemap_fault, and a copy of the page for this process alone
write, shared    do_shared_fault   filemap_fault, page_mkwrite: the page is dirty from now on

An entry of a shared VMA gets RW only by a write fault, so that the kernel hears of each page that becomes dirty.
"""

from __future__ import annotations

from kmemlab.alloc.filemap import touch_inode
from kmemlab.alloc.writeback import balance_dirty_pages
from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.mlock import lru_cache_add_inactive_or_unevictable, mlock_vma_page
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_ref_inc
from kmemlab.mm.page_writeback import folio_mark_dirty
from kmemlab.mm.wait import folio_lock, folio_unlock
from kmemlab.process.fault_page import (
    FAULT_FLAG_WRITE,
    VM_FAULT_COMPLETED,
    VM_FAULT_ERROR,
    VM_FAULT_GIVE_UP,
    VM_FAULT_LOCKED,
    VM_FAULT_NOPAGE,
    VM_FAULT_OOM,
    VM_FAULT_WRITE,
    copy_user_highpage,
    maybe_mkwrite,
    new_anonymous_page,
    wp_page_reuse,
)
from kmemlab.process.filemap_fault import filemap_fault, maybe_unlock_mmap_for_io, next_uptodate_page
from kmemlab.process.i_mmap import vma_mapping
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_FILEPAGES, MmStruct, add_mm_counter
from kmemlab.process.mman import vma_page_prot
from kmemlab.process.rmap import page_add_file_rmap, page_add_new_anon_rmap
from kmemlab.process.vma import linear_page_index, vma_pages
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.pgtable import PAGE_DIRTY, PTE
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE
from kmemlab.types.vm_flags import VM_SHARED

FAULT_AROUND_PAGES = 16
"""fault_around_bytes: 64 KiB."""


@kernel("mm/memory.c", "do_fault", formerly=("do_linear_fault", "do_no_page"), left_out="VMAs of devices")
def do_fault(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> int:
    """Nothing is mapped at an address of a VMA that maps a file; VM_FAULT_…."""
    if not flags & FAULT_FLAG_WRITE:
        return do_read_fault(mm, vma, address, ptep, flags)
    if not mm.common.vmas.vm_flags[vma] & VM_SHARED:
        return do_cow_fault(mm, vma, address, ptep, flags)
    return do_shared_fault(mm, vma, address, ptep, flags)


@kernel("mm/memory.c", "do_read_fault")
def do_read_fault(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> int:
    """Map the page for reading, and those around it that are in memory; wait for the disk only if this one is not."""
    page_alloc = mm.common.mm
    result = do_fault_around(mm, vma, address, ptep, flags)
    if result:
        return result
    result, pfn = filemap_fault(mm, vma, linear_page_index(mm.common.vmas, vma, address), flags)
    if result & VM_FAULT_GIVE_UP:
        return result
    result |= finish_fault(mm, vma, address, ptep, pfn, flags)
    folio_unlock(page_alloc, pfn)
    if result & VM_FAULT_GIVE_UP:
        put_page(page_alloc, pfn)
    return result


@kernel("mm/memory.c", "do_cow_fault", left_out="control groups")
def do_cow_fault(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> int:
    """Give the process a page of its own with what stands in the file."""
    page_alloc = mm.common.mm
    copy = new_anonymous_page(mm, vma, 0)
    if copy is None:
        return VM_FAULT_OOM
    result, pfn = filemap_fault(mm, vma, linear_page_index(mm.common.vmas, vma, address), flags)
    if not result & VM_FAULT_GIVE_UP:
        copy_user_highpage(page_alloc, copy, pfn)
        result |= finish_fault(mm, vma, address, ptep, copy, flags)
        folio_unlock(page_alloc, pfn)
        put_page(page_alloc, pfn)
    if result & VM_FAULT_GIVE_UP:
        put_page(page_alloc, copy)
    return result


@kernel("mm/memory.c", "do_shared_fault")
def do_shared_fault(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> int:
    """Map the file's own page for writing; it is dirty then."""
    page_alloc = mm.common.mm
    result, pfn = filemap_fault(mm, vma, linear_page_index(mm.common.vmas, vma, address), flags)
    if result & VM_FAULT_GIVE_UP:
        return result
    folio_unlock(page_alloc, pfn)
    made = filemap_page_mkwrite(mm, vma, pfn)
    if made & (VM_FAULT_ERROR | VM_FAULT_NOPAGE):
        put_page(page_alloc, pfn)
        return made
    result |= finish_fault(mm, vma, address, ptep, pfn, flags)
    if result & VM_FAULT_GIVE_UP:
        folio_unlock(page_alloc, pfn)
        put_page(page_alloc, pfn)
        return result
    return result | fault_dirty_shared_page(mm, pfn, flags)


@kernel("mm/memory.c", "finish_fault", left_out="huge pages", lock="the page table's lock")
def finish_fault(mm: MmStruct, vma: int, address: int, ptep: int, pfn: int, flags: int) -> int:
    """Map the page, unless somebody has mapped one meanwhile."""
    if get_entry(mm.tables, ptep):
        return VM_FAULT_NOPAGE
    do_set_pte(mm, vma, pfn, address, ptep, flags)
    return 0


@kernel("mm/memory.c", "do_set_pte", formerly=("alloc_set_pte",), left_out="userfaultfd", lock="the page table's lock")
def do_set_pte(mm: MmStruct, vma: int, pfn: int, address: int, ptep: int, flags: int) -> None:
    """Let an entry name a page: a copy if a private VMA is written, else the file's own. It takes over a reference."""
    common = mm.common
    vm_flags = common.vmas.vm_flags[vma]
    entry = pfn << PAGE_SHIFT | vma_page_prot(common.mm.boot, vm_flags)
    write = flags & FAULT_FLAG_WRITE
    if write:
        entry = maybe_mkwrite(entry | PAGE_DIRTY, vm_flags)
    if write and not vm_flags & VM_SHARED:
        add_mm_counter(mm, MM_ANONPAGES, 1)
        page_add_new_anon_rmap(common, pfn, vma, address)
        lru_cache_add_inactive_or_unevictable(common.mm, pfn, vm_flags)
    else:
        add_mm_counter(mm, MM_FILEPAGES, 1)
        page_add_file_rmap(common.mm, pfn)
        mlock_vma_page(common.mm, pfn, vm_flags)
    set_entry(mm.tables, ptep, entry)


# -- the pages around --------------------------------------------------------------------------------------------------


@kernel("mm/memory.c", "do_fault_around", formerly=("should_fault_around",))
def do_fault_around(mm: MmStruct, vma: int, address: int, ptep: int, flags: int) -> int:
    """Map the pages around an address: those of the 64 KiB that it lies in, within its VMA and its page table."""
    vmas, layout = mm.common.vmas, mm.tables.layout
    table = layout.levels[PTE].entries * PAGE_SIZE
    size = FAULT_AROUND_PAGES * PAGE_SIZE
    start = max(address & -size, vmas.vm_start[vma])
    first = linear_page_index(vmas, vma, address) - (address - start >> PAGE_SHIFT)
    last = min(
        first + ((start & -table) + table - start >> PAGE_SHIFT) - 1,
        vmas.vm_pgoff[vma] + vma_pages(vmas, vma) - 1,
        first + FAULT_AROUND_PAGES - 1,
    )
    return filemap_map_pages(mm, vma, address, ptep, first, last, flags)


@kernel("mm/filemap.c", "filemap_map_pages", left_out="large folios", lock="the page table's lock")
def filemap_map_pages(mm: MmStruct, vma: int, address: int, ptep: int, first: int, last: int, flags: int) -> int:
    """Map the pages `first` … `last` of a file that are in memory, up to date and not mapped here yet.

    VM_FAULT_NOPAGE if the one at `address`, whose entry stands at `ptep`, is among them.
    """
    common = mm.common
    page_alloc, ino = common.mm, common.vmas.vm_file[vma]
    files, size = page_alloc.files, mm.tables.layout.entry_size
    wanted = linear_page_index(common.vmas, vma, address)
    result = 0
    for index in range(first, min(last, files.nr_pages[ino] - 1) + 1):
        pfn = next_uptodate_page(page_alloc, vma_mapping(common, vma), index)
        if pfn is None:
            continue
        files.mmap_miss[ino] = max(0, files.mmap_miss[ino] - 1)
        entryp = ptep + (index - wanted) * size
        if get_entry(mm.tables, entryp):
            continue
        page_ref_inc(page_alloc.page, pfn)
        do_set_pte(mm, vma, pfn, address + (index - wanted << PAGE_SHIFT), entryp, flags)
        if index == wanted:
            result = VM_FAULT_NOPAGE
    return result


# -- shared pages are written ------------------------------------------------------------------------------------------


@kernel("mm/filemap.c", "filemap_page_mkwrite", formerly=("do_page_mkwrite",), left_out="frozen file systems")
def filemap_page_mkwrite(mm: MmStruct, vma: int, pfn: int) -> int:
    """A program is about to write into a file's page: it is dirty from now on. VM_FAULT_LOCKED, with the page locked,
    VM_FAULT_NOPAGE if it has left the file meanwhile, VM_FAULT_OOM if there is no page to read the inode into."""
    page_alloc = mm.common.mm
    try:
        touch_inode(page_alloc, mm.common.vmas.vm_file[vma], write=True)
    except OutOfMemory:
        return VM_FAULT_OOM
    folio_lock(page_alloc, pfn)
    if page_alloc.page.mapping[pfn] != vma_mapping(mm.common, vma):
        folio_unlock(page_alloc, pfn)
        return VM_FAULT_NOPAGE
    folio_mark_dirty(page_alloc, pfn)
    return VM_FAULT_LOCKED


@kernel("mm/memory.c", "fault_dirty_shared_page")
def fault_dirty_shared_page(mm: MmStruct, pfn: int, flags: int) -> int:
    """A shared page was made writable: it is dirty, and whoever makes too many dirty waits."""
    page_alloc = mm.common.mm
    folio_mark_dirty(page_alloc, pfn)
    folio_unlock(page_alloc, pfn)
    balance_dirty_pages(page_alloc)
    return VM_FAULT_COMPLETED if maybe_unlock_mmap_for_io(flags) else 0


@kernel("mm/memory.c", "wp_page_shared", lock="the page table's lock")
def wp_page_shared(mm: MmStruct, vma: int, address: int, ptep: int, pfn: int, flags: int) -> int:
    """A write to a file's page that is mapped read-only in a shared VMA."""
    page_alloc = mm.common.mm
    entry = get_entry(mm.tables, ptep)
    page_ref_inc(page_alloc.page, pfn)
    result = filemap_page_mkwrite(mm, vma, pfn)
    if not result & (VM_FAULT_ERROR | VM_FAULT_NOPAGE):
        result = finish_mkwrite_fault(mm, vma, address, ptep, entry)
        if result & VM_FAULT_NOPAGE:
            folio_unlock(page_alloc, pfn)
        else:
            result = VM_FAULT_WRITE | fault_dirty_shared_page(mm, pfn, flags)
    put_page(page_alloc, pfn)
    return result


@kernel("mm/memory.c", "finish_mkwrite_fault", lock="the page table's lock")
def finish_mkwrite_fault(mm: MmStruct, vma: int, address: int, ptep: int, entry: int) -> int:
    """Give the entry the right to write, unless it has changed while we waited."""
    if get_entry(mm.tables, ptep) != entry:
        return VM_FAULT_NOPAGE
    wp_page_reuse(mm, vma, address, ptep, entry)
    return 0
