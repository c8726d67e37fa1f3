"""Bringing pages back from swap, and more than the one that is wanted: its neighbours may be wanted next.

on the disk    the 2, 4 or 8 slots around it, where the arm is anyway         cluster read-ahead: a disk with an arm
in the VMA     the pages before and behind it that are swapped out, too       VMA read-ahead: solid state

Pages that were read ahead and then used are hits; the more of them, the more are read next time.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_add_lru, lru_add_drain
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_io import swap_readpage
from kmemlab.mm.page_state import page_ref_inc, set_page_flag, take_page_flag
from kmemlab.mm.swap_count import map_index, swapcache_prepare
from kmemlab.mm.swap_info import SWAP_MAP_BAD, swap_count, swp_swap_info
from kmemlab.mm.swap_state import add_to_swap_cache, swap_cache_page
from kmemlab.mm.swapops import swp_entry, swp_offset, swp_type
from kmemlab.mm.vm_event import SWAP_RA, SWAP_RA_HIT
from kmemlab.mm.workingset import workingset_refault
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE
from kmemlab.types.pageflags import PG_locked, PG_readahead, PG_swapbacked


@kernel("mm/swap_state.c", "swap_use_vma_readahead", traced=False)
def swap_use_vma_readahead(mm: Mm) -> bool:
    """Whether pages are read ahead by their addresses: where no area is on a disk whose arm would have to move."""
    return bool(mm.swap.enable_vma_readahead) and not mm.swap.nr_rotate_swap


@invented("the part of swap_cache_get_folio that does without a VMA")
def find_in_swap_cache(mm: Mm, entry: int) -> tuple[int | None, bool]:
    """(the page of an entry in the swap cache, with a reference, or None; whether it was read ahead and not used yet).

    A use of a page that was read ahead is a hit.
    """
    pfn = swap_cache_page(mm, entry)
    if pfn is None:
        return None, False
    page_ref_inc(mm.page, pfn)
    readahead = take_page_flag(mm.page, pfn, PG_readahead)
    if readahead:
        mm.vm_event[SWAP_RA_HIT] += 1
        if not swap_use_vma_readahead(mm):
            mm.swap.swapin_readahead_hits += 1
    return pfn, readahead


@kernel("mm/swap_state.c", "__read_swap_cache_async", left_out="being overtaken by another CPU; memcg")
def read_swap_cache_page(mm: Mm, entry: int) -> tuple[int | None, bool]:
    """(the page of an entry in the swap cache, with a reference, whether it is a new one that must be read).

    None where nobody uses the entry, or there is no page for it.
    """
    pfn = swap_cache_page(mm, entry)
    if pfn is not None:
        page_ref_inc(mm.page, pfn)
        return pfn, False
    usage = mm.swap.swap_map[map_index(mm.swap, entry)]
    if not swap_count(usage) or swap_count(usage) == SWAP_MAP_BAD:
        return None, False
    pfn = alloc_pages_inner(mm, GFP_HIGHUSER_MOVABLE, 0, 0)
    if pfn is None:
        return None, False
    if not swapcache_prepare(mm, entry):
        put_page(mm, pfn)  # reclaim, while we waited for a page
        return None, False
    set_page_flag(mm.page, pfn, PG_locked)
    set_page_flag(mm.page, pfn, PG_swapbacked)
    shadow = add_to_swap_cache(mm, pfn, entry)
    if shadow is not None:
        workingset_refault(mm, pfn, shadow)
    folio_add_lru(mm, pfn)
    return pfn, True


@kernel("mm/swap_state.c", "read_swap_cache_async")
def read_swap_cache_async(mm: Mm, entry: int) -> int | None:
    """The page of an entry, in the swap cache, with a reference; it is read if it was not there. None: no memory."""
    pfn, is_new = read_swap_cache_page(mm, entry)
    if pfn is not None and is_new:
        swap_readpage(mm, pfn)
    return pfn


@invented("the body of both loops that read ahead", traced=False)
def read_ahead(mm: Mm, entry: int, wanted: int) -> None:
    """Ask for the page of an entry; it is marked if it is not the one that is wanted."""
    pfn, is_new = read_swap_cache_page(mm, entry)
    if pfn is None:
        return
    if is_new:
        swap_readpage(mm, pfn)
        if entry != wanted:
            set_page_flag(mm.page, pfn, PG_readahead)
            mm.vm_event[SWAP_RA] += 1
    put_page(mm, pfn)


@kernel("mm/swap_state.c", "__swapin_nr_pages", traced=False)
def swapin_nr_pages_inner(prev_offset: int, offset: int, hits: int, max_pages: int, prev_win: int) -> int:
    """How many pages to read: more for more hits, but not many fewer than last time.

    >>> [swapin_nr_pages_inner(0, 100, hits, 8, 0) for hits in (0, 1, 2, 3, 6)]
    [1, 4, 4, 8, 8]
    >>> swapin_nr_pages_inner(99, 100, 0, 8, 0), swapin_nr_pages_inner(0, 100, 0, 8, 8)
    (2, 4)
    """
    pages = max(4, 1 << (hits + 1).bit_length())
    if not hits:  # nothing to judge by: whoever goes straight on gets one page more, so that there can be a hit
        pages = 2 if abs(offset - prev_offset) == 1 else 1
    return max(min(pages, max_pages), prev_win // 2)


@kernel("mm/swap_state.c", "swapin_nr_pages")
def swapin_nr_pages(mm: Mm, offset: int) -> int:
    """How many pages to read around a slot; the hits are counted anew from here."""
    swap = mm.swap
    max_pages = 1 << swap.page_cluster
    if max_pages <= 1:
        return 1
    hits, swap.swapin_readahead_hits = swap.swapin_readahead_hits, 0
    pages = swapin_nr_pages_inner(swap.prev_offset, offset, hits, max_pages, swap.last_readahead_pages)
    if not hits:
        swap.prev_offset = offset
    swap.last_readahead_pages = pages
    return pages


@kernel("mm/swap_state.c", "swap_cluster_readahead", left_out="plugging: requests go to the disk one by one")
def swap_cluster_readahead(mm: Mm, entry: int) -> int | None:
    """The page of an entry, with a reference, asked for together with those around it on the disk. None: no memory."""
    offset, si = swp_offset(entry), swp_swap_info(mm.swap, entry)
    mask = swapin_nr_pages(mm, offset) - 1
    if mask:
        start, end = max(offset & ~mask, 1), min(offset | mask, si.max - 1)  # slot 0 is the header
        for at in range(start, end + 1):
            read_ahead(mm, swp_entry(swp_type(entry), at), entry)
        lru_add_drain(mm)
    return read_swap_cache_async(mm, entry)


@kernel("mm/swap_state.c", "swapin_readahead")
def swapin_readahead(mm: Mm, entry: int, vma_entries: Callable[[], list[int]] | None) -> int | None:
    """The page of an entry, with a reference, and others on their way; None: there is no memory.

    `vma_entries()` gives the entries of the pages around it in its VMA, for disks without an arm.
    """
    if vma_entries is None or not swap_use_vma_readahead(mm):
        return swap_cluster_readahead(mm, entry)
    entries = vma_entries()
    for neighbour in entries:
        read_ahead(mm, neighbour, entry)
    if entries:
        lru_add_drain(mm)
    return read_swap_cache_async(mm, entry)
