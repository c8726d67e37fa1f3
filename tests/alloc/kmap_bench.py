"""An i386 machine with HighMem, booted once; each test gets a copy of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache

from kmemlab.machine.machine import Machine
from kmemlab.types.errors import KmemlabError
from kmemlab.types.gfp import GFP_HIGHUSER
from tests.boot.captures import MACHINES
from tests.machine.cells import cells_of

PAE, CLASSIC = "i386-pae-2g-2cpu", "i386-4g-2cpu"


@cache
def booted(name: str) -> Machine:
    return Machine.boot(MACHINES / name)


def machine_of(name: str = PAE) -> Machine:
    """A machine of its own, just booted."""
    return booted(name).fork()


def high_pages(machine: Machine, count: int) -> list[int]:
    """Pages of HighMem."""
    return [machine.alloc_pages(GFP_HIGHUSER) for _ in range(count)]


def check_resumed(machine: Machine, backs: tuple[int, ...], check: Callable[[], object]) -> None:
    """Rewind a recording to each of these commands, where the laws hold, and do the rest again: the end is the same.

    A command that failed in the straight run fails again.
    """
    timeline = machine.timeline
    assert timeline is not None
    end, commands = cells_of(machine.kernel), timeline.commands
    for back in backs:
        timeline.rewind(back)
        check()
        for command in commands[back:]:
            with contextlib.suppress(KmemlabError):
                machine._command(command.name, *command.args)
        assert cells_of(machine.kernel) == end
    machine.stop_recording()
