"""How a page is: its flags, one bit each, and the references that keep it.

flags   bit 9 PG_slab ┐ 6 PG_workingset ┐ 5 PG_active ┐ 4 PG_lru ┐ …  0 PG_locked
"""

from __future__ import annotations

from kmemlab.mm.mem_map import MemMap
from kmemlab.sim.kernel import invented, kernel


@invented("C makes one for each flag: PageLRU, PageDirty, …", traced=False)
def page_has_flag(page: MemMap, pfn: int, flag: int) -> bool:
    """Whether a flag (PG_locked, …) of a page is set."""
    return bool(page.flags[pfn] >> flag & 1)


@invented("C makes one for each flag: SetPageLRU, …", traced=False)
def set_page_flag(page: MemMap, pfn: int, flag: int) -> None:
    """Set a flag of a page."""
    page.flags[pfn] |= 1 << flag


@invented("C makes one for each flag: ClearPageLRU, …", traced=False)
def clear_page_flag(page: MemMap, pfn: int, flag: int) -> None:
    """Clear a flag of a page."""
    page.flags[pfn] &= ~(1 << flag)


@invented("C makes one for each flag: TestSetPageDirty (the other way round), …", traced=False)
def set_page_flag_first(page: MemMap, pfn: int, flag: int) -> bool:
    """Set a flag of a page; whether this set it, as it was clear before."""
    was_clear = not page_has_flag(page, pfn, flag)
    set_page_flag(page, pfn, flag)
    return was_clear


@invented("C makes one for each flag: TestClearPageDirty, …", traced=False)
def take_page_flag(page: MemMap, pfn: int, flag: int) -> bool:
    """Clear a flag of a page; whether it was set before."""
    was = page_has_flag(page, pfn, flag)
    clear_page_flag(page, pfn, flag)
    return was


@kernel("include/linux/page_ref.h", "page_ref_inc", formerly=("_count",), traced=False)
def page_ref_inc(page: MemMap, pfn: int) -> None:
    """Somebody more refers to a page."""
    page.refcount[pfn] += 1


@kernel("include/linux/page_ref.h", "page_ref_dec_and_test", traced=False)
def page_ref_dec_and_test(page: MemMap, pfn: int) -> bool:
    """Somebody lets go of a page; whether nobody refers to it any more."""
    page.refcount[pfn] -= 1
    return page.refcount[pfn] == 0
