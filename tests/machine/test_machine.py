"""The machine's commands: what they give, what they refuse, that they rewind, and that copies go their own way."""

from __future__ import annotations

import pickle
import random

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.sim.struct import structs_of
from kmemlab.types.errors import BadRequest, BadSpec, DoubleFree, OutOfMemory
from kmemlab.types.gfp import GFP_DMA, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from tests.machine.cells import cells_of


def state(machine: Machine) -> dict[tuple[int, str, int], bytes]:
    return cells_of(machine.kernel)


def load(machine: Machine, steps: int, seed: int) -> None:
    rng, held = random.Random(seed), []
    for _ in range(steps):
        if held and rng.random() < 0.45:
            machine.free_pages(*held.pop(rng.randrange(len(held))))
        else:
            order = rng.randrange(5)
            gfp = rng.choice((GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_KERNEL | GFP_DMA))
            held.append((machine.alloc_pages(gfp, order), order))


@pytest.fixture
def machine() -> Machine:
    return Machine.boot("tiny-128m")


@pytest.mark.parametrize("preset", ["tiny-128m", "laptop-8g", "numa-2x4g", "old-bios-e801"])
def test_every_preset_boots_and_keeps_the_laws_under_load(preset: str) -> None:
    machine = Machine.boot(preset)
    machine.check()
    load(machine, 150, seed=4)
    machine.check()


def test_blocks_are_aligned_disjoint_and_from_a_zone_that_was_allowed(machine: Machine) -> None:
    seen: set[int] = set()
    for order in (0, 3, 10, 1, 5):
        pfn = machine.alloc_pages(GFP_KERNEL, order)
        pages = set(range(pfn, pfn + 2**order))
        assert pfn % 2**order == 0
        assert not pages & seen
        seen |= pages
    assert machine.alloc_pages(GFP_KERNEL | GFP_DMA, 0) < 16 << 20 >> 12


def test_the_other_node_is_asked_first(machine: Machine) -> None:
    numa = Machine.boot("numa-2x4g")
    zones = {zone.node: zone for zone in numa.zones if zone.name == "Normal"}
    pfn = numa.alloc_pages(GFP_KERNEL, 0, node=1)
    assert zones[1].zone_start_pfn <= pfn < zones[1].zone_start_pfn + zones[1].spanned_pages


def test_memory_ends_with_an_error_and_nothing_is_lost(machine: Machine) -> None:
    taken = []
    with pytest.raises(OutOfMemory, match="no zone may give 1024 pages"):
        taken.extend(machine.alloc_pages(GFP_KERNEL, 10) for _ in range(1 << 20))
    machine.check()
    for pfn in taken:
        machine.free_pages(pfn, 10)
    machine.check()


@pytest.mark.parametrize("order", [-1, MAX_ORDER])
def test_an_order_that_does_not_exist(machine: Machine, order: int) -> None:
    with pytest.raises(BadRequest, match=f"order {order} can't be allocated") as caught:
        machine.alloc_pages(GFP_KERNEL, order)
    assert "0 (one page) to 10" in caught.value.remedy


@pytest.mark.parametrize(("order", "says"), [("a", "'a'"), (1.0, "1.0"), (None, "None")])
def test_what_is_no_number(machine: Machine, order: object, says: str) -> None:
    before = state(machine)
    with pytest.raises(BadRequest, match=f"order must be a whole number, not {says}"):
        machine.alloc_pages(GFP_KERNEL, order)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match=f"pfn must be a whole number, not {says}"):
        machine.free_pages(order)  # type: ignore[arg-type]
    assert state(machine) == before


def test_wrong_frees_say_which_mistake_it_was(machine: Machine) -> None:
    pfn = machine.alloc_pages(GFP_KERNEL, 2)
    before = state(machine)
    for wrong, order, says in [
        (pfn, 1, "allocated with order 2, not 1"),
        (pfn + 1, 0, f"inside the block at pfn {pfn}, order 2"),
        (5, 0, "never allocated"),
        (1 << 40, 0, "no page frame of this machine"),
        (-1, 0, "no page frame of this machine"),
    ]:
        with pytest.raises(BadRequest, match=says):
            machine.free_pages(wrong, order)
    assert state(machine) == before
    machine.free_pages(pfn, 2)
    with pytest.raises(DoubleFree, match="free already"):
        machine.free_pages(pfn, 2)
    machine.check()


def test_boot_itself_rewinds_to_power_on_and_comes_back() -> None:
    off = state(Machine("tiny-128m"))
    machine = Machine.boot("tiny-128m", record=True)
    load(machine, 30, seed=1)
    end, log = state(machine), machine.dmesg()
    machine.timeline.rewind(0)
    assert state(machine) == off
    assert machine.dmesg() == ""
    machine.timeline.to_end()
    assert state(machine) == end
    assert machine.dmesg() == log
    machine.stop_recording()


def test_rewound_and_asked_anew_it_ends_like_a_machine_that_never_was_rewound(machine: Machine) -> None:
    straight = Machine.boot("tiny-128m")
    load(straight, 60, seed=9)
    machine.record()
    load(machine, 40, seed=2)
    machine.timeline.rewind(0)
    load(machine, 60, seed=9)
    assert state(machine) == state(straight)
    machine.stop_recording()
    assert machine.commands == straight.commands


def test_forks_and_pickles_go_their_own_way(machine: Machine) -> None:
    load(machine, 40, seed=3)
    for twin in (machine.fork(), pickle.loads(pickle.dumps(machine))):
        assert state(twin) == state(machine)
        assert twin.commands == machine.commands
        twin.alloc_pages(GFP_KERNEL, 0)
        assert state(twin) != state(machine)
        twin.check()
    machine.check()


def test_a_machine_that_stopped_before_the_hand_over_has_no_pages_to_give() -> None:
    machine = Machine.boot("tiny-128m", until="build_all_zonelists")
    with pytest.raises(BadRequest, match="no page allocator yet"):
        machine.alloc_pages(GFP_KERNEL)


def test_unknown_presets_zones_nodes_and_stages_name_what_there_is(machine: Machine) -> None:
    with pytest.raises(BadSpec, match="laptop-9g") as caught:
        Machine.boot("laptop-9g")
    assert "laptop-8g" in caught.value.remedy
    with pytest.raises(BadRequest, match="no zone 'HighMem'"):
        machine.zone("HighMem")
    with pytest.raises(BadRequest, match="no node 3") as caught:
        machine.alloc_pages(GFP_KERNEL, 0, node=3)
    assert caught.value.remedy == "choose one of [0]"
    with pytest.raises(BadRequest, match="no_such_stage"):
        Machine.boot("tiny-128m", until="no_such_stage")


def test_no_column_of_a_machine_has_two_owners() -> None:
    owners: dict[int, str] = {}
    for struct in structs_of(Machine.boot("numa-2x4g").kernel):
        for name, view in struct.columns():
            assert id(view) not in owners, f"{struct!r}.{name} is also {owners[id(view)]}"
            owners[id(view)] = f"{struct!r}.{name}"


@pytest.mark.usefixtures("nobody_records")
def test_after_recording_every_column_and_function_is_its_own_again() -> None:
    from kmemlab.mm.buddy import expand

    code = expand.__code__
    machine = Machine.boot("tiny-128m", record=True)
    assert expand.__code__ is not code
    machine.stop_recording()
    assert expand.__code__ is code
    assert all(isinstance(view, memoryview) for struct in structs_of(machine.kernel) for _, view in struct.columns())
