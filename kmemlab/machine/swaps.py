"""/proc/swaps: which swap areas there are, how large they are, and how much of them is in use. It only reads."""

from __future__ import annotations

from kmemlab.machine.kernel import Kernel
from kmemlab.mm.globals import Mm
from kmemlab.mm.swap_info import SWP_WRITEOK, used_areas
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import KIB, PAGE_SIZE

MANY = 10_000_000  # a size of eight digits reaches the next tab stop by itself


@kernel("mm/swapfile.c", "swap_show", left_out="swap files")
def swaps(kernel: Kernel) -> str:
    """A heading, and a line for each area; sizes in KiB, and of slots without the header."""
    text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    for si in used_areas(kernel.mm.swap):
        size, used = (pages * PAGE_SIZE // KIB for pages in (si.pages, si.inuse_pages))
        text += f"{si.name:<40}partition\t{size}\t{'' if size >= MANY else chr(9)}"
        text += f"{used}\t{'' if used >= MANY else chr(9)}{si.prio}\n"
    return text


@kernel("mm/swapfile.c", "si_swapinfo", lock="swap_lock")
def si_swapinfo(mm: Mm) -> tuple[int, int]:
    """(pages of all swap areas, how many of them are free); an area that is being emptied counts what is left on it."""
    leaving = sum(si.inuse_pages for si in used_areas(mm.swap) if not si.flags & SWP_WRITEOK)
    return mm.total_swap_pages + leaving, mm.nr_swap_pages + leaving
