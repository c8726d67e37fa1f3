"""The machine's clock: time passes when a command says so, and what is due then is done."""

from __future__ import annotations

from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.context import HZ
from kmemlab.mm.wait import pass_time
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest


@invented("one family of the machine's commands")
class TimeCommands(Commanded):
    """Waiting.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("tiny-128m", slab="SLAB")
    >>> before = machine.kernel.mm.current.jiffies
    >>> machine.wait(2)
    >>> machine.kernel.mm.current.jiffies - before
    500
    """

    kernel: Kernel

    def wait(self, seconds: int) -> None:
        """Let whole seconds pass. Raises `BadRequest` for a number that is none, or is negative."""
        whole_numbers("wait", seconds=seconds)
        self._command("wait", seconds)

    def _do_wait(self, seconds: int) -> None:
        if seconds < 0:
            raise BadRequest(f"{seconds} seconds can't pass", where="wait", remedy="wait 0 seconds or more")
        slab, mm = self.kernel.slab, self.kernel.mm
        for _ in range(seconds):
            pass_time(mm, HZ)
            slab.engine.run_timers(slab)
