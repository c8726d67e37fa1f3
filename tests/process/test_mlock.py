"""Locked memory: it is there at once, it stays, it is counted, and it is let go of when nobody locks it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.machine import procfs
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.lru import lru_add_drain_all
from kmemlab.mm.mlock import count_mlocked, mlock_folio, mlock_lru, mlock_new_page, munlock_page
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.vm_event import UNEVICTABLE_PGMLOCKED, UNEVICTABLE_PGMUNLOCKED
from kmemlab.process.mlock import mlock_vma_pages_range
from kmemlab.process.mman import MAP_SHARED
from kmemlab.reclaim.direct import try_to_free_pages
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE
from kmemlab.types.pageflags import PG_mlocked, PG_unevictable
from tests.process.space import PAGE, RW, R, machine_of, mm_of


@pytest.fixture
def machine() -> Machine:
    machine = machine_of()
    machine.create_file("data", 60)
    return machine


def meminfo(machine: Machine, name: str) -> int:
    """A line of /proc/meminfo, in pages."""
    rows = dict(line.split(":") for line in procfs.meminfo(machine.kernel).splitlines())
    return int(rows[name].split()[0]) // 4


def test_mlock_brings_pages_and_counts_them(machine: Machine) -> None:
    pid = machine.spawn()
    heap = machine.mmap(pid, 10 * PAGE)
    shared = machine.mmap(pid, 10 * PAGE, RW, MAP_SHARED, file="data")
    machine.mlock(pid, heap + 2 * PAGE + 5, 3 * PAGE)
    machine.mlock(pid, shared, 6 * PAGE)
    there = [machine.user_pfn(pid, heap + page * PAGE) is not None for page in range(10)]
    assert there == [2 <= page <= 5 for page in range(10)]  # four pages have a byte of the three
    assert (meminfo(machine, "Mlocked"), meminfo(machine, "Unevictable")) == (10, 10)
    assert "VmLck:\t      40 kB" in machine.proc_status(pid)
    assert "Locked:               24 kB" in machine.proc_smaps(pid)
    assert not machine.kernel.mm.mappings.dirtied_when[1]  # a shared page is only read
    machine.check()
    machine.munlock(pid, heap, 10 * PAGE)
    assert meminfo(machine, "Mlocked") == meminfo(machine, "Unevictable") == 6
    machine.sys_exit(pid)
    assert meminfo(machine, "Mlocked") == meminfo(machine, "Unevictable") == 0
    events = machine.kernel.mm.vm_event
    assert events[UNEVICTABLE_PGMLOCKED] == events[UNEVICTABLE_PGMUNLOCKED] == 10
    machine.check()


def test_new_pages_of_a_locked_area_are_locked_at_once(machine: Machine) -> None:
    pid = machine.spawn()
    private = machine.mmap(pid, 2 * PAGE, R, file="data")
    machine.mlock(pid, private, 2 * PAGE)
    assert meminfo(machine, "Mlocked") == 2
    before = machine.user_pfn(pid, private)
    machine.mprotect(pid, private, 2 * PAGE, RW)
    machine.user_write(pid, private, b"copy")
    after, page = machine.user_pfn(pid, private), machine.kernel.mm.page
    assert before is not None
    assert after is not None
    assert before != after
    assert page_has_flag(page, after, PG_mlocked)
    assert page_has_flag(page, after, PG_unevictable)
    assert not page_has_flag(page, before, PG_mlocked)
    assert meminfo(machine, "Mlocked") == 2
    machine.check()


def test_a_page_is_locked_as_long_as_one_program_locks_it(machine: Machine) -> None:
    one, two = machine.spawn(), machine.spawn()
    first = machine.mmap(one, PAGE, R, MAP_SHARED, file="data")
    second = machine.mmap(two, PAGE, R, MAP_SHARED, file="data")
    machine.mlock(one, first, PAGE)
    machine.mlock(two, second, PAGE)
    assert meminfo(machine, "Mlocked") == 1
    machine.munlock(one, first, PAGE)
    assert meminfo(machine, "Mlocked") == 1
    machine.check()
    machine.sys_exit(two)
    assert meminfo(machine, "Mlocked") == 0
    machine.check()


def test_a_child_locks_nothing(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 4 * PAGE)
    machine.mlock(pid, address, 4 * PAGE)
    child = machine.sys_fork(pid)
    assert "VmLck:\t       0 kB" in machine.proc_status(child)
    machine.user_write(child, address, b"x")
    assert meminfo(machine, "Mlocked") == 4
    machine.check()
    machine.user_write(pid, address, b"y")
    machine.sys_exit(pid)
    assert meminfo(machine, "Mlocked") == 0
    machine.check()


def test_reclaim_leaves_locked_pages_alone(machine: Machine) -> None:
    pid, mm = machine.spawn(), machine.kernel.mm
    locked = machine.mmap(pid, 20 * PAGE, R, file="data")
    machine.mlock(pid, locked, 10 * PAGE)
    machine.touch(pid, locked, 20 * PAGE, write=False)
    lru_add_drain_all(mm)
    for _ in range(5):
        try_to_free_pages(mm, GFP_HIGHUSER_MOVABLE, 0, 0)
    there = [machine.user_pfn(pid, locked + page * PAGE) is not None for page in range(20)]
    assert there == [page < 10 for page in range(20)]
    machine.check()
    machine.munlock(pid, locked, 10 * PAGE)
    for _ in range(5):
        try_to_free_pages(mm, GFP_HIGHUSER_MOVABLE, 0, 0)
    assert all(machine.user_pfn(pid, locked + page * PAGE) is None for page in range(20))
    machine.check()


def test_areas_are_cut_and_joined(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 6 * PAGE)
    count = mm_of(machine, pid).map_count
    machine.mlock(pid, address + 2 * PAGE, PAGE)
    assert mm_of(machine, pid).map_count == count + 2
    machine.mlock(pid, address, 6 * PAGE)
    assert mm_of(machine, pid).map_count == count
    machine.munmap(pid, address + PAGE, PAGE)
    assert mm_of(machine, pid).locked_vm == 5
    machine.check()


def test_truncation_takes_locked_pages_too(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 8 * PAGE, RW, MAP_SHARED, file="data")
    machine.mlock(pid, address, 8 * PAGE)
    machine.truncate_file("data", 3)
    assert meminfo(machine, "Mlocked") == 3
    machine.check()


def test_what_can_not_be_locked_is_said(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 4 * PAGE, RW, MAP_SHARED, file="data", offset=58 * PAGE)
    with pytest.raises(OutOfMemory, match="no page"):
        machine.mlock(pid, address, 4 * PAGE)  # the file ends after two of them
    with pytest.raises(OutOfMemory, match="mapped"):
        machine.mlock(pid, address + 4 * PAGE, PAGE)
    with pytest.raises(BadRequest):
        machine.mlock(pid, address, -1)
    machine.check()


def test_rewind(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 8 * PAGE, RW, MAP_SHARED, file="data")
    with machine.recording() as timeline:
        machine.mlock(pid, address, 6 * PAGE)
        machine.munlock(pid, address, 2 * PAGE)
        after = machine.proc_smaps(pid), procfs.meminfo(machine.kernel)
        timeline.rewind()
        assert meminfo(machine, "Mlocked") == 0
        machine.check()
        timeline.to_end()
        assert (machine.proc_smaps(pid), procfs.meminfo(machine.kernel)) == after
        machine.check()


# -- seeded defects ----------------------------------------------------------------------------------------------------


def nothing(mm, pfn):
    return None


def counts_nothing(mm, pfn, nr_pages):
    return None


def stays_where_it_is(mm, pfn):
    mm.page.flags[pfn] |= 1 << PG_mlocked
    count_mlocked(mm, pfn, 1)


def locks_nothing(mm, start, end, newflags):
    return None


MUTANTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (mlock_folio, nothing),
    (munlock_page, nothing),
    (mlock_new_page, nothing),
    (mlock_lru, nothing),
    (count_mlocked, counts_nothing),
    (mlock_folio, stays_where_it_is),
    (mlock_vma_pages_range, locks_nothing),
]


@pytest.mark.parametrize(
    ("function", "mutant"), MUTANTS, ids=[f"{function.__name__}-{mutant.__name__}" for function, mutant in MUTANTS]
)
def test_a_seeded_defect_is_caught(machine: Machine, function: Callable[..., Any], mutant: Callable[..., Any]) -> None:
    with livepatch(function, mutant), pytest.raises(BrokenLaw):
        live(machine)


def live(machine: Machine) -> None:
    pid, other = machine.spawn(), machine.spawn()
    heap, there = machine.mmap(pid, 4 * PAGE), machine.mmap(pid, 4 * PAGE, R, MAP_SHARED, file="data")
    again = machine.mmap(other, 4 * PAGE, R, MAP_SHARED, file="data")
    machine.touch(pid, heap, 2 * PAGE)
    for step in (
        lambda: machine.mlock(pid, heap, 4 * PAGE),
        lambda: machine.mlock(pid, there, 4 * PAGE),
        lambda: machine.mlock(other, again, 4 * PAGE),
        lambda: machine.munlock(pid, there, 2 * PAGE),
        lambda: machine.munmap(pid, heap, PAGE),
        lambda: machine.sys_exit(pid),
    ):
        step()
        machine.check()


def test_without_a_defect_the_laws_hold(machine: Machine) -> None:
    live(machine)
