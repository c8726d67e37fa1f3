"""Memory blocks that go off line and come back."""

from __future__ import annotations

import copy

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.watermark import init_per_zone_wmark_min
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE
from tests.machine.test_memory_hotplug import GIB, SECTION, machine, sizes

FIRST = 4 * GIB // (128 << 20)


@pytest.fixture
def movable() -> Machine:
    return machine("memhp_default_state=online_movable")


def totals(booted: Machine) -> tuple[int, ...]:
    free = sum(zone.vm_stat[NR_FREE_PAGES] + sum(zone.per_cpu_pageset.count) for zone in booted.kernel.mm.zones())
    return (booted.kernel.mm.totalram_pages, booted.kernel.mm.node_data[0].node_present_pages, free)


def test_every_block_off_line_is_as_if_never_on_line(movable: Machine) -> None:
    never = machine("memhp_default_state=offline")
    for nr in range(FIRST, FIRST + 8):
        assert movable.memory_block(nr, "offline") == "offline"
    assert sizes(movable) == sizes(never) == {}
    assert totals(movable) == totals(never)
    init_per_zone_wmark_min(never.kernel.mm)  # boot gave memory back after it worked limits out
    for name in ("DMA", "DMA32"):
        mine, theirs = movable.zone(name), never.zone(name)
        assert tuple(mine.watermark) == tuple(theirs.watermark)
        assert tuple(mine.lowmem_reserve) == tuple(theirs.lowmem_reserve)


def test_a_block_comes_back(movable: Machine) -> None:
    before = totals(movable)
    movable.memory_block(FIRST + 7, "offline")
    assert sizes(movable) == {"Movable": (7 * SECTION,) * 3}
    assert [now - then for now, then in zip(totals(movable), before, strict=True)] == [-SECTION] * 3
    assert movable.memory_block(FIRST + 7) == "offline"
    movable.memory_block(FIRST + 7, "online_movable")
    assert sizes(movable) == {"Movable": (8 * SECTION,) * 3}
    assert totals(movable) == before


def test_a_block_in_the_middle_leaves_a_hole_and_ends_move_past_it(movable: Machine) -> None:
    movable.memory_block(FIRST + 1, "offline")
    assert sizes(movable) == {"Movable": (8 * SECTION, 7 * SECTION, 7 * SECTION)}
    movable.memory_block(FIRST, "offline")
    assert sizes(movable) == {"Movable": (6 * SECTION,) * 3}
    assert movable.zone("Movable").zone_start_pfn == (FIRST + 2) * SECTION


def test_a_block_with_a_page_in_use_stays(movable: Machine) -> None:
    pfn = movable.alloc_pages(GFP_HIGHUSER_MOVABLE)
    block = pfn // SECTION
    assert block >= FIRST
    before = totals(movable)
    assert movable.memory_block(block, "offline") == "online"
    assert totals(movable) == before
    movable.free_pages(pfn, 0)
    assert movable.memory_block(block, "offline") == "offline"


def test_it_is_a_command_like_others(movable: Machine) -> None:
    movable.memory_block(FIRST + 3, "offline")
    twin = copy.deepcopy(movable)
    assert sizes(twin) == sizes(movable)
    movable.memory_block(FIRST + 3, "online")
    assert twin.memory_block(FIRST + 3) == "offline"


def test_what_is_no_block_of_a_dimm_or_no_state_is_refused(movable: Machine) -> None:
    for nr, state in ((0, ""), (FIRST + 8, ""), (FIRST, "away")):
        with pytest.raises(BadRequest):
            movable.memory_block(nr, state)
