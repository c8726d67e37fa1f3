"""A machine that is short of memory: the kernel itself has taken all but a few MiB."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kmemlab.alloc.page_api import alloc_pages
from kmemlab.machine.machine import Machine
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.process.proc_caches import new_object
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_NORETRY, __GFP_NOWARN, GFP_KERNEL
from tests.process.space import PAGE, machine_of

QUIET = GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN
MIB = 1 << 20


@contextmanager
def failing(nth: int) -> Iterator[list[int]]:
    """While this lasts the nth request for pages or for an object fails; the list holds how many there were."""
    asked = [0]

    def pages(mm, gfp, order):
        asked[0] += 1
        return None if asked[0] == nth else alloc_pages.original(mm, gfp, order)

    def objects(common, cachep):
        asked[0] += 1
        return 0 if asked[0] == nth else new_object.original(common, cachep)

    with livepatch(alloc_pages, pages), livepatch(new_object, objects):
        yield asked


def free_pages_of(machine: Machine) -> int:
    return sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones)


@functools.cache
def _short(source: str, left: int) -> Machine:
    machine = machine_of(source)
    keep = left + machine.kernel.mm.totalreserve_pages
    for order in (10, 9, 8):
        with suppress(OutOfMemory):
            while free_pages_of(machine) > keep + (1 << order):
                machine.alloc_pages(QUIET, order)
    return machine


def short_machine(source: str = "tiny-128m", left: int = 2200) -> Machine:
    """A machine of one's own with about `left` pages that programs can have; nobody runs yet."""
    return _short(source, left).fork()


def program(machine: Machine, name: str, pages: int, adj: int = 0) -> int:
    """A process that has touched so many pages; its pid."""
    pid = machine.spawn(name)
    if pages:
        machine.touch(pid, machine.mmap(pid, pages * PAGE), pages * PAGE)
    if adj:
        machine.proc_oom_score_adj(pid, adj)
    return pid


def grow(machine: Machine, pid: int, steps: int = 64) -> None:
    """Let a process take more and more, a MiB at a time."""
    for _ in range(steps):
        machine.touch(pid, machine.mmap(pid, MIB), MIB)


def exhaust(machine: Machine, gfp: int, order: int = 0) -> None:
    """Take blocks for the kernel until one can't be had; the error is raised."""
    while True:
        machine.alloc_pages(gfp, order)
