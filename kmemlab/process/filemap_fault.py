"""filemap_fault: a page of a file for a program that has touched it, from memory or from the disk.

in memory ─────────────────────────▶ lock it ─▶ up to date ─▶ the page, locked
not in memory: a major fault            │
   └▶ read-around: 16 pages before,     └▶ the disk has not brought it yet: let go of mmap_lock, wait,
      16 behind, and not if they are         VM_FAULT_RETRY: the fault begins anew, and finds the page
      always missed (mmap_miss)
"""

from __future__ import annotations

from kmemlab.alloc.readahead import do_page_cache_ra, filemap_alloc_folio, page_cache_async_ra
from kmemlab.mm.address_space import filemap_get_folio, mapping_ops
from kmemlab.mm.files import VM_READAHEAD_PAGES
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_cache import filemap_add_folio
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_has_flag, page_ref_inc
from kmemlab.mm.vm_event import PGMAJFAULT
from kmemlab.mm.wait import folio_lock, folio_trylock, folio_unlock, folio_wait_locked
from kmemlab.process.fault_page import (
    FAULT_FLAG_ALLOW_RETRY,
    FAULT_FLAG_TRIED,
    VM_FAULT_LOCKED,
    VM_FAULT_MAJOR,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VM_FAULT_SIGBUS,
)
from kmemlab.process.mm_struct import MmStruct
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE
from kmemlab.types.pageflags import PG_locked, PG_readahead, PG_uptodate, PG_writeback

MMAP_LOTSAMISS = 100


@kernel("mm/filemap.c", "filemap_fault", left_out="locks against truncation; I/O errors; huge pages")
def filemap_fault(mm: MmStruct, vma: int, pgoff: int, flags: int) -> tuple[int, int]:
    """(VM_FAULT_…, page): page `pgoff` of the file that a VMA maps, locked, up to date, with a reference.

    VM_FAULT_RETRY: the disk was waited for, and the fault must begin anew. VM_FAULT_SIGBUS: the file has no such page.
    """
    page_alloc, ino = mm.common.mm, mm.common.vmas.vm_file[vma]
    if pgoff >= page_alloc.files.nr_pages[ino]:
        return VM_FAULT_SIGBUS, 0
    result, dropped = start_readahead(page_alloc, ino, pgoff, flags)
    while True:
        pfn = find_or_create(page_alloc, page_alloc.files.mapping[ino], pgoff)
        if pfn is None:
            return result | (VM_FAULT_RETRY if dropped else VM_FAULT_OOM), 0
        ready, dropped = lock_uptodate(page_alloc, page_alloc.files.mapping[ino], pfn, flags, dropped)
        if dropped:
            put_page(page_alloc, pfn)
            return result | VM_FAULT_RETRY, 0
        if ready:
            return result | VM_FAULT_LOCKED, pfn
        put_page(page_alloc, pfn)


@kernel("mm/filemap.c", "maybe_unlock_mmap_for_io", traced=False)
def maybe_unlock_mmap_for_io(flags: int) -> bool:
    """Whether mmap_lock may be let go of while the disk works; then the fault must begin anew. Only once."""
    return bool(flags & FAULT_FLAG_ALLOW_RETRY) and not flags & FAULT_FLAG_TRIED


@invented("the first part of filemap_fault")
def start_readahead(mm: Mm, ino: int, pgoff: int, flags: int) -> tuple[int, bool]:
    """Ask the disk for what may be wanted; (VM_FAULT_MAJOR if the page is not in memory, was mmap_lock let go of)."""
    pfn = filemap_get_folio(mm.mappings, mm.files.mapping[ino], pgoff)
    if pfn is None:
        mm.vm_event[PGMAJFAULT] += 1
        return VM_FAULT_MAJOR, do_sync_mmap_readahead(mm, ino, pgoff, flags)
    if flags & FAULT_FLAG_TRIED:
        return 0, False
    page_ref_inc(mm.page, pfn)
    dropped = do_async_mmap_readahead(mm, ino, pfn, flags)
    put_page(mm, pfn)
    return 0, dropped


