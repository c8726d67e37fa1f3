"""Red-black trees against a sorted list, and against the shapes that the textbook's rules allow."""

from __future__ import annotations

import random

import pytest

from kmemlab.mm.rbtree import (
    RbNodes,
    augment_tree_propagate_from,
    rb_broken,
    rb_erase,
    rb_insert_color,
    rb_link_node,
)

HEADER, NODES = 1, 130


class Sized(RbNodes):
    """Nodes whose size is their number's remainder by 37."""

    def node_size(self, node: int) -> int:
        return node * 7919 % 37


def insert(rb: RbNodes, node: int, keys: dict[int, float], key: float) -> None:
    parent, is_left, here = HEADER, True, rb.left[HEADER]
    while here:
        parent, is_left = here, key < keys[here]
        here = (rb.left if is_left else rb.right)[here]
    keys[node] = key
    rb_link_node(rb, node, parent, is_left)
    rb_insert_color(rb, node, HEADER, augment=True)
    rb.subtree_max_size[node] = 0
    augment_tree_propagate_from(rb, node, HEADER)


def subtree(rb: RbNodes, node: int) -> list[int]:
    """The nodes below and at a node, in order; checks the largest size on the way."""
    if not node:
        return []
    nodes = [*subtree(rb, rb.left[node]), node, *subtree(rb, rb.right[node])]
    assert rb.subtree_max_size[node] == max(rb.node_size(each) for each in nodes)
    return nodes


@pytest.mark.parametrize("seed", range(25))
def test_a_tree_is_sorted_balanced_and_knows_its_largest_sizes(seed: int) -> None:
    chance, rb, keys = random.Random(seed), Sized(NODES), dict[int, float]()
    for _ in range(250):
        if keys and chance.random() < 0.45:
            node = chance.choice(sorted(keys))
            rb_erase(rb, node, HEADER, augment=True)
            del keys[node]
        elif len(keys) < NODES - 10:
            insert(rb, next(n for n in range(2, NODES) if n not in keys), keys, chance.random())
        assert rb_broken(rb, HEADER) == ""
        assert subtree(rb, rb.left[HEADER]) == sorted(keys, key=lambda node: keys[node])
    assert (rb.parent[0], rb.left[0], rb.right[0], rb.red[0], rb.subtree_max_size[0]) == (0, 0, 0, 0, 0)


def test_ascending_keys_make_the_tree_that_linux_makes() -> None:
    rb, keys = Sized(NODES), dict[int, float]()
    for node in range(2, 10):
        insert(rb, node, keys, float(node))

    def shape(node: int) -> str:
        if not node:
            return "."
        return f"({shape(rb.left[node])} {node}{'r' if rb.red[node] else 'b'} {shape(rb.right[node])})"

    # Worked by hand with the rules of lib/rbtree.c.
    assert shape(rb.left[HEADER]) == "(((. 2b .) 3r (. 4b .)) 5b ((. 6b .) 7r (. 8b (. 9r .))))"


@pytest.mark.parametrize("damage", ["colour", "root", "parent", "order of black", "ring"])
def test_a_broken_tree_is_found(damage: str) -> None:
    rb, keys = Sized(NODES), dict[int, float]()
    for node in range(2, 10):
        insert(rb, node, keys, float(node))
    if damage == "colour":
        rb.red[8] = 1
    elif damage == "root":
        rb.red[5] = 1
    elif damage == "parent":
        rb.parent[4] = 7
    elif damage == "order of black":
        rb.red[9] = 0
    else:
        rb.right[9] = 5
    assert rb_broken(rb, HEADER)
