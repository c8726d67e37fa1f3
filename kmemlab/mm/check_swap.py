"""The laws of swap areas, as code: who names a slot, who has it in the cache or in store, and that the sums agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NoReturn

from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.swap_cluster import cluster_of, swapfile_cluster
from kmemlab.mm.swap_count import swp_swapcount
from kmemlab.mm.swap_info import (
    CLUSTER_FLAG_FREE,
    SWAP_HAS_CACHE,
    SWAP_MAP_BAD,
    SWAP_SLOTS_CACHE_SIZE,
    SWP_SOLIDSTATE,
    SWP_USED,
    SWP_WRITEOK,
    SwapInfo,
    used_areas,
)
from kmemlab.mm.swap_range import swap_address_space
from kmemlab.mm.swap_state import folio_swap_entry, folio_test_swapcache
from kmemlab.mm.swapops import swp_entry, swp_type
from kmemlab.mm.vmstat import NR_SWAPCACHE
from kmemlab.mm.xarray import xa_is_value, xa_load, xa_to_page
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each


@invented("a law is code beside the structure it speaks of", traced=False)
def check_swap_areas(mm: Mm, held: Mapping[int, int], exclusive: Collection[int]) -> None:
    """Each slot is named as often as it counts, is in the cache if it says so, and is counted as in use or as free.

    `held` says how many page tables hold each entry, `exclusive` those whose page was one process's alone. Raises
    `BrokenLaw`.
    """
    stored = _stored(mm)
    cached: Counter[int] = Counter()
    for entry in held:
        if not mm.swap.info[swp_type(entry)].flags & SWP_USED:
            _broken(f"a page table holds swap entry {entry:#x}, but there is no such area")
    for si in used_areas(mm.swap):
        in_use = 0
        for offset in range(1, si.max):
            entry = swp_entry(si.type, offset)
            in_use += _check_slot(mm, si, offset, held.get(entry, 0), entry in stored, cached)
            if entry in exclusive and held.get(entry) != 1:
                _broken(f"slot {offset} of {si.name} is one process's alone, yet {held.get(entry)} name it")
        if in_use != si.inuse_pages or si.pages != si.max - 1:
            _broken(f"{si.name} counts {si.inuse_pages} slots in use, there are {in_use} of {si.max - 1}")
        if bool(si.turn) != (in_use < si.pages and bool(si.flags & SWP_WRITEOK)):
            _broken(f"{si.name} has {si.pages - in_use} free slots, and its turn is {si.turn}")
        if si.flags & SWP_SOLIDSTATE:
            _check_clusters(mm, si)
    _check_sums(mm, cached)


def _stored(mm: Mm) -> set[int]:
    """The entries that CPUs have in store; none twice."""
    slots = mm.swap.slots
    entries: list[int] = []
    for cpu in range(mm.swap.nr_cpus):
        base = cpu * SWAP_SLOTS_CACHE_SIZE
        entries += slots.slots[base + slots.cur[cpu] : base + slots.cur[cpu] + slots.nr[cpu]]
        entries += slots.slots_ret[base : base + slots.n_ret[cpu]]
    if len(set(entries)) < len(entries):
        _broken("a slot is in store twice")
    return set(entries)


def _check_slot(mm: Mm, si: SwapInfo, offset: int, held: int, stored: bool, cached: Counter[int]) -> bool:
    """Whether the slot is in use."""
    swap, entry = mm.swap, swp_entry(si.type, offset)
    usage = swap.swap_map[si.first_block + offset]
    where = f"slot {offset} of {si.name}"
    found = xa_load(mm.mappings.i_pages, swap_address_space(swap, entry), offset)
    if swp_swapcount(mm, entry) != held:
        _broken(f"{where} counts {swp_swapcount(mm, entry)} page tables, but {held} hold its entry")
    if found and not xa_is_value(found):
        pfn = xa_to_page(found)
        cached[folio_pgdat(mm, pfn).node_id] += 1
        if not folio_test_swapcache(mm, pfn) or folio_swap_entry(mm, pfn) != entry:
            _broken(f"{where} has pfn {pfn} in the swap cache, which knows nothing of it")
    in_cache = bool(found) and not xa_is_value(found)
    if bool(usage & SWAP_HAS_CACHE) != (in_cache or stored) or (in_cache and stored):
        _broken(f"{where} has usage {usage:#x}; in the cache: {in_cache}, in store: {stored}")
    if usage:
        return True
    if found or swap.continuation[si.first_block + offset]:
        _broken(f"{where} is free, but something is left of what it was")
    if not si.lowest_bit <= offset <= si.highest_bit:
        _broken(f"{where} is free, but is looked for from {si.lowest_bit} to {si.highest_bit} only")
    return False


def _check_clusters(mm: Mm, si: SwapInfo) -> None:
    swap, size = mm.swap, swapfile_cluster(mm)
    listed = list(list_for_each(swap.free_clusters, swap.free_clusters_head(si.type)))
    first = cluster_of(mm, si, 0)
    for cluster in range(first, first + -(-si.max // size)):
        slots = range(cluster * size, (cluster + 1) * size)
        used = sum(bool(swap.swap_map[at]) or at >= si.first_block + si.max for at in slots)
        free = bool(swap.cluster_flags[cluster] & CLUSTER_FLAG_FREE)
        if swap.cluster_count[cluster] != used or free != (not used) or free != (cluster in listed):
            _broken(
                f"cluster {cluster} of {si.name} counts {swap.cluster_count[cluster]} slots in use, there are {used}; "
                f"on the list of free ones: {cluster in listed}"
            )


def _check_sums(mm: Mm, cached: Counter[int]) -> None:
    swap = mm.swap
    active = [si for si in used_areas(swap) if si.flags & SWP_WRITEOK]
    leaving = sum(si.inuse_pages for si in used_areas(swap) if not si.flags & SWP_WRITEOK)
    free = sum(si.pages - si.inuse_pages for si in active) - leaving
    if mm.nr_swap_pages != free:
        _broken(f"nr_swap_pages is {mm.nr_swap_pages}, but {free} slots are free")
    if mm.total_swap_pages != sum(si.pages for si in active):
        _broken(f"total_swap_pages is {mm.total_swap_pages}")
    if swap.nr_rotate_swap != sum(not si.flags & SWP_SOLIDSTATE for si in used_areas(swap)):
        _broken(f"nr_rotate_swap is {swap.nr_rotate_swap}")
    for pgdat in mm.node_data:
        if pgdat.vm_stat[NR_SWAPCACHE] != cached[pgdat.node_id]:
            _broken(f"nr_swapcached is {pgdat.vm_stat[NR_SWAPCACHE]}, but there are {cached[pgdat.node_id]}")
    for si in used_areas(swap):
        if swap.swap_map[si.first_block] != SWAP_MAP_BAD or si.lowest_bit < 1:
            _broken(f"the header of {si.name} can be taken for a slot")


def _broken(law: str) -> NoReturn:
    raise BrokenLaw(law, where="swap")