@kernel("mm/filemap.c", "do_sync_mmap_readahead", left_out="huge pages, madvise")
def do_sync_mmap_readahead(mm: Mm, ino: int, pgoff: int, flags: int) -> bool:
    """Ask for the pages around one that is missed, unless most of what is touched in this file is missed anyway."""
    files = mm.files
    if files.mmap_miss[ino] < MMAP_LOTSAMISS * 10:
        files.mmap_miss[ino] += 1
    if files.mmap_miss[ino] > MMAP_LOTSAMISS:
        return False
    start = max(0, pgoff - VM_READAHEAD_PAGES // 2)
    files.ra_start[ino], files.ra_size[ino], files.ra_async_size[ino] = (
        start, VM_READAHEAD_PAGES, VM_READAHEAD_PAGES // 4,
    )  # fmt: skip
    do_page_cache_ra(mm, ino, start, VM_READAHEAD_PAGES, VM_READAHEAD_PAGES // 4)
    return maybe_unlock_mmap_for_io(flags)


@kernel("mm/filemap.c", "do_async_mmap_readahead", left_out="madvise")
def do_async_mmap_readahead(mm: Mm, ino: int, pfn: int, flags: int) -> bool:
    """A page that is in memory is touched: a hit. If it is the marked one, fetch on."""
    mm.files.mmap_miss[ino] = max(0, mm.files.mmap_miss[ino] - 1)
    if not page_has_flag(mm.page, pfn, PG_readahead):
        return False
    # While a page is written this bit means something else.
    if not page_has_flag(mm.page, pfn, PG_writeback):
        page_cache_async_ra(mm, ino, pfn, VM_READAHEAD_PAGES)
    return maybe_unlock_mmap_for_io(flags)


@kernel("mm/filemap.c", "__filemap_get_folio", formerly=("pagecache_get_page", "find_get_page"), left_out="FGP flags")
def find_or_create(mm: Mm, mapping: int, pgoff: int) -> int | None:
    """Page `pgoff` of a mapping with a reference, a new one if there is none (FGP_CREAT | FGP_FOR_MMAP); None: no
    memory."""
    pfn = filemap_get_folio(mm.mappings, mapping, pgoff)
    if pfn is not None:
        page_ref_inc(mm.page, pfn)
        return pfn
    pfn = filemap_alloc_folio(mm, GFP_HIGHUSER_MOVABLE)
    if pfn is not None:
        filemap_add_folio(mm, mapping, pfn, pgoff, GFP_HIGHUSER_MOVABLE)
        folio_unlock(mm, pfn)
    return pfn


@kernel("mm/filemap.c", "lock_folio_maybe_drop_mmap", formerly=("lock_page_maybe_drop_mmap",))
def lock_uptodate(mm: Mm, mapping: int, pfn: int, flags: int, dropped: bool) -> tuple[bool, bool]:
    """(is the page locked and as the file has it, was mmap_lock let go of): then it is unlocked again.

    Neither: it has left the file, or was just read; look again.
    """
    if not folio_trylock(mm, pfn):
        dropped = dropped or maybe_unlock_mmap_for_io(flags)
        folio_lock(mm, pfn)
    if mm.page.mapping[pfn] != mapping:
        folio_unlock(mm, pfn)
        return False, dropped
    if not page_has_flag(mm.page, pfn, PG_uptodate):
        filemap_read_folio(mm, mapping, pfn)
        return False, dropped or maybe_unlock_mmap_for_io(flags)
    if dropped:
        folio_unlock(mm, pfn)
    return not dropped, dropped


@kernel("mm/filemap.c", "filemap_read_folio", formerly=("filemap_read_page",), left_out="errors")
def filemap_read_folio(mm: Mm, mapping: int, pfn: int) -> None:
    """Have a locked page read, and wait until it is unlocked."""
    read_folio = mapping_ops(mm.mappings, mapping).read_folio
    assert read_folio is not None, f"mapping {mapping} can't be read"
    read_folio(mm, pfn)
    folio_wait_locked(mm, pfn)


@kernel("mm/filemap.c", "next_uptodate_page", formerly=("first_map_page", "next_map_page"), traced=False)
def next_uptodate_page(mm: Mm, mapping: int, index: int) -> int | None:
    """Page `index` of a mapping if it can be mapped without waiting: in memory, up to date, unlocked, not marked."""
    pfn = filemap_get_folio(mm.mappings, mapping, index)
    if pfn is None:
        return None
    flags = mm.page.flags[pfn]
    ready = flags >> PG_uptodate & 1 and not flags & (1 << PG_locked | 1 << PG_readahead)
    return pfn if ready else None
