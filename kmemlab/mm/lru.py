"""mm/swap.c: how pages come to the LRU lists, move within them, and leave. (No swapping here: the name is old.)

folio_add_lru ─▶ inactive ── used twice: folio_mark_accessed ─▶ folio_activate ─▶ active
                    │  ▲                                                           │
     isolated by reclaim └──────── deactivated when inactive pages are few ────────┘
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.mm.folio_batch import (
    ACTIVATE,
    LRU_ADD,
    LRU_DEACTIVATE,
    LRU_DEACTIVATE_FILE,
    LRU_ROTATE,
    NR_FOLIO_BATCHES,
    folio_batch,
    folio_batch_add,
    folio_batch_reinit,
)
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import lruvec_add_folio, lruvec_add_folio_tail, lruvec_del_folio
from kmemlab.mm.page_free import put_page, release_pages
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, page_ref_inc, set_page_flag, take_page_flag
from kmemlab.mm.vm_event import PGACTIVATE, PGDEACTIVATE, PGROTATED, UNEVICTABLE_PGCULLED, UNEVICTABLE_PGRESCUED
from kmemlab.mm.workingset import workingset_activation
from kmemlab.sim.kernel import kernel
from kmemlab.types.pageflags import (
    PG_active,
    PG_dirty,
    PG_locked,
    PG_lru,
    PG_mlocked,
    PG_reclaim,
    PG_referenced,
    PG_unevictable,
    PG_writeback,
)


@kernel("mm/internal.h", "folio_evictable", left_out="mappings that are never to go (AS_UNEVICTABLE)", traced=False)
def folio_evictable(mm: Mm, pfn: int) -> bool:
    """Whether reclaim may take the page at all: nobody has locked it into memory."""
    return not page_has_flag(mm.page, pfn, PG_mlocked)


# -- moves: what happens to each page of a batch -----------------------------------------------------------------------


@kernel("mm/swap.c", "lru_add_fn", formerly=("__pagevec_lru_add_fn",))
def lru_add_fn(mm: Mm, pfn: int) -> None:
    """A page comes to the list that it belongs on; a page that may not go is marked so."""
    was_unevictable = take_page_flag(mm.page, pfn, PG_unevictable)
    if folio_evictable(mm, pfn):
        mm.vm_event[UNEVICTABLE_PGRESCUED] += was_unevictable
    else:
        clear_page_flag(mm.page, pfn, PG_active)
        set_page_flag(mm.page, pfn, PG_unevictable)
        mm.page.lru.prev[pfn] = 1  # mlock_count
        mm.vm_event[UNEVICTABLE_PGCULLED] += not was_unevictable
    lruvec_add_folio(mm, pfn)


@kernel("mm/swap.c", "lru_move_tail_fn", formerly=("pagevec_move_tail_fn",))
def lru_move_tail_fn(mm: Mm, pfn: int) -> None:
    """A page goes to the tail of its inactive list, where reclaim looks first."""
    if not page_has_flag(mm.page, pfn, PG_unevictable):
        lruvec_del_folio(mm, pfn)
        clear_page_flag(mm.page, pfn, PG_active)
        lruvec_add_folio_tail(mm, pfn)
        mm.vm_event[PGROTATED] += 1


@kernel("mm/swap.c", "lru_deactivate_file_fn", formerly=("deactivate_file_page",))
def lru_deactivate_file_fn(mm: Mm, pfn: int) -> None:
    """A page of a file goes to the inactive list: to the tail, or if it must be written first, to the head."""
    page = mm.page
    if page_has_flag(page, pfn, PG_unevictable) or page.mapcount[pfn]:
        return
    lruvec_del_folio(mm, pfn)
    was_active = take_page_flag(page, pfn, PG_active)
    clear_page_flag(page, pfn, PG_referenced)
    if page_has_flag(page, pfn, PG_writeback) or page_has_flag(page, pfn, PG_dirty):
        lruvec_add_folio(mm, pfn)
        set_page_flag(page, pfn, PG_reclaim)
    else:
        lruvec_add_folio_tail(mm, pfn)
        mm.vm_event[PGROTATED] += 1
    mm.vm_event[PGDEACTIVATE] += was_active


@kernel("mm/swap.c", "lru_deactivate_fn")
def lru_deactivate_fn(mm: Mm, pfn: int) -> None:
    """An active page goes to the head of the inactive list."""
    if page_has_flag(mm.page, pfn, PG_active) and not page_has_flag(mm.page, pfn, PG_unevictable):
        lruvec_del_folio(mm, pfn)
        clear_page_flag(mm.page, pfn, PG_active)
        clear_page_flag(mm.page, pfn, PG_referenced)
        lruvec_add_folio(mm, pfn)
        mm.vm_event[PGDEACTIVATE] += 1


@kernel("mm/swap.c", "folio_activate_fn", formerly=("__activate_page",))
def folio_activate_fn(mm: Mm, pfn: int) -> None:
    """An inactive page goes to the head of the active list."""
    if not page_has_flag(mm.page, pfn, PG_active) and not page_has_flag(mm.page, pfn, PG_unevictable):
        lruvec_del_folio(mm, pfn)
        set_page_flag(mm.page, pfn, PG_active)
        lruvec_add_folio(mm, pfn)
        mm.vm_event[PGACTIVATE] += 1


MOVES: tuple[Callable[[Mm, int], None], ...] = (
    lru_add_fn, lru_move_tail_fn, lru_deactivate_file_fn, lru_deactivate_fn, folio_activate_fn,
)  # fmt: skip
"""What is done to the pages of a batch, by its kind."""


# -- batches -----------------------------------------------------------------------------------------------------------


@kernel("mm/swap.c", "folio_batch_move_lru", formerly=("pagevec_lru_move_fn",), lock="lruvec->lru_lock")
def folio_batch_move_lru(mm: Mm, cpu: int, kind: int) -> None:
    """Make the move that a batch waits for, and let go of its pages.

    A page that somebody has isolated meanwhile, so that it is on no list, stays where it is.
    """
    page = mm.page
    folios = folio_batch(mm.cpu_fbatches, cpu, kind)
    folio_batch_reinit(mm.cpu_fbatches, cpu, kind)
    for pfn in folios:
        if kind == LRU_ADD or page_has_flag(page, pfn, PG_lru):
            MOVES[kind](mm, pfn)
            set_page_flag(page, pfn, PG_lru)
    release_pages(mm, folios)


@kernel("mm/swap.c", "folio_batch_add_and_move", left_out="large folios, for which nobody waits")
def folio_batch_add_and_move(mm: Mm, kind: int, pfn: int) -> None:
    """Put a page into this CPU's batch, which refers to it, and make the move if that is full now."""
    page_ref_inc(mm.page, pfn)
    cpu = mm.current.cpu
    if not folio_batch_add(mm.cpu_fbatches, cpu, kind, pfn):
        folio_batch_move_lru(mm, cpu, kind)


