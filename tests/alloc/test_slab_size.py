"""Slabs of the classic allocator, against a real machine that ran it and against a search by brute force."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.alloc.kmem_cache import (
    SLAB_NOLEAKTRACE,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
)
from kmemlab.alloc.slab_size import (
    CFLGS_OBJFREELIST_SLAB,
    CFLGS_OFF_SLAB,
    SlabRequest,
    SlabShape,
    array_cache_sizes,
    lay_out_object,
    shape_slab,
)

ROWS = [
    line.split()
    for line in (Path(__file__).parent.parent / "data" / "slabinfo_slab.txt").read_text().splitlines()
    if not line.startswith("#")
]


def freelist_cache(size: int) -> tuple[int, bool] | None:
    """kmalloc's small caches as SLAB has them: none below 32, and 96 is padded to whole cache lines."""
    return next(
        ((128 if cache == 96 else cache, False) for cache in (32, 64, 96, 128, 192, 256) if size <= cache), None
    )


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_slabs_are_those_of_a_real_machine(row: list[str]) -> None:
    size, num, pages, limit, batchcount, shared = map(int, row[1:7])
    hint = row[7] if len(row) > 7 else ""
    flags = {"reclaim": SLAB_RECLAIM_ACCOUNT, "rcu": SLAB_TYPESAFE_BY_RCU}.get(hint, 0)
    object_size = int(hint) if hint.isdecimal() else size
    shape = shape_slab(SlabRequest(object_size, size, flags, False, 1, freelist_cache))
    assert shape is not None
    assert (shape.num, 1 << shape.gfporder) == (num, pages)
    assert array_cache_sizes(size, 16, debug=False) == (limit, batchcount, shared)


def brute_force(
    object_size: int, size: int, flags: int, ctor: bool, max_order: int
) -> tuple[int, int, int, str] | None:
    """(objects, order, left over, where the bytes are): every order is written down, then the rules are read off."""
    for where in ("object", "off", "on"):
        if where == "object" and (ctor or flags & SLAB_TYPESAFE_BY_RCU):
            continue
        if where == "off" and flags & SLAB_NOLEAKTRACE:
            continue
        table = []
        for order in range(11):
            total = 4096 * 2**order
            num = 0
            while (num + 1) * (size + (where == "on")) <= total:
                num += 1
                if num > 255:
                    break
            if num > 255:
                break
            small = num and (freelist_cache(num) or (10**9, 0))[0] * 2 <= object_size
            if num and (where != "off" or small):
                table.append((num, order, total - num * (size + (where == "on"))))
        good = [
            row
            for row in table
            if flags & SLAB_RECLAIM_ACCOUNT or row[1] >= max_order or row[2] * 8 <= 4096 * 2 ** row[1]
        ]
        chosen = good[0] if good else table[-1] if table else None
        if (
            chosen is None
            or (where == "object" and chosen[0] > object_size)
            or (where == "off" and chosen[2] >= chosen[0])
        ):
            continue
        return (*chosen, where)
    return None


PLACES = {CFLGS_OBJFREELIST_SLAB: "object", CFLGS_OFF_SLAB: "off", 0: "on"}


