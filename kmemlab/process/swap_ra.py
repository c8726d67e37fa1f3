"""Read-ahead by address: which swapped-out pages around a fault, in the same VMA, may be wanted next.

vma.swap_readahead_info     | address of the last fault | pages read then 6 | hits since 6 |

the next page up             [ ● 1 2 3 ]            from the fault on
the next page down   [ 3 2 1 ● ]                    up to the fault
anywhere else            [ 1 ● 2 3 ]                around it              ● the page that is wanted
"""

from __future__ import annotations

from kmemlab.alloc.swap_readahead import find_in_swap_cache, swap_use_vma_readahead, swapin_nr_pages_inner
from kmemlab.boot.pgtable import get_entry
from kmemlab.mm.swapops import is_swap_pte, non_swap_entry, pte_to_swp_entry
from kmemlab.process.mm_struct import MmStruct
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pgtable import PMD
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT

SWAP_RA_ORDER_CEILING = {8: 5, 4: 3}
"""By the size of a pointer: at most 2**n pages."""
SWAP_RA_WIN_SHIFT = PAGE_SHIFT // 2
SWAP_RA_HITS_MASK = (1 << SWAP_RA_WIN_SHIFT) - 1
SWAP_RA_WIN_MASK = ~PAGE_MASK & ~SWAP_RA_HITS_MASK
SWAP_RA_HITS_MAX = SWAP_RA_HITS_MASK


@kernel("mm/swap_state.c", "SWAP_RA_VAL", traced=False)
def swap_ra_val(address: int, win: int, hits: int) -> int:
    """The three parts in one word."""
    return address & PAGE_MASK | win << SWAP_RA_WIN_SHIFT & SWAP_RA_WIN_MASK | hits & SWAP_RA_HITS_MASK


@kernel("mm/swap_state.c", "GET_SWAP_RA_VAL", formerly=("SWAP_RA_ADDR", "SWAP_RA_WIN", "SWAP_RA_HITS"), traced=False)
def get_swap_ra_val(mm: MmStruct, vma: int) -> tuple[int, int, int]:
    """(address of the last fault, pages read then, hits since) of a VMA; a new one is given four hits."""
    value = mm.common.vmas.swap_readahead_info[vma] or 4
    return value & PAGE_MASK, (value & SWAP_RA_WIN_MASK) >> SWAP_RA_WIN_SHIFT, value & SWAP_RA_HITS_MASK


@kernel("mm/swap_state.c", "swap_cache_get_folio", formerly=("lookup_swap_cache",))
def swap_cache_get_folio(mm: MmStruct, vma: int, address: int, entry: int) -> int | None:
    """The page of an entry in the swap cache, with a reference; a use of one that was read ahead is the VMA's hit."""
    pfn, readahead = find_in_swap_cache(mm.common.mm, entry)
    if pfn is not None and swap_use_vma_readahead(mm.common.mm):
        _, win, hits = get_swap_ra_val(mm, vma)
        hits = min(hits + 1, SWAP_RA_HITS_MAX) if readahead else hits
        mm.common.vmas.swap_readahead_info[vma] = swap_ra_val(address, win, hits)
    return pfn


@kernel("mm/swap_state.c", "swap_ra_info", formerly=("swap_ra_clamp_pfn",))
def swap_ra_info(mm: MmStruct, vma: int, address: int) -> range:
    """The pages, by address, to read at a fault: that one alone (an empty range), or some within VMA and last table."""
    common = mm.common
    ceiling = SWAP_RA_ORDER_CEILING[common.mm.boot.config.sizeof_pointer]
    max_win = 1 << min(common.mm.swap.page_cluster, ceiling)
    page = address >> PAGE_SHIFT
    if max_win == 1:
        return range(page, page)
    last, prev_win, hits = get_swap_ra_val(mm, vma)
    last >>= PAGE_SHIFT
    win = swapin_nr_pages_inner(last, page, hits, max_win, prev_win)
    common.vmas.swap_readahead_info[vma] = swap_ra_val(address, win, 0)
    if win == 1:
        return range(page, page)
    if page == last + 1:
        start = page
    elif last == page + 1:
        start = page - win + 1
    else:
        start = page - (win - 1) // 2
    table = mm.tables.layout.levels[PMD].size >> PAGE_SHIFT  # what one last table covers
    first = page - page % table
    return range(
        max(start, common.vmas.vm_start[vma] >> PAGE_SHIFT, first),
        min(start + win, common.vmas.vm_end[vma] >> PAGE_SHIFT, first + table),
    )


@invented("the loop of swap_vma_readahead, which has copied the entries before it waits for anything", traced=False)
def vma_entries(mm: MmStruct, vma: int, address: int, ptep: int) -> list[int]:
    """The swap entries around a fault that shall be read; `ptep` is where the entry of the fault stands."""
    layout, page = mm.tables.layout, address >> PAGE_SHIFT
    ptes = [get_entry(mm.tables, ptep + (at - page) * layout.entry_size) for at in swap_ra_info(mm, vma, address)]
    entries = [pte_to_swp_entry(layout, pte) for pte in ptes if is_swap_pte(pte)]
    return [entry for entry in entries if not non_swap_entry(entry)]
