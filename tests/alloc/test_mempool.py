"""Pools: the reserve, what happens when the allocator below fails, waiting, leaks, poison, and the law."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.alloc import mempool
from kmemlab.alloc.check_mempool import check_mempools
from kmemlab.alloc.mempool import Mempool, Mempools
from kmemlab.alloc.mempool_kinds import MempoolKind, register_mempool_kind
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, DoubleFree, KmemlabError, MustWait, OutOfMemory, TooLarge
from kmemlab.types.gfp import GFP_ATOMIC, GFP_HIGHUSER, GFP_KERNEL, GFP_NOIO
from tests.alloc.kmap_bench import check_resumed, machine_of
from tests.machine.cells import cells_of


@pytest.fixture
def machine() -> Machine:
    return machine_of("amd64-128m")


def held_pages(machine: Machine) -> int:
    return sum(zone.nr_owned for zone in machine.zones)


def test_while_there_is_memory_the_reserve_is_not_touched(machine: Machine) -> None:
    pool = machine.mempool_create(4)
    reserve = machine.kernel.mempools.pools[pool].reserve()
    taken = [machine.mempool_alloc(pool) for _ in range(10)]
    assert not set(taken) & set(reserve)
    assert machine.kernel.mempools.pools[pool].reserve() == reserve
    for element in taken:
        assert machine.mempool_free(pool, element) == ()
    assert machine.kernel.mempools.pools[pool].reserve() == reserve


def test_the_last_element_of_the_reserve_is_taken_first_and_frees_refill_it(machine: Machine) -> None:
    pool = machine.mempool_create(3)
    first, second, third = machine.kernel.mempools.pools[pool].reserve()
    machine.fail_below()
    assert [machine.mempool_alloc(pool, GFP_NOIO) for _ in range(3)] == [third, second, first]
    with pytest.raises(OutOfMemory, match="may not wait"):
        machine.mempool_alloc(pool, GFP_ATOMIC)
    for element in (second, first, third):
        machine.mempool_free(pool, element)
    assert machine.kernel.mempools.pools[pool].reserve() == (second, first, third)


def test_who_may_wait_never_fails(machine: Machine) -> None:
    pool = machine.mempool_create(1)
    machine.fail_below()
    machine.run_task(3, comm="writer")
    element = machine.mempool_alloc(pool)
    machine.run_task(4, comm="flusher")
    with pytest.raises(MustWait, match=r"flusher \(pid 4\) sleeps; users have 1 elements \(pid 3\)"):
        machine.mempool_alloc(pool)
    check_mempools(machine.kernel.mempools)
    machine.run_task(3)
    assert machine.mempool_free(pool, element) == (4,)
    machine.run_task(4)
    assert machine.mempool_alloc(pool) == element


def test_nobody_could_ever_give_anything_back(machine: Machine) -> None:
    pool = machine.mempool_create(0)
    machine.fail_below()
    with pytest.raises(MustWait, match="nobody has an element"):
        machine.mempool_alloc(pool)
    machine.fail_below(times=0)
    machine.mempool_alloc(pool)  # it asked again: it sleeps no more
    assert machine.kernel.mempools.pools[pool].wait.waiting() == ()


def test_a_caller_that_may_reclaim_asks_below_twice(machine: Machine) -> None:
    pool = machine.mempool_create(0)
    machine.fail_below(times=1)
    machine.mempool_alloc(pool, GFP_KERNEL)
    machine.fail_below(times=1)
    with pytest.raises(OutOfMemory):
        machine.mempool_alloc(pool, GFP_ATOMIC)  # without reclaim both tries would be the same one


def test_a_pool_that_can_not_be_filled_gives_everything_back(machine: Machine) -> None:
    before = held_pages(machine)
    machine.fail_below(space=5)
    with pytest.raises(OutOfMemory, match="no 8 elements"):
        machine.mempool_create(8)
    check_mempools(machine.kernel.mempools)
    machine.fail_below(times=0)
    machine.mempool_destroy(machine.mempool_create(8, data=2))
    assert held_pages(machine) == before
    machine.check()


def test_growing_and_shrinking(machine: Machine) -> None:
    pool = machine.mempool_create(2)
    numbers = machine.kernel.mempools.pools[pool]
    machine.mempool_resize(pool, 5)
    assert numbers.curr_nr == 5
    machine.fail_below(space=2)
    machine.mempool_resize(pool, 9)
    assert (numbers.min_nr, numbers.curr_nr, numbers.short) == (9, 7, 2)
    machine.mempool_resize(pool, 3)
    assert (numbers.min_nr, numbers.curr_nr, numbers.short) == (3, 3, 0)
    machine.fail_below(times=0)
    taken = [machine.mempool_alloc(pool) for _ in range(4)]
    machine.fail_below(space=0)
    machine.mempool_resize(pool, 5)
    for element in taken:
        machine.mempool_free(pool, element)
    assert numbers.curr_nr == 5
    with pytest.raises(BadRequest, match="at least 1"):
        machine.mempool_resize(pool, 0)


def test_a_leak_is_found_when_the_pool_goes(machine: Machine) -> None:
    pool = machine.mempool_create(2)
    machine.run_task(17)
    element = machine.mempool_alloc(pool)
    with pytest.raises(
        BadRequest, match=rf"1 elements of pool 0 \(pages\) are still with users: {element:#x}, taken by pid 17"
    ):
        machine.mempool_destroy(pool)
    machine.mempool_free(pool, element)
    machine.mempool_destroy(pool)
    with pytest.raises(BadRequest, match="there is no pool 0"):
        machine.mempool_alloc(pool)


def test_wrong_frees_are_told(machine: Machine) -> None:
    pool = machine.mempool_create(2)
    machine.fail_below()
    element = machine.mempool_alloc(pool)
    machine.mempool_free(pool, element)
    with pytest.raises(DoubleFree, match="lies in the reserve already"):
        machine.mempool_free(pool, element)
    with pytest.raises(BadRequest, match="has given out no element"):
        machine.mempool_free(pool, 5)
    with pytest.raises(BadRequest, match="no pool can be made of 'elephants'"):
        machine.mempool_create(1, kind="elephants")
    with pytest.raises(BadRequest, match="no pool of 1 elements"):
        machine.mempool_create(1, data=11)
    with pytest.raises(TooLarge):
        machine.mempool_create(1000)


def test_who_waits_hears_of_it_when_the_pool_grows() -> None:
    machine = machine_of()
    pool = machine.mempool_create(1)
    machine.fail_below(times=-1)
    machine.mempool_alloc(pool)
    with pytest.raises(MustWait):
        machine.mempool_alloc(pool)
    machine.fail_below(times=0)
    machine.mempool_resize(pool, 2)
    check_mempools(machine.kernel.mempools)
    assert not machine.kernel.mempools.pools[pool].wait.count


@pytest.mark.parametrize("gfp", [GFP_KERNEL, GFP_HIGHUSER])
def test_a_write_into_the_reserve_is_found(gfp: int) -> None:
    machine = machine_of()
    pool = machine.mempool_create(2, poison=True)
    machine.fail_below()
    victim = machine.kernel.mempools.pools[pool].reserve()[-1]
    address = machine.kmap(victim)
    assert machine.load(address) == 0x6B6B6B6B6B6B6B6B
    assert machine.load(address + 4088) == 0xA56B6B6B6B6B6B6B
    machine.store(address + 100, 0x12, 1)
    assert machine.mempool_alloc(pool, gfp) == victim
    assert machine.dmesg().splitlines()[-3:] == [
        "BUG: mempool element poison mismatch",
        "Mempool 0 size 4096",
        f" nr=1 @ pfn {victim:#x}: ... 0x6b 6b 6b 6b 6b 6b 6b 6b 12 6b 6b 6b 6b 6b 6b 6b ...",
    ]
    machine.mempool_alloc(pool)
    assert machine.dmesg().count("poison mismatch") == 1


@pytest.mark.parametrize(("kind", "data"), [("kmalloc", 100), ("kmalloc", 20000), ("slab", "bio")])
def test_pools_of_objects(machine: Machine, kind: str, data: int | str) -> None:
    machine.kmem_cache_create("bio", 200)
    before = held_pages(machine)
    pool = machine.mempool_create(4, kind, data)
    machine.fail_below()
    elements = [machine.mempool_alloc(pool) for _ in range(4)]
    assert len(set(elements)) == 4
    machine.write(elements[0], b"data")
    for element in elements:
        machine.mempool_free(pool, element)
    machine.check()
    machine.mempool_destroy(pool)
    machine.kmem_cache_destroy("bio")
    machine.check()
    if kind == "slab":
        assert held_pages(machine) == before
    with pytest.raises(KmemlabError):
        machine.mempool_create(1, "slab", "no-such-cache")
    with pytest.raises(BadRequest, match="no pool of 1 elements of kmalloc"):
        machine.mempool_create(1, "kmalloc", 0)


def test_a_kind_of_ones_own() -> None:
    """Numbers from 100 on, out of a cell of the machine: what is registered can be rewound."""

    def alloc(common: SlabCommon, gfp: int, data: int) -> int | None:
        common.mm.current.pagefault_disabled += 1
        return data + common.mm.current.pagefault_disabled

    def free(common: SlabCommon, element: int, data: int) -> None:
        common.mm.current.pagefault_disabled -= 1

    register_mempool_kind(MempoolKind("numbers", alloc, free, lambda *_: True, lambda *_: range(0)))
    machine = machine_of("amd64-128m")
    timeline = machine.record()
    pool = machine.mempool_create(2, kind="numbers", data=100)
    assert machine.mempool_alloc(pool) == 103
    end = cells_of(machine.kernel)
    timeline.rewind(0)
    timeline.to_end()
    assert cells_of(machine.kernel) == end
    machine.stop_recording()


def test_rewound_then_resumed_ends_like_a_straight_run(machine: Machine) -> None:
    machine.record()
    pool = machine.mempool_create(3)
    rng, held = random.Random(2), []
    for step in range(60):
        if step % 20 == 10:
            machine.fail_below(interval=2)
        with contextlib.suppress(MustWait):
            if held and rng.random() < 0.5:
                machine.mempool_free(pool, held.pop(rng.randrange(len(held))))
            else:
                held.append(machine.mempool_alloc(pool))
    check_resumed(machine, (50, 20, 0), lambda: check_mempools(machine.kernel.mempools))


class PoolModel(RuleBasedStateMachine):
    """The model: a list as reserve, a set of what is out, and an allocator below that fails as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = machine_of("amd64-128m")
        self.pool = self.machine.mempool_create(3)
        self.real = self.machine.kernel.mempools.pools[self.pool]
        self.reserve = list(self.real.reserve())
        self.min_nr, self.failing = 3, False
        self.out: list[int] = []

    @rule(failing=st.booleans())
    def fail(self, failing: bool) -> None:
        self.machine.fail_below(times=-1 if failing else 0)
        self.failing = failing

    @rule(may_wait=st.booleans())
    def alloc(self, may_wait: bool) -> None:
        if self.failing and not self.reserve:
            with pytest.raises(MustWait if may_wait else OutOfMemory):
                self.machine.mempool_alloc(self.pool, GFP_KERNEL if may_wait else GFP_ATOMIC)
            return
        element = self.machine.mempool_alloc(self.pool, GFP_KERNEL if may_wait else GFP_ATOMIC)
        if self.failing:
            assert element == self.reserve.pop()
        else:
            assert element not in self.reserve + self.out
        self.out.append(element)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        element = data.draw(st.sampled_from(self.out))
        self.out.remove(element)
        woken = self.machine.mempool_free(self.pool, element)
        if len(self.reserve) < self.min_nr:
            self.reserve.append(element)
        else:
            assert woken == ()

    @rule(min_nr=st.integers(1, 6))
    def resize(self, min_nr: int) -> None:
        self.machine.mempool_resize(self.pool, min_nr)
        if min_nr <= self.min_nr:
            del self.reserve[min_nr:]
        elif not self.failing:
            new = self.real.reserve()[len(self.reserve) :]
            assert len(self.reserve) + len(new) == min_nr
            self.reserve += new
        self.min_nr = min_nr

    @invariant()
    def agrees(self) -> None:
        assert list(self.real.reserve()) == self.reserve
        assert sorted(self.real.with_users()) == sorted(self.out)
        check_mempools(self.machine.kernel.mempools)

    def teardown(self) -> None:
        for element in self.out:
            self.machine.mempool_free(self.pool, element)
        self.machine.mempool_destroy(self.pool)
        self.machine.check()


