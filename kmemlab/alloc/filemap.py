"""The page cache: files are read and written through pages of memory.

filemap_read ──▶ in memory? ── no ─▶ page_cache_sync_ra: this page, and more if the reader goes straight on
                    └── yes, and marked by readahead ─▶ page_cache_async_ra: the next ones, before they are wanted
"""

from __future__ import annotations

from kmemlab.alloc.migrate import migrate_folio
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.alloc.readahead import filemap_alloc_folio, page_cache_async_ra, page_cache_sync_ra
from kmemlab.alloc.writeback import balance_dirty_pages
from kmemlab.mm.address_space import (
    ADDRESS_SPACE_OPERATIONS,
    AddressSpaceOperations,
    address_space_init,
    filemap_get_folio,
    indices_of,
    is_swap_space,
    mapping_ops,
)
from kmemlab.mm.files import (
    FIRST_DATA_BLOCK,
    INODE_SIZE,
    INODES_PER_BLOCK,
    MAX_FILES,
    NAME_LEN,
    Files,
)
from kmemlab.mm.folio_batch import PAGEVEC_SIZE
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import deactivate_file_folio, folio_mark_accessed, lru_add_drain, lru_add_drain_all
from kmemlab.mm.page_cache import filemap_add_folio, remove_mapping_inner
from kmemlab.mm.page_free import put_page, release_pages
from kmemlab.mm.page_state import page_has_flag, page_ref_inc
from kmemlab.mm.page_writeback import folio_mark_dirty, folio_start_writeback
from kmemlab.mm.swap_info import used_areas
from kmemlab.mm.vm_event import DROP_PAGECACHE
from kmemlab.mm.wait import (
    cond_resched,
    folio_lock,
    folio_trylock,
    folio_unlock,
    folio_wait_locked,
    submit_bio,
)
from kmemlab.mm.xarray import xa_store
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import __GFP_WRITE, GFP_HIGHUSER_MOVABLE, GFP_NOFS
from kmemlab.types.pageflags import PG_readahead, PG_uptodate, PG_writeback
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

# -- the file system: the least there can be ---------------------------------------------------------------------------


@invented("file systems look up which block holds a page")
def block_of(mm: Mm, pfn: int) -> int:
    """The block of the disk that a page of a file, or of the disk itself, stands for."""
    mapping, index = mm.page.mapping[pfn], mm.page.index[pfn]
    return index if mapping == mm.files.bdev_mapping else mm.files.first_block[mm.mappings.host[mapping]] + index


@kernel("fs/mpage.c", "mpage_read_folio", formerly=("mpage_readpage",))
def mpage_read_folio(mm: Mm, pfn: int) -> None:
    """Ask the disk for a locked page; it will be unlocked when it is up to date."""
    submit_bio(mm, pfn, block_of(mm, pfn), write=False)


@kernel("fs/buffer.c", "block_write_full_page", formerly=("mpage_writepage",))
def block_write_full_page(mm: Mm, pfn: int) -> None:
    """Ask the disk to write a locked page, and unlock it."""
    folio_start_writeback(mm, pfn)
    folio_unlock(mm, pfn)
    submit_bio(mm, pfn, block_of(mm, pfn), write=True)


ADDRESS_SPACE_OPERATIONS["file"] = ADDRESS_SPACE_OPERATIONS["block device"] = AddressSpaceOperations(
    read_folio=mpage_read_folio, writepage=block_write_full_page, migrate_folio=migrate_folio
)


@invented("open(O_CREAT), fallocate and a first write, long ago")
def create_file(mm: Mm, name: str, nr_pages: int) -> int:
    """Put a file on the disk that is not in memory; its page n is full of the byte n % 251 + 1. Returns its number.

    Raises `BadRequest` for a size that does not fit on the disk and for a name that is too long or taken.
    """
    files = mm.files
    raw = name.encode("utf-8", "replace")
    ino, first = files.nr_files + 1, max(files.next_block, FIRST_DATA_BLOCK)
    room = min([mm.disk.nr_blocks, *(si.first_block for si in used_areas(mm.swap))]) - first
    if not 0 < nr_pages <= room or ino > MAX_FILES:
        raise BadRequest(
            f"no room for a file of {nr_pages} pages",
            where="create_file",
            remedy=f"the disk has room for {room} more pages and {MAX_FILES + 1 - ino} more files",
        )
    if not 0 < len(raw) < NAME_LEN or is_file(files, raw):
        raise BadRequest(f"{name!r} can't be used", where="create_file", remedy="choose another name of 1 to 31 bytes")
    files.nr_files, files.next_block = ino, first + nr_pages
    files.name[ino * NAME_LEN : ino * NAME_LEN + len(raw)] = memoryview(raw)
    files.first_block[ino], files.nr_pages[ino] = first, nr_pages
    files.mapping[ino] = address_space_init(mm.mappings, "file", ino)
    for index in range(min(nr_pages, 251)):
        mm.disk.contents.filled[first + index : first + nr_pages : 251] = memoryview(
            bytes((index + 1,)) * len(range(index, nr_pages, 251))
        )
    mm.disk.contents.has_filled = 1
    return ino


