"""add_to_swap: a page that programs have no file for gets a slot, and comes into the swap cache."""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.page_state import page_has_flag, set_page_flag
from kmemlab.mm.scan_swap_map import get_swap_pages
from kmemlab.mm.swap_info import SWAP_SLOTS_CACHE_SIZE
from kmemlab.mm.swap_slots import check_cache_active
from kmemlab.mm.swap_state import add_to_swap_cache
from kmemlab.sim.kernel import kernel
from kmemlab.types.pageflags import PG_dirty, PG_locked, PG_uptodate


@kernel("mm/swap_slots.c", "refill_swap_slots_cache", lock="cache->alloc_lock")
def refill_swap_slots_cache(mm: Mm) -> int:
    """Fill this CPU's store of slots; how many it has then."""
    slots, cpu = mm.swap.slots, mm.current.cpu
    entries = get_swap_pages(mm, SWAP_SLOTS_CACHE_SIZE)
    for at, entry in enumerate(entries):
        slots.slots[cpu * SWAP_SLOTS_CACHE_SIZE + at] = entry
    slots.cur[cpu], slots.nr[cpu] = 0, len(entries)
    return len(entries)


@kernel("mm/swap_slots.c", "folio_alloc_swap", formerly=("get_swap_page",), left_out="huge pages; memcg")
def folio_alloc_swap(mm: Mm) -> int:
    """A slot for a page, out of this CPU's store if that is used; the entry, or 0 when swap is full."""
    slots, cpu = mm.swap.slots, mm.current.cpu
    if check_cache_active(mm) and (slots.nr[cpu] or refill_swap_slots_cache(mm)):
        at = cpu * SWAP_SLOTS_CACHE_SIZE + slots.cur[cpu]
        entry, slots.slots[at] = slots.slots[at], 0
        slots.cur[cpu] += 1
        slots.nr[cpu] -= 1
        return entry
    entries = get_swap_pages(mm, 1)
    return entries[0] if entries else 0


@kernel("mm/swap_state.c", "add_to_swap", left_out="huge pages; no memory for the tree's nodes")
def add_to_swap(mm: Mm, pfn: int) -> bool:
    """Give a locked page a slot, and put it into the swap cache; False when swap is full.

    It is dirty from now on: nothing on disk has its contents yet.
    """
    assert page_has_flag(mm.page, pfn, PG_locked), f"pfn {pfn} is not locked"
    assert page_has_flag(mm.page, pfn, PG_uptodate), f"pfn {pfn} is not up to date"
    entry = folio_alloc_swap(mm)
    if not entry:
        return False
    add_to_swap_cache(mm, pfn, entry)
    set_page_flag(mm.page, pfn, PG_dirty)
    return True
