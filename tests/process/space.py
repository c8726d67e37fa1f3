"""A machine with processes, small enough for many tests."""

from __future__ import annotations

import functools

from kmemlab.machine.machine import Machine
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.task_struct import living

PAGE = 4096
NONE, R, W, RW = 0, 1, 2, 3


@functools.cache
def _booted(source: str) -> Machine:
    return Machine.boot(source)


def machine_of(source: str = "tiny-128m") -> Machine:
    """A machine of one's own that has booted."""
    return _booted(source).fork()


def mm_of(machine: Machine, pid: int) -> MmStruct:
    return living(machine.kernel.processes, pid)[1]


def ranges(machine: Machine, pid: int) -> list[tuple[int, int, str]]:
    """What /proc/PID/maps says, as numbers."""
    rows = []
    for line in machine.proc_maps(pid).splitlines():
        where, rights = line.split()[:2]
        start, end = (int(part, 16) for part in where.split("-"))
        rows.append((start, end, rights))
    return rows
