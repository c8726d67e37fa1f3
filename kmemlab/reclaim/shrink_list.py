"""One batch of one list: shrink_active_list makes pages inactive, shrink_inactive_list frees them.

tail of inactive ─▶ folio_check_references ─┬▶ used again: active
                                            ├▶ used once by a program: round once more
                                            └▶ not used ─▶ anonymous: gets a slot on a swap area
                                                        ─▶ out of all page tables
                                                        ─▶ clean: out of its file or of the swap cache ─▶ free
                                                        └▶ dirty file: active for now; the flusher writes it
                                                           dirty, anonymous: written now, freed another time
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from kmemlab.mm.add_to_swap import add_to_swap
from kmemlab.mm.address_space import mapping_ops
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_evictable, folio_putback_lru, lru_add_drain
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.lruvec import LRU_FILE, folio_is_file_lru
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_cache import remove_mapping_inner
from kmemlab.mm.page_free import free_unref_page_list
from kmemlab.mm.page_io import swap_writepage  # noqa: F401 (it enters itself as what writes pages of the swap cache)
from kmemlab.mm.page_mapping import folio_mapping, page_anon
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, set_page_flag, take_page_flag
from kmemlab.mm.page_writeback import folio_clear_dirty_for_io
from kmemlab.mm.rmap_table import folio_referenced, try_to_unmap
from kmemlab.mm.swap_range import swap_address_space
from kmemlab.mm.swap_state import folio_free_swap, folio_swap_entry, folio_test_swapcache, vm_swap_full
from kmemlab.mm.vm_event import (
    PGACTIVATE,
    PGDEACTIVATE,
    PGREFILL,
    PGSCAN_ANON,
    PGSCAN_DIRECT,
    PGSCAN_KSWAPD,
    PGSTEAL_ANON,
    PGSTEAL_DIRECT,
    PGSTEAL_KSWAPD,
)
from kmemlab.mm.vmstat import NR_ISOLATED_ANON, NR_VMSCAN_IMMEDIATE, NR_VMSCAN_WRITE
from kmemlab.mm.wait import folio_trylock, folio_unlock
from kmemlab.mm.workingset import lru_note_cost
from kmemlab.reclaim.isolate import isolate_lru_folios, move_folios_to_lru
from kmemlab.reclaim.scan_control import PGDAT_DIRTY, PGDAT_WRITEBACK, ReclaimStat, ScanControl, current_is_kswapd
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import __GFP_FS, __GFP_IO
from kmemlab.types.pageflags import (
    PG_active,
    PG_dirty,
    PG_mlocked,
    PG_reclaim,
    PG_referenced,
    PG_workingset,
    PG_writeback,
)
from kmemlab.types.vm_flags import VM_EXEC, VM_LOCKED


@kernel("mm/vmscan.c", "enum folio_references", formerly=("page_references",))
class FolioReferences(Enum):
    """What use of a page says about its future."""

    RECLAIM = "let it go"
    RECLAIM_CLEAN = "let it go if that costs nothing"
    KEEP = "round once more"
    ACTIVATE = "make it active"


@kernel("mm/vmscan.c", "folio_check_references", formerly=("page_check_references",))
def folio_check_references(mm: Mm, pfn: int) -> FolioReferences:
    """Judge an inactive page by who has used it since it came to the list."""
    page = mm.page
    referenced_ptes, vm_flags = folio_referenced(mm, pfn)
    referenced_folio = take_page_flag(page, pfn, PG_referenced)
    if vm_flags & VM_LOCKED:
        return FolioReferences.ACTIVATE
    file = folio_is_file_lru(page, pfn)
    if referenced_ptes:
        # The fault that mapped the page has used it once: only the second use tells of a working set.
        set_page_flag(page, pfn, PG_referenced)
        if referenced_folio or referenced_ptes > 1 or (vm_flags & VM_EXEC and file):
            return FolioReferences.ACTIVATE
        return FolioReferences.KEEP
    return FolioReferences.RECLAIM_CLEAN if referenced_folio and file else FolioReferences.RECLAIM


@kernel("mm/vmscan.c", "shrink_active_list", formerly=("refill_inactive_zone",))
def shrink_active_list(mm: Mm, pgdat: PglistData, nr_to_scan: int, lru: int, sc: ScanControl) -> None:
    """Make pages from the tail of an active list inactive; only programs' code that was used goes round once more."""
    lru_add_drain(mm)
    file = int(lru >= LRU_FILE)
    held, nr_scanned = isolate_lru_folios(mm, pgdat, nr_to_scan, lru, sc)
    pgdat.vm_stat[NR_ISOLATED_ANON + file] += len(held)
    mm.vm_event[PGREFILL] += nr_scanned
    active, inactive = [], []
    for pfn in held:
        if not folio_evictable(mm, pfn):
            folio_putback_lru(mm, pfn)
            continue
        used, vm_flags = folio_referenced(mm, pfn)
        if used and vm_flags & VM_EXEC and folio_is_file_lru(mm.page, pfn):
            active.append(pfn)
            continue
        clear_page_flag(mm.page, pfn, PG_active)
        set_page_flag(mm.page, pfn, PG_workingset)
        inactive.append(pfn)
    move_folios_to_lru(mm, pgdat, active)
    mm.vm_event[PGDEACTIVATE] += move_folios_to_lru(mm, pgdat, inactive)
    pgdat.vm_stat[NR_ISOLATED_ANON + file] -= len(held)


