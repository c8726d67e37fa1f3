"""mm/swap_state.c, the swap cache: pages that have a slot on a swap area and are in memory as well.

going out   add_to_swap ─▶ in the cache ─▶ out of all page tables ─▶ written ─▶ clean: out of the cache, free
coming in   a fault ─▶ in the cache, read ─▶ into the page table; it stays in the cache until somebody writes into it

page.private holds the entry, PG_swapcache says so; the cache has a reference. page.mapping still names the anon_vma.
Whoever swaps the page out again without a change in between need not write it.
"""

from __future__ import annotations

from kmemlab.mm.address_space import filemap_get_folio, mapping_store_folio, page_cache_delete
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.page_state import (
    clear_page_flag,
    page_has_flag,
    page_ref_inc,
    set_page_flag,
    set_page_flag_first,
    take_page_flag,
)
from kmemlab.mm.swap_count import put_swap_folio, swap_entry_free_inner, swp_swapcount
from kmemlab.mm.swap_info import SWAP_HAS_CACHE
from kmemlab.mm.swap_range import swap_address_space
from kmemlab.mm.swapops import non_swap_entry, swp_offset
from kmemlab.mm.vmstat import NR_FILE_PAGES, NR_SWAPCACHE
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_dirty, PG_locked, PG_swapbacked, PG_swapcache, PG_writeback

# What __try_to_reclaim_swap wants to be so before it frees a slot.
TTRS_ANYWAY, TTRS_UNMAPPED, TTRS_FULL = 1, 2, 4


@kernel("include/linux/page-flags.h", "folio_test_swapcache", formerly=("PageSwapCache",), traced=False)
def folio_test_swapcache(mm: Mm, pfn: int) -> bool:
    """Whether a page is in the swap cache. (The flag means something else for pages of files.)"""
    both = 1 << PG_swapcache | 1 << PG_swapbacked
    return mm.page.flags[pfn] & both == both


@kernel("include/linux/swap.h", "folio_swap_entry", formerly=("page_private",), traced=False)
def folio_swap_entry(mm: Mm, pfn: int) -> int:
    """The entry of a page in the swap cache."""
    return mm.page.private[pfn]


@kernel("include/linux/swap.h", "vm_swap_full", formerly=("mem_cgroup_swap_full",), traced=False)
def vm_swap_full(mm: Mm) -> bool:
    """Whether more than half of all slots are in use: then slots of pages that are in memory are given back eagerly."""
    return mm.nr_swap_pages * 2 < mm.total_swap_pages


@kernel("mm/swap_state.c", "total_swapcache_pages", traced=False)
def total_swapcache_pages(mm: Mm) -> int:
    """The pages in the swap cache: SwapCached."""
    return sum(pgdat.vm_stat[NR_SWAPCACHE] for pgdat in mm.node_data)


@invented("C: filemap_get_folio(swap_address_space(entry), swp_offset(entry))", traced=False)
def swap_cache_page(mm: Mm, entry: int) -> int | None:
    """The page of an entry in the swap cache, or None. Takes no reference."""
    return filemap_get_folio(mm.mappings, swap_address_space(mm.swap, entry), swp_offset(entry))


@kernel("mm/swap_state.c", "add_to_swap_cache", left_out="huge pages", lock="address_space->i_pages")
def add_to_swap_cache(mm: Mm, pfn: int, entry: int) -> int | None:
    """Put a locked page into the swap cache; the shadow that stood in its place, if any."""
    page = mm.page
    assert page_has_flag(page, pfn, PG_locked), f"pfn {pfn} is not locked"
    assert not folio_test_swapcache(mm, pfn), f"pfn {pfn} is in the swap cache already"
    page_ref_inc(page, pfn)
    set_page_flag(page, pfn, PG_swapcache)
    page.private[pfn] = entry
    shadow = mapping_store_folio(mm.mappings, swap_address_space(mm.swap, entry), swp_offset(entry), pfn)
    pgdat = folio_pgdat(mm, pfn)
    pgdat.vm_stat[NR_FILE_PAGES] += 1
    pgdat.vm_stat[NR_SWAPCACHE] += 1
    return shadow


