"""Migration: what stands in a page moves to another page frame, with its name and all of its users.

isolated page  src ── lock ─▶ entries that map it wait ─▶ name ─▶ contents, flags ─▶ entries map dst ─▶ src is free
references     1 of who isolated it, 1 of its file                  anybody else's: it can't move, and is put back
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kmemlab.hardware.disk import copy_page
from kmemlab.mm.address_space import mapping_ops
from kmemlab.mm.compact_control import MIGRATE_ASYNC, MIGRATE_SYNC
from kmemlab.mm.context import PF_MEMALLOC
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_add_lru, folio_putback_lru, lru_add_drain
from kmemlab.mm.lru_list import folio_clear_lru_flags, folio_pgdat
from kmemlab.mm.lruvec import folio_is_file_lru
from kmemlab.mm.migrate_table import remove_migration_ptes, try_to_migrate
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_mapping import folio_mapping
from kmemlab.mm.page_state import page_has_flag, page_ref_inc
from kmemlab.mm.page_writeback import folio_clear_dirty_for_io
from kmemlab.mm.swap_range import swap_address_space
from kmemlab.mm.swap_state import folio_swap_entry, folio_test_swapcache
from kmemlab.mm.swapops import swp_offset
from kmemlab.mm.vm_event import PGMIGRATE_FAIL, PGMIGRATE_SUCCESS
from kmemlab.mm.vmstat import NR_ISOLATED_ANON
from kmemlab.mm.wait import folio_lock, folio_trylock, folio_unlock, folio_wait_writeback, io_schedule
from kmemlab.mm.xarray import xa_mk_page, xa_store
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head, list_add, list_add_tail, list_del, list_for_each
from kmemlab.types.errno import EAGAIN, EBUSY, EINVAL, ENOMEM
from kmemlab.types.pageflags import (
    PG_active,
    PG_checked,
    PG_dirty,
    PG_locked,
    PG_mappedtodisk,
    PG_readahead,
    PG_referenced,
    PG_swapbacked,
    PG_unevictable,
    PG_uptodate,
    PG_workingset,
    PG_writeback,
)

MIGRATEPAGE_SUCCESS, MIGRATEPAGE_UNMAP = 0, 1
NR_MAX_MIGRATE_PAGES_RETRY = 10
FORCE_FROM_PASS = 3  # from then on it waits for locks, too

_MOVED_FLAGS = sum(
    1 << flag
    for flag in (
        PG_active, PG_checked, PG_dirty, PG_mappedtodisk, PG_readahead, PG_referenced, PG_unevictable,
        PG_uptodate, PG_workingset,
    )
)  # fmt: skip
_TAKEN_AWAY = 1 << PG_active | 1 << PG_unevictable | 1 << PG_dirty | 1 << PG_checked

NewPage = Callable[[int], int | None]
"""(page that is to move) → a free page that is held, or None."""


@kernel("mm/migrate.c", "struct migrate_pages_stats", left_out="large folios", traced=False)
@dataclass
class MigratePagesStats:
    """What came of the pages of one list."""

    nr_succeeded: int = 0
    nr_failed_pages: int = 0


@invented("a line of isolation, of putting back and of success", traced=False)
def count_isolated(mm: Mm, pfn: int, nr_pages: int) -> None:
    """Count a page as in somebody's hands, or with -1 as in nobody's any more."""
    folio_pgdat(mm, pfn).vm_stat[NR_ISOLATED_ANON + folio_is_file_lru(mm.page, pfn)] += nr_pages


@kernel("mm/migrate.c", "putback_movable_pages", formerly=("putback_lru_pages",), left_out="pages of drivers, hugetlb")
def putback_movable_pages(mm: Mm, head: int) -> None:
    """Give the isolated pages of a list back to the LRU lists, in this order."""
    for pfn in list(list_for_each(mm.page.lru, head)):
        list_del(mm.page.lru, pfn)
        count_isolated(mm, pfn, -1)
        folio_putback_lru(mm, pfn)


# -- one page: its name, its contents ----------------------------------------------------------------------------------


@invented("folio_mapping and folio_index, which tell of the swap cache, too", traced=False)
def place_in_cache(mm: Mm, pfn: int) -> tuple[int, int] | None:
    """(mapping, index) of a page in the page cache, or in the swap cache; None for a page that only programs have."""
    if folio_test_swapcache(mm, pfn):
        entry = folio_swap_entry(mm, pfn)
        return swap_address_space(mm.swap, entry), swp_offset(entry)
    mapping = folio_mapping(mm.page, pfn)
    return (mapping, mm.page.index[pfn]) if mapping else None


@kernel(
    "mm/migrate.c",
    "folio_migrate_mapping",
    formerly=("migrate_page_move_mapping",),
    left_out="counting for another zone: both pages are of one",
    lock="mapping->i_pages",
)
def folio_migrate_mapping(mm: Mm, dst: int, src: int) -> int:
    """Let `dst` be what `src` is in its file, or among its programs; -EAGAIN if somebody else refers to `src`.

    The cache's reference goes over to `dst`.
    """
    page = mm.page
    place = place_in_cache(mm, src)
    if page.refcount[src] != (2 if place else 1):
        return -EAGAIN
    page.mapping[dst], page.index[dst] = page.mapping[src], page.index[src]
    page.flags[dst] |= page.flags[src] & 1 << PG_swapbacked
    if place:
        page_ref_inc(page, dst)
        page.private[dst], page.private[src] = page.private[src], 0
        xa_store(mm.mappings.i_pages, *place, xa_mk_page(dst))
        page.refcount[src] -= 1
    return MIGRATEPAGE_SUCCESS


@kernel("mm/migrate.c", "folio_migrate_flags", formerly=("migrate_page_states",), left_out="KSM, memcg, NUMA balancing")
def folio_migrate_flags(mm: Mm, dst: int, src: int) -> None:
    """Let the new page be as the old one is: how lately it was used, whether it is dirty, on which list it belongs."""
    flags = mm.page.flags
    flags[dst] |= flags[src] & _MOVED_FLAGS
    flags[src] &= ~_TAKEN_AWAY


@kernel("mm/migrate.c", "migrate_folio", formerly=("migrate_page",), left_out="buffer heads")
def migrate_folio(mm: Mm, dst: int, src: int, mode: int) -> int:
    """Move name, contents and flags of a locked page; -EAGAIN if somebody refers to it. Most files do it so."""
    assert not page_has_flag(mm.page, src, PG_writeback), f"pfn {src} is being written"
    rc = folio_migrate_mapping(mm, dst, src)
    if rc == MIGRATEPAGE_SUCCESS:
        copy_page(mm.boot.ram, src, mm.boot.ram, dst)
        folio_migrate_flags(mm, dst, src)
    return rc


@kernel("mm/migrate.c", "writeout")
def writeout(mm: Mm, src: int) -> int:
    """Have a dirty page written, so that it can be moved later; -EAGAIN."""
    writepage = mapping_ops(mm.mappings, folio_mapping(mm.page, src)).writepage
    if writepage is None:
        return -EINVAL
    if folio_clear_dirty_for_io(mm, src):
        remove_migration_ptes(mm, src, src)
        writepage(mm, src)
        folio_lock(mm, src)
    return -EAGAIN


@kernel("mm/migrate.c", "fallback_migrate_folio", formerly=("fallback_migrate_page",))
def fallback_migrate_folio(mm: Mm, dst: int, src: int, mode: int) -> int:
    """Move a page of a kind of file that has no way of its own: only clean ones, dirty ones are written before."""
    if page_has_flag(mm.page, src, PG_dirty):
        return writeout(mm, src) if mode == MIGRATE_SYNC else -EBUSY
    return migrate_folio(mm, dst, src, mode)


@kernel("mm/migrate.c", "move_to_new_folio", formerly=("move_to_new_page",), left_out="pages of drivers", traced=False)
def move_to_new_folio(mm: Mm, dst: int, src: int, mode: int) -> int:
    """Move a locked page that no page table maps, as its kind of file does it. (Swap areas do it as most files.)"""
    mapping = folio_mapping(mm.page, src)
    move = migrate_folio if not mapping else mapping_ops(mm.mappings, mapping).migrate_folio or fallback_migrate_folio
    return move(mm, dst, src, mode)


# -- one page: its users -----------------------------------------------------------------------------------------------


@invented("folio_lock, which in C waits for other tasks as well as for the disk", traced=False)
def lock_page_or_give_up(mm: Mm, src: int) -> bool:
    """Lock a page and wait for the disk for that; whether it is locked. A task that waits itself will not unlock it."""
    while not folio_trylock(mm, src):
        if not mm.disk.pending:
            return False
        io_schedule(mm)
    return True


@kernel("mm/migrate.c", "__migrate_folio_unmap", left_out="keeping the anon_vma; pages without an owner", traced=False)
def migrate_folio_unmap_inner(mm: Mm, src: int, dst: int, force: bool, mode: int) -> int:
    """Lock both pages and let nobody map `src`: MIGRATEPAGE_UNMAP. Else nothing has changed: -EAGAIN or -EBUSY."""
    page = mm.page
    may_wait = force and mode != MIGRATE_ASYNC and not mm.current.flags & PF_MEMALLOC
    if not folio_trylock(mm, src) and not (may_wait and lock_page_or_give_up(mm, src)):
        return -EAGAIN
    if page_has_flag(page, src, PG_writeback):
        if mode != MIGRATE_SYNC or not force:
            folio_unlock(mm, src)
            return -EAGAIN if mode == MIGRATE_SYNC else -EBUSY
        folio_wait_writeback(mm, src)
    locked = folio_trylock(mm, dst)
    assert locked, f"pfn {dst} is new, and locked already"
    was_mapped = page.mapcount[src] > 0
    if not was_mapped or try_to_migrate(mm, src):
        page.private[dst] = int(was_mapped)  # __migrate_folio_record
        return MIGRATEPAGE_UNMAP
    remove_migration_ptes(mm, src, src)
    folio_unlock(mm, dst)
    folio_unlock(mm, src)
    return -EAGAIN


@kernel("mm/migrate.c", "migrate_folio_unmap", formerly=("unmap_and_move",), left_out="large folios")
def migrate_folio_unmap(
    mm: Mm, src: int, ret: int, get_new_page: NewPage, put_new_page: Callable[[int], None], force: bool, mode: int
) -> tuple[int, int]:
    """Get a page to move to, and let nobody map `src`; MIGRATEPAGE_UNMAP and that page, or why not.

    A page that can't be moved at all goes to the list `ret`.
    """
    lru = mm.page.lru
    if mm.page.refcount[src] == 1:  # its users have gone meanwhile
        folio_clear_lru_flags(mm.page, src)
        list_del(lru, src)
        migrate_folio_done(mm, src)
        return MIGRATEPAGE_SUCCESS, 0
    dst = get_new_page(src)
    if dst is None:
        return -ENOMEM, 0
    rc = migrate_folio_unmap_inner(mm, src, dst, force, mode)
    if rc == MIGRATEPAGE_UNMAP:
        return rc, dst
    if rc != -EAGAIN:
        list_del(lru, src)
        list_add_tail(lru, src, ret)
    put_new_page(dst)
    return rc, 0


@kernel("mm/migrate.c", "migrate_folio_move", formerly=("__unmap_and_move",))
def migrate_folio_move(mm: Mm, src: int, dst: int, ret: int, put_new_page: Callable[[int], None], mode: int) -> int:
    """Move a page that nobody maps to `dst`, give it its users back, and free the old one."""
    page_was_mapped, mm.page.private[dst] = mm.page.private[dst], 0
    rc = move_to_new_folio(mm, dst, src, mode)
    moved = rc == MIGRATEPAGE_SUCCESS
    if moved:
        folio_add_lru(mm, dst)
        if page_was_mapped:
            lru_add_drain(mm)
    if page_was_mapped:
        remove_migration_ptes(mm, src, dst if moved else src)
    folio_unlock(mm, dst)
    folio_unlock(mm, src)
    if rc != -EAGAIN:
        list_del(mm.page.lru, src)
    if moved:
        put_page(mm, dst)  # its users and the LRU lists hold it now
        migrate_folio_done(mm, src)
        return rc
    if rc != -EAGAIN:
        list_add_tail(mm.page.lru, src, ret)
    put_new_page(dst)
    return rc


@kernel("mm/migrate.c", "migrate_folio_done", traced=False)
def migrate_folio_done(mm: Mm, src: int) -> None:
    """Let go of a page that is empty now: it is free, unless a batch on its way to the LRU lists still holds it."""
    count_isolated(mm, src, -1)
    mm.page.mapping[src] = mm.page.index[src] = 0
    mm.page.flags[src] &= ~(1 << PG_swapbacked | 1 << PG_locked)
    put_page(mm, src)


# -- a list of pages ---------------------------------------------------------------------------------------------------


@kernel("mm/migrate.c", "migrate_pages_batch", left_out="large folios")
def migrate_pages_batch(
    mm: Mm,
    head: int,
    ret: int,
    get_new_page: NewPage,
    put_new_page: Callable[[int], None],
    mode: int,
    stats: MigratePagesStats,
) -> int:
    """Move the pages of a list, those that are busy up to ten times; how many could not be moved, or -ENOMEM.

    Busy pages stay on the list; pages that can't be moved at all go to the list `ret`.
    """
    nr_failed = 0
    for nth in range(NR_MAX_MIGRATE_PAGES_RETRY):
        retry = 0
        for src in list(list_for_each(mm.page.lru, head)):
            rc, dst = migrate_folio_unmap(mm, src, ret, get_new_page, put_new_page, nth >= FORCE_FROM_PASS, mode)
            if rc == MIGRATEPAGE_UNMAP:
                rc = migrate_folio_move(mm, src, dst, ret, put_new_page, mode)
            if rc == -ENOMEM:
                stats.nr_failed_pages += 1 + retry + nr_failed
                return rc
            retry += rc == -EAGAIN
            stats.nr_succeeded += rc == MIGRATEPAGE_SUCCESS
            nr_failed += rc not in (-EAGAIN, MIGRATEPAGE_SUCCESS)
        if not retry:
            break
    stats.nr_failed_pages += nr_failed + retry
    return nr_failed + retry


@kernel("mm/migrate.c", "migrate_pages", left_out="hugetlb; more than 512 pages are one batch")
def migrate_pages(
    mm: Mm, head: int, ret: int, get_new_page: NewPage, put_new_page: Callable[[int], None], mode: int
) -> int:
    """Move the isolated pages of the list `head`; 0, or how many stay on it, or -ENOMEM if no page was free.

    `ret` is the head of a list that it uses meanwhile. Who gets another answer than 0 puts the pages back.
    """
    lru = mm.page.lru
    stats = MigratePagesStats()
    init_list_head(lru, ret)
    rc = migrate_pages_batch(mm, head, ret, get_new_page, put_new_page, mode, stats)
    for pfn in reversed(list(list_for_each(lru, ret))):
        list_del(lru, pfn)
        list_add(lru, pfn, head)
    mm.vm_event[PGMIGRATE_SUCCESS] += stats.nr_succeeded
    mm.vm_event[PGMIGRATE_FAIL] += stats.nr_failed_pages
    return 0 if lru.next[head] == head else rc
