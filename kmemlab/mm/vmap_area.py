"""Areas of kernel addresses: which are taken, which are free, and which are freed but may still be in a TLB.

VMALLOC_START                                                           VMALLOC_END
|▓▓▓▓▓▓▓▓|···|▓▓▓▓|░░░░░░░|▓▓▓▓▓▓|··················································|
   busy   free busy  lazy   busy                       free

Each address is in one of three trees, sorted by address. The tree of free areas is augmented: see `free_vmap_area`.
Busy areas stay apart even where they touch; free ones, and lazy ones, merge with their neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.mm.rbtree import (
    NOBODY,
    RbNodes,
    augment_tree_propagate_from,
    rb_erase,
    rb_insert_color,
    rb_link_node,
)
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead, init_list_head, list_add, list_del
from kmemlab.sim.struct import Cell
from kmemlab.types.errors import TooLarge

# The trees, by the numbers of their headers. C's lists vmap_area_list, … have the same heads here.
VMAP_AREA_ROOT, FREE_VMAP_AREA_ROOT, PURGE_VMAP_AREA_ROOT = 1, 2, 3
FIRST_AREA = 4
MOST_AREAS = 1 << 18


@kernel("include/linux/vmalloc.h", "struct vmap_area", left_out="the flags of vm_map_ram (6.2 and later)")
class VmapAreas(RbNodes):
    """Area n is [va_start, va_end), in one of three trees; `vm` is what a busy one is used for, or 0.

    C takes the structs from a cache of the slab allocator; here a freed number is the next to be used.
    """

    nr_used = Cell()  # numbers from FIRST_AREA on that were ever used
    first_unused = Cell()  # the number freed last; each knows the one freed before it

    va_start: Column
    va_end: Column
    vm: Column

    def __init__(self, most: int = MOST_AREAS) -> None:
        super().__init__(FIRST_AREA + most)
        self.va_start = column("Q", FIRST_AREA + most)
        self.va_end = column("Q", FIRST_AREA + most)
        self.vm = column("i", FIRST_AREA + most)
        self.list = ListHead(FIRST_AREA + most)

    def node_size(self, node: int) -> int:
        """The bytes of an area (C's va_size)."""
        return self.va_end[node] - self.va_start[node]


FIRST_UNUSED = VmapAreas.first_unused.index  # areas.cells[…]: each area asks for this


@invented("C's lists are empty at compile time")
def init_vmap_area_lists(areas: VmapAreas) -> None:
    """Nothing is busy, free or lazy."""
    for header in (VMAP_AREA_ROOT, FREE_VMAP_AREA_ROOT, PURGE_VMAP_AREA_ROOT):
        areas.left[header] = NOBODY
        init_list_head(areas.list, header)


@invented("C's kmem_cache_alloc(vmap_area_cachep, …)", traced=False)
def new_vmap_area(areas: VmapAreas, start: int, end: int) -> int:
    """A number for the area [start, end), in no tree yet. Raises `TooLarge` when there are no more."""
    va = areas.cells[FIRST_UNUSED]
    if va:
        areas.cells[FIRST_UNUSED] = areas.list.next[va]
    else:
        va = FIRST_AREA + areas.nr_used
        if va >= len(areas.va_start):
            raise TooLarge(
                f"more than {len(areas.va_start) - FIRST_AREA} areas of kernel addresses",
                where="alloc_vmap_area",
                remedy="free some, or ask for larger areas",
            )
        areas.nr_used += 1
    areas.va_start[va], areas.va_end[va] = start, end
    areas.vm[va] = 0
    return va


@invented("C's kmem_cache_free(vmap_area_cachep, …)", traced=False)
def release_vmap_area(areas: VmapAreas, va: int) -> None:
    """The number of an area that is in no tree may be used for another."""
    areas.list.next[va] = areas.cells[FIRST_UNUSED]
    areas.cells[FIRST_UNUSED] = va


@kernel("mm/vmalloc.c", "find_va_links", left_out="going on after a warning", traced=False)
def find_va_links(areas: VmapAreas, va: int, header: int) -> tuple[int, bool]:
    """The node of a tree below which an area belongs, and whether to its left."""
    left, right, va_start, va_end = areas.left, areas.right, areas.va_start, areas.va_end
    start, end = va_start[va], va_end[va]
    parent, is_left, node = header, True, left[header]
    while node:
        parent = node
        if end <= va_start[node]:
            is_left, node = True, left[node]
        else:
            assert start >= va_end[node], (
                f"vmalloc bug: {start:#x}-{end:#x} overlaps with {va_start[node]:#x}-{va_end[node]:#x}"
            )
            is_left, node = False, right[node]
    return parent, is_left


@kernel("mm/vmalloc.c", "__link_va", formerly=("link_va", "link_va_augment"), traced=False)
def link_va(areas: VmapAreas, va: int, header: int, parent: int, is_left: bool) -> None:
    """Put an area into a tree at a place that `find_va_links` found, and into its list, sorted by address."""
    augment = header == FREE_VMAP_AREA_ROOT
    before = areas.list.prev[parent] if is_left and parent != header else parent
    rb_link_node(areas, va, parent, is_left)
    rb_insert_color(areas, va, header, augment)
    areas.subtree_max_size[va] = 0  # the sizes above are brought into line from here
    list_add(areas.list, va, before)


@kernel("mm/vmalloc.c", "__unlink_va", formerly=("unlink_va", "unlink_va_augment"), traced=False)
def unlink_va(areas: VmapAreas, va: int, header: int) -> None:
    """Take an area out of its tree and list."""
    rb_erase(areas, va, header, header == FREE_VMAP_AREA_ROOT)
    list_del(areas.list, va)


@kernel("mm/vmalloc.c", "insert_vmap_area", lock="vmap_area_lock", traced=False)
def insert_vmap_area(areas: VmapAreas, va: int, header: int = VMAP_AREA_ROOT) -> None:
    """Put an area into a tree."""
    link_va(areas, va, header, *find_va_links(areas, va, header))


@kernel("mm/vmalloc.c", "insert_vmap_area_augment", lock="free_vmap_area_lock", traced=False)
def insert_vmap_area_augment(areas: VmapAreas, va: int) -> None:
    """Put an area into the tree of free ones."""
    insert_vmap_area(areas, va, FREE_VMAP_AREA_ROOT)
    augment_tree_propagate_from(areas, va, FREE_VMAP_AREA_ROOT)


@kernel("mm/vmalloc.c", "__merge_or_add_vmap_area", formerly=("merge_or_add_vmap_area",))
def merge_or_add_vmap_area(areas: VmapAreas, va: int, header: int) -> int:
    """Give an area to a tree whose neighbours merge; the number of the area that it is part of then.

    |<── prev ──>|<── va ──>|<── next ──>|       prev.va_end == va.va_start, va.va_end == next.va_start
    """
    parent, is_left = find_va_links(areas, va, header)
    links, va_start, va_end = areas.list, areas.va_start, areas.va_end
    following = parent if is_left else links.next[parent]
    preceding = links.prev[following]
    merged = False
    if following != header and va_start[following] == va_end[va]:
        va_start[following] = va_start[va]
        release_vmap_area(areas, va)
        va, merged = following, True
    if preceding != header and va_end[preceding] == va_start[va]:
        # What merged with both sides leaves the tree first: a rotation must see sizes that are still true.
        if merged:
            unlink_va(areas, va, header)
        va_end[preceding] = va_end[va]
        release_vmap_area(areas, va)
        va, merged = preceding, True
    if not merged:
        link_va(areas, va, header, parent, is_left)
    return va


@kernel("mm/vmalloc.c", "merge_or_add_vmap_area_augment", lock="free_vmap_area_lock")
def merge_or_add_vmap_area_augment(areas: VmapAreas, va: int) -> int:
    """Give an area to the tree of free ones."""
    va = merge_or_add_vmap_area(areas, va, FREE_VMAP_AREA_ROOT)
    augment_tree_propagate_from(areas, va, FREE_VMAP_AREA_ROOT)
    return va


@kernel("mm/vmalloc.c", "find_vmap_area", lock="vmap_area_lock", formerly=("__find_vmap_area",), traced=False)
def find_vmap_area(areas: VmapAreas, addr: int, header: int = VMAP_AREA_ROOT) -> int:
    """The busy area that an address lies in, or the one of another tree; 0 if there is none."""
    left, right, va_start, va_end = areas.left, areas.right, areas.va_start, areas.va_end
    node = left[header]
    while node:
        if addr < va_start[node]:
            node = left[node]
        elif addr >= va_end[node]:
            node = right[node]
        else:
            return node
    return NOBODY


@invented("C's list_for_each_entry over vmap_area_list and its like", traced=False)
def vmap_areas(areas: VmapAreas, header: int) -> Iterator[int]:
    """The areas of a tree, by address."""
    following = areas.list.next
    node = following[header]
    while node not in (header, NOBODY):
        yield node
        node = following[node]