@invented("file systems look names up in folders", traced=False)
def is_file(files: Files, raw: bytes) -> bool:
    """Whether a name is taken."""
    wanted = raw.ljust(NAME_LEN, b"\0")
    return any(
        bytes(files.name[ino * NAME_LEN : (ino + 1) * NAME_LEN]) == wanted for ino in range(1, files.nr_files + 1)
    )


# -- pages of a mapping ------------------------------------------------------------------------------------------------


@kernel("mm/filemap.c", "read_mapping_folio", formerly=("read_cache_page", "do_read_cache_folio"))
def read_mapping_folio(mm: Mm, mapping: int, index: int, gfp: int = GFP_HIGHUSER_MOVABLE) -> int:
    """Page `index` of a mapping, in memory, up to date and with a reference for the caller. Raises `OutOfMemory`."""
    pfn = filemap_get_folio(mm.mappings, mapping, index)
    if pfn is None:
        pfn = filemap_alloc_folio(mm, gfp)
        if pfn is None:
            raise out_of_memory_for(mapping, index)
        filemap_add_folio(mm, mapping, pfn, index, gfp)
        read_folio = mapping_ops(mm.mappings, mapping).read_folio
        assert read_folio is not None, f"mapping {mapping} can't be read"
        read_folio(mm, pfn)
    else:
        page_ref_inc(mm.page, pfn)
    folio_wait_locked(mm, pfn)
    return pfn


@invented("C returns -ENOMEM", traced=False)
def out_of_memory_for(mapping: int, index: int) -> OutOfMemory:
    """The error where no page could be had for the page cache."""
    return OutOfMemory(
        f"no page for page {index} of mapping {mapping}", where="page cache", remedy="free some memory, then go on"
    )


@kernel("fs/buffer.c", "__bread_gfp", formerly=("bread", "__bread"))
def bread(mm: Mm, block: int) -> int:
    """The page with a block of the disk itself, with a reference for the caller: what /proc/meminfo calls Buffers."""
    if not mm.files.bdev_mapping:
        mm.files.bdev_mapping = address_space_init(mm.mappings, "block device")
    pfn = read_mapping_folio(mm, mm.files.bdev_mapping, block, GFP_NOFS)
    folio_mark_accessed(mm, pfn)
    return pfn