@kernel("mm/swap_state.c", "__delete_from_swap_cache", left_out="huge pages", lock="address_space->i_pages")
def delete_from_swap_cache_inner(mm: Mm, pfn: int, shadow: int | None) -> None:
    """Take a locked page out of the swap cache; the cache's reference is the caller's now, and so is its slot."""
    page, entry = mm.page, folio_swap_entry(mm, pfn)
    assert not page_has_flag(page, pfn, PG_writeback), f"pfn {pfn} is still being written"
    page_cache_delete(mm.mappings, swap_address_space(mm.swap, entry), swp_offset(entry), shadow)
    page.private[pfn] = 0
    clear_page_flag(page, pfn, PG_swapcache)
    if page_anon(page, pfn) and not page.mapcount[pfn]:
        page.mapping[pfn] = page.index[pfn] = 0  # C leaves that to the freeing of the page
    pgdat = folio_pgdat(mm, pfn)
    pgdat.vm_stat[NR_FILE_PAGES] -= 1
    pgdat.vm_stat[NR_SWAPCACHE] -= 1


@kernel("mm/swap_state.c", "delete_from_swap_cache")
def delete_from_swap_cache(mm: Mm, pfn: int) -> None:
    """Take a locked page out of the swap cache for good; the caller has a reference of its own."""
    entry = folio_swap_entry(mm, pfn)
    delete_from_swap_cache_inner(mm, pfn, None)
    put_swap_folio(mm, entry)
    mm.page.refcount[pfn] -= 1


@kernel("mm/swapfile.c", "folio_free_swap", formerly=("try_to_free_swap", "remove_exclusive_swap_page"))
def folio_free_swap(mm: Mm, pfn: int) -> bool:
    """Give the slot of a locked page back if no page table holds its entry; whether that was done.

    From then on the page is the only place of its contents: it is dirty.
    """
    if not folio_test_swapcache(mm, pfn) or page_has_flag(mm.page, pfn, PG_writeback):
        return False
    if swp_swapcount(mm, folio_swap_entry(mm, pfn)):
        return False
    delete_from_swap_cache(mm, pfn)
    set_page_flag(mm.page, pfn, PG_dirty)
    return True


@kernel("mm/swap_state.c", "free_swap_cache")
def free_swap_cache(mm: Mm, pfn: int) -> None:
    """A page table less maps a page: if none does any more, it may not need its slot."""
    if folio_test_swapcache(mm, pfn) and not mm.page.mapcount[pfn] and set_page_flag_first(mm.page, pfn, PG_locked):
        folio_free_swap(mm, pfn)
        take_page_flag(mm.page, pfn, PG_locked)


@kernel("mm/swapfile.c", "__try_to_reclaim_swap")
def try_to_reclaim_swap(mm: Mm, entry: int, flags: int) -> bool:
    """Give the slot of an entry back that only the swap cache has, if its page is as `flags` (TTRS_…) want it."""
    pfn = swap_cache_page(mm, entry)
    if pfn is None:
        return False
    freed = False
    page_ref_inc(mm.page, pfn)
    if set_page_flag_first(mm.page, pfn, PG_locked):
        unmapped = bool(flags & TTRS_UNMAPPED) and not mm.page.mapcount[pfn]
        if flags & TTRS_ANYWAY or unmapped or (flags & TTRS_FULL and vm_swap_full(mm)):
            freed = folio_free_swap(mm, pfn)
        take_page_flag(mm.page, pfn, PG_locked)
    put_page(mm, pfn)
    return freed


@kernel("mm/swapfile.c", "free_swap_and_cache", left_out="huge pages")
def free_swap_and_cache(mm: Mm, entry: int) -> None:
    """A page table gives up an entry without having the page back; a page in the swap cache that was its alone goes."""
    if non_swap_entry(entry):
        return
    if swap_entry_free_inner(mm, entry) == SWAP_HAS_CACHE:
        try_to_reclaim_swap(mm, entry, TTRS_UNMAPPED | TTRS_FULL)
