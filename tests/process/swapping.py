"""Pages sent to swap without filling the memory first."""

from __future__ import annotations

from kmemlab.machine.machine import Machine
from kmemlab.mm.lru import folio_isolate_lru, lru_add_drain
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.swap_info import used_areas
from kmemlab.mm.swap_state import swap_cache_page
from kmemlab.mm.swapops import swp_entry
from kmemlab.process.madvise import MADV_PAGEOUT
from kmemlab.reclaim.reclaim_pages import reclaim_pages
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_NORETRY, __GFP_NOWARN, GFP_KERNEL
from kmemlab.types.pageflags import PG_dirty

PAGE = 4096


def pageout(machine: Machine, pid: int, address: int, pages: int = 1) -> None:
    """Send pages to swap; they are written, but still in the swap cache."""
    machine.madvise(pid, address, pages * PAGE, MADV_PAGEOUT)
    machine.tick(20)


def evict(machine: Machine) -> None:
    """Free the pages of the swap cache that are clean and mapped nowhere. This is no command."""
    mm = machine.kernel.mm
    lru_add_drain(mm)
    taken = []
    for si in used_areas(mm.swap):
        for offset in range(1, si.max):
            pfn = swap_cache_page(mm, swp_entry(si.type, offset))
            if pfn is None or mm.page.mapcount[pfn] or page_has_flag(mm.page, pfn, PG_dirty):
                continue
            if folio_isolate_lru(mm, pfn):
                taken.append(pfn)
    reclaim_pages(mm, taken)


def swap_out(machine: Machine, pid: int, address: int, pages: int = 1) -> None:
    """Send pages to swap, and out of memory."""
    pageout(machine, pid, address, pages)
    evict(machine)


def squeeze(machine: Machine) -> list[tuple[int, int]]:
    """Take all large blocks, so that reclaim has to work, by commands alone; (page frame, order) of each."""
    taken = []
    for order in (10, 8, 6):
        while True:
            try:
                taken.append((machine.alloc_pages(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, order), order))
            except OutOfMemory:
                break
    return taken
