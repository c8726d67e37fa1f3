"""The machine's commands for swap areas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kmemlab.alloc.swapon import SWAP_FLAG_PRIO_MAX, swapon
from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.swaps import swaps
from kmemlab.mm.swap_info import used_areas
from kmemlab.process.swapoff import swapoff
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, KmemlabError


@invented("one family of the machine's commands")
class SwapCommands(Commanded):
    """Swap areas at the end of the simulated disk.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("tiny-128m")
    >>> machine.swapon(pages=1025)
    '/dev/sda2'
    >>> print(machine.proc_swaps().expandtabs(4))
    Filename                Type        Size        Used        Priority
    /dev/sda2                               partition   4096        0       -2
    <BLANKLINE>
    >>> machine.swapoff()
    """

    kernel: Kernel

    def swapon(self, pages: int, priority: int | None = None, *, solid_state: bool = False) -> str:
        """Make a swap area of `pages` pages, the first of which is its header; returns its name.

        Pages go to areas of higher priority (0 to 32767) first; areas to which none is given come last, in the order in
        which they were made. `solid_state` says that the disk has no arm there, for which other slots are chosen and
        other pages are read ahead; it takes as long all the same. Raises `BadRequest`, `TooLarge`, `OutOfMemory`.
        """
        whole_numbers("swapon", pages=pages, priority=priority or 0)
        if pages < 2:
            raise BadRequest(f"no slot fits into {pages} pages", where="swapon", remedy="give 2 or more")
        if priority is not None and not 0 <= priority <= SWAP_FLAG_PRIO_MAX:
            raise BadRequest(f"{priority} is no priority", where="swapon", remedy=f"give 0 to {SWAP_FLAG_PRIO_MAX}")
        name: str = self._swap("swapon", pages, -1 if priority is None else priority, bool(solid_state))
        return name

    def swapoff(self, name: str | None = None) -> None:
        """Bring all pages of a swap area back into memory, and forget it; without a name, all areas in turn.

        Raises `OutOfMemory` where memory has no room for them; then the area stays. `BadRequest` for a name that there
        is not.
        """
        self._swap("swapoff", name)

    def proc_swaps(self) -> str:
        """/proc/swaps. No command."""
        return swaps(self.kernel)

    def _swap(self, command: str, *args: Any) -> Any:
        """Carry a command out; an error is raised behind it, so that what happened before is kept."""
        if not self.kernel.mm.totalram_pages or not self.kernel.mm.vmalloc.vmap_initialized:
            raise BadRequest("there is no memory yet", where=command, remedy="boot to the end")
        result = self._command(command, *args)
        if isinstance(result, KmemlabError):
            raise result
        return result

    def _swap_result(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except KmemlabError as error:
            return error

    def _do_swapon(self, pages: int, priority: int, solid_state: bool) -> Any:
        return self._swap_result(lambda: swapon(self.kernel.mm, pages, priority, solid_state).name)

    def _do_swapoff(self, name: str | None) -> Any:
        there = list(used_areas(self.kernel.mm.swap))
        chosen = [si for si in there if name in (None, si.name)]
        if not chosen and name is not None:
            names = ", ".join(si.name for si in there) or "none"
            return BadRequest(f"EINVAL: {name} is no swap area", where="swapoff", remedy=f"there are {names}")

        def off() -> None:
            for si in chosen:
                swapoff(self.kernel.processes, si)

        return self._swap_result(off)
