"""Frame maps by owner and by mobility type: what they show is what the kernel's own counters and lists say."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from kmemlab.machine.frame_kinds import (
    ANONYMOUS,
    FREE,
    KEPT,
    NO_FRAME,
    PAGE_CACHE,
    PAGE_TABLE,
    SLAB,
    FrameKinds,
    frame_migratetypes,
    frame_owners,
)
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs_lists import vmstat
from kmemlab.machine.snapshot import frame_map
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import free_blocks, get_pageblock_migratetype
from kmemlab.types.errors import KmemlabError
from kmemlab.types.migratetype import MIGRATE_TYPES
from kmemlab.views.carry import apply_runs
from kmemlab.views.frame_kinds import LOOKS, dots, kinds_data, kinds_svg, letter_boxes
from kmemlab.views.frame_view import FrameView

PAGE = 4096


@pytest.fixture(scope="module")
def busy() -> tuple[Machine, set[int]]:
    """Two programs and a file; and the frames that the programs have, asked address by address."""
    machine = Machine.boot("tiny-128m")
    held = set()
    for name in ("sh", "db"):
        pid = machine.spawn(name)
        address = machine.mmap(pid, 900 * PAGE)
        machine.touch(pid, address, 700 * PAGE)
        held |= {machine.user_pfn(pid, address + page * PAGE) for page in range(700)}
    machine.create_file("data", pages=800)
    machine.read_file("data", 0, 500 * PAGE)
    return machine, {pfn for pfn in held if pfn is not None}


def owners(machine: Machine) -> list[FrameKinds]:
    """The maps of all zones."""
    maps = []
    for zone in machine.zones:
        seen = frame_map(zone, None, None, machine.kernel.boot.memblock)
        maps.append(frame_owners(machine.kernel, zone, seen))
    return maps


def total(maps: list[FrameKinds], kind: int) -> int:
    return sum(shown.counts()[kind] for shown in maps)


def test_owners_are_those_that_proc_vmstat_counts(busy: tuple[Machine, set[int]]) -> None:
    machine, held = busy
    maps = owners(machine)
    counters = {name: int(count) for name, count in (line.split() for line in vmstat(machine.kernel).splitlines())}
    anonymous = {shown.start_pfn + at for shown in maps for at, kind in enumerate(shown.kinds) if kind == ANONYMOUS}
    assert anonymous == held
    assert total(maps, PAGE_CACHE) == counters["nr_file_pages"]
    assert total(maps, SLAB) == counters["nr_slab_reclaimable"] + counters["nr_slab_unreclaimable"]
    assert total(maps, PAGE_TABLE) > counters["nr_page_table_pages"] > 0, "and the kernel's own, and the pgds"


@pytest.mark.parametrize("preset", ["tiny-128m", "old-bios-e801"])
def test_free_frames_are_those_of_the_lists(preset: str) -> None:
    machine = Machine.boot(preset)
    pid = machine.spawn("sh")
    machine.touch(pid, machine.mmap(pid, 50 * PAGE), 50 * PAGE)
    for zone, shown in zip(machine.zones, owners(machine), strict=True):
        on_cpus = sum(zone.per_cpu_pageset.count[cpu] for cpu in range(zone.per_cpu_pageset.nr_cpus))
        assert shown.counts()[FREE] == zone.vm_stat[0] + on_cpus
        assert len(shown.kinds) - shown.counts()[FREE] - shown.counts()[KEPT] - shown.counts()[NO_FRAME] > 0 or (
            zone.vm_stat[0] + on_cpus == zone.managed_pages
        )
    assert total(owners(machine), ANONYMOUS) == 50


def test_types_are_those_of_lists_and_pageblocks(busy: tuple[Machine, set[int]]) -> None:
    machine, _ = busy
    zone = machine.zone("DMA32")
    seen = frame_map(zone, None, None, machine.kernel.boot.memblock)
    shown = frame_migratetypes(zone, seen)
    free = {}
    for order in range(MAX_ORDER):
        for kind in range(MIGRATE_TYPES):
            for pfn in free_blocks(zone, order, kind):
                free.update(dict.fromkeys(range(pfn, pfn + (1 << order)), kind))
    for at, kind in enumerate(shown.kinds):
        pfn = shown.start_pfn + at
        if pfn in free:
            assert kind == 2 * free[pfn]
        elif kind < 2 * MIGRATE_TYPES:
            assert kind >> 1 == get_pageblock_migratetype(zone.page, pfn)
    assert Counter(free.values())[1] <= shown.counts()[2], "movable: those on the lists, and those on CPUs' lists"


def test_a_window_shows_what_the_whole_map_shows(busy: tuple[Machine, set[int]]) -> None:
    machine, _ = busy
    zone, memblock = machine.zone("DMA32"), machine.kernel.boot.memblock
    whole = frame_map(zone, None, None, memblock)
    for start, frames in ((zone.zone_start_pfn + 700, 1000), (zone.zone_start_pfn + 511, 2), (32000, 1 << 14)):
        window = frame_map(zone, start, frames, memblock)
        at = start - zone.zone_start_pfn
        for part, all_of_it in (
            (frame_owners(machine.kernel, zone, window), frame_owners(machine.kernel, zone, whole)),
            (frame_migratetypes(zone, window), frame_migratetypes(zone, whole)),
        ):
            assert part.kinds[: len(whole.cells) - at] == all_of_it.kinds[at : at + frames]


def test_letter_boxes_cover_every_frame_once() -> None:
    kinds = bytes([1] * 5 + [2] * 30 + [3] + [1] * 64 + [0] * 28)
    shown = FrameKinds("owner", 100, tuple("abcdefgh"), kinds)
    covered = bytearray(b"\xff" * len(kinds))
    for kind, column, row, across, down in letter_boxes(shown, 16):
        for y in range(row, row + down):
            for x in range(column, column + across):
                assert covered[16 * y + x] == 0xFF
                covered[16 * y + x] = kind
    assert bytes(covered) == kinds


@pytest.mark.parametrize("by", ["owner", "migratetype"])
def test_dots_are_the_kinds_with_their_patterns(by: str) -> None:
    kinds = bytes(at % len(LOOKS[by]) for at in range(150))
    grid = dots(FrameKinds(by, 0, ("",) * len(LOOKS[by]), kinds), 16)
    assert len(grid) == 256 * 10 * 16, "16 by 16 dots a frame, 10 rows of frames"
    for y in range(0, 160, 3):
        for x in range(256):
            frame = y // 16 * 16 + x // 16
            kind = kinds[frame] if frame < 150 else len(LOOKS[by]) - 1
            assert grid[256 * y + x] == 2 * kind + (LOOKS[by][kind].pattern[y % 4][x % 4] == "#")


@pytest.mark.parametrize("by", ["owner", "migratetype"])
def test_no_two_kinds_look_alike(by: str) -> None:
    looks = [look for look in LOOKS[by] if look.letter]
    assert len({look.letter for look in looks}) == len(looks)
    assert len({(look.base, look.mark) for look in looks}) == len(looks)
    assert len({look.pattern for look in looks if look.letter.isupper()}) == sum(x.letter.isupper() for x in looks)


def test_the_picture_counts_what_the_text_counts(busy: tuple[Machine, set[int]]) -> None:
    machine, _ = busy
    view = FrameView.of(machine.zone("DMA32"), kernel=machine.kernel, colour="owner")
    figure = view.figure()
    assert figure.svg() == FrameView.of(machine.zone("DMA32"), kernel=machine.kernel, colour="owner").svg()
    shown = view.kinds["owner"]
    for name, count in zip(shown.names, shown.counts(), strict=True):
        assert (f"{name}: {count:,}<" in figure.svg()) == bool(count)
        assert (f"{name} {count:>8} pages" in view.text()) == bool(count)
    assert f"{shown.counts()[ANONYMOUS]:,} anonymous" in figure.alt
    assert "free blocks by order" in view.figure("order").svg()
    assert "Movable, free" in view.figure("migratetype").text()


def test_letters_stand_where_there_is_room() -> None:
    kinds = bytes([SLAB] * 8 + [ANONYMOUS] * 24 + [FREE] * 32)
    names = Machine.boot("tiny-128m")  # its names are those of every machine
    shown = frame_owners(names.kernel, names.zones[0], frame_map(names.zones[0], 0, 64))
    drawing = kinds_svg(FrameKinds("owner", 0, shown.names, kinds), 8)
    assert [word for word in drawing.words() if re.fullmatch("[A-Z]", word)] == ["A", "S", "A", "S"]


def test_the_widget_gets_the_kinds_as_they_are(busy: tuple[Machine, set[int]]) -> None:
    machine, _ = busy
    view = FrameView.of(machine.zone("DMA32"), kernel=machine.kernel)
    for sent in json.loads(json.dumps(view.data()))["kinds"]:
        cells = bytearray(len(view.frames.cells))
        apply_runs(cells, sent["cells"])
        assert bytes(cells) == view.kinds[sent["by"]].kinds
        assert sent == json.loads(json.dumps(kinds_data(view.kinds[sent["by"]])))
    assert len(view.html()) < 80_000


def test_colours_that_a_map_does_not_have_are_refused(busy: tuple[Machine, set[int]]) -> None:
    machine, _ = busy
    with pytest.raises(KmemlabError, match="no colours by 'owner'") as error:
        FrameView.of(machine.zone("DMA32"), colour="owner")
    assert "kernel=" in str(error.value)
