"""Who has the CPU in a replay under pressure: the scheduler's rules, stacks that take turns, the disk's plugs."""

from __future__ import annotations

import random
import threading

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.pressure_agenda import NEVER, Agenda
from kmemlab.machine.pressure_disk import LATENCY, MOST_PAGES, PAGE_TIME, PLUG_REQUESTS, PluggedDisk
from kmemlab.machine.pressure_sched import (
    CREDIT,
    GRANULARITY,
    KSOFTIRQD,
    KWORKER,
    SAMPLER,
    TICK_TIME,
    WORK,
    FairCpu,
)
from kmemlab.machine.pressure_turns import Turns
from kmemlab.machine.pressure_work import Act, Step

KSWAPD = 0


def worked(seconds: float) -> FairCpu:
    """A CPU that the work has had so long."""
    cpu = FairCpu(0.0)
    cpu.charge(seconds)
    return cpu


# -- the scheduler -----------------------------------------------------------------------------------------------------


def test_a_sleeper_gets_half_the_latency_and_preempts() -> None:
    cpu = worked(0.020)
    cpu.wake(KSWAPD)
    assert cpu.vruntime[KSWAPD] == pytest.approx(0.020 - CREDIT)
    assert cpu.resched
    assert cpu.pick() == KSWAPD


def test_who_is_little_behind_does_not_preempt() -> None:
    cpu = worked(0.020)
    cpu.vruntime[KSWAPD] = 0.020 - GRANULARITY / 2
    cpu.wake(KSWAPD)
    assert not cpu.resched


def test_the_tick_ends_a_slice_and_costs_time() -> None:
    cpu = worked(0.020)
    cpu.wake(KSWAPD)
    assert cpu.pick() == KSWAPD
    cpu.charge(0.0035)
    assert not cpu.resched  # 3.5 ms, and no tick yet
    cpu.charge(0.001)
    assert cpu.resched
    assert cpu.clock == pytest.approx(0.0245 + TICK_TIME)


def test_shares_are_even_in_the_long_run() -> None:
    rng = random.Random(3)
    cpu = FairCpu(0.0)
    cpu.wake(KSWAPD)
    cpu.wake(SAMPLER)
    had = dict.fromkeys((WORK, KSWAPD, SAMPLER), 0.0)
    for _ in range(20000):
        who = cpu.running if not cpu.resched else cpu.pick()
        assert who is not None
        before = cpu.clock
        cpu.charge(rng.uniform(1e-6, 5e-4))
        had[who] += cpu.clock - before
    assert max(had.values()) - min(had.values()) < 0.02


def test_a_worker_that_is_woken_runs_first_and_is_done_at_once() -> None:
    cpu = worked(0.010)
    cpu.wake(KWORKER)
    assert cpu.pick() == WORK
    assert KWORKER not in cpu.runnable
    assert cpu.clock > 0.010


def test_who_waits_for_a_pause_does_not_hold_the_others_credit() -> None:
    cpu = worked(0.010)
    cpu.wake(KSOFTIRQD)
    cpu.pick((KSOFTIRQD,))
    cpu.charge(0.100)
    cpu.wake(KSWAPD)
    assert cpu.vruntime[KSWAPD] >= 0.110 - CREDIT - 1e-9


def test_timers_go_off_in_order_when_the_clock_has_passed_them() -> None:
    cpu, told = FairCpu(0.0), []
    for time in (0.3, 0.1, 0.2):
        cpu.at(time, lambda time=time: told.append(time))  # type: ignore[misc]
    cpu.advance(0.25)
    assert told == [0.1, 0.2]
    cpu.advance(0.2)
    assert cpu.clock == 0.25


def test_the_next_tick_is_later_than_now() -> None:
    cpus = [FairCpu(tick / 250) for tick in range(1, 2000)]  # 1001 / 250 * 250 is less than 1001
    assert all(cpu.clock < cpu.next_tick() <= cpu.clock + 0.004 + 1e-9 for cpu in cpus)


