"""The picture of vmalloc's areas tells what its text tells, and what the page tables of the machine say."""

from __future__ import annotations

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.vmalloc_snapshot import LAZY, vmalloc_snapshot
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.views.figure import Figure
from kmemlab.views.panel_vmalloc import VmallocPanel
from kmemlab.views.player import Player
from kmemlab.views.vmalloc_areas import vmalloc_figure
from tests.views.drawn import notes

FOLDED = ("alloc_pages_bulk_array_mempolicy", "table_alloc", "__free_pages", "flush_tlb_kernel_range")


def figure_of(machine: Machine) -> Figure:
    return vmalloc_figure(vmalloc_snapshot(machine.kernel.mm))


@pytest.fixture
def machine() -> Machine:
    return Machine.boot("tiny-128m")


def test_every_page_is_drawn_over_the_frame_that_the_tables_give(machine: Machine) -> None:
    first = machine.vmalloc(3 * 4096)
    machine.alloc_pages(GFP_KERNEL)
    second = machine.vmalloc(5000)
    figure = figure_of(machine)
    drawn = notes(figure)
    for letter, address, pages in (("A", first, 3), ("B", second, 2)):
        for nth in range(pages):
            pfn = machine.vmalloc_to_pfn(address + nth * 4096)
            assert f"{letter}, page {nth}: pfn {pfn}" in drawn
            assert f"pfn {pfn}: {letter}, page {nth}" in drawn
        assert f"{letter}: guard page" in drawn
    assert figure.alt.startswith("2 areas are in use; 0 pages of addresses wait")
    assert "3 of 3 pages are mapped" in figure.text()


def test_a_freed_area_waits_without_pages_until_the_purge(machine: Machine) -> None:
    address = machine.vmalloc(8192)
    machine.vfree(address)
    (area,) = vmalloc_snapshot(machine.kernel.mm).areas
    assert (area.kind, area.start, area.pfns) == (LAZY, address, ())
    assert "3 pages of addresses wait" in figure_of(machine).alt
    machine.vm_unmap_aliases()
    assert vmalloc_snapshot(machine.kernel.mm).areas == ()
    assert figure_of(machine).alt.startswith("No area is in use; 0 pages")


def test_the_memory_of_a_device_is_told_by_its_address(machine: Machine) -> None:
    machine.ioremap(0xFED00000, 1024)
    figure = figure_of(machine)
    assert "ioremap of student: 1 of 1 pages are mapped: pfn 1043712; a guard page" in figure.text()
    assert "device, 0xfed00000" in figure.svg()


def test_many_areas_and_many_pages_fit(machine: Machine) -> None:
    for size in (1 << 20, *[4096] * 11):
        machine.vmalloc(size)
    figure = figure_of(machine)
    assert "and 4 areas more" in figure.svg()
    assert len(figure.svg()) < 100_000
    assert len(figure.text().splitlines()) == 13


def test_before_vmalloc_init_there_is_nothing() -> None:
    early = vmalloc_snapshot(Machine.boot("tiny-128m", until="init_mem_mapping").kernel.mm)
    assert early.areas == ()
    assert vmalloc_figure(early).text().startswith("No area")


def test_the_player_maps_the_pages_one_by_one(machine: Machine) -> None:
    machine.record(lines=True)
    address = machine.vmalloc(3 * 4096)
    machine.vfree(address)
    machine.vm_unmap_aliases()
    player = Player(machine.timeline, VmallocPanel(machine.kernel), folded=FOLDED)
    machine.stop_recording()
    entries = [number for number, step in enumerate(player.steps) if "writes an entry" in step.said]
    assert len(entries) == 3
    for mapped, number in enumerate(entries, 1):
        assert f"{mapped} of 3 pages are mapped" in player.steps[number].sight.alt
    assert any("waits for a purge" in line for step in player.steps for line in step.changed)
    assert player.steps[-1].sight.alt.startswith("No area is in use")