@invented("folio_mapping for pages that nobody maps any more", traced=False)
def mapping_of(mm: Mm, pfn: int) -> int:
    """The number of the mapping that a page belongs to, the swap cache's too; 0 for none."""
    if folio_test_swapcache(mm, pfn):
        return swap_address_space(mm.swap, folio_swap_entry(mm, pfn))
    return folio_mapping(mm.page, pfn)


@kernel("mm/vmscan.c", "may_enter_fs", left_out="swap files of file systems with operations of their own", traced=False)
def may_enter_fs(mm: Mm, pfn: int, gfp: int) -> bool:
    """Whether a page may be written on behalf of a request: a file system may be entered, or is not needed for it."""
    return bool(gfp & __GFP_FS) or (folio_test_swapcache(mm, pfn) and bool(gfp & __GFP_IO))


@kernel("mm/vmscan.c", "pageout", left_out="asynchronous errors; where the disk is congested")
def pageout(mm: Mm, pfn: int) -> bool:
    """Have a dirty page written by reclaim itself; whether it was asked for. The page is unlocked then."""
    mapping = mapping_of(mm, pfn)
    writepage = mapping_ops(mm.mappings, mapping).writepage if mapping else None
    if writepage is None or mm.page.refcount[pfn] != 2 or not folio_clear_dirty_for_io(mm, pfn):
        return False
    set_page_flag(mm.page, pfn, PG_reclaim)
    folio_pgdat(mm, pfn).vm_stat[NR_VMSCAN_WRITE] += 1
    writepage(mm, pfn)
    return True


@invented("C jumps to labels: keep, keep_locked, activate_locked")
class Fate(Enum):
    """What becomes of a page in the hands of reclaim."""

    FREE = "it has left its file"
    KEEP = "it stays, unlocked already"
    KEEP_LOCKED = "it stays"
    ACTIVATE_LOCKED = "it stays, and becomes active"


@kernel("mm/vmscan.c", "shrink_folio_list", formerly=("shrink_page_list", "shrink_list"), left_out="demotion")
def shrink_folio_list(
    mm: Mm, pgdat: PglistData, folios: Sequence[int], sc: ScanControl, stat: ReclaimStat
) -> tuple[int, list[int]]:
    """Free what can be freed of isolated pages; returns how many, and those that stay, in their order.

    What stays active has PG_active now. Dirty pages of files are left to the flusher, as a rule.
    """
    kept: list[int] = []
    free: list[int] = []
    for pfn in folios:
        fate = Fate.KEEP
        if folio_trylock(mm, pfn):
            sc.nr_scanned += 1
            fate = fate_of(mm, pgdat, pfn, sc, stat)
        if fate is Fate.ACTIVATE_LOCKED:
            activate_locked(mm, pfn, stat)
        if fate is not Fate.KEEP:
            folio_unlock(mm, pfn)
        (free if fate is Fate.FREE else kept).append(pfn)
    free_unref_page_list(mm, free[::-1])  # C puts each before the others: the oldest is freed last, and used first
    mm.vm_event[PGACTIVATE] += stat.nr_activate
    return len(free), kept


@invented("the label activate_locked of shrink_folio_list", traced=False)
def activate_locked(mm: Mm, pfn: int, stat: ReclaimStat) -> None:
    """A page that can't go becomes active, and gives its slot back where slots are few."""
    mlocked = page_has_flag(mm.page, pfn, PG_mlocked)
    if folio_test_swapcache(mm, pfn) and (vm_swap_full(mm) or mlocked):
        folio_free_swap(mm, pfn)
    if not mlocked:
        set_page_flag(mm.page, pfn, PG_active)
        stat.nr_activate += 1


@invented("the body of the loop of shrink_folio_list", traced=False)
def fate_of(mm: Mm, pgdat: PglistData, pfn: int, sc: ScanControl, stat: ReclaimStat) -> Fate:
    """Take a locked page out of its file, or out to swap, so that it can be freed, or say why not."""
    page = mm.page
    if not folio_evictable(mm, pfn):
        return Fate.ACTIVATE_LOCKED
    if not sc.may_unmap and page.mapcount[pfn]:
        return Fate.KEEP_LOCKED
    if is_being_written(mm, pgdat, pfn, stat):
        return Fate.ACTIVATE_LOCKED
    references = folio_check_references(mm, pfn)
    if references is FolioReferences.ACTIVATE:
        return Fate.ACTIVATE_LOCKED
    if references is FolioReferences.KEEP:
        return Fate.KEEP_LOCKED
    if page_anon(page, pfn) and not folio_test_swapcache(mm, pfn):
        if not sc.gfp_mask & __GFP_IO:
            return Fate.KEEP_LOCKED
        if not add_to_swap(mm, pfn):
            return Fate.ACTIVATE_LOCKED
    if page.mapcount[pfn] and not try_to_unmap(mm, pfn):
        return Fate.ACTIVATE_LOCKED
    if page_has_flag(page, pfn, PG_dirty):
        return fate_of_dirty(mm, pgdat, pfn, references, sc, stat)
    mapping = mapping_of(mm, pfn)
    return Fate.FREE if mapping and remove_mapping_inner(mm, mapping, pfn, reclaimed=True) else Fate.KEEP_LOCKED