@kernel("mm/swap.c", "lru_add_drain_cpu")
def lru_add_drain_cpu(mm: Mm, cpu: int) -> None:
    """Make all moves that the batches of a CPU wait for."""
    nr = mm.cpu_fbatches.nr
    for kind in range(NR_FOLIO_BATCHES):
        if nr[cpu * NR_FOLIO_BATCHES + kind]:
            folio_batch_move_lru(mm, cpu, kind)


@kernel("mm/swap.c", "lru_add_drain")
def lru_add_drain(mm: Mm) -> None:
    """Make all moves that the batches of this CPU wait for."""
    lru_add_drain_cpu(mm, mm.current.cpu)


@kernel("mm/swap.c", "lru_add_drain_all", left_out="asking each CPU by a worker thread")
def lru_add_drain_all(mm: Mm) -> None:
    """Make all moves that the batches of any CPU wait for."""
    for cpu in range(mm.cpu_fbatches.nr_cpus):
        lru_add_drain_cpu(mm, cpu)


# -- what others ask for -----------------------------------------------------------------------------------------------


@kernel("mm/swap.c", "folio_add_lru", formerly=("lru_cache_add",))
def folio_add_lru(mm: Mm, pfn: int) -> None:
    """Let a page be reclaimed from now on: it comes to the list that its flags say, as soon as its batch goes.

    The caller keeps its own reference. Anonymous pages have PG_swapbacked set before.
    """
    assert not page_has_flag(mm.page, pfn, PG_lru), f"pfn {pfn} is on a list already"
    folio_batch_add_and_move(mm, LRU_ADD, pfn)


