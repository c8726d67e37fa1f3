"""printk: what the kernel says while it boots, and who hears it."""

from __future__ import annotations

from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Struct
from kmemlab.sim.text_log import TextLog


@kernel("kernel/printk/printk.c", "_printk", left_out="time stamps, log levels, the ring buffer's size", traced=False)
class Printk(Struct):
    """The kernel log: one line a call, without a time stamp.

    >>> printk = Printk()
    >>> printk.info("last_pfn = 0x7ffe0 max_arch_pfn = 0x400000000")
    >>> printk.lines()
    ('last_pfn = 0x7ffe0 max_arch_pfn = 0x400000000',)
    """

    def __init__(self) -> None:
        self.log = TextLog()

    def info(self, line: str) -> None:
        """Say one line."""
        self.log.append(line)

    def lines(self) -> tuple[str, ...]:
        """What `dmesg` shows."""
        return self.log.lines()
