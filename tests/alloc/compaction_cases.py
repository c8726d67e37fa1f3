"""Machines with movable pages scattered over memory, for the tests of compaction and migration."""

from __future__ import annotations

import functools
from dataclasses import replace

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.mm.vm_event import PGSCAN_SKIP, VM_EVENT_NAMES
from kmemlab.types.zone_type import MAX_NR_ZONES

PAGE = 4096
PAGES = 2600


def small_spec():
    return replace(load_spec("tiny-128m"), cmdline="nokaslr mem=92M")


@functools.cache
def _scattered() -> Machine:
    """Two processes take pages in turn, then one of them ends: every other page is free."""
    machine = Machine.boot(small_spec())
    one, two = machine.spawn("one"), machine.spawn("two")
    here, there = machine.mmap(one, PAGES * PAGE), machine.mmap(two, PAGES * PAGE)
    for at in range(0, PAGES * PAGE, PAGE):
        machine.user_write(one, here + at, b"page %d" % at)
        machine.touch(two, there + at, PAGE)
    machine.sys_exit(two)
    machine.drain_all_pages()
    return machine


def scattered() -> tuple[Machine, int, int]:
    """A machine of one's own, the process that is left, and where its pages begin."""
    machine = _scattered().fork()
    pid = next(task.pid for task in machine.kernel.processes.tasks if task.pid and task.name == "one")
    address = min(a for a in range_starts(machine, pid))
    return machine, pid, address


@functools.cache
def _sparse() -> Machine:
    machine, pid, address = scattered()
    for at in range(0, PAGES - 8, 8):
        machine.munmap(pid, address + (at + 1) * PAGE, 7 * PAGE)
    machine.drain_all_pages()
    return machine


def sparse() -> Machine:
    """The same with one page of eight left to the process: nearly all is free, and hardly anything in a row."""
    return _sparse().fork()


def range_starts(machine: Machine, pid: int) -> list[int]:
    rows = [line.split()[0].split("-") for line in machine.proc_maps(pid).splitlines()]
    return [int(start, 16) for start, end in rows if int(end, 16) - int(start, 16) == PAGES * PAGE]


def contents(machine: Machine, pid: int, address: int, pages: int = PAGES) -> list[bytes]:
    return [machine.user_read(pid, address + at * PAGE, 16) for at in range(pages)]


def frames(machine: Machine, pid: int, address: int, pages: int = PAGES) -> list[int | None]:
    return [machine.user_pfn(pid, address + at * PAGE) for at in range(pages)]


def event(machine: Machine, name: str) -> int:
    return machine.kernel.mm.vm_event[PGSCAN_SKIP + MAX_NR_ZONES + VM_EVENT_NAMES.index(name)]