def test_nobody_is_picked_where_nobody_may_run() -> None:
    assert FairCpu(0.0).pick((WORK,)) is None


# -- stacks ------------------------------------------------------------------------------------------------------------


def test_a_stack_goes_on_where_it_handed_back() -> None:
    told: list[str] = []

    def body() -> None:
        for step in ("a", "b"):
            told.append(step)
            turns.back()

    turns = Turns(body)
    for here in ("1", "2", "3"):
        told.append(here)
        turns.run()
    turns.end()
    assert told == ["1", "a", "2", "b", "3", "a"]


def test_an_exception_of_the_other_stack_comes_out_here() -> None:
    def body() -> None:
        raise ValueError("no memory")

    turns = Turns(body)
    with pytest.raises(ValueError, match="no memory"):
        turns.run()
    turns.end()


def test_a_stack_that_is_over_leaves_no_thread() -> None:
    before = threading.active_count()
    turns = Turns(lambda: turns.back())
    turns.run()
    assert threading.active_count() == before + 1
    turns.end()
    assert threading.active_count() == before


def test_a_stack_that_never_ran_ends() -> None:
    Turns(lambda: None).end()


# -- steps -------------------------------------------------------------------------------------------------------------


def step(time: float, pid: int) -> Step:
    return Step(time, Act.REQUEST, 0, pid, "cat")


def test_a_request_that_was_begun_is_not_done_again() -> None:
    agenda = Agenda([step(1, 7), step(2, 0), step(3, 8), step(4, 7)])
    assert agenda.request_ahead(lambda found: found.pid == 8) == 2
    assert agenda.begin(2).time == 3
    assert agenda.next_of_others() == 1  # of task 7
    assert [agenda.take().time for _ in range(3)] == [1, 2, 4]
    assert agenda.next() is None
    assert agenda.next_of_others() == NEVER


def test_only_the_next_step_of_each_task_may_be_begun() -> None:
    agenda = Agenda([step(1, 7), step(2, 7), step(3, 8)])
    assert agenda.request_ahead(lambda found: found.time > 1) == 2
    assert agenda.request_ahead(lambda found: found.time == 2) is None


def test_steps_of_the_task_that_waits_come_later() -> None:
    agenda = Agenda([step(1, 7), step(2, 8)])
    agenda.begin(0)
    assert agenda.next_of_others() == 2
    agenda = Agenda([step(1, 7), step(2, 7)])
    agenda.begin(0)
    assert agenda.next_of_others() == NEVER


# -- the disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk() -> PluggedDisk:
    disk = PluggedDisk(Machine.boot("tiny-128m").kernel.mm, FairCpu(0.0))
    disk.plugs[disk.mm.current.pid] = []
    return disk


def test_neighbours_join_until_a_request_is_full(disk: PluggedDisk) -> None:
    for block in range(MOST_PAGES):
        disk.submit(block, block, write=True)
    assert not disk.queue
    disk.submit(0, MOST_PAGES, write=True)  # another request: the first goes, for it is large
    assert [len(request.pages) for _, request in disk.queue] == [MOST_PAGES]


def test_a_plug_holds_so_many_small_requests(disk: PluggedDisk) -> None:
    for at in range(PLUG_REQUESTS):
        disk.submit(at, 2 * at, write=True)
    assert not disk.queue
    disk.submit(0, 1000, write=True)
    assert len(disk.queue) == PLUG_REQUESTS


def test_reads_and_tasks_without_a_plug_go_at_once(disk: PluggedDisk) -> None:
    disk.submit(1, 1, write=False)
    disk.plugs.clear()
    disk.submit(2, 2, write=True)
    assert [request.write for _, request in disk.queue] == [False, True]


def test_the_disk_does_one_request_after_the_other(disk: PluggedDisk) -> None:
    disk.plugs.clear()
    for at in range(100):
        disk.submit(at, 2 * at, write=True)
    done = [time for time, _ in disk.queue]
    assert done == sorted(done)
    assert done[0] == pytest.approx(LATENCY)
    assert done[-1] == pytest.approx(100 * PAGE_TIME)
