"""The pictures of kmap's slots and of per-CPU memory tell what their texts tell, and what the machine has."""

from __future__ import annotations

import pytest

from kmemlab.machine.kmap_snapshot import kmap_snapshot, percpu_snapshot
from kmemlab.machine.machine import Machine
from kmemlab.types.errors import MustWait
from kmemlab.views.cache_lines import Variable, false_sharing_text, shared_lines
from kmemlab.views.figure import Figure
from kmemlab.views.kmap_slots import kmap_figure
from kmemlab.views.percpu_units import percpu_figure
from tests.alloc.kmap_bench import CLASSIC, PAE, high_pages, machine_of
from tests.views.drawn import notes


def kmap_of(machine: Machine) -> Figure:
    return kmap_figure(kmap_snapshot(machine.kernel.pkmap, machine.kernel.kmap_ctrl))


@pytest.mark.parametrize("name", [PAE, CLASSIC])
def test_every_slot_in_use_is_drawn_and_told(name: str) -> None:
    machine = machine_of(name)
    first, second, third = high_pages(machine, 3)
    machine.run_task(5, cpu=1)
    for pfn in (first, first, second):
        machine.kmap(pfn)
    machine.kunmap(second)
    machine.kmap_local(third)
    figure = kmap_of(machine)
    slots = machine.kernel.pkmap.last_pkmap
    assert figure.alt == (
        f"Of {slots} slots of kmap {slots - 2} are free, 1 are in use by 2 users, and 1 have no user but are mapped "
        "until the round is over; it is at slot 2."
    )
    drawn = notes(figure)
    assert f"slot 1: pfn {first}, 2 users" in drawn
    assert f"slot 2: pfn {second}, 0 users" in drawn
    assert f"fffab000: pfn {third}" in drawn
    assert f"CPU 1, place 0  fffab000  pfn {third}" in figure.text()
    assert [line.split()[2] for line in figure.text().splitlines() if line.endswith("pid 5")] == ["2", "-"]


def test_who_waits_is_told() -> None:
    machine = machine_of()
    pages = high_pages(machine, 513)
    for pfn in pages[:512]:
        machine.kmap(pfn)
    machine.run_task(9)
    with pytest.raises(MustWait):
        machine.kmap(pages[512])
    assert "Waiting for a slot: pid 9." in kmap_of(machine).text()


def test_without_highmem_there_is_nothing_to_draw() -> None:
    figure = kmap_of(Machine.boot("tiny-128m"))
    assert "no HighMem" in figure.text()
    assert len(notes(figure)) == 1


@pytest.mark.parametrize("name", ["amd64-numa2-4g-4cpu", "i386-pae-2g-2cpu", "amd64-16g-8cpu"])
def test_every_piece_and_every_page_of_per_cpu_memory_is_told(name: str) -> None:
    machine = machine_of(name)
    held = {machine.alloc_percpu(size): size for size in (8, 64, 4096, 32768, 12)}
    snapshot = percpu_snapshot(machine.kernel.percpu)
    assert {offset: size for chunk in snapshot.chunks for offset, size in chunk.pieces} == held
    figure = percpu_figure(snapshot)
    drawn = notes(figure)
    for chunk in snapshot.chunks:
        assert f"chunk {chunk.number} ({chunk.name}) at {chunk.base:#x}" in figure.text()
        assert sum(int(note.split()[0]) for note in drawn if " pages " in note) == sum(
            len(chunk.pages) for chunk in snapshot.chunks
        )
    there = sum(state != "not there" for chunk in snapshot.chunks if chunk.number > 1 for state in chunk.pages)
    units = machine.kernel.percpu.units
    assert snapshot.populated == there + units.size_sum // 4096
    for cpu in range(units.nr_cpus):
        assert f"CPU {cpu}: {units.base_addr + units.unit_off[cpu]:#x}" in figure.text()


def test_counters_in_an_array_share_lines_and_per_cpu_ones_do_not() -> None:
    machine = machine_of("amd64-16g-8cpu")
    array = machine.kmalloc(8 * 8)
    in_array = tuple(Variable(cpu, array + 8 * cpu) for cpu in range(8))
    assert len(shared_lines(in_array)) == 1
    pointer = machine.alloc_percpu(8)
    apart = tuple(Variable(cpu, machine.per_cpu_ptr(pointer, cpu)) for cpu in range(8))
    assert shared_lines(apart) == ()
    assert false_sharing_text(in_array).splitlines()[-1] == (
        "1 of 1 cache lines of 64 bytes is written by more than one CPU"
    )
    assert false_sharing_text(apart).splitlines()[-1].startswith("0 of 8 cache lines")
    assert len(shared_lines((Variable(0, 60), Variable(1, 124)))) == 1  # a variable may lie across two lines
