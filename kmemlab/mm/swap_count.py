"""How many page tables hold a swap entry: swap_map counts up to 62, and what is more carries into a next digit.

page swapped out   0x41   one page table, and the page is still in the swap cache
the page is freed  0x01
fork               0x02
…                  0x3e   62
one fork more      0x80   63 = 1 · 63 + 0, the 1 in `continuation`
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.swap_info import (
    COUNT_CONTINUED,
    SWAP_HAS_CACHE,
    SWAP_MAP_BAD,
    SWAP_MAP_MAX,
    SWP_CONTINUED,
    Swap,
    SwapInfo,
    swap_count,
    swp_swap_info,
)
from kmemlab.mm.swap_slots import free_swap_slot
from kmemlab.mm.swapops import swp_offset
from kmemlab.sim.kernel import invented, kernel


@invented("C adds the offset to the pointer swap_map", traced=False)
def map_index(swap: Swap, entry: int) -> int:
    """Where the usage of an entry's slot stands in `swap_map`. An entry beyond its area is a programmer's error."""
    si, offset = swp_swap_info(swap, entry), swp_offset(entry)
    assert 0 < offset < si.max, f"swap entry {entry:#x} is beyond {si.name}"
    return si.first_block + offset


@kernel("mm/swapfile.c", "swap_count_continued", left_out="the pages that further digits stand in", lock="p->cont_lock")
def swap_count_continued(swap: Swap, si: SwapInfo, at: int, count: int) -> int:
    """A count that has come to its end: up, it carries into the next digit; down, it borrows. Returns the low digit."""
    if count & ~COUNT_CONTINUED == SWAP_MAP_MAX:
        si.flags |= SWP_CONTINUED
        swap.continuation[at] += 1
        return COUNT_CONTINUED
    swap.continuation[at] -= 1
    return SWAP_MAP_MAX | COUNT_CONTINUED if swap.continuation[at] else SWAP_MAP_MAX


@kernel("mm/swapfile.c", "swap_duplicate", formerly=("__swap_duplicate",), lock="si->lock")
def swap_duplicate(mm: Mm, entry: int) -> None:
    """One page table more holds an entry."""
    swap, at = mm.swap, map_index(mm.swap, entry)
    usage = swap.swap_map[at]
    assert usage, f"swap entry {entry:#x} is not in use"
    count, has_cache = swap_count(usage), usage & SWAP_HAS_CACHE
    if count & ~COUNT_CONTINUED == SWAP_MAP_MAX:
        count = swap_count_continued(swap, swp_swap_info(swap, entry), at, count)
    else:
        count += 1
    swap.swap_map[at] = count | has_cache


@kernel("mm/swapfile.c", "swapcache_prepare", formerly=("__swap_duplicate",), lock="si->lock")
def swapcache_prepare(mm: Mm, entry: int) -> bool:
    """A page of the swap cache wants an entry that page tables hold; False if one has it already, or nobody uses it."""
    at = map_index(mm.swap, entry)
    usage = mm.swap.swap_map[at]
    if not usage or usage & SWAP_HAS_CACHE or swap_count(usage) == SWAP_MAP_BAD:
        return False
    mm.swap.swap_map[at] = usage | SWAP_HAS_CACHE
    return True


@kernel("mm/swapfile.c", "__swap_entry_free_locked", left_out="shared memory", lock="si->lock")
def swap_entry_free_locked(mm: Mm, entry: int, usage: int) -> int:
    """One user less: the swap cache (SWAP_HAS_CACHE) or a page table (1); what is left.

    When nothing is left, the slot stays marked until it goes back to its area.
    """
    swap, at = mm.swap, map_index(mm.swap, entry)
    count, has_cache = swap_count(swap.swap_map[at]), swap.swap_map[at] & SWAP_HAS_CACHE
    if usage == SWAP_HAS_CACHE:
        assert has_cache, f"swap entry {entry:#x} is not in the swap cache"
        has_cache = 0
    elif count == COUNT_CONTINUED:
        count = swap_count_continued(swap, swp_swap_info(swap, entry), at, count)
    else:
        assert count, f"no page table holds swap entry {entry:#x}"
        count -= 1
    left = count | has_cache
    swap.swap_map[at] = left or SWAP_HAS_CACHE
    return left


@kernel("mm/swapfile.c", "__swap_entry_free")
def swap_entry_free_inner(mm: Mm, entry: int) -> int:
    """One page table less holds an entry; the usage that is left. If that is none, the slot is given back."""
    left = swap_entry_free_locked(mm, entry, 1)
    if not left:
        free_swap_slot(mm, entry)
    return left


@kernel("mm/swapfile.c", "swap_free")
def swap_free(mm: Mm, entry: int) -> None:
    """One page table less holds an entry."""
    swap_entry_free_inner(mm, entry)


@kernel("mm/swapfile.c", "put_swap_folio", formerly=("put_swap_page", "swapcache_free"), left_out="huge pages")
def put_swap_folio(mm: Mm, entry: int) -> None:
    """The swap cache has no page for an entry any more."""
    if not swap_entry_free_locked(mm, entry, SWAP_HAS_CACHE):
        free_swap_slot(mm, entry)


@kernel("mm/swapfile.c", "swp_swapcount", formerly=("swap_swapcount", "__swp_swapcount", "page_swapcount"))
def swp_swapcount(mm: Mm, entry: int) -> int:
    """How many page tables hold an entry, all digits."""
    swap, at = mm.swap, map_index(mm.swap, entry)
    count = swap_count(swap.swap_map[at])
    return (count & ~COUNT_CONTINUED) + swap.continuation[at] * (SWAP_MAP_MAX + 1)