@invented("a part of shrink_folio_list", traced=False)
def is_being_written(mm: Mm, pgdat: PglistData, pfn: int, stat: ReclaimStat) -> bool:
    """Count dirty pages; one that is being written gets out of the way: it will be freed when the disk is done.

    Anonymous pages are not counted: no flusher writes them, so none is late with them.
    """
    flags = mm.page.flags[pfn]
    dirty, writeback, reclaim = flags >> PG_dirty & 1, flags >> PG_writeback & 1, flags >> PG_reclaim & 1
    if folio_is_file_lru(mm.page, pfn):
        stat.nr_dirty += dirty or writeback
        stat.nr_unqueued_dirty += dirty and not writeback
        stat.nr_congested += writeback and reclaim
    if not writeback:
        return False
    if current_is_kswapd(mm) and reclaim and pgdat.flags & PGDAT_WRITEBACK:
        stat.nr_immediate += 1
    else:
        set_page_flag(mm.page, pfn, PG_reclaim)
        stat.nr_writeback += 1
    return True


@invented("a part of shrink_folio_list", traced=False)
def fate_of_dirty(
    mm: Mm, pgdat: PglistData, pfn: int, references: FolioReferences, sc: ScanControl, stat: ReclaimStat
) -> Fate:
    """A dirty page stays for now. Reclaim writes it itself if only swap can keep it.

    Pages of files are written here by kswapd alone, if they come by a second time where all others are dirty, too.
    """
    second_time = page_has_flag(mm.page, pfn, PG_reclaim) and pgdat.flags & PGDAT_DIRTY
    if folio_is_file_lru(mm.page, pfn) and not (current_is_kswapd(mm) and second_time):
        pgdat.vm_stat[NR_VMSCAN_IMMEDIATE] += 1
        set_page_flag(mm.page, pfn, PG_reclaim)
        return Fate.ACTIVATE_LOCKED
    allowed = may_enter_fs(mm, pfn, sc.gfp_mask) and sc.may_writepage
    if not allowed or references is FolioReferences.RECLAIM_CLEAN or not pageout(mm, pfn):
        return Fate.KEEP_LOCKED
    stat.nr_pageout += 1
    return Fate.KEEP


@kernel(
    "mm/vmscan.c",
    "shrink_inactive_list",
    formerly=("shrink_cache",),
    left_out="waiting while other tasks have too many pages in their hands: one runs at a time",
)
def shrink_inactive_list(mm: Mm, pgdat: PglistData, nr_to_scan: int, lru: int, sc: ScanControl) -> int:
    """Free what can be freed of the pages at the tail of an inactive list; returns how many."""
    file, kswapd = int(lru >= LRU_FILE), current_is_kswapd(mm)
    lru_add_drain(mm)
    folios, nr_scanned = isolate_lru_folios(mm, pgdat, nr_to_scan, lru, sc)
    mm.vm_event[PGSCAN_KSWAPD if kswapd else PGSCAN_DIRECT] += nr_scanned
    mm.vm_event[PGSCAN_ANON + file] += nr_scanned
    if not folios:
        return 0
    pgdat.vm_stat[NR_ISOLATED_ANON + file] += len(folios)
    stat = ReclaimStat()
    nr_reclaimed, kept = shrink_folio_list(mm, pgdat, folios, sc, stat)
    move_folios_to_lru(mm, pgdat, kept)
    pgdat.vm_stat[NR_ISOLATED_ANON + file] -= len(folios)
    mm.vm_event[PGSTEAL_KSWAPD if kswapd else PGSTEAL_DIRECT] += nr_reclaimed
    mm.vm_event[PGSTEAL_ANON + file] += nr_reclaimed
    lru_note_cost(pgdat, bool(file), stat.nr_pageout)
    if stat.nr_unqueued_dirty == len(folios):
        mm.wb_start_all = 1  # all dirty, and nobody writes them: the flusher does not keep up
    add_up(sc.nr, stat, len(folios), bool(file))
    return nr_reclaimed


@invented("the last lines of shrink_inactive_list", traced=False)
def add_up(total: ReclaimStat, stat: ReclaimStat, taken: int, file: bool) -> None:
    """Add what one batch met to what the whole run has met."""
    total.nr_dirty += stat.nr_dirty
    total.nr_congested += stat.nr_congested
    total.nr_unqueued_dirty += stat.nr_unqueued_dirty
    total.nr_writeback += stat.nr_writeback
    total.nr_immediate += stat.nr_immediate
    total.taken += taken
    total.file_taken += taken if file else 0
