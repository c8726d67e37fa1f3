"""Texts of a moment: zones, free blocks, mobility types, free pages; and free lists made of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.replay_memory import free_page_map, memory_of_booted, memory_of_saved, whole_blocks
from kmemlab.machine.saved_state import SavedState, read_saved_state
from kmemlab.machine.saved_text import read_text
from kmemlab.mm.check_zone import check_zone
from kmemlab.mm.zone import NR_FREE_PAGES, free_blocks
from kmemlab.types.errors import BadCapture
from tests.machine.traces import TRACES, copy_of, write_state

STATES = sorted(TRACES.glob("*/before")) + sorted(TRACES.glob("*/after"))


@pytest.mark.parametrize("folder", STATES, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_free_lists_made_of_a_state_are_lawful_and_hold_its_free_pages(folder: Path) -> None:
    state = read_saved_state(folder)
    memory = memory_of_saved(state)
    for zone in memory.zones:
        check_zone(zone)
    free = free_page_map(memory)
    listed = {pfn for start, end in state.free_ranges() for pfn in range(start, end)}
    assert {pfn for pfn, order in enumerate(free) if order} == listed
    assert sum(zone.vm_stat[NR_FREE_PAGES] for zone in memory.zones) == len(listed)


@pytest.mark.parametrize("name", ["forkstorm-256m/before", "forkstorm-256m/after", "oom-192m/after"])
def test_they_have_as_many_blocks_of_each_order_as_linux_had(name: str) -> None:
    state = read_saved_state(TRACES / name)
    blocks = {(zone.node, zone.name): tuple(zone.nr_free) for zone in memory_of_saved(state).zones}
    assert blocks == state.nr_free


def test_types_are_counted_as_pagetypeinfo_says() -> None:
    state = read_saved_state(TRACES / "forkstorm-256m/before")
    assert state.pageblocks[0, "DMA32"] == (28, 84, 8, 0, 0)
    assert state.free_by_type[0, "DMA32"][1] == (1, 1, 1, 0, 1, 3, 5, 6, 6, 1, 25)
    assert state.pageblock_order == 9
    for zone, counts in state.nr_free.items():
        assert tuple(map(sum, zip(*state.free_by_type[zone].values(), strict=True))) == counts


def test_blocks_are_as_large_as_alignment_allows() -> None:
    for start in range(70):
        for end in range(start, 70):
            blocks = list(whole_blocks(start, end))
            assert [pfn for pfn, order in blocks for pfn in range(pfn, pfn + (1 << order))] == list(range(start, end))
            assert all(pfn % (1 << order) == 0 for pfn, order in blocks)
            heads = set(blocks)
            assert not any((pfn ^ (1 << order), order) in heads for pfn, order in blocks)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zoneinfo.txt", "no zone\n"),
        ("zoneinfo.txt", "Node 0, zone DMA\n  pages free 1\n"),
        ("buddyinfo.txt", "Node 0, zone DMA 1 2 3\n"),
        ("pagetypeinfo.txt", "nothing\n"),
        ("kpageflags_rle.txt", "1 2\n"),
        ("kpageflags_rle.txt", "x y z 0\n"),
    ],
)
def test_a_text_that_can_not_be_read_is_named(name: str, text: str, tmp_path: Path) -> None:
    write_state(tmp_path / "state", [(0, 8)])
    (tmp_path / "state" / name).write_text(text)
    with pytest.raises(BadCapture) as error:
        read_saved_state(tmp_path / "state")
    assert name.split(".")[0] in str(error.value)


def test_a_missing_text_is_named(tmp_path: Path) -> None:
    trace = copy_of("forkstorm-256m", tmp_path)
    (trace / "before" / "buddyinfo.txt").unlink()
    with pytest.raises(BadCapture, match="buddyinfo"):
        read_saved_state(trace / "before")


def test_a_state_without_zones_has_nothing_free() -> None:
    assert memory_of_saved(SavedState((), {}, ())).zones == ()


def test_a_booted_machine_has_every_free_block_threaded() -> None:
    machine = Machine.boot("laptop-8g")
    before = [list(zone.nr_free) for zone in machine.zones]
    memory = memory_of_booted(machine.kernel.mm)
    assert [zone.runs.count for zone in memory.zones] == [0] * len(before)
    assert [list(zone.nr_free) for zone in memory.zones] == before
    for zone in memory.zones:
        check_zone(zone)
        assert sum(1 for order in range(11) for kind in range(5) for _ in free_blocks(zone, order, kind)) == sum(
            zone.nr_free
        )


@pytest.mark.parametrize(
    ("name", "pattern", "number"),
    [
        ("pagetypeinfo.txt", r"(Movable +)\d+", 10**19),
        ("pagetypeinfo.txt", r"(Page block order: )\d+", 33),
        ("buddyinfo.txt", r"(zone +DMA32 +)\d+", "9" * 5000),
        ("zoneinfo.txt", r"(spanned +)\d+", 10**19),
        ("zoneinfo.txt", r"(spanned +)\d+", 1 << 40),
        ("zoneinfo.txt", r"(start_pfn: +)\d+", 1 << 40),
        ("kpageflags_rle.txt", r"(\n[0-9a-f]+ )\d+", 10**19),
        ("kpageflags_rle.txt", r"(\n)[0-9a-f]+", 10**19),
        ("kpageflags_rle.txt", r"(\n[0-9a-f]+ \d+ )[0-9a-f]+", 10**19),
    ],
)
def test_numbers_that_no_machine_has_are_refused(tmp_path: Path, name: str, pattern: str, number: int | str) -> None:
    folder = copy_of("files-128m-until-002", tmp_path) / "before"
    text = read_text(folder, name)
    assert text is not None
    spoilt, times = re.subn(pattern, rf"\g<1>{number}", text, count=1)
    assert times == 1
    (folder / name).write_text(spoilt)
    with pytest.raises(BadCapture, match=name):
        read_saved_state(folder)
