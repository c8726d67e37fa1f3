"""Per-CPU memory: giving out and giving back, the worker, and what a task on the wrong CPU does."""

from __future__ import annotations

import contextlib
import random

import pytest

from kmemlab.alloc import percpu, percpu_area, percpu_vm
from kmemlab.alloc.check_percpu import check_percpu
from kmemlab.alloc.percpu_chunk import RESERVED_CHUNK, pcpu_size_to_slot
from kmemlab.alloc.vmap_pages import vmalloc_to_pfn
from kmemlab.machine.machine import Machine
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, DoubleFree, OutOfMemory, TooLarge
from kmemlab.types.gfp import GFP_ATOMIC
from kmemlab.types.units import PAGE_SIZE
from tests.alloc.kmap_bench import check_resumed, machine_of
from tests.machine.cells import cells_of

# -- giving out --------------------------------------------------------------------------------------------------------


def test_the_dynamic_area_begins_behind_the_static_and_the_reserved_one() -> None:
    machine = machine_of("amd64-2g-2cpu")
    assert [machine.alloc_percpu(64) for _ in range(3)] == [225280, 225344, 225408]
    assert [machine.define_per_cpu(40) for _ in range(2)] == [217088, 217128]
    assert machine_of("i386-pae-2g-2cpu").define_per_cpu(40) == 104276 + 4  # no reserved area: aligned to 8, as asked


def test_each_cpu_has_its_own_copy_all_zeros() -> None:
    machine = machine_of("amd64-16g-8cpu")
    pointer = machine.alloc_percpu(16)
    for cpu in range(8):
        machine.run_task(1, cpu=cpu)
        machine.this_cpu_write(pointer, cpu + 100)
        machine.this_cpu_add(pointer + 8, 2**64 - cpu)
    assert [machine.per_cpu(pointer, cpu) for cpu in range(8)] == list(range(100, 108))
    assert machine.per_cpu(pointer + 8, 3) == 2**64 - 3
    machine.free_percpu(pointer)
    again = machine.alloc_percpu(16)
    assert again == pointer
    assert not any(machine.per_cpu(again, cpu) for cpu in range(8))


def test_small_pieces_fill_the_holes_and_alignment_is_kept() -> None:
    machine = machine_of("amd64-2g-2cpu")
    first, second, third = (machine.alloc_percpu(12, 4) for _ in range(3))
    assert (second - first, third - second) == (12, 12)
    machine.free_percpu(second)
    assert machine.alloc_percpu(4, 4) == second
    assert machine.alloc_percpu(256, 256) % 256 == 0
    assert machine.alloc_percpu(8, 4) == second + 4
    assert machine.alloc_percpu(1, 1) % 4 == 0
    machine.check()


@pytest.mark.parametrize("name", ["amd64-2g-2cpu", "i386-pae-2g-2cpu", "i386-4g-2cpu"])
def test_a_new_chunk_lies_at_the_top_of_vmallocs_range_at_the_same_distances(name: str) -> None:
    machine = machine_of(name)
    kernel = machine.kernel
    pages_before = sum(zone.nr_owned for zone in machine.zones)
    pointer = machine.alloc_percpu(32768, 4096)
    units, chunk = kernel.percpu.units, kernel.percpu.chunks[2]
    top = kernel.mm.vmalloc.end // units.atom_size * units.atom_size
    assert chunk.base_addr + units.group_size[0] == top
    for cpu in range(2):
        assert machine.per_cpu_ptr(pointer, cpu) == chunk.base_addr + units.unit_off[cpu]
        machine.run_task(1, cpu=cpu)
        machine.this_cpu_write(pointer, 70 + cpu, 4)
    assert [machine.per_cpu(pointer, cpu, 4) for cpu in range(2)] == [70, 71]
    assert chunk.nr_populated == 8
    tables = sum(zone.nr_owned for zone in machine.zones) - pages_before - 16
    assert 0 <= tables <= 6
    machine.free_percpu(pointer)
    machine.check()


def test_pages_come_from_the_node_of_the_cpu() -> None:
    machine = machine_of("amd64-numa2-4g-4cpu")
    pointer = machine.alloc_percpu(32768)
    for cpu in range(4):
        pfn = vmalloc_to_pfn(machine.kernel.mm, machine.per_cpu_ptr(pointer, cpu))
        node = next(
            zone.node for zone in machine.zones if zone.zone_start_pfn <= pfn < zone.zone_start_pfn + zone.spanned_pages
        )  # type: ignore[operator]
        assert node == machine.kernel.numa.cpu_to_node[cpu]


