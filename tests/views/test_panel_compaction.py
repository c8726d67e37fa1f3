"""The player of compaction: what its steps say of the scanners and of moved pages is what the machine has done."""

from __future__ import annotations

import pytest

from kmemlab.course.crowded import FIRST, LAST, crowded, taken
from kmemlab.machine.machine import Machine
from kmemlab.mm.zone import get_pageblock_migratetype
from kmemlab.sim.timeline import walk
from kmemlab.types.gfp import __GFP_RECLAIMABLE, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from kmemlab.types.migratetype import MIGRATETYPE_NAMES
from kmemlab.views.pageblocks import PAGES
from kmemlab.views.panel_compaction import CompactionPanel
from kmemlab.views.phrases_fallback import TOLD_AS_ONE
from kmemlab.views.player import Player

HUGE = 9


@pytest.fixture(scope="module")
def played() -> tuple[Machine, Player, int]:
    """A request for a huge page in a zone of single free pages, and how many of a program's pages it moved."""
    machine, stays, area = crowded(stays=600, goes=2500)
    for order in (10, HUGE):
        taken(machine, order)
    machine.alloc_pages(GFP_HIGHUSER_MOVABLE, HUGE)  # and kcompactd prepares one more
    taken(machine, HUGE)
    where = [machine.user_pfn(stays, area + page * 4096) for page in range(600)]
    machine.record()
    machine.alloc_pages(GFP_HIGHUSER_MOVABLE, HUGE)
    moved = sum(old != machine.user_pfn(stays, area + page * 4096) for page, old in enumerate(where))
    panel = CompactionPanel(machine.kernel.mm, machine.zone("DMA32"), FIRST, LAST)
    return machine, Player(machine.timeline, panel, commands=[0], within="compact_zone"), moved


def test_each_step_is_a_sentence_about_scanners_and_pages(played: tuple[Machine, Player, int]) -> None:
    _, player, _ = played
    said = [step.said for step in player.steps]
    assert len(said) < 60
    assert any("takes pages that could move off their LRU lists" in text for text in said)
    assert any("moves the pages to free ones" in text for text in said)
    assert all("is called" not in text for text in said), said


def test_pages_that_move_are_those_that_waited(played: tuple[Machine, Player, int]) -> None:
    """No more pages of the program have moved than waited before the moves, and some have."""
    _, player, moved = played
    waiting, total = 0, 0
    for step in player.steps:
        facts = dict(step.sight.facts)
        if "moves the pages" in step.said:
            total += waiting
        waiting = int(facts.get("pages that wait to move", 0))
    assert 0 < moved <= total


def test_the_picture_shows_the_scanner_where_the_facts_say(played: tuple[Machine, Player, int]) -> None:
    _, player, _ = played
    shown = [step.sight for step in player.steps if "migrate scanner" in dict(step.sight.facts)]
    assert shown
    for sight in shown:
        place = dict(sight.facts)["migrate scanner"]
        assert f"The migrate scanner is at {place}, " in sight.alt
    assert "Node 0, zone    DMA32" in player.text(0)


def test_the_player_travels_light(played: tuple[Machine, Player, int]) -> None:
    _, player, _ = played
    assert len(player.html()) < 200_000
    assert player.svg().startswith("<svg")


@pytest.fixture(scope="module")
def stolen() -> tuple[Machine, Player]:
    """A cache's page, where only single movable pages and one larger block of the Unmovable are free."""
    machine = Machine.boot("tiny-128m")
    zone = machine.zone("DMA32")
    pages = []
    while zone.vm_stat[0] > zone.watermark[1] + 256:
        pages.append(machine.alloc_pages(GFP_HIGHUSER_MOVABLE, 0))
    for pfn in pages[::2]:
        machine.free_pages(pfn, 0)
    machine.record()
    machine.alloc_pages(GFP_KERNEL | __GFP_RECLAIMABLE, 0)
    call = next(call for call in walk(machine.timeline.calls(0)) if call.name == "steal_suitable_fallback")
    first = call.arguments[2] & -PAGES
    panel = CompactionPanel(machine.kernel.mm, zone, first, first + PAGES)
    return machine, Player(machine.timeline, panel, within="__rmqueue_fallback", folded=TOLD_AS_ONE)


def test_stealing_is_told_lender_by_lender(stolen: tuple[Machine, Player]) -> None:
    _, player = stolen
    said = [step.said for step in player.steps]
    assert all("is called" not in text and "is done" not in text for text in said), said
    asked = [text for text in said if "asks who has a block" in text]
    assert [int(text.split("order ")[1].split(":")[0]) for text in asked] == list(range(10, 10 - len(asked), -1))
    assert all(text.endswith("no lender.") for text in asked[:-1])
    assert not asked[-1].endswith("no lender.")


def test_what_moves_is_what_the_pageblock_had_free(stolen: tuple[Machine, Player]) -> None:
    machine, player = stolen
    moved = next(step.said for step in player.steps if "free pages of the pageblock to" in step.said)
    free = int(player.steps[0].sight.alt.split(": ")[1].split(" pages free")[0])
    assert f"moves the {free} free pages" in moved
    first = player.steps[0].sight
    last = player.steps[-1].sight
    assert "it was" not in first.alt
    if any("from now on" in step.said for step in player.steps):
        zone = machine.zone("DMA32")
        pfn = int(last.alt.split("The one at pfn ")[1].split()[0])
        name = MIGRATETYPE_NAMES[get_pageblock_migratetype(zone.page, pfn)]
        assert f"The one at pfn {pfn} is {name}; it was" in last.alt
        assert (f"pageblock {pfn}", name) in last.facts