@given(
    st.integers(1, 1 << 15) | st.integers(1, 1024),
    st.integers(3, 7),
    st.sampled_from(
        [0, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU, SLAB_NOLEAKTRACE, SLAB_NOLEAKTRACE | SLAB_TYPESAFE_BY_RCU]
    ),
    st.booleans(),
    st.integers(0, 3),
)
def test_any_slab_is_what_a_search_finds(object_size: int, shift: int, flags: int, ctor: bool, max_order: int) -> None:
    align = 1 << shift
    size = max(16, -(-object_size // align) * align)
    shape = shape_slab(SlabRequest(object_size, size, flags, ctor, max_order, freelist_cache))
    found = None if shape is None else (shape.num, shape.gfporder, shape.left_over, PLACES[shape.placement])
    assert found == brute_force(object_size, size, flags, ctor, max_order)


def test_each_placement_has_its_example() -> None:
    def placement(size: int, ctor: bool = False) -> int:
        shape = shape_slab(SlabRequest(size, size, 0, ctor, 1, freelist_cache))
        assert shape is not None
        return shape.placement

    assert placement(256) == CFLGS_OBJFREELIST_SLAB
    assert placement(1024, ctor=True) == CFLGS_OFF_SLAB  # a slab without any rest, and a byte array of 4
    assert placement(32) == 0  # 128 bytes don't fit into one object of 32


def test_what_is_cleared_when_it_is_free_carries_no_list() -> None:
    shape = shape_slab(SlabRequest(256, 256, 0, False, 1, freelist_cache, init_on_free=True))
    assert shape is not None
    assert (shape.placement, shape.num) == (CFLGS_OFF_SLAB, 16)


def test_no_object_that_needs_the_bytes_of_its_own_cache() -> None:
    for answer in (None, (32, True), (4096, False)):
        shape = shape_slab(SlabRequest(1024, 1024, 0, True, 1, lambda _size, answer=answer: answer))
        assert shape is not None
        assert (shape.placement, shape.num) == (0, 7)


@pytest.mark.parametrize(("size", "left_over", "colours"), [(256, 0, 0), (200, 96, 1), (1000, 96, 1), (1504, 672, 10)])
def test_colours(size: int, left_over: int, colours: int) -> None:
    shape = shape_slab(SlabRequest(size, size, 0, False, 1, freelist_cache))
    assert shape is not None
    assert (shape.left_over, shape.colours(64)) == (left_over, colours)


def test_nothing_above_the_largest_block() -> None:
    assert shape_slab(SlabRequest(1 << 22, 1 << 22, 0, False, 1, freelist_cache)) == SlabShape(
        1, 10, 0, CFLGS_OBJFREELIST_SLAB
    )
    assert shape_slab(SlabRequest((1 << 22) + 8, (1 << 22) + 8, 0, False, 1, freelist_cache)) is None


@given(st.integers(1, 1 << 16), st.sampled_from([1, 8, 16, 32, 64]), st.sampled_from([4, 8]))
def test_without_debugging_an_object_is_only_padded(object_size: int, align: int, pointer: int) -> None:
    layout = lay_out_object(object_size, align, SLAB_RED_ZONE | SLAB_POISON, pointer, debug=False)
    step = max(align, pointer)
    assert (layout.obj_offset, layout.flags, layout.align) == (0, 0, step)
    assert layout.size % step == 0
    assert layout.size >= max(object_size, 16)
    assert layout.size - step < max(object_size, 16)


@pytest.mark.parametrize(
    ("object_size", "align", "size", "offset", "flags"),
    [
        (200, 8, 224, 8, SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER),  # 8 + 200 + 8 + 8
        (193, 8, 224, 8, SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER),
        (256, 64, 256, 0, SLAB_POISON),  # a red zone would spoil the alignment
        (4096, 8, 4096, 0, SLAB_POISON),  # red zones would need twice the power of two
        (4200, 8, 4224, 8, SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER),
    ],
)
def test_with_debugging_there_are_red_zones_where_they_cost_little(
    object_size: int, align: int, size: int, offset: int, flags: int
) -> None:
    layout = lay_out_object(object_size, align, 0, 8, debug=True)
    assert (layout.size, layout.obj_offset, layout.flags) == (size, offset, flags)


def test_objects_that_are_read_after_their_free_are_not_poisoned() -> None:
    assert not lay_out_object(200, 8, SLAB_TYPESAFE_BY_RCU, 8, debug=True).flags & SLAB_POISON


def test_one_cpu_shares_with_nobody() -> None:
    assert array_cache_sizes(256, 1, debug=False) == (120, 60, 0)
    assert array_cache_sizes(256, 2, debug=True) == (32, 16, 8)
