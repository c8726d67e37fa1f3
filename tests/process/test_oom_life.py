"""Programs at random on a machine that is always short: whatever they do, every command ends, and all laws hold.

Victims end within the requests of others, in the midst of forks, faults and the slab allocator's own requests.
"""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.vm_event import OOM_KILL
from kmemlab.process.signal import Killed
from kmemlab.types.errors import KernelPanic, MustWait, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from tests.process.short import QUIET, free_pages_of
from tests.process.space import PAGE, RW, R

STEPS = 80


class Life:
    """Some programs; `step` lets one of them do something."""

    def __init__(self, seed: int, slab: str) -> None:
        self.chance = random.Random(seed)
        self.machine = Machine.boot("tiny-128m", slab=slab)
        keep = 900 + self.machine.kernel.mm.totalreserve_pages
        for order in (10, 9, 8, 7):
            with suppress(OutOfMemory):
                while free_pages_of(self.machine) > keep + (1 << order):
                    self.machine.alloc_pages(QUIET, order)

    def step(self) -> None:
        machine, chance = self.machine, self.chance
        pids = [row.pid for row in machine.oom_tasks()]
        if not pids or (len(pids) < 20 and chance.random() < 0.12):
            pid = machine.spawn(f"task{chance.randrange(100)}")
            if pids:
                machine.proc_oom_score_adj(pid, chance.choice((0, 0, 0, -300, 500)))
            return
        pid = chance.choice(pids)
        pages = chance.randrange(1, 180)
        match chance.randrange(14):
            case 0 | 1:
                machine.sys_fork(pid)
            case 2:
                machine.sys_exit(pid)
            case 3:
                machine.uninterruptible(pid, chance.random() < 0.4)
            case 4:
                machine.malloc(pid, chance.choice((100, 5000, 200_000)))
            case 5:
                machine.alloc_pages(GFP_KERNEL, chance.randrange(4))
            case 6:
                machine.sys_vfork(pid)
            case 7:
                machine.wait(1)
            case 8:
                where = machine.mmap(pid, pages * PAGE)
                machine.mprotect(pid, where, PAGE, R)
                machine.mprotect(pid, where, PAGE, RW)
            case _:
                machine.touch(pid, machine.mmap(pid, pages * PAGE), pages * PAGE)


@pytest.mark.parametrize(("seed", "slab"), [(0, "SLUB"), (7, "SLUB"), (1, "SLAB"), (6, "SLAB")])
def test_whatever_happens_there_is_an_end(seed: int, slab: str) -> None:
    life = Life(seed, slab)
    panicked = False
    for _ in range(STEPS):
        try:
            life.step()
        except (Killed, MustWait, OutOfMemory):
            pass
        except KernelPanic:
            panicked = True
            break
        life.machine.check()
    log = life.machine.dmesg()
    assert log.count("Killed process") == life.machine.kernel.mm.vm_event[OOM_KILL]
    assert log.count("Killed process") >= 3 or panicked
