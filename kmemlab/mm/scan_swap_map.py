"""Where on disk does a page go? Pages that go together shall lie together, since they may come back together.

disk with an arm   right behind the last one; after 256 pages from the first empty stretch of 256 on
solid state        the next one of this CPU's cluster
both, when that fails: any slot that is free
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.swap_cluster import (
    inc_cluster_info_page,
    scan_swap_map_ssd_cluster_conflict,
    scan_swap_map_try_ssd_cluster,
    swapfile_cluster,
)
from kmemlab.mm.swap_info import (
    LATENCY_LIMIT,
    SWAP_BATCH,
    SWAP_HAS_CACHE,
    SWP_SOLIDSTATE,
    SWP_WRITEOK,
    SwapInfo,
    active_areas,
)
from kmemlab.mm.swap_range import add_to_avail_list, swap_range_alloc
from kmemlab.mm.swap_state import TTRS_ANYWAY, try_to_reclaim_swap, vm_swap_full
from kmemlab.mm.swapops import swp_entry
from kmemlab.sim.kernel import invented, kernel


@invented("scan_swap_map_slots: where a scan of a disk with an arm begins", traced=False)
def next_on_disk(mm: Mm, si: SwapInfo) -> tuple[int, int]:
    """(slot to look at first, slot where the scan began). Each 256 slots an empty stretch of 256 is looked for."""
    if si.cluster_nr:
        si.cluster_nr -= 1
        return si.cluster_next, si.cluster_next
    size = swapfile_cluster(mm)
    si.cluster_nr = size - 1
    if si.pages - si.inuse_pages < size:
        return si.cluster_next, si.cluster_next
    swap_map, base, begin = mm.swap.swap_map, si.first_block, si.lowest_bit
    last_in_cluster = begin + size - 1
    offset = begin
    while last_in_cluster <= si.highest_bit:
        if swap_map[base + offset]:
            last_in_cluster = offset + size
        elif offset == last_in_cluster:
            si.cluster_next = offset - size + 1
            return si.cluster_next, begin
        offset += 1
    return begin, begin


@kernel("mm/swapfile.c", "swap_offset_available_and_locked", traced=False)
def swap_offset_available(mm: Mm, si: SwapInfo, offset: int) -> bool:
    """Whether a slot is free, or where slots are few, is one that only the swap cache has."""
    usage = mm.swap.swap_map[si.first_block + offset]
    return not usage or (usage == SWAP_HAS_CACHE and vm_swap_full(mm))


@invented("the label `scan` of scan_swap_map_slots", traced=False)
def scan_on(mm: Mm, si: SwapInfo, offset: int, scan_base: int) -> int | None:
    """The next slot behind `offset` that can be had, or else one from the first free slot to where the scan began."""
    for at in range(offset + 1, si.highest_bit + 1):
        if swap_offset_available(mm, si, at):
            return at
    return next((at for at in range(si.lowest_bit, scan_base) if swap_offset_available(mm, si, at)), None)


@invented("the part of scan_swap_map_slots that looks for more slots", traced=False)
def another_slot(mm: Mm, si: SwapInfo, offset: int, scan_base: int) -> tuple[int, bool]:
    """(the slot after `offset` to take as well, whether there is one); it must be found soon."""
    swap_map, base = mm.swap.swap_map, si.first_block
    if si.flags & SWP_SOLIDSTATE:
        found = scan_swap_map_try_ssd_cluster(mm, si)
        if found is not None:
            return found, True
    elif si.cluster_nr:
        offset += 1
        if not swap_map[base + offset]:
            si.cluster_nr -= 1
            return offset, True
    limit = scan_base if offset < scan_base else si.highest_bit
    for at in range(offset, min(limit, offset + LATENCY_LIMIT) + 1):
        if not swap_map[base + at]:
            return at, True
    return min(limit, offset + LATENCY_LIMIT) + 1, False


@invented("set_cluster_next and cluster_next_cpu: a disk has one place to go on from, a solid-state area one a CPU")
def set_cluster_next(mm: Mm, si: SwapInfo, offset: int) -> None:
    """Remember where to look first next time. (C goes on elsewhere, by chance, when 64 MiB are through.)"""
    if si.flags & SWP_SOLIDSTATE:
        si.cluster_next_cpu[mm.current.cpu] = offset
    else:
        si.cluster_next = offset


@invented("the first part of scan_swap_map_slots", traced=False)
def first_slot(mm: Mm, si: SwapInfo) -> tuple[int | None, int]:
    """(slot to look at first, slot where the scan began)."""
    if not si.flags & SWP_SOLIDSTATE:
        return next_on_disk(mm, si)
    found = scan_swap_map_try_ssd_cluster(mm, si)
    if found is not None:
        return found, found
    base = si.cluster_next_cpu[mm.current.cpu]  # not looked at itself, in C neither: a last free slot there stays free
    return scan_on(mm, si, base, base), base


@invented("the loop at the label `checks` of scan_swap_map_slots", traced=False)
def past_conflicts(mm: Mm, si: SwapInfo, offset: int, scan_base: int) -> int | None:
    """A slot that lies in no free cluster but the first of their list."""
    if not si.flags & SWP_SOLIDSTATE:
        return offset
    while scan_swap_map_ssd_cluster_conflict(mm, si, offset):
        found = scan_swap_map_try_ssd_cluster(mm, si)
        if found is None:
            return scan_on(mm, si, offset, scan_base)
        offset = found
    return offset


@kernel(
    "mm/swapfile.c",
    "scan_swap_map_slots",
    formerly=("scan_swap_map",),
    left_out="letting others run after each 256 slots; swap that hibernation takes",
    lock="si->lock",
)
def scan_swap_map_slots(mm: Mm, si: SwapInfo, usage: int, nr: int) -> list[int]:
    """Take up to `nr` slots of an area into use; their entries. There may be fewer: long searches are not worth it."""
    slots: list[int] = []
    offset, scan_base = first_slot(mm, si)
    while offset is not None and si.flags & SWP_WRITEOK and si.highest_bit:
        if offset > si.highest_bit:
            scan_base = offset = si.lowest_bit
        offset = past_conflicts(mm, si, offset, scan_base)
        if offset is None:
            break
        at, entry = si.first_block + offset, swp_entry(si.type, offset)
        cached_only = mm.swap.swap_map[at] == SWAP_HAS_CACHE and vm_swap_full(mm)
        if cached_only and try_to_reclaim_swap(mm, entry, TTRS_ANYWAY):
            continue
        if mm.swap.swap_map[at]:
            if slots and not cached_only:
                break
            offset = scan_on(mm, si, offset, scan_base)
            continue
        mm.swap.swap_map[at] = usage
        inc_cluster_info_page(mm, si, offset)
        swap_range_alloc(si, offset)
        slots.append(entry)
        if len(slots) == nr or offset >= si.highest_bit:
            break
        offset, found = another_slot(mm, si, offset, scan_base)
        if not found:
            break
    if slots and offset is not None:
        set_cluster_next(mm, si, offset + 1)
    return slots


@kernel("mm/swapfile.c", "get_swap_pages", formerly=("get_swap_page",), left_out="huge pages; a list for each node")
def get_swap_pages(mm: Mm, n_goal: int) -> list[int]:
    """Take up to `n_goal` slots, of the area with the highest priority that has any; areas of the same take turns."""
    if mm.nr_swap_pages <= 0:
        return []
    n_goal = min(n_goal, SWAP_BATCH, mm.nr_swap_pages)
    mm.nr_swap_pages -= n_goal
    slots: list[int] = []
    for si in active_areas(mm.swap):
        if not si.turn:
            continue
        add_to_avail_list(mm.swap, si)
        slots = scan_swap_map_slots(mm, si, SWAP_HAS_CACHE, n_goal)
        if slots:
            break
    mm.nr_swap_pages += n_goal - len(slots)
    return slots
