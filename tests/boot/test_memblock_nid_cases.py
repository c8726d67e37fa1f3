"""The rest of the cases of tools/testing/memblock: allocation within limits, above an address, and by node.

Numbers are bytes from where memory starts; there are 16 KiB of it, and a cache line has 32 bytes, as there. A case
gives the whole list of what is reserved in the end, so merging and counts are told too.
"""

from __future__ import annotations

import pytest

from kmemlab.boot.memblock import (
    MEMBLOCK_ALLOC_ACCESSIBLE,
    MEMBLOCK_ALLOC_ANYWHERE,
    MEMBLOCK_HOTPLUG,
    MEMBLOCK_NONE,
    Memblock,
    memblock_add,
    memblock_add_node,
    memblock_alloc_try_nid,
    memblock_alloc_try_nid_raw,
    memblock_init,
    memblock_reserve,
)
from kmemlab.types.config import NUMA_NO_NODE

START, END, LINE = 1 << 20, 16384, 32
NODES = (4096, 1024, 2048, 2048, 1024, 1024, 4096, 1024)
NODE = tuple(sum(NODES[:nid]) for nid in range(len(NODES) + 1))  # where each node starts

Ranges = list[tuple[int, int]]  # first byte, and how many
Found = Ranges | None  # None: a case of the other direction only
Case = tuple[Ranges, int, int, int, Found, Found]  # reserved, size, from, to; reserved then: top-down, bottom-up
DIRECTIONS = pytest.mark.parametrize("bottom_up", [False, True])
ALLOCATORS = pytest.mark.parametrize("allocate", [memblock_alloc_try_nid, memblock_alloc_try_nid_raw])


def machine(reserved: Ranges, bottom_up: bool, nodes: tuple[int, ...] = (), flags: int = MEMBLOCK_NONE) -> Memblock:
    memblock = Memblock()
    memblock_init(memblock)
    memblock.bottom_up = int(bottom_up)
    if not nodes:
        memblock_add(memblock, START, END)
    for nid, size in enumerate(nodes):
        memblock_add_node(memblock, START + NODE[nid], size, nid, flags)
    for base, size in reserved:
        memblock_reserve(memblock, START + base, size)
    return memblock


def taken(memblock: Memblock) -> Ranges:
    return [(base - START, size) for base, size, _, _ in memblock.reserved.regions()]


def check(memblock: Memblock, before: Ranges, found: int, size: int, then: Ranges) -> None:
    """`then` is reserved; if that is more than before, what was found is within it and of this size."""
    assert taken(memblock) == then
    total = sum(size for _, size in then)
    assert memblock.reserved.total_size == total
    assert bool(found) == (then != before)
    assert total - sum(size for _, size in before) == (size if found else 0)


def test_before_anybody_says_anything() -> None:
    memblock = Memblock()
    memblock_init(memblock)
    assert (memblock.memory.name, memblock.reserved.name) == ("memory", "reserved")
    assert memblock.memory.regions() == memblock.reserved.regions() == ()
    assert memblock.memory.max == memblock.reserved.max == 128
    assert not memblock.bottom_up
    assert memblock.current_limit == MEMBLOCK_ALLOC_ANYWHERE


WITHIN: dict[str, Case] = {
    "simple": ([], 128, 64, 576, [(448, 128)], [(64, 128)]),
    "end_misaligned": ([], 128, 64, 578, [(448, 128)], [(64, 128)]),
    "start_misaligned": ([], 128, 2, 514, [(384, 128)], [(LINE, 128)]),
    "exact_address": ([], 1024, LINE, LINE + 1024, [(LINE, 1024)], [(LINE, 1024)]),
    "narrow_range": ([], 256, 512, 512 + LINE, [(512 + LINE - 256, 256)], [(0, 256)]),
    "low_max": ([], 1024, 0, LINE, [], []),
    "min_reserved": ([(END - 192, 128)], 64, END - 64, END, [(END - 192, 192)], [(END - 192, 192)]),
    "max_reserved": ([(END - 64, 64)], 128, END - 192, END - 64, [(END - 192, 192)], [(END - 192, 192)]),
    "reserved_with_space": (
        [(END - 64, 32), (END - 288, 128)],
        64,
        END - 160,
        END - 64,
        [(END - 288, 128), (END - 128, 96)],
        [(END - 288, 192), (END - 64, 32)],
    ),
    "reserved_full_merge": (
        [(END - 64, 32), (END - 256, 128)],
        64,
        END - 128,
        END - 64,
        [(END - 256, 224)],
        [(END - 256, 224)],
    ),
    "reserved_no_space": (
        [(END - 64, 32), (END - 224, 128)],
        256,
        END - 96,
        END - 64,
        [(END - 480, 384), (END - 64, 32)],
        [(0, 256), (END - 224, 128), (END - 64, 32)],
    ),
    "reserved_all": (
        [(END - 32, 32), (0, END - 64)],
        256,
        END - 64,
        END - 32,
        [(0, END - 64), (END - 32, 32)],
        [(0, END - 64), (END - 32, 32)],
    ),
    "cap_max": ([], 256, END - 1024, END + 256, [(END - 256, 256)], [(END - 1024, 256)]),
    "cap_max_far": ([], 256, 1024, END + 256, [(END - 256, 256)], [(1024, 256)]),
    "cap_min": ([], 1024, -256, END, [(END - 1024, 1024)], [(0, 1024)]),
    "cap_min_low": ([], 1024, 0, END - 256, [(END - 1280, 1024)], [(0, 1024)]),
}


