"""memblock against a model that keeps one fact for each byte of a small address space."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.boot.memblock import (
    Memblock,
    for_each_free_mem_range,
    for_each_free_mem_range_reverse,
    for_each_mem_pfn_range,
    memblock_add,
    memblock_add_node,
    memblock_alloc_try_nid,
    memblock_allow_resize,
    memblock_dump_all,
    memblock_end_of_DRAM,
    memblock_find_in_range_node,
    memblock_init,
    memblock_phys_alloc_range,
    memblock_phys_free,
    memblock_remove,
    memblock_reserve,
    memblock_set_current_limit,
    memblock_set_node,
    memblock_start_of_DRAM,
    memblock_trim_memory,
)
from kmemlab.boot.memblock_regions import INIT_MEMBLOCK_REGIONS
from kmemlab.types.errors import KernelPanic

PAGE = 4096
UNIT = 1024
SPACE = 96  # units
UNSET = 1024

place = st.integers(1, SPACE - 1)
kinds = st.sampled_from(["add", "add_node", "remove", "reserve", "free", "set_node"])
steps = st.lists(st.tuples(kinds, place, st.integers(0, 30), st.integers(0, 2)), max_size=25)


def fresh() -> Memblock:
    """A memblock as the kernel image brings it."""
    memblock = Memblock()
    memblock_init(memblock)
    return memblock


def play(todo: list[tuple[str, int, int, int]]) -> tuple[Memblock, dict[int, int], dict[int, int]]:
    """Do the steps on a memblock, and on two dicts that say the node of each unit of memory and of reserved."""
    memblock = fresh()
    memory: dict[int, int] = {}
    reserved: dict[int, int] = {}
    for what, start, size, nid in todo:
        base, length, units = start * UNIT, size * UNIT, range(start, start + size)
        if what == "add":
            memblock_add(memblock, base, length)
            memory = dict.fromkeys(units, UNSET) | memory
        elif what == "add_node":
            memblock_add_node(memblock, base, length, nid)
            memory = dict.fromkeys(units, nid) | memory
        elif what == "remove":
            memblock_remove(memblock, base, length)
            memory = {unit: node for unit, node in memory.items() if unit not in units}
        elif what == "reserve":
            memblock_reserve(memblock, base, length)
            reserved = dict.fromkeys(units, UNSET) | reserved
        elif what == "free":
            memblock_phys_free(memblock, base, length)
            reserved = {unit: node for unit, node in reserved.items() if unit not in units}
        else:
            memblock_set_node(memblock, base, length, memblock.memory, nid)
            memory = {unit: nid if unit in units else node for unit, node in memory.items()}
    return memblock, memory, reserved


def runs(units: dict[int, int]) -> list[tuple[int, int, int, int]]:
    """Maximal runs of neighbouring units of one node, as regions are written."""
    found: list[list[int]] = []
    for unit in sorted(units):
        if found and found[-1][1] == unit and found[-1][2] == units[unit]:
            found[-1][1] += 1
        else:
            found.append([unit, unit + 1, units[unit]])
    return [(start * UNIT, (end - start) * UNIT, nid, 0) for start, end, nid in found]


@given(steps)
@settings(max_examples=300, deadline=None)
def test_regions_are_what_was_said_of_each_byte(todo: list[tuple[str, int, int, int]]) -> None:
    memblock, memory, reserved = play(todo)
    assert list(memblock.memory.regions()) == runs(memory)
    assert list(memblock.reserved.regions()) == runs(reserved)
    assert memblock.memory.total_size == len(memory) * UNIT
    assert memblock.reserved.total_size == len(reserved) * UNIT


@given(steps, place, place, st.sampled_from([None, 0, 1, -1]))
def test_free_is_memory_minus_reserved(
    todo: list[tuple[str, int, int, int]], start: int, end: int, nid: int | None
) -> None:
    memblock, memory, reserved = play(todo)
    walked = list(for_each_free_mem_range(memblock, start * UNIT, end * UNIT, nid))
    free = {
        unit: node
        for unit, node in memory.items()
        if unit not in reserved and start <= unit < end and nid in (None, -1, node)
    }
    assert {unit: node for a, b, node in walked for unit in range(a // UNIT, b // UNIT)} == free
    assert sum(b - a for a, b, _ in walked) == len(free) * UNIT
    assert list(for_each_free_mem_range_reverse(memblock, start * UNIT, end * UNIT, nid)) == walked[::-1]


def best(free: set[int], size: int, align: int, start: int, end: int, bottom_up: bool) -> int:
    """The place by trying every multiple of `align`; all in bytes."""
    places = [
        at
        for at in range(0, SPACE * UNIT, align)
        if at >= max(start, PAGE)
        and at + size <= end
        and all(unit in free for unit in range(at // UNIT, (at + size - 1) // UNIT + 1))
    ]
    return (min(places) if bottom_up else max(places)) if places else 0


@given(steps, st.integers(1, 20 * UNIT), st.sampled_from([64, 1024, 4096]), place, place, st.booleans())
def test_the_highest_or_lowest_place_that_fits(
    todo: list[tuple[str, int, int, int]], size: int, align: int, start: int, end: int, bottom_up: bool
) -> None:
    memblock, memory, reserved = play(todo)
    # Places never go over the seam of two regions, so let there be none.
    memblock_set_node(memblock, 0, SPACE * UNIT, memblock.memory, 0)
    memblock.bottom_up = bottom_up
    found = memblock_find_in_range_node(memblock, size, align, start * UNIT, end * UNIT)
    assert found == best(set(memory) - set(reserved), size, align, start * UNIT, end * UNIT, bottom_up)


@given(steps, st.lists(st.tuples(st.integers(1, 5000), st.sampled_from([64, 4096])), max_size=20))
def test_what_is_allocated_is_free_before_and_reserved_after(
    todo: list[tuple[str, int, int, int]], requests: list[tuple[int, int]]
) -> None:
    memblock, _, _ = play(todo)
    for size, align in requests:
        free = list(for_each_free_mem_range(memblock))
        at = memblock_alloc_try_nid(memblock, size, align)
        if at:
            assert at % align == 0
            assert any(start <= at and at + size <= end for start, end, _ in free)
            assert all(at + size <= start or end <= at for start, end, _ in for_each_free_mem_range(memblock))


def test_a_node_is_tried_first_then_any() -> None:
    memblock = fresh()
    memblock_add_node(memblock, 0x100000, 0x10000, 0)
    memblock_add_node(memblock, 0x200000, 0x10000, 1)
    assert memblock_alloc_try_nid(memblock, 0x8000, 64, nid=0) == 0x108000
    assert memblock_alloc_try_nid(memblock, 0x8000, 64, nid=0) == 0x100000
    assert memblock_alloc_try_nid(memblock, 0x8000, 64, nid=0) == 0x208000
    assert memblock_alloc_try_nid(memblock, 0x8000, 64, min_addr=0x300000) == 0x200000  # the lower bound is a wish
    assert memblock_alloc_try_nid(memblock, 1, 64) == 0


def test_the_current_limit_holds_for_who_names_none() -> None:
    memblock = fresh()
    memblock_add(memblock, 0x1000, 0x400000)
    memblock_set_current_limit(memblock, 0x100000)
    assert memblock_alloc_try_nid(memblock, 4096, 4096) == 0xFF000
    assert memblock_phys_alloc_range(memblock, 4096, 4096, 0, 0x200000) == 0x1FF000


def test_trimming_leaves_the_sum_as_it_was() -> None:
    """As the dump of a real machine shows: RAM up to 0x9fbff ends at 0x9efff, and still counts whole."""
    memblock = fresh()
    memblock_add(memblock, 0x1000, 0x9EC00)
    memblock_add(memblock, 0xA0100, 0x100)
    memblock_add(memblock, 0x100000, 0x7FEE0000)
    memblock_trim_memory(memblock, PAGE)
    assert [(base, size) for base, size, _, _ in memblock.memory.regions()] == [
        (0x1000, 0x9E000),
        (0x100000, 0x7FEE0000),
    ]
    assert memblock.memory.total_size == 0x7FF7EC00
    assert memblock_start_of_DRAM(memblock) == 0x1000
    assert memblock_end_of_DRAM(memblock) == 0x7FFE0000


def test_the_list_doubles_when_it_is_full() -> None:
    memblock = fresh()
    memblock.debug = 1
    memblock_add(memblock, 0x100000, 0x10000000)
    memblock_allow_resize(memblock)
    for n in range(INIT_MEMBLOCK_REGIONS * 4):
        memblock_reserve(memblock, 0x200000 + n * 0x2000, 0x1000)
    assert memblock.reserved.max == INIT_MEMBLOCK_REGIONS * 8
    doubled = [line for line in memblock.printk.lines() if "doubled" in line]
    # 256 regions of 24 bytes are 6144: two pages at the end of memory.
    assert doubled[0] == "memblock: reserved is doubled to 256 at [0x00000000100fe000-0x00000000100fffff]"
    # An array that moved on is free again: only the last one, of 1024 regions, is still there.
    assert memblock.reserved.total_size == INIT_MEMBLOCK_REGIONS * 4 * 0x1000 + 1024 * 24
    assert sum(size for _, size, _, _ in memblock.reserved.regions()) == memblock.reserved.total_size


def test_a_full_list_that_must_not_grow_is_a_panic() -> None:
    memblock = fresh()
    for n in range(INIT_MEMBLOCK_REGIONS):
        memblock_reserve(memblock, n * 0x2000, 0x1000)
    with pytest.raises(KernelPanic, match="cannot resize reserved array"):
        memblock_reserve(memblock, INIT_MEMBLOCK_REGIONS * 0x2000, 0x1000)


def test_thousands_of_regions() -> None:
    memblock = fresh()
    memblock_add(memblock, 0x100000, 1 << 32)
    memblock_allow_resize(memblock)
    for n in range(3000):
        memblock_reserve(memblock, 0x200000 + n * 0x2000, 0x1000)
    assert len(list(for_each_free_mem_range(memblock))) > 3000


def test_only_whole_pages_are_page_frames() -> None:
    memblock = fresh()
    memblock_add_node(memblock, 0x1800, 0x2000, 0)
    memblock_add_node(memblock, 0x10010, 0x100, 0)
    memblock_add_node(memblock, 0x20000, 0x2000, 1)
    assert list(for_each_mem_pfn_range(memblock)) == [(2, 3, 0), (32, 34, 1)]
    assert list(for_each_mem_pfn_range(memblock, 1)) == [(32, 34, 1)]


def test_the_dump_is_heard_only_when_asked_for() -> None:
    memblock = fresh()
    memblock_add_node(memblock, 0x1000, 0x9E000, 0)
    memblock_reserve(memblock, 0, 0x10000)
    memblock_dump_all(memblock)
    assert memblock.printk.lines() == ()
    memblock.debug = 1
    memblock_dump_all(memblock)
    assert memblock.printk.lines() == (
        "MEMBLOCK configuration:",
        " memory size = 0x000000000009e000 reserved size = 0x0000000000010000",
        " memory.cnt  = 0x1",
        " memory[0x0]\t[0x0000000000001000-0x000000000009efff], 0x000000000009e000 bytes on node 0 flags: 0x0",
        " reserved.cnt  = 0x1",
        " reserved[0x0]\t[0x0000000000000000-0x000000000000ffff], 0x0000000000010000 bytes flags: 0x0",
    )


def test_requests_of_a_real_machine() -> None:
    """Sizes and alignments that Linux 6.1 asked for on a machine of 2 GiB, and where it got them."""
    memblock = fresh()
    memblock_add(memblock, 0x100000, 0x7FEE0000)
    for base, size in ((0x1000000, 0x3411000), (0x7FEE4000, 0xFC000)):
        memblock_reserve(memblock, base, size)
    requests: list[tuple[Any, ...]] = [
        (4194304, 8, 0x7FAE4000), (3145728, 8, 0x7F7E4000), (11534336, 8, 0x7ECE4000), (0x2B000, 64, 0x7ECB9000),
        (32768, 64, 0x7ECB1000), (4096, 64, 0x7ECB0000), (896, 64, 0x7ECAFC80), (32 << 20, 2 << 20, 0x7CC00000),
        (4096, 4096, 0x7ECAE000), (4096, 4096, 0x7ECAD000), (73, 64, 0x7ECAFC00), (75, 64, 0x7ECAFB80),
        (512, 64, 0x7ECAF980),
    ]  # fmt: skip
    for size, align, where in requests:
        assert memblock_alloc_try_nid(memblock, size, align) == where
