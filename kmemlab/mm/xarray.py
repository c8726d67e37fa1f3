"""struct xarray: which entry belongs to which index, as a tree of nodes with 64 slots each.

index 5000 = 1 · 64² + 14 · 64 + 8        a head of 0 is an empty array; one that is no node is the entry of index 0

head ─▶ node shift 12   [ . ● . … ]
                            └▶ node shift 6  [ … 14: ● … ]
                                                     └▶ node shift 0  [ … 8: entry … ]     marks: one bit a slot

low bits of a slot   00 a page (its pfn + 1 above them)   1 a value, such as a shadow   10 the number of a node
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.sim.column import UNTOUCHED_IS_FREE, Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.recording import signed
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import TooLarge
from kmemlab.types.units import U64_MAX

XA_CHUNK_SHIFT = 6
XA_CHUNK_SIZE = 1 << XA_CHUNK_SHIFT
XA_CHUNK_MASK = XA_CHUNK_SIZE - 1
XA_MAX_MARKS = 3
XA_MARK_0, XA_MARK_1, XA_MARK_2 = range(XA_MAX_MARKS)


@kernel("include/linux/xarray.h", "xa_mk_value", traced=False)
def xa_mk_value(value: int) -> int:
    """The entry that holds a number."""
    return value << 1 | 1


@kernel("include/linux/xarray.h", "xa_to_value", traced=False)
def xa_to_value(entry: int) -> int:
    """The number in such an entry."""
    return (entry & U64_MAX) >> 1


@kernel("include/linux/xarray.h", "xa_is_value", traced=False)
def xa_is_value(entry: int) -> bool:
    """Whether an entry holds a number."""
    return bool(entry & 1)


@invented("C stores the address of struct page", traced=False)
def xa_mk_page(pfn: int) -> int:
    """The entry that stands for a page."""
    return pfn + 1 << 2


@invented("C stores the address of struct page", traced=False)
def xa_to_page(entry: int) -> int:
    """The page frame number in such an entry."""
    return (entry >> 2) - 1


@kernel("include/linux/xarray.h", "struct xa_node", left_out="nodes come from a slab cache: here they take no memory")
class XaNodes(Struct):
    """The nodes of all trees of a machine, numbered from 1 on; `slots[64 * node + n]` is slot n of a node.

    Nodes that are free again are threaded through `parent`.
    """

    used = Cell()  # nodes were handed out up to this one
    first_free = Cell()

    slots: Column
    shift: Column
    offset: Column  # in which slot of its parent the node hangs
    parent: Column
    count: Column  # slots that are not empty
    nr_values: Column  # of those, values
    marks: Column

    def __init__(self, most: int) -> None:
        """`most` is how many nodes there can be."""
        self.slots = column("q", (most + 1) * XA_CHUNK_SIZE)
        self.shift = column("B", most + 1)
        self.offset = column("B", most + 1)
        self.parent = column("i", most + 1)
        self.count = column("B", most + 1)
        self.nr_values = column("B", most + 1)
        self.marks = column("Q", (most + 1) * XA_MAX_MARKS)


@invented("how many nodes a machine has room for")
def nodes_for(max_pfn: int) -> int:
    """As many as all its pages and as many shadows need, spread thinly; few where untouched cells take memory."""
    return max_pfn // (8 if UNTOUCHED_IS_FREE else 64) + 256


@kernel("lib/xarray.c", "xas_alloc", traced=False)
def xas_alloc(nodes: XaNodes, shift: int, parent: int, offset: int) -> int:
    """A new empty node. Raises `TooLarge` when there are no more."""
    node = nodes.first_free
    if node:
        nodes.first_free = nodes.parent[node]
    else:
        node = nodes.used + 1
        if node >= len(nodes.count):
            raise TooLarge(
                f"more than {node - 1} nodes of page cache trees",
                where="xas_alloc",
                remedy="read fewer scattered pages of very large files, or boot a machine with more memory",
            )
        nodes.used = node
    nodes.shift[node], nodes.parent[node], nodes.offset[node] = shift, parent, offset
    return node


@kernel("lib/xarray.c", "xa_node_free", traced=False)
def xa_node_free(nodes: XaNodes, node: int) -> None:
    """Put an empty node aside for the next that is needed."""
    nodes.parent[node] = nodes.first_free
    nodes.first_free = node


@invented("C keeps the tree's head in struct xarray; here a column of all heads owns it")
class XArrays(Struct):
    """Many trees, by number: `head[tree]` is the tree's first entry."""

    head: Column

    def __init__(self, trees: int, nodes: int) -> None:
        self.head = column("q", trees)
        self.nodes = XaNodes(nodes)


