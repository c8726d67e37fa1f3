"""Slots that come into use, and slots that are free again: the counts of an area, and of all areas."""

from __future__ import annotations

from collections.abc import Sequence

from kmemlab.mm.globals import Mm
from kmemlab.mm.swap_cluster import dec_cluster_info_page
from kmemlab.mm.swap_info import (
    SWAP_ADDRESS_SPACE_SHIFT,
    SWAP_HAS_CACHE,
    SWP_WRITEOK,
    Swap,
    SwapInfo,
    swp_swap_info,
)
from kmemlab.mm.swapops import swp_entry, swp_offset, swp_type
from kmemlab.mm.xarray import xa_is_value, xa_load, xa_store
from kmemlab.sim.kernel import kernel


@kernel("mm/swap.h", "swap_address_space", traced=False)
def swap_address_space(swap: Swap, entry: int) -> int:
    """The mapping of the swap cache that has the pages of an entry, by their slots."""
    return swap.swapper_spaces[swp_type(entry) * swap.spaces_per_area + (swp_offset(entry) >> SWAP_ADDRESS_SPACE_SHIFT)]


@kernel("mm/swap_state.c", "clear_shadow_from_swap_cache", left_out="ranges", lock="address_space->i_pages")
def clear_shadow_from_swap_cache(mm: Mm, entry: int) -> None:
    """Forget when the page of a slot went: the slot is free, and the next page in it will be another one."""
    mapping, offset = swap_address_space(mm.swap, entry), swp_offset(entry)
    if xa_is_value(xa_load(mm.mappings.i_pages, mapping, offset)):
        xa_store(mm.mappings.i_pages, mapping, offset, 0)


@kernel("mm/swapfile.c", "add_to_avail_list", left_out="a list for each node", lock="swap_avail_lock", traced=False)
def add_to_avail_list(swap: Swap, si: SwapInfo) -> None:
    """An area has free slots: its turn comes after those of the same priority."""
    swap.last_turn += 1
    si.turn = swap.last_turn


@kernel("mm/swapfile.c", "swap_range_alloc", left_out="ranges", lock="si->lock")
def swap_range_alloc(si: SwapInfo, offset: int) -> None:
    """A slot comes into use; an area without a free one is asked no more."""
    if offset == si.lowest_bit:
        si.lowest_bit += 1
    if offset == si.highest_bit:
        si.highest_bit -= 1
    si.inuse_pages += 1
    if si.inuse_pages == si.pages:
        si.lowest_bit, si.highest_bit, si.turn = si.max, 0, 0


@kernel("mm/swapfile.c", "swap_range_free", left_out="ranges; telling the device", lock="si->lock")
def swap_range_free(mm: Mm, si: SwapInfo, offset: int) -> None:
    """A slot is free again; an area that was full can be asked again."""
    si.lowest_bit = min(si.lowest_bit, offset)
    if offset > si.highest_bit:
        was_full = not si.highest_bit
        si.highest_bit = offset
        if was_full and si.flags & SWP_WRITEOK:
            add_to_avail_list(mm.swap, si)
    mm.nr_swap_pages += 1
    si.inuse_pages -= 1
    clear_shadow_from_swap_cache(mm, swp_entry(si.type, offset))


@kernel("mm/swapfile.c", "swap_entry_free", left_out="memcg", lock="si->lock")
def swap_entry_free(mm: Mm, entry: int) -> None:
    """Nobody has a slot any more, nor any CPU in store: it is free."""
    si, offset = swp_swap_info(mm.swap, entry), swp_offset(entry)
    at = si.first_block + offset
    assert mm.swap.swap_map[at] == SWAP_HAS_CACHE, f"slot {offset} of {si.name} is still in use"
    mm.swap.swap_map[at] = 0
    dec_cluster_info_page(mm, si, offset)
    swap_range_free(mm, si, offset)


@kernel("mm/swapfile.c", "swapcache_free_entries", left_out="locks, for which they are sorted")
def swapcache_free_entries(mm: Mm, entries: Sequence[int]) -> None:
    """Free the slots that a CPU had in store."""
    for entry in sorted(entries, key=swp_type) if mm.swap.nr_swapfiles > 1 else entries:
        swap_entry_free(mm, entry)
