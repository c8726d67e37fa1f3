"""Pages sent to swap without filling the memory first."""

from __future__ import annotations

from kmemlab.machine.machine import Machine
from kmemlab.mm.swap_state import total_swapcache_pages
from kmemlab.process.madvise import MADV_PAGEOUT
from kmemlab.reclaim.direct import try_to_free_pages
from kmemlab.types.gfp import GFP_KERNEL

PAGE = 4096


def pageout(machine: Machine, pid: int, address: int, pages: int = 1) -> None:
    """Send pages to swap; they are written, but still in the swap cache."""
    machine.madvise(pid, address, pages * PAGE, MADV_PAGEOUT)
    machine.tick(20)


def evict(machine: Machine) -> None:
    """Have reclaim free the clean pages of the swap cache, at the tail of the inactive list."""
    mm = machine.kernel.mm
    for _ in range(100):
        if not total_swapcache_pages(mm):
            return
        try_to_free_pages(mm, GFP_KERNEL, 0, 0)
        machine.tick(5)


def swap_out(machine: Machine, pid: int, address: int, pages: int = 1) -> None:
    """Send pages to swap, and out of memory."""
    pageout(machine, pid, address, pages)
    evict(machine)