def test_who_can_not_wait_gets_pages_that_are_there() -> None:
    machine = machine_of("amd64-2g-2cpu")
    while machine.kernel.percpu.nr_empty_pop_pages:
        machine.alloc_percpu(PAGE_SIZE, PAGE_SIZE)
    with pytest.raises(OutOfMemory):
        machine.alloc_percpu(PAGE_SIZE, gfp=GFP_ATOMIC)
    assert machine.kernel.percpu.atomic_alloc_failed
    assert machine.run_percpu_worker()
    assert machine.kernel.percpu.nr_empty_pop_pages == 4
    assert machine.alloc_percpu(PAGE_SIZE, gfp=GFP_ATOMIC)
    assert not machine.run_percpu_worker()
    machine.alloc_percpu(PAGE_SIZE, gfp=GFP_ATOMIC)
    machine.alloc_percpu(PAGE_SIZE, gfp=GFP_ATOMIC)
    assert machine.run_percpu_worker()
    machine.check()
    assert "allocation failed" not in machine.dmesg()  # the worker sees to it; only who may wait is told


def test_illegal_requests() -> None:
    machine = machine_of("amd64-2g-2cpu")
    for size, align in ((0, 8), (32769, 8), (8, 8192), (8, 24)):
        with pytest.raises(BadRequest, match="illegal size"):
            machine.alloc_percpu(size, align)
    assert "illegal size (32772) or align (8) for percpu allocation" in machine.dmesg()
    with pytest.raises(BadRequest, match="no CPU 2"):
        machine.per_cpu_ptr(0, 2)
    with pytest.raises(BadRequest, match="no per-CPU memory yet"):
        Machine("tiny-128m").alloc_percpu(8)


def test_the_reserved_area_is_8_kib() -> None:
    machine = machine_of("amd64-2g-2cpu")
    machine.define_per_cpu(8192)
    with pytest.raises(OutOfMemory):
        machine.define_per_cpu(4, 4)
    assert machine.dmesg().splitlines()[-1] == (
        "percpu: allocation failed, size=4 align=4 atomic=0, alloc from reserved chunk failed"
    )
    for _ in range(12):
        with contextlib.suppress(OutOfMemory):
            machine.define_per_cpu(4, 4)
    assert machine.dmesg().count("allocation failed") == 10
    assert machine.dmesg().splitlines()[-1] == "percpu: limit reached, disable warning"
    assert machine.alloc_percpu(4, 4)


def test_wrong_frees_are_told() -> None:
    machine = machine_of("amd64-2g-2cpu")
    pointer, big = machine.alloc_percpu(64), machine.alloc_percpu(32768)
    with pytest.raises(BadRequest, match="nothing starts at"):
        machine.free_percpu(pointer + 8)
    with pytest.raises(BadRequest, match="no chunk serves"):
        machine.free_percpu(16)
    with pytest.raises(BadRequest, match="no chunk serves"):
        machine.free_percpu(machine.per_cpu_ptr(big, 1))
    with pytest.raises(BadRequest, match="nothing starts at"):
        machine.free_percpu(big + 2)
    machine.free_percpu(pointer)
    machine.free_percpu(big)
    for twice in (pointer, big):
        with pytest.raises(DoubleFree, match="is free already"):
            machine.free_percpu(twice)
    machine.check()


def test_no_pages_no_memory() -> None:
    machine = machine_of("amd64-2g-2cpu")
    before = cells_of(machine.kernel.mm.page)
    with livepatch(percpu_vm.alloc_pages_inner, lambda mm, gfp, order, nid: None), pytest.raises(OutOfMemory):
        machine.alloc_percpu(32768)
    assert machine.dmesg().splitlines()[-1] == (
        "percpu: allocation failed, size=32768 align=8 atomic=0, failed to populate"
    )
    machine.check()
    assert cells_of(machine.kernel.mm.page) == before


def test_no_addresses_no_memory() -> None:
    machine = machine_of("i386-pae-2g-2cpu")
    with livepatch(percpu_vm.pcpu_get_vm_areas, lambda mm, groups, align: None), pytest.raises(OutOfMemory):
        machine.alloc_percpu(32768)
    assert machine.dmesg().splitlines()[-1] == (
        "percpu: allocation failed, size=32768 align=8 atomic=0, failed to allocate new chunk"
    )
    assert sum(chunk.in_use for chunk in machine.kernel.percpu.chunks) == 1
    machine.check()


def test_more_chunks_than_the_model_has() -> None:
    machine = machine_of("i386-256m")
    while not machine.kernel.percpu.chunks[-1].in_use or machine.kernel.percpu.chunks[-1].free_bytes >= 32768:
        machine.alloc_percpu(32768)
    with pytest.raises(TooLarge, match="32 chunks of per-CPU memory"):
        machine.alloc_percpu(32768)
    machine.check()


