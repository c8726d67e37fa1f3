"""A victim that can't end by itself: the OOM reaper takes its memory after two seconds; and the laws of all that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.process import exit as process_exit
from kmemlab.process import oom_kill, oom_reaper, signal
from kmemlab.process.check_oom import check_oom
from kmemlab.process.mm_struct import MM_ANONPAGES, MMF_OOM_SKIP
from kmemlab.process.oom_reaper import OOM_REAPER_DELAY
from kmemlab.process.oom_report import OomControl
from kmemlab.process.signal import Killed
from kmemlab.process.task_struct import find_task, living, running
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, KernelPanic, MustWait
from kmemlab.types.gfp import GFP_KERNEL
from tests.process.short import exhaust, free_pages_of, grow, program, short_machine
from tests.process.space import machine_of


def test_a_sleeping_victim_is_reaped() -> None:
    machine = short_machine()
    stuck = program(machine, "stuck", 1500)
    machine.uninterruptible(stuck)
    small = program(machine, "small", 100)
    start = machine.kernel.mm.current.jiffies
    grow(machine, small, steps=5)  # the fifth MiB needs the pages of the other one
    log = machine.dmesg()
    assert f"Killed process {stuck} (stuck)" in log
    assert f"oom_reaper: reaped process {stuck} (stuck), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB" in log
    assert machine.kernel.mm.current.jiffies - start >= OOM_REAPER_DELAY
    task, space = living(machine.kernel.processes, stuck)
    assert space.rss_stat[MM_ANONPAGES] == 0
    assert space.flags & 1 << MMF_OOM_SKIP
    assert [rank.pid for rank in machine.oom_ranking() if rank.killable] == [small]
    with pytest.raises(MustWait, match="no signal reaches it"):
        machine.user_read(stuck, 0x1000)
    machine.check()
    machine.uninterruptible(stuck, False)  # now it finds that it was killed
    assert not task.pid
    assert machine.kernel.processes.oom_victims == 0
    machine.check()


def test_a_victim_that_ends_in_time_is_not_reaped() -> None:
    machine = short_machine()
    hog = program(machine, "hog", 100)
    with pytest.raises(Killed):
        grow(machine, hog)
    assert machine.kernel.mm.oom_reaper_timers == 0
    machine.wait(5)
    assert "oom_reaper" not in machine.dmesg()


def test_time_alone_lets_the_reaper_come() -> None:
    machine = machine_of()
    stuck = program(machine, "stuck", 300)
    machine.uninterruptible(stuck)
    machine.sysrq_f()
    free = free_pages_of(machine)
    machine.wait(1)
    assert free_pages_of(machine) == free
    machine.wait(2)
    machine.drain_all_pages()
    assert free_pages_of(machine) >= free + 250
    machine.check()


def test_when_all_are_stuck_there_is_an_end_too() -> None:
    machine = short_machine()
    for nth in range(4):
        machine.uninterruptible(program(machine, f"stuck{nth}", 300))
    with pytest.raises(KernelPanic, match="deadlocked"):
        exhaust(machine, GFP_KERNEL)
    assert machine.dmesg().count("oom_reaper: reaped process") == 4
    machine.check()


def test_the_reaper_comes_for_memory_that_another_victim_has_left() -> None:
    """The child of a vfork dies first; its parent, which can't, is reaped in its stead."""
    machine = short_machine()
    parent = program(machine, "parent", 800)
    child = machine.sys_vfork(parent)
    machine.uninterruptible(parent)
    processes = machine.kernel.processes
    find_task(processes, child).sigkill = find_task(processes, parent).sigkill = 1
    with running(machine.kernel.mm.current, find_task(processes, child)):
        assert oom_kill.out_of_memory(processes, OomControl(GFP_KERNEL, 0))
    assert signal.run_killed(processes) == 1
    machine.check()
    machine.wait(3)
    assert f"oom_reaper: reaped process {parent} (parent)" in machine.dmesg()
    machine.check()


def test_kill_by_hand() -> None:
    machine = machine_of()
    shell = program(machine, "sh", 3)
    child = machine.sys_fork(shell)
    machine.kill(child)
    assert machine.sys_wait(shell) == (child, 9)
    machine.uninterruptible(shell)
    machine.kill(shell)
    assert find_task(machine.kernel.processes, shell).mm
    machine.check()
    machine.uninterruptible(shell, False)
    with pytest.raises(BadRequest, match="no process"):
        machine.kill(shell)
    machine.check()


# -- seeded defects ----------------------------------------------------------------------------------------------------


def does_not_end(processes, task, code):
    """do_exit that forgets the memory of a victim."""
    if not task.memdie:
        process_exit.do_exit.original(processes, task, code)


def forgets_to_count(processes, task):
    task.memdie = 0


def keeps_timer(processes, task):
    task.oom_reaper_timer = 0


def reaps_nothing(mm):
    mm.flags |= 1 << 22


def marks_without_count(processes, task):
    task.memdie, task.oom_mm = 1, task.mm


def nobody_runs(processes):
    return 0


def queues_unseen(processes, task):
    task.oom_reaper_timer = processes.common.mm.current.jiffies + OOM_REAPER_DELAY
    processes.common.mm.oom_reaper_timers += 1


DEFECTS: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
    "a victim is not counted out": (process_exit.exit_oom_victim, forgets_to_count),
    "a timer is not counted out": (oom_reaper.cancel_oom_reaper, keeps_timer),
    "the reaper takes nothing": (oom_reaper.oom_reap_pages, reaps_nothing),
    "a victim is not counted in": (oom_kill.mark_oom_victim, marks_without_count),
    "nobody lets the victims run": (signal.run_killed, nobody_runs),
    "the memory is not marked for the reaper": (oom_reaper.queue_oom_reaper, queues_unseen),
    "a victim does not end": (process_exit.do_exit, does_not_end),
}


def a_life(machine: Machine) -> None:
    """One victim that ends, one that is reaped, with a look at the laws after each step."""
    program(machine, "sh", 30)
    program(machine, "big", 200)
    machine.sysrq_f()
    check_oom(machine.kernel.processes)
    stuck = program(machine, "stuck", 300)
    machine.uninterruptible(stuck)
    machine.sysrq_f()
    check_oom(machine.kernel.processes)
    machine.wait(3)
    check_oom(machine.kernel.processes)


def test_a_life_without_defects_keeps_the_laws() -> None:
    a_life(machine_of())


@pytest.mark.parametrize("name", DEFECTS)
def test_the_laws_catch(name: str) -> None:
    machine = machine_of()
    function, defect = DEFECTS[name]
    with livepatch(function, defect), pytest.raises(BrokenLaw):
        a_life(machine)
