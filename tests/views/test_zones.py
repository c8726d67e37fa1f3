"""The pictures of nodes and zones against the machine that they show."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from kmemlab.course.tasks.zones_zonelist import numa_machine
from kmemlab.machine.machine import Machine
from kmemlab.views.player import Player
from kmemlab.views.zonelist_panel import ZonelistPanel
from kmemlab.views.zones import levels_of, zones_figure, zones_text, zoom_figure

PAIRS = [[10, 16, 32, 32], [16, 10, 32, 32], [32, 32, 10, 16], [32, 32, 16, 10]]


@pytest.fixture(scope="module")
def four() -> Iterator[Machine]:
    machine = Machine(numa_machine(PAIRS))
    machine.record(lines=True)
    machine.start_kernel("build_all_zonelists")
    yield machine
    machine.stop_recording()


@pytest.fixture(scope="module")
def player(four: Machine) -> Player:
    return Player(four.timeline, ZonelistPanel(four.kernel.mm), within="__build_all_zonelists")


@pytest.mark.parametrize("preset", ["laptop-8g", "numa-2x4g", "tiny-128m"])
def test_the_zones_figure_tells_each_zone_in_picture_and_text(preset: str) -> None:
    machine = Machine.boot(preset)
    figure = zones_figure(machine.kernel.mm)
    words = " ".join("".join(node.itertext()) for node in ElementTree.fromstring(figure.svg()).iter())
    for zone in machine.zones:
        told = f"node {zone.node}, zone {zone.name:8} pfn {zone.zone_start_pfn} to"
        assert told in figure.text()
        assert f"spanned {zone.spanned_pages}, present {zone.present_pages}" in figure.text()
        assert f"zone {zone.name} of node {zone.node} spans" in words
    assert figure.svg() == zones_figure(machine.kernel.mm).svg()


def test_memory_of_the_text_adds_up_to_present_pages() -> None:
    machine = Machine.boot("laptop-8g")
    lines = [line.split() for line in zones_text(machine.kernel.mm).splitlines() if line.startswith("    memory")]
    pages = sum(int(last.rstrip(",")) - int(first) + 1 for _, _, _, first, _, last, *_ in lines)
    assert pages == sum(zone.present_pages for zone in machine.zones)


def test_each_level_lies_within_the_one_above() -> None:
    machine = Machine.boot("numa-2x4g")
    levels = levels_of(machine.kernel.mm, 1_400_000)
    assert [name.split()[0] for name, _, _ in levels] == ["the", "node", "zone", "section", "page"]
    for (_, low, high), (_, inner_low, inner_high) in itertools.pairwise(levels):
        assert low <= inner_low < inner_high <= high
    assert "section 42" in zoom_figure(machine.kernel.mm, 1_400_000).text()


def test_a_player_appends_entry_by_entry(four: Machine, player: Player) -> None:
    panel = ZonelistPanel(four.kernel.mm)
    said = [step.said.replace("`", "") for step in player.steps]
    for nid in range(4):
        want = [
            f"build_zonerefs_node appends {entry} to node {nid}'s list: place {at}."
            for at, entry in enumerate(panel.entries(nid), 1)
        ]
        assert [line for line in said if f"to node {nid}'s list:" in line] == want
    assert "build_zonelists asks for the next best node for node 1: 3." in said
    assert "build_zonelists sets the load of node 3 to 1: nodes that are as near now go before it." in said
    last = player.steps[-1]
    assert "Fallback order for Node 2" in last.sight.proc
    assert all("place" not in step.said or step.sight.alt.count(":") >= 2 for step in player.steps)
