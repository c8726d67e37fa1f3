"""/sys/firmware/memmap as one table: a row an entry, a column a file."""

from __future__ import annotations

from kmemlab.boot.firmware_map import firmware_memmap_rows
from kmemlab.machine.kernel import Kernel
from kmemlab.sim.kernel import invented


@invented("a table of /sys/firmware/memmap is what real machines were saved as")
def firmware_memmap(kernel: Kernel) -> str:
    """What the firmware said of memory, whatever mem= and memmap= made of it, and what was plugged in since."""
    lines = ["name\tstart\tend\ttype"]
    for nth, (start, end, what) in enumerate(firmware_memmap_rows(kernel.boot)):
        lines.append(f"{nth}\t{start:#x}\t{end:#x}\t{what}")
    return "".join(f"{line}\n" for line in lines)
