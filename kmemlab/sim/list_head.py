"""The kernel's doubly linked list, threaded through two columns: the order of a list is state.

node    3      7      12     40 = the head (a number that is no page)
next    7      12     40     3
prev    40     3      7      12          head → 3 → 7 → 12 → head
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.sim.column import Column, column, index_typecode
from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Struct
from kmemlab.types.errors import KmemlabError


@kernel("include/linux/types.h", "struct list_head", left_out="list poisoning of deleted entries")
class ListHead(Struct):
    """The `next` and `prev` of numbered nodes; a list is known by the number of its head node.

    >>> lru = ListHead(8)
    >>> init_list_head(lru, 7)
    >>> list_add(lru, 3, 7); list_add(lru, 5, 7); list_add_tail(lru, 0, 7)
    >>> list(list_for_each(lru, 7))
    [5, 3, 0]
    """

    next: Column
    prev: Column

    def __init__(self, nodes: int) -> None:
        self.next = column(index_typecode(nodes), nodes)
        self.prev = column(index_typecode(nodes), nodes)


@kernel("include/linux/list.h", "INIT_LIST_HEAD", traced=False)
def init_list_head(links: ListHead, head: int) -> None:
    """Make `head` an empty list: it is its own neighbour on both sides."""
    links.next[head] = head
    links.prev[head] = head


@kernel("include/linux/list.h", "list_add", traced=False)
def list_add(links: ListHead, node: int, head: int) -> None:
    """Put `node` at the front of the list `head`."""
    after, before = links.next, links.prev
    first = after[head]
    after[head] = node
    before[node] = head
    after[node] = first
    before[first] = node


@kernel("include/linux/list.h", "list_add_tail", traced=False)
def list_add_tail(links: ListHead, node: int, head: int) -> None:
    """Put `node` at the end of the list `head`."""
    after, before = links.next, links.prev
    last = before[head]
    before[head] = node
    after[node] = head
    before[node] = last
    after[last] = node


@kernel("include/linux/list.h", "list_del", traced=False)
def list_del(links: ListHead, node: int) -> None:
    """Take `node` out of the list that it is on."""
    after, before = links.next, links.prev
    following = after[node]
    preceding = before[node]
    after[preceding] = following
    before[following] = preceding


@kernel("include/linux/list.h", "list_for_each", traced=False)
def list_for_each(links: ListHead, head: int) -> Iterator[int]:
    """The nodes of the list `head`, first to last.

    Raises `KmemlabError` where the links do not close to a ring: a broken list is found, never followed for ever.
    """
    node, previous = links.next[head], head
    for _ in range(len(links.next)):
        if links.prev[node] != previous:
            break
        if node == head:
            return
        yield node
        previous, node = node, links.next[node]
    raise KmemlabError(
        f"list {head} is broken at node {node}: its prev is {links.prev[node]}, but the walk came from {previous}",
        where="list_for_each",
        remedy="find who wrote these links: record, then timeline.run_until the write",
    )