@invented("ext4_get_inode_loc and others: to use a file its inode must be read")
def touch_inode(mm: Mm, ino: int, write: bool) -> None:
    """Read the inode of a file; if the file is written, the inode gets the time and must be written, too."""
    pfn = bread(mm, ino // INODES_PER_BLOCK)
    if write:
        address = (pfn << PAGE_SHIFT) + ino % INODES_PER_BLOCK * INODE_SIZE
        mm.boot.ram.write(address, mm.current.jiffies)
        folio_mark_dirty(mm, pfn)
    put_page(mm, pfn)


# -- read and write ----------------------------------------------------------------------------------------------------


@kernel("mm/filemap.c", "filemap_get_pages", left_out="several pages at a time")
def filemap_get_page(mm: Mm, ino: int, index: int, last_index: int) -> int:
    """Page `index` of a file that is read up to before `last_index`, with a reference. Raises `OutOfMemory`."""
    mapping = mm.files.mapping[ino]
    pfn = filemap_get_folio(mm.mappings, mapping, index)
    if pfn is None:
        page_cache_sync_ra(mm, ino, index, last_index - index)
        pfn = filemap_get_folio(mm.mappings, mapping, index)
    if pfn is None:
        return read_mapping_folio(mm, mapping, index)
    page_ref_inc(mm.page, pfn)
    if page_has_flag(mm.page, pfn, PG_readahead) and not page_has_flag(mm.page, pfn, PG_writeback):
        page_cache_async_ra(mm, ino, pfn, last_index - index)
    folio_wait_locked(mm, pfn)
    return pfn


@kernel("mm/filemap.c", "filemap_read", formerly=("generic_file_buffered_read", "do_generic_file_read"))
def filemap_read(mm: Mm, ino: int, pos: int, count: int) -> bytes:
    """Up to `count` bytes of a file from byte `pos` on. Reading the same page twice in a row counts as one use.

    Raises `OutOfMemory`.
    """
    touch_inode(mm, ino, write=False)
    end = min(pos + count, mm.files.nr_pages[ino] * PAGE_SIZE)
    last_index = -(-end // PAGE_SIZE)
    found = bytearray()
    while pos < end:
        cond_resched(mm)
        index = pos >> PAGE_SHIFT
        pfn = filemap_get_page(mm, ino, index, last_index)
        size = min(end, index + 1 << PAGE_SHIFT) - pos
        found += mm.boot.ram.read_bytes((pfn << PAGE_SHIFT) + pos % PAGE_SIZE, size)
        if mm.files.prev_index[ino] != index + 1:
            folio_mark_accessed(mm, pfn)
        mm.files.prev_index[ino] = index + 1
        put_page(mm, pfn)
        pos += size
    return bytes(found)


@kernel("mm/filemap.c", "generic_perform_write", left_out="copying faults")
def generic_perform_write(mm: Mm, ino: int, pos: int, data: bytes) -> None:
    """Write bytes into a file's pages; the disk gets them later. A page that is overwritten whole is not read before.

    Raises `BadRequest` beyond the end of the file, `OutOfMemory`.
    """
    if not 0 <= pos <= pos + len(data) <= mm.files.nr_pages[ino] * PAGE_SIZE:
        raise BadRequest(
            f"{len(data)} bytes from {pos} on are not within the file", where="write", remedy="make a larger file"
        )
    touch_inode(mm, ino, write=True)
    start, end = pos, pos + len(data)
    while pos < end:
        index, within = pos >> PAGE_SHIFT, pos % PAGE_SIZE
        piece = data[pos - start : pos - start + PAGE_SIZE - within]
        pfn = write_begin(mm, mm.files.mapping[ino], index, whole=len(piece) == PAGE_SIZE)
        store_bytes(mm, pfn, within, piece)
        mm.page.flags[pfn] |= 1 << PG_uptodate
        folio_unlock(mm, pfn)
        folio_mark_dirty(mm, pfn)
        folio_mark_accessed(mm, pfn)
        put_page(mm, pfn)
        pos += len(piece)
        cond_resched(mm)
        balance_dirty_pages(mm)


@kernel("fs/buffer.c", "block_write_begin")
def write_begin(mm: Mm, mapping: int, index: int, whole: bool) -> int:
    """The page to write into, locked, with a reference; read from the disk before unless all of it is overwritten."""
    pfn = filemap_get_folio(mm.mappings, mapping, index)
    if pfn is None and whole:
        gfp = GFP_HIGHUSER_MOVABLE | __GFP_WRITE
        pfn = alloc_pages_inner(mm, gfp, 0, 0)
        if pfn is None:
            raise out_of_memory_for(mapping, index)
        filemap_add_folio(mm, mapping, pfn, index, gfp)
        return pfn
    pfn = read_mapping_folio(mm, mapping, index, GFP_HIGHUSER_MOVABLE | __GFP_WRITE)
    folio_lock(mm, pfn)
    return pfn


@invented("copy_page_from_iter", traced=False)
def store_bytes(mm: Mm, pfn: int, within: int, piece: bytes) -> None:
    """Put bytes into a page; a page full of one byte takes no memory of this computer."""
    if len(piece) == PAGE_SIZE and piece == piece[:1] * PAGE_SIZE:
        mm.boot.ram.fill_pages(pfn, 1, piece[0])
    else:
        mm.boot.ram.write_bytes((pfn << PAGE_SHIFT) + within, piece)


# -- dropping ----------------------------------------------------------------------------------------------------------


@kernel("mm/truncate.c", "invalidate_mapping_pagevec", formerly=("invalidate_mapping_pages",))
def invalidate_mapping_pages(mm: Mm, mapping: int) -> int:
    """Drop the pages of a mapping that are clean and that nobody uses; returns how many. The others become cold.

    A page that is locked or being written is passed over. Shadows go, too.
    """
    dropped, indices = 0, indices_of(mm.mappings, mapping)
    for start in range(0, len(indices), PAGEVEC_SIZE):
        batch = [pfn for index in indices[start : start + PAGEVEC_SIZE] for pfn in find_lock_entry(mm, mapping, index)]
        for pfn in batch:
            evicted = not mm.page.mapcount[pfn] and remove_mapping_inner(mm, mapping, pfn, reclaimed=False)
            folio_unlock(mm, pfn)
            if evicted:
                mm.page.refcount[pfn] = 1  # the batch's
                dropped += 1
            else:
                deactivate_file_folio(mm, pfn)
        release_pages(mm, batch)
    return dropped


@kernel("mm/filemap.c", "find_lock_entries", left_out="batches: here one entry at a time", traced=False)
def find_lock_entry(mm: Mm, mapping: int, index: int) -> tuple[int, ...]:
    """The page at an index, locked and held, if nobody else has it locked or writes it; a shadow is forgotten here."""
    pfn = filemap_get_folio(mm.mappings, mapping, index)
    if pfn is None:
        xa_store(mm.mappings.i_pages, mapping, index, 0)
        return ()
    if page_has_flag(mm.page, pfn, PG_writeback) or not folio_trylock(mm, pfn):
        return ()
    page_ref_inc(mm.page, pfn)
    return (pfn,)


@kernel("fs/drop_caches.c", "drop_pagecache_sb", formerly=("drop_caches_sysctl_handler",))
def drop_pagecache(mm: Mm) -> int:
    """echo 1 > /proc/sys/vm/drop_caches: drop all clean pages of files; returns how many. Dirty ones stay."""
    lru_add_drain_all(mm)
    files = [at for at in range(1, mm.mappings.nr_mappings + 1) if not is_swap_space(mm.mappings, at)]
    dropped = sum(invalidate_mapping_pages(mm, mapping) for mapping in files)
    mm.vm_event[DROP_PAGECACHE] += 1
    lru_add_drain(mm)
    return dropped
