"""fork, exit and wait: what a process costs, that nothing is left of it, and what becomes of half-made ones."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import check_conservation
from kmemlab.process.signal import Killed
from kmemlab.process.task_struct import NR_TASKS
from kmemlab.types.errors import BadRequest, MustWait, OutOfMemory, TooLarge
from tests.process.short import failing
from tests.process.space import PAGE, R, machine_of, mm_of, ranges

CACHES = ("task_struct_cachep", "mm_cachep", "vm_area_cachep", "anon_vma_cachep")


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = machine_of()
    yield machine
    machine.check()


def held(machine: Machine) -> tuple[int, ...]:
    """Objects of the four caches, pages that somebody owns, stacks."""
    common = machine.kernel.processes.common
    caches = [common.slab.caches[getattr(common, cachep)] for cachep in CACHES]
    return (*(cache.nr_held for cache in caches), machine.kernel.stacks.count)


def owned(machine: Machine) -> int:
    return sum(zone.nr_owned for zone in machine.zones)


def busy(machine: Machine) -> int:
    """A process with pages in several VMAs."""
    pid = machine.spawn("busy")
    address = machine.mmap(pid, 20 * PAGE)
    machine.touch(pid, address, 10 * PAGE)
    machine.touch(pid, address + 10 * PAGE, 5 * PAGE, write=False)
    machine.mprotect(pid, address + 2 * PAGE, 2 * PAGE, R)
    machine.malloc(pid, 1000)
    return pid


def test_caches_have_the_sizes_of_real_machines(machine: Machine) -> None:
    machine.spawn()
    common = machine.kernel.processes.common
    sizes = {name: common.slab.caches[getattr(common, name)].size for name in CACHES}
    # /proc/slabinfo of Debian's amd64 kernel.
    assert sizes == {"task_struct_cachep": 6208, "mm_cachep": 1152, "vm_area_cachep": 152, "anon_vma_cachep": 104}


def test_fork_takes_a_task_struct_from_its_cache_and_a_stack(machine: Machine) -> None:
    pid = busy(machine)
    before = held(machine)
    vmas = len(ranges(machine, pid))
    child = machine.sys_fork(pid)
    tasks, mms, areas, anon_vmas, stacks = (after - was for after, was in zip(held(machine), before, strict=True))
    assert (tasks, mms, areas, anon_vmas, stacks) == (1, 1, vmas, 0, 1)
    assert machine.proc_maps(child) == machine.proc_maps(pid)
    assert machine.children(pid) == (child,)


def test_nothing_is_left_of_a_family(machine: Machine) -> None:
    machine.sys_exit(busy(machine))  # caches are made, a slab and a stack are kept for the next one
    before, pages = held(machine), owned(machine)
    pid = busy(machine)
    first = machine.sys_fork(pid)
    second = machine.sys_fork(first)
    machine.touch(second, ranges(machine, second)[-2][0], PAGE)
    for who in (first, pid, second):
        machine.sys_exit(who)
        machine.check()
    assert held(machine) == before == (0, 0, 0, 0, 0)
    # What the allocators below keep for the next one (slabs, cached stacks) is all that may differ.
    kept = machine.kernel.stacks.cached_stacks
    machine.sys_exit(busy(machine))
    assert owned(machine) - pages <= 4 * sum(1 for stack in kept if stack) + 16


@pytest.mark.parametrize("rounds", [40])
def test_many_lives_take_no_more_than_one(machine: Machine, rounds: int) -> None:
    for _ in range(3):
        machine.sys_exit(busy(machine))
    pages = owned(machine)
    for _ in range(rounds):
        pid = busy(machine)
        machine.sys_exit(machine.sys_fork(pid))
        assert machine.sys_wait(pid)[1] == 0
        machine.sys_exit(pid)
    assert owned(machine) <= pages + 16


def test_a_zombie_keeps_only_its_task_struct(machine: Machine) -> None:
    pid = busy(machine)
    before = held(machine)
    child = machine.sys_fork(pid)
    machine.sys_exit(child, 7)
    assert held(machine) == (before[0] + 1, *before[1:])
    assert "State:\tZ (zombie)" in machine.proc_status(child)
    assert "VmRSS" not in machine.proc_status(child)
    with pytest.raises(BadRequest, match="dead"):
        machine.user_read(child, 0x1000)
    assert machine.sys_wait(pid) == (child, 7 << 8)
    assert held(machine) == before
    with pytest.raises(BadRequest, match="ECHILD"):
        machine.sys_wait(pid)


def test_wait_waits_while_all_children_live(machine: Machine) -> None:
    pid = machine.spawn()
    machine.sys_fork(pid)
    with pytest.raises(MustWait):
        machine.sys_wait(pid)


def test_orphans_become_those_of_process_1(machine: Machine) -> None:
    pid = machine.spawn()
    dead, alive = machine.sys_fork(pid), machine.sys_fork(pid)
    machine.sys_exit(dead)
    machine.sys_exit(pid)
    assert "PPid:\t1\n" in machine.proc_status(alive)
    with pytest.raises(BadRequest, match=f"there is no process {dead}"):
        machine.proc_status(dead)


@pytest.mark.parametrize("fails_at", range(1, 17))
def test_a_fork_that_fails_leaves_nothing_behind(machine: Machine, fails_at: int) -> None:
    """The nth request for a page or an object fails, for every n until fork needs no more."""
    pid = busy(machine)
    machine.sys_exit(machine.sys_fork(pid))
    machine.sys_wait(pid)
    before, text = held(machine), machine.proc_smaps(pid).replace("Referenced", "")
    with failing(fails_at) as asked:
        if fails_at > 14:
            child = machine.sys_fork(pid)
            assert asked[0] < fails_at
        else:
            with pytest.raises(OutOfMemory):
                machine.sys_fork(pid)
            child = 0
    machine.check()
    if child:
        machine.sys_exit(child)
        machine.sys_wait(pid)
    assert held(machine) == before
    assert machine.proc_smaps(pid).replace("Referenced", "") == text
    assert machine.user_read(pid, ranges(machine, pid)[-2][0], 1) is not None


def test_there_are_only_so_many_tasks(machine: Machine) -> None:
    for _ in range(NR_TASKS):
        machine.spawn()
    before = held(machine)
    with pytest.raises(TooLarge, match="tasks"):
        machine.spawn()
    assert held(machine) == before


def test_pids_go_up(machine: Machine) -> None:
    first = machine.spawn()
    machine.sys_exit(machine.spawn())
    assert machine.spawn() == first + 2


def test_a_machine_with_processes_copies_pickles_and_rewinds() -> None:
    machine = Machine.boot("tiny-128m")
    pid = busy(machine)
    child = machine.sys_fork(pid)
    twins = [machine.fork(), pickle.loads(pickle.dumps(machine))]
    heap = machine.brk(pid)
    for each in (machine, *twins):
        each.user_write(child, heap - 100, b"on")
        assert each.user_read(child, heap - 100, 2) == b"on"
        assert each.user_read(pid, heap - 100, 2) == b"\0\0"
        assert each.proc_smaps(pid) == machine.proc_smaps(pid)
        each.check()
    with machine.recording() as timeline:
        text = machine.proc_smaps(pid)
        machine.touch(pid, heap - PAGE, PAGE)
        grandchild = machine.sys_fork(child)
        machine.sys_exit(child)
        machine.user_write(grandchild, heap - 100, b"off")
        after = machine.proc_smaps(grandchild)
        timeline.rewind()
        assert machine.proc_smaps(pid) == text
        machine.check()
        timeline.to_end()
        assert machine.proc_smaps(grandchild) == after
        machine.check()


def test_the_timeline_shows_the_way_of_a_fault() -> None:
    machine = machine_of()
    pid = machine.spawn()
    with machine.recording() as timeline:
        address = machine.malloc(pid, 100)
        machine.user_write(pid, address + 3 * PAGE, b"x")
        tree = "".join(timeline.call_tree(nth) for nth in range(len(timeline.commands)))
    for name in ("brk", "do_brk_flags", "do_user_addr_fault", "handle_mm_fault", "do_anonymous_page", "alloc_page"):
        assert name in tree, name


def test_memory_runs_out() -> None:
    """A program that takes all there is gets killed at last, and the machine is well."""
    machine = machine_of()
    pid = machine.spawn("hog")
    address = machine.mmap(pid, 60 << 20)
    machine.mmap(pid, 60 << 20)
    with pytest.raises(Killed):
        machine.touch(pid, address - (60 << 20), 120 << 20)
    for zone in machine.zones:
        check_conservation(zone)
    with pytest.raises(BadRequest, match="no process"):
        machine.sys_exit(pid)
    machine.check()


def test_mm_of_two_processes_are_two(machine: Machine) -> None:
    pid = machine.spawn()
    child = machine.sys_fork(pid)
    assert mm_of(machine, pid).tables.pgd != mm_of(machine, child).tables.pgd