@ALLOCATORS
@DIRECTIONS
@pytest.mark.parametrize("case", WITHIN)
def test_within_limits(case: str, bottom_up: bool, allocate) -> None:  # type: ignore[no-untyped-def]
    reserved, size, low, high, *then = WITHIN[case]
    memblock = machine(reserved, bottom_up)
    before = taken(memblock)
    found = allocate(memblock, size, LINE, START + low, START + high)
    check(memblock, before, found, size, then[bottom_up] or [])


FROM: dict[str, tuple[Ranges, int, int, Found, Found]] = {  # reserved, size, from
    "simple": ([], 16, END - LINE, [(END - LINE, 16)], [(END - LINE, 16)]),
    "misaligned": ([], 32, END - 2 * LINE + 1, [(END - LINE, 32)], [(END - LINE, 32)]),
    "high_address": ([], 32, END - 16, [(END - LINE, 32)], [(0, 32)]),
    "no_space_above": ([(END - 64, 2)], 64, END - 64, [(END - 128, 66)], [(0, 64), (END - 64, 2)]),
    "much_reserved_above": ([(96, END - 128)], 64, 128, [(32, END - 64)], [(0, 64), (96, END - 128)]),
    "below_all_memory": ([(64, END - 64)], 64, -3 * LINE, [(0, END)], [(0, END)]),
    "below_all_memory_all_free": ([], 64, -3 * LINE, [(END - 64, 64)], [(0, 64)]),
}


@DIRECTIONS
@pytest.mark.parametrize("case", FROM)
def test_above_an_address(case: str, bottom_up: bool) -> None:
    """C's memblock_alloc_from: as high as `from` if that can be had."""
    reserved, size, low, *then = FROM[case]
    memblock = machine(reserved, bottom_up)
    found = memblock_alloc_try_nid(memblock, size, LINE, START + low, MEMBLOCK_ALLOC_ACCESSIBLE)
    check(memblock, reserved, found, size, then[bottom_up] or [])


HALF = (END - 2 * LINE - 64) // 2
ANYWHERE: dict[str, tuple[Ranges, int, int, Found, Found]] = {  # reserved, size, alignment
    "simple": ([], 2, LINE, [(END - LINE, 2)], [(0, 2)]),
    "disjoint_at_the_top": ([(END - 2, 2)], 16, 2 * LINE, [(END - 64, 16), (END - 2, 2)], [(0, 16), (END - 2, 2)]),
    "disjoint_at_the_bottom": ([(0, 2)], 16, 2 * LINE, [(0, 2), (END - 64, 16)], [(0, 2), (64, 16)]),
    "before_at_the_top": ([(END - 544, 32)], 512, LINE, [(END - 544, 544)], None),
    "after_at_the_top": ([(END - 32, 8)], 512, LINE, [(END - 544, 520)], None),
    "before_at_the_bottom": ([(512, 128)], 512, LINE, None, [(0, 640)]),
    "after_at_the_bottom": ([(0, 512)], 128, LINE, None, [(0, 640)]),
    "second_fit_top": (
        [(END - 512, 512), (END - 1024, 256)],
        1024,
        LINE,
        [(END - 2048, 1280), (END - 512, 512)],
        None,
    ),
    "second_fit_bottom": ([(0, 512), (1024, 256)], 1024, LINE, None, [(0, 512), (1024, 1280)]),
    "in_between": (
        [(LINE, HALF), (END - LINE - HALF, HALF)],
        64,
        LINE,
        [(LINE, END - 2 * LINE)],
        [(LINE, END - 2 * LINE)],
    ),
}


