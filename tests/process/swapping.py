"""Programs whose pages are sent to swap without filling the memory first, and what is found there."""

from __future__ import annotations

from pathlib import Path

from kmemlab.boot.pgtable import get_entry
from kmemlab.machine.machine import Machine
from kmemlab.mm.lru import folio_isolate_lru, lru_add_drain
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.swap_info import SWAP_HAS_CACHE, used_areas
from kmemlab.mm.swap_state import swap_cache_page
from kmemlab.mm.swapops import is_swap_pte, pte_to_swp_entry, swp_entry, swp_offset
from kmemlab.mm.vmstat import NODE_STAT_NAMES
from kmemlab.process.madvise import MADV_PAGEOUT
from kmemlab.process.pgtable import pte_offset_map
from kmemlab.reclaim.reclaim_pages import reclaim_pages
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_NORETRY, __GFP_NOWARN, GFP_KERNEL
from kmemlab.types.pageflags import PG_dirty
from tests.process.space import machine_of, mm_of

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


DATA = Path(__file__).parents[1] / "data"
MACHINES = {
    "tiny-128m": "tiny-128m",
    "i386": str(DATA / "machines" / "i386-256m" / "hardware.json"),
    "i386-pae": str(DATA / "machines" / "i386-pae-256m" / "hardware.json"),
}


def content(nth: int) -> bytes:
    """What page `nth` is filled with."""
    return bytes([nth % 251, nth // 251, 7]) * (PAGE // 3)


def process(machine: Machine, pages: int = 16) -> tuple[int, int]:
    """(pid, address of pages that have been written)."""
    pid = machine.spawn("prog")
    address = machine.mmap(pid, pages * PAGE)
    for nth in range(pages):
        machine.user_write(pid, address + nth * PAGE, content(nth))
    return pid, address


def with_swap(source: str = "tiny-128m", pages: int = 1000, *, solid_state: bool = False) -> Machine:
    machine = machine_of(source)
    machine.swapon(pages, solid_state=solid_state)
    return machine


def pte_of(machine: Machine, pid: int, address: int) -> int:
    mm = mm_of(machine, pid)
    ptep = pte_offset_map(mm.tables, address)
    assert ptep is not None
    return get_entry(mm.tables, ptep)


def entry_of(machine: Machine, pid: int, address: int) -> int:
    return pte_to_swp_entry(mm_of(machine, pid).tables.layout, pte_of(machine, pid, address))


def usage(machine: Machine, offset: int) -> int:
    swap = machine.kernel.mm.swap
    return swap.swap_map[swap.info[0].first_block + offset]


def event(machine: Machine, item: int) -> int:
    return machine.kernel.mm.vm_event[item]


def stat(machine: Machine, name: str) -> int:
    return sum(pgdat.vm_stat[NODE_STAT_NAMES.index(name)] for pgdat in machine.kernel.mm.node_data)


def stored(machine: Machine) -> int:
    slots = machine.kernel.mm.swap.slots
    return sum(slots.nr) + sum(slots.n_ret)


def swap_cached(machine: Machine, pid: int, address: int) -> bool:
    """Whether a page is swapped out, and in the swap cache."""
    pte = pte_of(machine, pid, address)
    return is_swap_pte(pte) and bool(usage(machine, swp_offset(entry_of(machine, pid, address))) & SWAP_HAS_CACHE)