@kernel("mm/swap.c", "folio_activate", formerly=("activate_page",))
def folio_activate(mm: Mm, pfn: int) -> None:
    """Have a page moved to the active list."""
    flags = mm.page.flags[pfn]
    if flags >> PG_lru & 1 and not flags & (1 << PG_active | 1 << PG_unevictable):
        folio_batch_add_and_move(mm, ACTIVATE, pfn)


@kernel("mm/swap.c", "__lru_cache_activate_folio")
def lru_cache_activate_folio(mm: Mm, pfn: int) -> None:
    """A page that waits in this CPU's batch to be added will be added as an active one; others are left alone."""
    if pfn in folio_batch(mm.cpu_fbatches, mm.current.cpu, LRU_ADD):
        set_page_flag(mm.page, pfn, PG_active)


@kernel("mm/swap.c", "folio_mark_accessed", formerly=("mark_page_accessed",), left_out="idle page tracking")
def folio_mark_accessed(mm: Mm, pfn: int) -> None:
    """Somebody used a page by a read or write.

    inactive, not referenced  ─▶  inactive, referenced  ─▶  active, not referenced  ─▶  active, referenced
    """
    page = mm.page
    flags = page.flags[pfn]
    if not flags >> PG_referenced & 1:
        page.flags[pfn] = flags | 1 << PG_referenced
    elif not flags & (1 << PG_unevictable | 1 << PG_active):
        if flags >> PG_lru & 1:
            folio_activate(mm, pfn)
        else:
            lru_cache_activate_folio(mm, pfn)
        clear_page_flag(page, pfn, PG_referenced)
        workingset_activation(mm, pfn)


@kernel("mm/swap.c", "deactivate_page")
def deactivate_page(mm: Mm, pfn: int) -> None:
    """Have an active page moved to the inactive list: its owner says that it is cold."""
    flags = mm.page.flags[pfn]
    if flags >> PG_lru & 1 and flags >> PG_active & 1 and not flags >> PG_unevictable & 1:
        folio_batch_add_and_move(mm, LRU_DEACTIVATE, pfn)


@kernel("mm/swap.c", "deactivate_file_folio", formerly=("deactivate_file_page",))
def deactivate_file_folio(mm: Mm, pfn: int) -> None:
    """Have a page of a file that could not be dropped at once moved to where reclaim finds it soon."""
    if not page_has_flag(mm.page, pfn, PG_unevictable):
        folio_batch_add_and_move(mm, LRU_DEACTIVATE_FILE, pfn)


@kernel("mm/swap.c", "folio_rotate_reclaimable", formerly=("rotate_reclaimable_page",))
def folio_rotate_reclaimable(mm: Mm, pfn: int) -> None:
    """A page that reclaim wants has been written: have it moved to where reclaim looks first."""
    flags = mm.page.flags[pfn]
    if flags >> PG_lru & 1 and not flags & (1 << PG_locked | 1 << PG_dirty | 1 << PG_unevictable):
        folio_batch_add_and_move(mm, LRU_ROTATE, pfn)


@kernel("mm/vmscan.c", "folio_isolate_lru", formerly=("isolate_lru_page",))
def folio_isolate_lru(mm: Mm, pfn: int) -> bool:
    """Take a page off its list for oneself, with a reference; False if it is on none. Give it back by putback."""
    assert mm.page.refcount[pfn] > 0, f"nobody refers to pfn {pfn}"
    if not page_has_flag(mm.page, pfn, PG_lru):
        return False
    page_ref_inc(mm.page, pfn)
    # The flag goes last here: taking the page off a list needs all flags as they were.
    lruvec_del_folio(mm, pfn)
    clear_page_flag(mm.page, pfn, PG_lru)
    return True


@kernel("mm/vmscan.c", "folio_putback_lru", formerly=("putback_lru_page",))
def folio_putback_lru(mm: Mm, pfn: int) -> None:
    """Give an isolated page back to the lists, and drop the reference that isolation took."""
    folio_add_lru(mm, pfn)
    put_page(mm, pfn)
