"""The picture of pageblocks tells what the free lists, the programs' page tables and the types of the machine say."""

from __future__ import annotations

from random import Random

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import Zone, free_blocks, set_pageblock_migratetype
from kmemlab.sim.list_head import init_list_head
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE
from kmemlab.types.migratetype import MIGRATE_RECLAIMABLE, MIGRATE_TYPES
from kmemlab.views.pageblocks import (
    CAN_MOVE,
    CANT_MOVE,
    FREE,
    PAGES,
    STATES,
    pageblock_map,
    pageblocks_figure,
    pageblocks_svg,
)
from tests.views.drawn import notes

Busy = tuple[Machine, Zone, set[int], int]  # the machine, its zone, a program's pages, the first pageblock of them
SHOWN = 4


@pytest.fixture(scope="module")
def busy() -> Busy:
    """Two programs take pages in a random order, and one ends."""
    machine = Machine.boot("tiny-128m")
    pids = [machine.spawn(name) for name in ("stays", "goes")]
    areas = {pid: machine.mmap(pid, 700 * 4096) for pid in pids}
    done = dict.fromkeys(pids, 0)
    for pid in Random(3).sample(pids * 700, 1400):
        machine.touch(pid, areas[pid] + done[pid] * 4096, 4096)
        done[pid] += 1
    machine.sys_exit(pids[1])
    held = {machine.user_pfn(pids[0], areas[pids[0]] + page * 4096) for page in range(700)}
    pages = {pfn for pfn in held if pfn is not None}
    return machine, machine.zone("DMA32"), pages, max(pages) // PAGES * PAGES - (SHOWN - 1) * PAGES


def free_pages(zone: Zone) -> set[int]:
    """Every free page, from the lists."""
    places = ((order, kind) for order in range(MAX_ORDER) for kind in range(MIGRATE_TYPES))
    return {
        pfn + page for order, kind in places for pfn in free_blocks(zone, order, kind) for page in range(1 << order)
    }


def test_frames_are_free_movable_or_neither(busy: Busy) -> None:
    _, zone, pages, first = busy
    shown = pageblock_map(zone, first, first + SHOWN * PAGES)
    free = free_pages(zone)
    for block in shown.blocks:
        for at, state in enumerate(block.cells):
            pfn = block.pfn + at
            assert (state == FREE) == (pfn in free), f"pfn {pfn} is {STATES[state]}"
            if pfn in pages:
                assert state == CAN_MOVE
    assert sum(block.count(CAN_MOVE) for block in shown.blocks) >= sum(
        first <= pfn < first + SHOWN * PAGES for pfn in pages
    )


def test_the_text_and_the_drawing_say_the_same(busy: Busy) -> None:
    _, zone, _, first = busy
    figure = pageblocks_figure(pageblock_map(zone, first, first + SHOWN * PAGES), "Four of them")
    noted = notes(figure)
    for line in figure.text().splitlines():
        assert line in noted
    assert figure.alt.startswith("4 pageblocks: ")
    assert figure.png().startswith(b"\x89PNG")
    assert len(figure.svg()) < 20_000


def test_bars_are_as_long_as_pageblocks_are_full(busy: Busy) -> None:
    _, zone, _, first = busy
    shown = pageblock_map(zone, first, first + SHOWN * PAGES)
    wide = [mark.at[2] for mark in pageblocks_svg(shown).marks if mark.kind == "image" and mark.at[3] == 6]
    full = [block.count(state) for block in shown.blocks for state in range(1, 5) if block.count(state)]
    assert [round(width * PAGES / 224, 3) for width in wide] == full


def test_a_pageblock_that_changes_hands_changes_its_letter() -> None:
    machine = Machine.boot("tiny-128m")
    zone = machine.zone("DMA32")
    first = machine.alloc_pages(GFP_HIGHUSER_MOVABLE, 9)
    before = pageblock_map(zone, first, first + PAGES)
    set_pageblock_migratetype(zone.page, first, MIGRATE_RECLAIMABLE)
    after = pageblock_map(zone, first, first + PAGES)
    assert ("Movable" in before.text(), "Reclaimable" in after.text()) == (True, True)
    assert before.blocks[0].cells == after.blocks[0].cells == bytes([CANT_MOVE]) * PAGES
    assert ">M</text>" in pageblocks_figure(before).svg()
    assert ">R</text>" in pageblocks_figure(after).svg()
    marked = pageblock_map(zone, first, first + PAGES, before=before)
    assert "(was Movable)" in marked.text()
    assert "it was Movable" in pageblocks_figure(marked).alt
    assert pageblocks_figure(marked).svg().index(">M</text>") > pageblocks_figure(marked).svg().index(">R</text>")
    assert pageblock_map(zone, first, first + PAGES, before=after) == after


def test_scanners_are_shown_while_a_zone_is_compacted_and_not_after(busy: Busy) -> None:
    machine, zone, _, first = busy
    cc = machine.kernel.mm.compact_controls[0]
    end = first + SHOWN * PAGES
    init_list_head(zone.page.lru, cc.freepages)
    cc.migrate_pfn, cc.free_pfn, cc.running = first + 40, end - 100, zone.slot
    try:
        shown = pageblock_map(zone, first, end, cc)
    finally:
        cc.running = 0
    assert (shown.migrate_pfn, shown.free_pfn) == (first + 40, end - 100)
    assert shown.text().endswith(f"migrate scanner at pfn {first + 40}, free scanner at pfn {end - 100}")
    svg = pageblocks_figure(shown).svg()
    assert ">m</text>" in svg
    assert ">f</text>" in svg
    assert pageblock_map(zone, first, end, cc).migrate_pfn is None
