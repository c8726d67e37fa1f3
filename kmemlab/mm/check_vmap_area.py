"""The laws of the areas of kernel addresses, as code: what is true of the three trees after every operation."""

from __future__ import annotations

from typing import NoReturn

from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.rbtree import compute_subtree_max_size, rb_broken
from kmemlab.mm.vmalloc import Vmalloc
from kmemlab.mm.vmap_area import (
    FREE_VMAP_AREA_ROOT,
    PURGE_VMAP_AREA_ROOT,
    VMAP_AREA_ROOT,
    VmapAreas,
)
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each
from kmemlab.types.units import PAGE_SHIFT

TREES = {VMAP_AREA_ROOT: "busy", FREE_VMAP_AREA_ROOT: "free", PURGE_VMAP_AREA_ROOT: "lazy"}


@invented("a law is code beside the structure it speaks of", traced=False)
def check_vmap_areas(vmalloc: Vmalloc) -> None:
    """Free, busy and lazy areas are all addresses, each once; trees and lists are whole and agree.

    Free areas that touch have merged, so have lazy ones; each free area knows the largest size below it; and as many
    pages of addresses are counted as lazy as there are. Raises `BrokenLaw`.
    """
    areas = vmalloc.areas
    if not vmalloc.vmap_initialized:
        return
    spans: list[tuple[int, int, int]] = []
    for header, name in TREES.items():
        wrong = rb_broken(areas, header)
        if wrong:
            broken(f"the tree of {name} areas is broken: {wrong}")
        nodes = in_order(areas, areas.left[header])
        if nodes != list(list_for_each(areas.list, header)):
            broken(f"the list of {name} areas is not their tree in order")
        spans += [(areas.va_start[va], areas.va_end[va], header) for va in nodes]
        _check_neighbours(areas, nodes, name, may_touch=header == VMAP_AREA_ROOT)
    _check_cover(sorted(spans))
    for va in list_for_each(areas.list, FREE_VMAP_AREA_ROOT):
        if areas.subtree_max_size[va] != compute_subtree_max_size(areas, va):
            broken(f"the free area at {areas.va_start[va]:#x} has a wrong subtree_max_size")
    lazy = sum(areas.node_size(va) for va in list_for_each(areas.list, PURGE_VMAP_AREA_ROOT)) >> PAGE_SHIFT
    if vmalloc.vmap_lazy_nr != lazy:
        broken(f"vmap_lazy_nr is {vmalloc.vmap_lazy_nr}, but {lazy} pages of addresses wait")


@invented("the order that a search tree has", traced=False)
def in_order(areas: VmapAreas, root: int) -> list[int]:
    """The nodes of a subtree from left to right."""
    nodes: list[int] = []
    above: list[int] = []
    node = root
    while above or node:
        while node:
            above.append(node)
            node = areas.left[node]
        node = above.pop()
        nodes.append(node)
        node = areas.right[node]
    return nodes


def _check_neighbours(areas: VmapAreas, nodes: list[int], name: str, may_touch: bool) -> None:
    end = 0
    for va in nodes:
        start = areas.va_start[va]
        if start >= areas.va_end[va]:
            broken(f"the {name} area at {start:#x} is empty")
        if start < end or (start == end and not may_touch):
            broken(f"the {name} area at {start:#x} {'overlaps' if start < end else 'should have merged with'} the last")
        end = areas.va_end[va]


def _check_cover(spans: list[tuple[int, int, int]]) -> None:
    expected = 1
    for start, end, header in spans:
        if start != expected:
            what, low, high = "nobody's" if start > expected else "in two areas", *sorted((start, expected))
            broken(f"addresses from {low:#x} to {high:#x} are {what}, up to the next {TREES[header]} area")
        expected = end
    if expected not in (2**32 - 1, 2**64 - 1):
        broken(f"addresses from {expected:#x} up are nobody's")


@invented("how a law says that it does not hold", traced=False)
def broken(what: str) -> NoReturn:
    """Raise `BrokenLaw`."""
    raise BrokenLaw(what, where="vmalloc")