# -- giving back -------------------------------------------------------------------------------------------------------


def test_of_the_chunks_that_are_all_free_one_is_kept() -> None:
    machine = machine_of("amd64-16g-8cpu")  # units of 256 KiB
    held = [machine.alloc_percpu(32768, 4096) for _ in range(20)]
    kernel = machine.kernel
    assert sum(chunk.in_use for chunk in kernel.percpu.chunks) == 2 + 3
    for pointer in held:
        machine.free_percpu(pointer)
    machine.run_percpu_worker()
    machine.check()
    assert [chunk.number for chunk in kernel.percpu.chunks if chunk.in_use and not chunk.immutable] != []
    assert sum(chunk.in_use for chunk in kernel.percpu.chunks) == 2 + 1


def test_a_chunk_with_many_empty_pages_is_set_aside_and_comes_back() -> None:
    machine = machine_of("amd64-16g-8cpu")
    kernel = machine.kernel
    held = [machine.alloc_percpu(32768, 4096) for _ in range(16)]
    emptied = kernel.percpu.chunks[2]
    mine = [
        pointer
        for pointer in held
        if percpu.pcpu_chunk_addr_search(kernel.percpu, kernel.percpu.units.base_addr + pointer & 2**64 - 1) is emptied
    ]
    for pointer in mine[1:]:
        machine.free_percpu(pointer)
    assert emptied.isolated
    there = kernel.percpu.nr_populated
    assert machine.run_percpu_worker()
    machine.check()
    assert emptied in kernel.percpu.on_list(kernel.percpu.sidelined_slot)
    assert (emptied.nr_populated, emptied.nr_empty_pop_pages) == (8, 0)
    assert kernel.percpu.nr_populated < there
    # Used again only when no other chunk has room.
    for _ in range(64):
        machine.alloc_percpu(32768, 4096)
        if not emptied.isolated:
            break
    assert not emptied.isolated
    machine.check()


# -- this CPU ----------------------------------------------------------------------------------------------------------


def test_who_moves_between_reading_and_writing_loses_an_update() -> None:
    machine = machine_of("amd64-2g-2cpu")
    counter = machine.alloc_percpu(8)
    machine.run_task(2, cpu=1)
    machine.this_cpu_write(counter, 40)
    machine.run_task(1, cpu=0)
    machine.this_cpu_write(counter, 7)
    value = machine.this_cpu_read(counter)
    machine.run_task(1, cpu=1)  # preempted here, and goes on there
    machine.this_cpu_write(counter, value + 1)
    assert [machine.per_cpu(counter, cpu) for cpu in range(2)] == [7, 8]  # 40 is lost, and so is the count on CPU 0


def test_with_get_cpu_var_it_can_not_move() -> None:
    machine = machine_of("amd64-2g-2cpu")
    counter = machine.alloc_percpu(8)
    address = machine.get_cpu_var(counter)
    machine.store(address, machine.load(address) + 1)
    with pytest.raises(BadRequest, match="must not lose its CPU"):
        machine.run_task(0, cpu=1)
    machine.put_cpu_var()
    machine.run_task(0, cpu=1)
    assert [machine.per_cpu(counter, cpu) for cpu in range(2)] == [1, 0]
    with pytest.raises(BadRequest, match="preemption is on"):
        machine.put_cpu_var()


def test_rewound_then_resumed_ends_like_a_straight_run() -> None:
    machine = machine_of("i386-pae-2g-2cpu")
    machine.record()
    rng, held = random.Random(8), []
    for _ in range(25):
        if held and rng.random() < 0.4:
            machine.free_percpu(held.pop(rng.randrange(len(held))))
        else:
            held.append(machine.alloc_percpu(rng.choice((4, 64, 2048, 20000)), rng.choice((4, 64, 4096))))
        machine.run_percpu_worker()
    check_resumed(machine, (45, 12), lambda: check_percpu(machine.kernel.percpu))


def test_the_lists_are_by_powers_of_two() -> None:
    kernel = machine_of("amd64-2g-2cpu").kernel
    sizes = [4, 32, 64, 4096, 28672, 1 << 20]
    assert [pcpu_size_to_slot(kernel.percpu, size) for size in sizes] == [1, 3, 4, 10, 12, 20]
    assert (kernel.percpu.sidelined_slot, kernel.percpu.free_slot, kernel.percpu.to_depopulate_slot) == (19, 20, 21)
    assert kernel.percpu.chunks[RESERVED_CHUNK].in_use
    assert percpu_area.PAGE_BITS == 1024