PoolModel.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestPoolModel = PoolModel.TestCase


# -- the law catches what breaks it ------------------------------------------------------------------------------------


def keeps_element(pools: Mempools, pool: Mempool) -> int:
    return pool.elements[pool.curr_nr - 1]


def takes_first(pools: Mempools, pool: Mempool) -> int:
    pool.curr_nr -= 1
    return pool.elements[0]


def loses_element(pools: Mempools, pool: Mempool, element: int) -> None:
    pass


def adds_twice(pools: Mempools, pool: Mempool, element: int) -> None:
    for _ in range(2):
        pool.elements[pool.curr_nr] = element
        pool.curr_nr += 1


def frees_though_the_reserve_lacks(pools: Mempools, pool: Mempool, element: int) -> tuple[int, ...]:
    mempool.take_back(pool, element)
    mempool.kind_of(pool).free(pools.slab, element, pool.pool_data)
    return ()


def frees_and_keeps(pools: Mempools, pool: Mempool, element: int) -> tuple[int, ...]:
    mempool.kind_of(pool).free(pools.slab, element, pool.pool_data)
    mempool.take_back(pool, element)
    mempool.add_element(pools, pool, element)
    return ()


def wakes_nobody(queue: Any) -> tuple[int, ...]:
    return ()


def gives_out_unnoticed(pools: Mempools, pool: Mempool, element: int) -> None:
    pass


DEFECTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (mempool.remove_element, keeps_element),
    (mempool.remove_element, takes_first),
    (mempool.add_element, loses_element),
    (mempool.add_element, adds_twice),
    (mempool.mempool_free, frees_though_the_reserve_lacks),
    (mempool.mempool_free, frees_and_keeps),
    (mempool.wake_up, wakes_nobody),
    (mempool.give_out, gives_out_unnoticed),
]


@pytest.mark.parametrize(("function", "defect"), DEFECTS, ids=lambda thing: thing.__name__)
def test_the_law_catches_a_defect(machine: Machine, function: Callable[..., Any], defect: Callable[..., Any]) -> None:
    pool = machine.mempool_create(3)
    machine.fail_below()
    with livepatch(function, defect), pytest.raises(BrokenLaw):
        work(machine, pool)


def work(machine: Machine, pool: int) -> None:
    held: list[int] = []
    for step in range(12):
        with contextlib.suppress(MustWait):
            if step % 5 == 4 and held:
                machine.mempool_free(pool, held.pop())
            else:
                held.append(machine.mempool_alloc(pool))
        check_mempools(machine.kernel.mempools)


def test_the_same_work_without_a_defect_keeps_the_law(machine: Machine) -> None:
    pool = machine.mempool_create(3)
    machine.fail_below()
    work(machine, pool)
