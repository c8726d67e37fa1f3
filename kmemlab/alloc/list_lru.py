"""mm/list_lru.c: objects that nobody uses at the moment, the oldest first, on a list for each node.

added at the end ─▶ [ newest … oldest ] ─▶ list_lru_walk asks, from the oldest on: goes, stays, or round once more

An object is a number; its list is that of the node where its memory lies, so that a node short of memory is helped.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import ListHead, init_list_head, list_add_tail, list_del
from kmemlab.sim.struct import Cell, Struct


@kernel("include/linux/list_lru.h", "enum lru_status", left_out="LRU_SKIP: no other CPU holds an object's lock")
class LruStatus(Enum):
    """What is to be done with an object after it was looked at."""

    REMOVED = "it is on no list any more"
    ROTATE = "round once more"
    RETRY = "the list may have changed: begin anew"


@kernel("include/linux/list_lru.h", "struct list_lru", left_out="memcg")
class ListLru(Struct):
    """Lists of objects 0 … `nr_objects` - 1, one a node."""

    initialised = Cell()

    nr_items: Column  # how many objects are on each node's list
    place: Column  # 1 + the node on whose list an object is; 0: it is on none

    def __init__(self, nr_objects: int, nr_nodes: int) -> None:
        self.head = nr_objects
        self.nr_nodes = nr_nodes
        self.links = ListHead(nr_objects + nr_nodes)
        self.nr_items = column("q", nr_nodes)
        self.place = column("H", nr_objects)


@kernel("mm/list_lru.c", "__list_lru_init", formerly=("list_lru_init",))
def list_lru_init(lru: ListLru) -> None:
    """Make the lists empty."""
    for nid in range(lru.nr_nodes):
        init_list_head(lru.links, lru.head + nid)
    lru.initialised = 1


@kernel("mm/list_lru.c", "list_lru_add", lock="nlru->lock")
def list_lru_add(lru: ListLru, item: int, nid: int) -> bool:
    """Put an object at the end of a node's list; False if it is on one already."""
    if lru.place[item]:
        return False
    list_add_tail(lru.links, item, lru.head + nid)
    lru.place[item] = nid + 1
    lru.nr_items[nid] += 1
    return True


@kernel("mm/list_lru.c", "list_lru_del", lock="nlru->lock")
def list_lru_del(lru: ListLru, item: int) -> bool:
    """Take an object off its list; False if it is on none."""
    if not lru.place[item]:
        return False
    list_del(lru.links, item)
    lru.nr_items[lru.place[item] - 1] -= 1
    lru.place[item] = 0
    return True


@kernel("mm/list_lru.c", "list_lru_walk_one", formerly=("__list_lru_walk_one",), lock="nlru->lock")
def list_lru_walk(lru: ListLru, nid: int, isolate: Callable[[int], LruStatus], nr_to_walk: int) -> None:
    """Ask `isolate` of up to `nr_to_walk` objects of a node, oldest first; it takes off the list what is to go."""
    head = lru.head + nid
    at = lru.links.next[head]
    while at != head and nr_to_walk:
        nr_to_walk -= 1
        following = lru.links.next[at]
        status = isolate(at)
        if status is LruStatus.RETRY:
            following = lru.links.next[head]
        elif status is LruStatus.ROTATE:
            list_del(lru.links, at)
            list_add_tail(lru.links, at, head)
        at = following
