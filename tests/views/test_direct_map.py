"""The direct map's picture and player: the sizes that they show are those that a walk over the tables in RAM finds."""

from __future__ import annotations

import itertools

import pytest

from kmemlab.boot.globals import Boot
from kmemlab.boot.page_tables import pfn_mapped
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.units import PAGE_SHIFT
from kmemlab.views.direct_map import direct_map_figure, mapped_by_size
from kmemlab.views.panel_direct_map import DirectMapPanel
from kmemlab.views.player import Player
from tests.boot.captures import MACHINES

NAMES = ["amd64-2g-2cpu", "amd64-gbpages-8g", "amd64-la57-2g", "amd64-nopse-1g", "i386-256m", "i386-pae-2g-2cpu"]


def mapped(name: str) -> Boot:
    return Machine.boot(load_spec(MACHINES / name), until="init_mem_mapping").kernel.boot


@pytest.mark.parametrize("name", NAMES)
def test_each_run_is_mapped_by_pages_of_its_size(name: str) -> None:
    boot = mapped(name)
    runs = mapped_by_size(boot.direct_map)
    assert sum(run.end - run.start for run in runs) == sum(b - a for a, b in pfn_mapped(boot.direct_map)) << PAGE_SHIFT
    for run in runs:
        for paddr in (run.start, run.start + run.size * (run.pages // 2), run.end - 1):
            found, _ = boot.mmu.descend(va(boot, paddr))
            assert found.address == paddr
            assert boot.mmu.layout.levels[found.level].size == run.size
    for one, other in itertools.pairwise(runs):
        assert (one.end, one.size) != (other.start, other.size)


def test_the_figure_tells_pages_and_holes() -> None:
    figure = direct_map_figure(mapped("amd64-gbpages-8g"))
    assert "5 pages of 1 GiB, 5 GiB" in figure.text()
    assert figure.text().count("not mapped") == 1
    for letter in ("4K", "2M", "1G"):
        assert f">{letter}<" in figure.svg()


def test_the_player_ends_with_the_map_as_it_stands() -> None:
    machine = Machine("tiny-128m")
    machine.record(lines=True)
    machine.start_kernel("init_mem_mapping")
    boot = machine.kernel.boot
    player = Player(machine.timeline, DirectMapPanel(boot), within="init_mem_mapping", folded=("find_real_end",))
    last = player.steps[-1].sight
    assert direct_map_figure(boot).text().replace("\n", "; ") in last.alt
    assert "DirectMap2M:      126976 kB" in last.proc
    said = [step.said.replace("`", "") for step in player.steps]
    assert "phys_pmd_init fills 61 entries: pages of 2 MiB, from 0x200000 on." in said
    assert any("[0x100000-0x1fffff] by 4 KiB, [0x200000-0x7bfffff] by 2 MiB" in text for text in said)
    # The picture keeps its scale: it is as high in the first step as in the last.
    heights = {step.sight.picture.height for step in player.steps}  # type: ignore[union-attr]
    assert len(heights) == 1