def _node_of(entry: int) -> int:
    """The number of the node that an entry stands for, or 0."""
    return entry >> 2 if entry & 3 == 2 else 0


@kernel("lib/xarray.c", "xas_load", traced=False)
def find_leaf(trees: XArrays, tree: int, index: int) -> int:
    """The node with the slot of an index, or 0 if there is none."""
    nodes = trees.nodes
    node = _node_of(trees.head[tree])
    if not node or index >> nodes.shift[node] + XA_CHUNK_SHIFT:
        return 0
    while node and nodes.shift[node]:
        node = _node_of(nodes.slots[node * XA_CHUNK_SIZE + (index >> nodes.shift[node] & XA_CHUNK_MASK)])
    return node


@kernel("lib/xarray.c", "xa_load", left_out="RCU")
def xa_load(trees: XArrays, tree: int, index: int) -> int:
    """The entry of an index, or 0."""
    node = find_leaf(trees, tree, index)
    return trees.nodes.slots[node * XA_CHUNK_SIZE + (index & XA_CHUNK_MASK)] if node else 0


@kernel("lib/xarray.c", "xas_create", traced=False)
def xas_create(trees: XArrays, tree: int, index: int) -> int:
    """The node with the slot of an index; the tree grows upwards and downwards until it has one."""
    nodes = trees.nodes
    node = _node_of(trees.head[tree])
    if not node:
        shift = 0  # an empty tree begins as high as the index asks for
        while index >> shift + XA_CHUNK_SHIFT:
            shift += XA_CHUNK_SHIFT
        node = xas_alloc(nodes, shift, 0, 0)
        trees.head[tree] = node << 2 | 2
    while index >> nodes.shift[node] + XA_CHUNK_SHIFT:
        node = _grow(trees, tree, node)
    while nodes.shift[node]:
        offset = index >> nodes.shift[node] & XA_CHUNK_MASK
        at = node * XA_CHUNK_SIZE + offset
        child = _node_of(nodes.slots[at])
        if not child:
            child = xas_alloc(nodes, nodes.shift[node] - XA_CHUNK_SHIFT, node, offset)
            nodes.slots[at] = child << 2 | 2
            nodes.count[node] += 1
        node = child
    return node


def _grow(trees: XArrays, tree: int, node: int) -> int:
    """Put a node above the topmost one; returns it. It is marked where anything below is."""
    nodes = trees.nodes
    top = xas_alloc(nodes, nodes.shift[node] + XA_CHUNK_SHIFT, 0, 0)
    nodes.slots[top * XA_CHUNK_SIZE] = node << 2 | 2
    nodes.count[top] = 1
    nodes.parent[node], nodes.offset[node] = top, 0
    for mark in range(XA_MAX_MARKS):
        if nodes.marks[node * XA_MAX_MARKS + mark]:
            nodes.marks[top * XA_MAX_MARKS + mark] = 1
    trees.head[tree] = top << 2 | 2
    return top