@ALLOCATORS
@DIRECTIONS
@pytest.mark.parametrize("case", ANYWHERE)
def test_anywhere(case: str, bottom_up: bool, allocate) -> None:  # type: ignore[no-untyped-def]
    reserved, size, align, *both = ANYWHERE[case]
    then = both[bottom_up]
    if then is None:
        pytest.skip("a case of the other direction")
    memblock = machine(reserved, bottom_up)
    check(memblock, reserved, allocate(memblock, size, align), size, then)


NUMA: dict[str, tuple[int, int, int, int, Ranges, int | None, int | None]] = {
    # node, size, from, to, reserved; where it is found, from the top and from the bottom
    "simple": (3, 512, 0, END, [], NODE[4] - 512, NODE[3]),
    "small_node": (1, 2048, 0, END, [], NODE[7] - 2048, 0),
    "node_reserved": (2, 2048, 0, END, [(NODE[2], 2048)], NODE[7] - 2048, 0),
    "part_reserved": (4, 128, 0, END, [(NODE[4], 512)], NODE[5] - 128, NODE[4] + 512),
    "part_reserved_fallback": (4, 512, 0, END, [(NODE[4] + 256, 512)], END - 512, 0),
    "split_range_low": (2, 512, NODE[3] - 256, NODE[3] + 256, [], NODE[3] - 512, NODE[2]),
    "split_range_high": (3, 512, NODE[3] - 256, NODE[3] + 256, [], NODE[3] - 512, 0),
    "no_overlap_split": (2, 512, NODE[6] - 256, NODE[6] + 256, [], NODE[3] - 512, NODE[2]),
    "no_overlap_low": (0, 64, NODE[2], NODE[6], [], NODE[6] - 64, NODE[2]),
    "no_overlap_high": (7, 64, NODE[2], NODE[6], [], NODE[6] - 64, NODE[2]),
    "large_region": (3, END // 2, 0, END, [], None, None),
    "reserved_full_merge": (6, 4096, NODE[6], NODE[7], [(NODE[6] - 128, 128), (NODE[7], 128)], NODE[6], NODE[6]),
    "split_all_reserved": (
        NUMA_NO_NODE,
        256,
        NODE[7] - 128,
        NODE[7] + 128,
        [(0, NODE[7] - 128), (NODE[7] + 128, END - NODE[7] - 128)],
        None,
        None,
    ),
}


@ALLOCATORS
@DIRECTIONS
@pytest.mark.parametrize("movable_node", [False, True])
@pytest.mark.parametrize("case", NUMA)
def test_on_a_node(case: str, bottom_up: bool, movable_node: bool, allocate) -> None:  # type: ignore[no-untyped-def]
    """All nodes can be unplugged, which matters to nobody, or movable_node is on and none of them can."""
    nid, size, low, high, reserved, *both = NUMA[case]
    place = both[bottom_up]
    memblock = machine(reserved, bottom_up, NODES, MEMBLOCK_NONE if movable_node else MEMBLOCK_HOTPLUG)
    memblock.movable_node = int(movable_node)
    found = allocate(memblock, size, LINE, START + low, START + high, nid)
    assert found == (0 if place is None else START + place)
    assert memblock.reserved.total_size == sum(size for _, size in reserved) + (size if found else 0)


def test_full_merge_on_a_node_leaves_one_region() -> None:
    nid, size, low, high, reserved, *_ = NUMA["reserved_full_merge"]
    memblock = machine(reserved, False, NODES)
    memblock_alloc_try_nid(memblock, size, LINE, START + low, START + high, nid)
    assert taken(memblock) == [(NODE[6] - 128, 4096 + 256)]


@DIRECTIONS
def test_with_movable_node_what_can_be_unplugged_is_never_found(bottom_up: bool) -> None:
    memblock = machine([], bottom_up, NODES, MEMBLOCK_HOTPLUG)
    memblock.movable_node = 1
    assert memblock_alloc_try_nid(memblock, 64, LINE, START, START + END, 3) == 0
