"""The player of compaction: what its steps say of the scanners and of moved pages is what the machine has done."""

from __future__ import annotations

import pytest

from kmemlab.course.crowded import FIRST, LAST, crowded, taken
from kmemlab.machine.machine import Machine
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE
from kmemlab.views.panel_compaction import CompactionPanel
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