@kernel("lib/xarray.c", "xas_store", left_out="entries that span many indices", lock="xa_lock")
def xa_store(trees: XArrays, tree: int, index: int, entry: int) -> int:
    """Put an entry at an index, or with 0 nothing; returns what was there. Marks of an entry that goes are cleared."""
    nodes = trees.nodes
    node = xas_create(trees, tree, index) if entry else find_leaf(trees, tree, index)
    if not node:
        return 0
    at = node * XA_CHUNK_SIZE + (index & XA_CHUNK_MASK)
    old = nodes.slots[at]
    nodes.slots[at] = signed(entry)
    nodes.count[node] += bool(entry) - bool(old)
    nodes.nr_values[node] += (entry & 1) - (old & 1)
    if not entry or entry & 1:
        for mark in range(XA_MAX_MARKS):
            xa_clear_mark(trees, tree, index, mark)
    if not entry:
        xas_delete_node(trees, tree, node)
    return old


@kernel("lib/xarray.c", "xas_delete_node", traced=False)
def xas_delete_node(trees: XArrays, tree: int, node: int) -> None:
    """Free a node that is empty, and those above it that become empty by that; C also lets a tree shrink from above."""
    nodes = trees.nodes
    while not nodes.count[node]:
        parent, offset = nodes.parent[node], nodes.offset[node]
        xa_node_free(nodes, node)
        if not parent:
            trees.head[tree] = 0
            return
        nodes.slots[parent * XA_CHUNK_SIZE + offset] = 0
        nodes.count[parent] -= 1
        node = parent


@kernel("lib/xarray.c", "xa_set_mark", lock="xa_lock")
def xa_set_mark(trees: XArrays, tree: int, index: int, mark: int) -> None:
    """Mark the entry of an index, and the way to it, so that marked entries are found without looking at others."""
    nodes = trees.nodes
    node, offset = find_leaf(trees, tree, index), index & XA_CHUNK_MASK
    while node:
        at = node * XA_MAX_MARKS + mark
        if nodes.marks[at] >> offset & 1:
            return
        nodes.marks[at] |= 1 << offset
        node, offset = nodes.parent[node], nodes.offset[node]


@kernel("lib/xarray.c", "xa_clear_mark", lock="xa_lock")
def xa_clear_mark(trees: XArrays, tree: int, index: int, mark: int) -> None:
    """Clear the mark of an index, and of the way to it where nothing else is marked."""
    nodes = trees.nodes
    node, offset = find_leaf(trees, tree, index), index & XA_CHUNK_MASK
    while node:
        at = node * XA_MAX_MARKS + mark
        if not nodes.marks[at] >> offset & 1:
            return
        nodes.marks[at] &= ~(1 << offset)
        if nodes.marks[at]:
            return
        node, offset = nodes.parent[node], nodes.offset[node]


@kernel("lib/xarray.c", "xa_get_mark", traced=False)
def xa_get_mark(trees: XArrays, tree: int, index: int, mark: int) -> bool:
    """Whether the entry of an index is marked."""
    node = find_leaf(trees, tree, index)
    return bool(node and trees.nodes.marks[node * XA_MAX_MARKS + mark] >> (index & XA_CHUNK_MASK) & 1)


@kernel("include/linux/xarray.h", "xa_for_each", traced=False)
def xa_for_each(trees: XArrays, tree: int, start: int = 0, mark: int | None = None) -> Iterator[tuple[int, int]]:
    """(index, entry) of all entries from index `start` on, or of those that are marked; the tree must stay as it is."""
    top = _node_of(trees.head[tree])
    if top:
        yield from _walk(trees.nodes, top, 0, start, mark)


def _walk(nodes: XaNodes, node: int, base: int, start: int, mark: int | None) -> Iterator[tuple[int, int]]:
    shift = nodes.shift[node]
    marked = nodes.marks[node * XA_MAX_MARKS + mark] if mark is not None else U64_MAX
    first = max(0, start - base >> shift)
    for offset in range(first, XA_CHUNK_SIZE):
        entry = nodes.slots[node * XA_CHUNK_SIZE + offset]
        if not entry or not marked >> offset & 1:
            continue
        if shift:
            yield from _walk(nodes, entry >> 2, base + (offset << shift), start, mark)
        else:
            yield base + offset, entry
