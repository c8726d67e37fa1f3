"""The tree of a file's pages against a dictionary."""

from __future__ import annotations

import random

import pytest

from kmemlab.mm.xarray import (
    XArrays,
    xa_clear_mark,
    xa_for_each,
    xa_get_mark,
    xa_load,
    xa_mk_page,
    xa_mk_value,
    xa_set_mark,
    xa_store,
    xa_to_value,
)
from kmemlab.types.errors import TooLarge

INDICES = [0, 1, 62, 63, 64, 65, 4095, 4096, 5000, 262143, 262144, 1 << 30, (1 << 40) + 7]


@pytest.mark.parametrize("seed", range(5))
def test_like_a_dictionary(seed):
    rng, trees, model, marks = random.Random(seed), XArrays(3, 500), {}, {}
    for _ in range(2000):
        tree, index = rng.randrange(3), rng.choice(INDICES) + rng.randrange(3)
        act = rng.randrange(5)
        if act < 2:
            entry = xa_mk_page(rng.randrange(1 << 20)) if act else xa_mk_value(rng.randrange(1 << 62))
            assert xa_store(trees, tree, index, entry) == model.get((tree, index), 0)
            model[tree, index] = entry
            if not act:
                marks = {key: mark for key, mark in marks.items() if key[:2] != (tree, index)}
        elif act == 2:
            assert xa_store(trees, tree, index, 0) == model.pop((tree, index), 0)
            marks = {key: mark for key, mark in marks.items() if key[:2] != (tree, index)}
        else:
            mark = rng.randrange(3)
            if (tree, index) in model and not model[tree, index] & 1:
                (xa_set_mark if act == 3 else xa_clear_mark)(trees, tree, index, mark)
                marks[tree, index, mark] = act == 3
        assert xa_load(trees, tree, index) == model.get((tree, index), 0)
    for tree in range(3):
        expected = sorted((index, entry) for (of, index), entry in model.items() if of == tree)
        assert list(xa_for_each(trees, tree)) == expected
        start = rng.choice(INDICES)
        assert list(xa_for_each(trees, tree, start)) == [(i, e) for i, e in expected if i >= start]
        for mark in range(3):
            marked = [(i, e) for i, e in expected if marks.get((tree, i, mark))]
            assert list(xa_for_each(trees, tree, 0, mark)) == marked
            assert all(xa_get_mark(trees, tree, i, mark) == ((i, e) in marked) for i, e in expected)
    for tree, index in model:
        xa_store(trees, tree, index, 0)
    free, node = 0, trees.nodes.first_free
    while node:
        free, node = free + 1, trees.nodes.parent[node]
    assert free == trees.nodes.used


def test_a_shadow_of_63_bits_comes_back_whole():
    trees = XArrays(1, 10)
    xa_store(trees, 0, 9, xa_mk_value((1 << 63) - 5))
    assert xa_to_value(xa_load(trees, 0, 9)) == (1 << 63) - 5


def test_too_many_nodes_are_refused_with_a_remedy():
    trees = XArrays(1, 2)
    xa_store(trees, 0, 64, xa_mk_page(1))  # the root, and one leaf
    with pytest.raises(TooLarge, match="2 nodes"):
        xa_store(trees, 0, 128, xa_mk_page(1))
