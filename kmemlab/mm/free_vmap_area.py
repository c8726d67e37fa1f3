"""The free addresses: the lowest area where a request fits, and how it is cut out.

                       20–28: 8, 9 below            each node: its area, its size, and the largest size below it
                      /                \\
          10–12: 2, 4 below         40–49: 9, 9     a request for 5 at any address:
          /              \\                          left of the root at most 4: the root itself has 8, so it is 20–25
     4–8: 4, 4       15–16: 1, 1

An aligned request is looked for with room for the worst case, `size + align - 1`; so a smaller area that happens to lie
right is passed over, unless the walk comes across it. What is found then depends on the shape of the tree, as in C.
"""

from __future__ import annotations

from kmemlab.mm.rbtree import NOBODY, augment_tree_propagate_from
from kmemlab.mm.vmap_area import (
    FREE_VMAP_AREA_ROOT,
    VMAP_AREA_ROOT,
    VmapAreas,
    insert_vmap_area_augment,
    new_vmap_area,
    release_vmap_area,
    unlink_va,
    vmap_areas,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SIZE, round_up

# enum fit_type: which edges of the free area a request touches
NOTHING_FIT, FL_FIT_TYPE, LE_FIT_TYPE, RE_FIT_TYPE, NE_FIT_TYPE = range(5)


@invented("two lines that C has in three places", traced=False)
def aligned_start(areas: VmapAreas, va: int, align: int, vstart: int) -> int:
    """The first address of an area, not below `vstart`, that is a multiple of `align`."""
    return round_up(max(areas.va_start[va], vstart), align)


@kernel("mm/vmalloc.c", "is_within_this_va", traced=False)
def is_within_this_va(areas: VmapAreas, va: int, size: int, align: int, vstart: int) -> bool:
    """Whether an area has room for a request."""
    return aligned_start(areas, va, align, vstart) + size <= areas.va_end[va]


@kernel("mm/vmalloc.c", "find_vmap_lowest_match", lock="free_vmap_area_lock")
def find_vmap_lowest_match(areas: VmapAreas, size: int, align: int, vstart: int, adjust_search_size: bool) -> int:
    """The free area with the lowest address that has room, or 0."""
    left, right, largest, va_start = areas.left, areas.right, areas.subtree_max_size, areas.va_start
    length = size + align - 1 if adjust_search_size else size
    node = left[FREE_VMAP_AREA_ROOT]
    while node:
        if largest[left[node]] >= length and vstart < va_start[node]:
            node = left[node]
        elif is_within_this_va(areas, node, size, align, vstart):
            return node
        elif largest[right[node]] >= length:
            node = right[node]
        else:
            node, vstart, found = roll_back(areas, node, size, align, vstart, length)
            if found:
                return node
    return NOBODY


@invented("the last part of find_vmap_lowest_match")
def roll_back(areas: VmapAreas, node: int, size: int, align: int, vstart: int, length: int) -> tuple[int, int, bool]:
    """Climb until an area has room, or one's right subtree may; gives where to go on, from where, and if it is found.

    It comes to that only when `vstart` or the alignment rules out what looked large enough.
    """
    while (node := areas.parent[node]) != FREE_VMAP_AREA_ROOT:
        if is_within_this_va(areas, node, size, align, vstart):
            return node, vstart, True
        right = areas.right[node]
        if areas.subtree_max_size[right] >= length and vstart <= areas.va_start[node]:
            # One further than this node: or the walk would come back to the subtree that it has left.
            return right, areas.va_start[node] + 1, False
    return NOBODY, vstart, False


@kernel("mm/vmalloc.c", "classify_va_fit_type", traced=False)
def classify_va_fit_type(areas: VmapAreas, va: int, start: int, size: int) -> int:
    """Which edges of a free area [start, start + size) touches."""
    first, last = areas.va_start[va], areas.va_end[va]
    if start < first or start + size > last:
        return NOTHING_FIT
    if start == first:
        return FL_FIT_TYPE if start + size == last else LE_FIT_TYPE
    return RE_FIT_TYPE if start + size == last else NE_FIT_TYPE


@kernel("mm/vmalloc.c", "adjust_va_to_fit_type", left_out="the spare struct that each CPU keeps for the third case")
def adjust_va_to_fit_type(areas: VmapAreas, va: int, start: int, size: int) -> None:
    """Cut [start, start + size) out of a free area.

    FL  |▓▓▓▓▓▓▓▓|     LE  |▓▓▓▓|···|     RE  |···|▓▓▓▓|     NE  |··|▓▓▓|··|     one area becomes two
    """
    fit = classify_va_fit_type(areas, va, start, size)
    assert fit != NOTHING_FIT
    lower = NOBODY
    if fit == FL_FIT_TYPE:
        unlink_va(areas, va, FREE_VMAP_AREA_ROOT)
        release_vmap_area(areas, va)
        return
    if fit == NE_FIT_TYPE:
        lower = new_vmap_area(areas, areas.va_start[va], start)
    if fit == RE_FIT_TYPE:
        areas.va_end[va] = start
    else:
        areas.va_start[va] = start + size
    augment_tree_propagate_from(areas, va, FREE_VMAP_AREA_ROOT)
    if lower:
        insert_vmap_area_augment(areas, lower)


@kernel("mm/vmalloc.c", "__alloc_vmap_area", lock="free_vmap_area_lock")
def alloc_vmap_area_inner(areas: VmapAreas, size: int, align: int, vstart: int, vend: int) -> int:
    """Take `size` bytes at the lowest address in [vstart, vend) that fits; `vend` itself if none does."""
    # A range that is exactly as large as the request has no room for the worst case.
    adjust_search_size = align > PAGE_SIZE and vend - vstart != size
    va = find_vmap_lowest_match(areas, size, align, vstart, adjust_search_size)
    if not va:
        return vend
    start = aligned_start(areas, va, align, vstart)
    if start + size > vend:
        return vend
    adjust_va_to_fit_type(areas, va, start, size)
    return start


@kernel("mm/vmalloc.c", "vmap_init_free_space")
def vmap_init_free_space(areas: VmapAreas, highest: int) -> None:
    """All addresses from 1 to `highest` that are not busy yet are free."""
    start = 1
    for busy in vmap_areas(areas, VMAP_AREA_ROOT):
        if areas.va_start[busy] > start:
            insert_vmap_area_augment(areas, new_vmap_area(areas, start, areas.va_start[busy]))
        start = areas.va_end[busy]
    if start < highest:
        insert_vmap_area_augment(areas, new_vmap_area(areas, start, highest))
