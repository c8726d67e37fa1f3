"""Slots of swap areas: which ones are taken, by whom they are named, and that none is lost; without any process."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.alloc.swapon import swapon
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_swap import check_swap_areas
from kmemlab.mm.scan_swap_map import get_swap_pages
from kmemlab.mm.swap_count import swap_duplicate, swap_entry_free_locked, swap_free, swp_swapcount
from kmemlab.mm.swap_info import SWAP_HAS_CACHE
from kmemlab.mm.swap_slots import THRESHOLD_ACTIVATE_SWAP_SLOTS_CACHE, check_cache_active, disable_swap_slots_cache
from kmemlab.mm.swapops import swp_offset, swp_type
from kmemlab.types.errors import BadRequest
from tests.process.space import machine_of


def area(pages: int, *, prio: int = -1, solid_state: bool = False, machine: Machine | None = None):
    """A machine with a swap area, whose slots go straight back to it."""
    machine = machine or machine_of()
    swapon(machine.kernel.mm, pages, prio, solid_state)
    disable_swap_slots_cache(machine.kernel.mm)
    return machine


def take(machine: Machine, count: int = 1) -> list[int]:
    """Slots that one page table names each, and no cache."""
    mm = machine.kernel.mm
    entries = get_swap_pages(mm, count)
    for entry in entries:
        swap_duplicate(mm, entry)
        swap_entry_free_locked(mm, entry, SWAP_HAS_CACHE)
    return entries


def offsets(entries: list[int]) -> list[int]:
    return [swp_offset(entry) for entry in entries]


# -- which slot --------------------------------------------------------------------------------------------------------


def test_a_disk_with_an_arm_is_filled_from_the_front() -> None:
    machine = area(2000)
    taken = [offsets(take(machine, 64)) for _ in range(31)]
    assert [offset for batch in taken for offset in batch] == list(range(1, 31 * 64 + 1))


def test_after_a_cluster_the_first_empty_stretch_is_looked_for() -> None:
    machine = area(4000)
    size = 512
    entries = [entry for _ in range(3 * size) for entry in take(machine)]
    assert offsets(entries) == list(range(1, 3 * size + 1))
    for entry in entries[:200] + entries[300 : 300 + size]:
        swap_free(machine.kernel.mm, entry)
    # Slots go on in a row up to the end of the cluster; then the hole that is large enough is found, not the first one.
    assert offsets(take(machine)) == [301]
    assert offsets(take(machine, 64)) == list(range(302, 366))


def test_a_full_disk_gives_single_slots_from_wherever_they_are() -> None:
    machine = area(1000)
    entries = [entry for _ in range(999) for entry in take(machine)]
    assert get_swap_pages(machine.kernel.mm, 1) == []
    assert machine.kernel.mm.nr_swap_pages == 0
    for offset in (17, 400, 998):
        swap_free(machine.kernel.mm, entries[offset - 1])
    assert sorted(offsets(take(machine) + take(machine) + take(machine))) == [17, 400, 998]
    assert get_swap_pages(machine.kernel.mm, 1) == []


def test_solid_state_each_cpu_fills_a_cluster_of_its_own() -> None:
    machine = area(5000, solid_state=True, machine=machine_of("laptop-8g"))
    current = machine.kernel.mm.current
    first = offsets(take(machine, 5))
    current.cpu = 1
    second = offsets(take(machine, 5))
    current.cpu = 0
    third = offsets(take(machine, 5))
    size = 512
    assert first[0] % size == second[0] % size == 0
    assert first[0] != second[0]
    assert third == [first[0] + 5 + nth for nth in range(5)]
    check_swap_areas(machine.kernel.mm, Counter(dict.fromkeys(held(machine), 1)), ())


def test_solid_state_the_cluster_with_the_header_comes_last() -> None:
    machine = area(3 * 512, solid_state=True)
    taken = [offset for _ in range(3 * 512 - 1) for offset in offsets(take(machine))]
    assert taken[:1024] == list(range(512, 1536))
    assert sorted(taken) == list(range(1, 1536))
    assert get_swap_pages(machine.kernel.mm, 1) == []


def held(machine: Machine) -> list[int]:
    """The entries that a page table names, by the map."""
    swap = machine.kernel.mm.swap
    return [
        si.type << 58 | offset
        for si in swap.info
        for offset in range(1, si.max)
        if swap.swap_map[si.first_block + offset] & ~SWAP_HAS_CACHE
    ]


def test_areas_by_priority_and_by_turns() -> None:
    machine = area(101, prio=5)
    area(101, prio=9, machine=machine)
    area(101, prio=5, machine=machine)
    area(101, machine=machine)
    area(101, machine=machine)
    assert [si.prio for si in machine.kernel.mm.swap.info[:5]] == [5, 9, 5, -2, -3]
    order = [swp_type(take(machine)[0]) for _ in range(500)]
    assert order[:100] == [1] * 100
    assert order[100:300] == [0, 2] * 100
    assert order[300:] == [3] * 100 + [4] * 100


# -- counts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 61, 62, 63, 64, 125, 126, 200])
def test_an_entry_is_counted_beyond_what_a_byte_holds(most: int) -> None:
    machine = area(1000)
    mm = machine.kernel.mm
    (entry,) = take(machine)
    for count in range(2, most + 1):
        swap_duplicate(mm, entry)
        assert swp_swapcount(mm, entry) == count
    check_swap_areas(mm, {entry: most}, ())
    for count in reversed(range(1, most)):
        swap_free(mm, entry)
        assert swp_swapcount(mm, entry) == count
    swap_free(mm, entry)
    check_swap_areas(mm, {}, ())
    assert mm.nr_swap_pages == 999


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), solid_state=st.booleans(), pages=st.sampled_from([40, 700, 1600]))
def test_random_use_against_a_model(seed: int, solid_state: bool, pages: int) -> None:
    machine = area(pages, solid_state=solid_state)
    mm, rng = machine.kernel.mm, random.Random(seed)
    model: Counter[int] = Counter()
    for _ in range(150):
        what = rng.random()
        if what < 0.45:
            wanted = rng.randint(1, 64)
            entries = take(machine, wanted)
            assert not set(entries) & set(model)
            free = pages - 1 - len(model)
            assert len(entries) <= min(wanted, free)
            assert entries or free <= solid_state  # the very last slot may be passed over there, as in the kernel
            model.update(entries)
        elif model and what < 0.6:
            entry = rng.choice(sorted(model))
            swap_duplicate(mm, entry)
            model[entry] += 1
        elif model:
            for entry in rng.sample(sorted(model), min(len(model), rng.randint(1, 30))):
                swap_free(mm, entry)
                model[entry] -= 1
                if not model[entry]:
                    del model[entry]
    assert mm.nr_swap_pages == pages - 1 - len(model)
    check_swap_areas(mm, model, ())


# -- the stores of CPUs ------------------------------------------------------------------------------------------------


def test_stores_are_used_while_slots_are_many() -> None:
    machine = machine_of()
    mm = machine.kernel.mm
    assert not check_cache_active(mm)
    swapon(mm, THRESHOLD_ACTIVATE_SWAP_SLOTS_CACHE + 1, -1, False)
    assert not check_cache_active(mm)  # not more than the threshold
    swapon(mm, 3, -1, False)
    assert check_cache_active(mm)
    mm.nr_swap_pages -= THRESHOLD_ACTIVATE_SWAP_SLOTS_CACHE - 130
    assert check_cache_active(mm)
    mm.nr_swap_pages -= 10
    assert not check_cache_active(mm)


# -- areas on the disk -------------------------------------------------------------------------------------------------


def test_areas_and_files_share_the_disk() -> None:
    machine = machine_of()
    blocks = machine.kernel.mm.disk.nr_blocks
    assert machine.swapon(blocks // 2) == "/dev/sda2"
    machine.create_file("large", blocks // 2 - 256)
    with pytest.raises(BadRequest, match="no room"):
        machine.create_file("more", 1)
    with pytest.raises(BadRequest, match="no room"):
        machine.swapon(2)
    machine.swapoff()
    assert machine.swapon(1000) == "/dev/sda2"
    assert machine.swapon(1000) == "/dev/sda3"
    machine.swapoff("/dev/sda2")
    assert machine.swapon(900) == "/dev/sda2"
    info = machine.kernel.mm.swap.info
    assert info[1].first_block < info[0].first_block
    assert (info[1].prio, info[0].prio) == (-2, -3)


@pytest.mark.parametrize("pages", [-1, 0, 1])
def test_an_area_without_slots(pages: int) -> None:
    with pytest.raises(BadRequest, match="no slot"):
        machine_of().swapon(pages)


def test_what_can_not_be_asked() -> None:
    machine = machine_of()
    with pytest.raises(BadRequest, match="priority"):
        machine.swapon(100, 40000)
    with pytest.raises(BadRequest, match="no swap area"):
        machine.swapoff("/dev/sdz")
    machine.swapoff()  # like swapoff -a: there is nothing to do
    with pytest.raises(BadRequest):
        Machine("tiny-128m").swapon(100)
