"""___ratelimit: messages that could fill the log are said a few times, then counted.

DEFAULT_RATELIMIT_BURST messages in DEFAULT_RATELIMIT_INTERVAL, ten in five seconds
"""

from __future__ import annotations

from kmemlab.mm.context import HZ, Context
from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Cell, Struct

DEFAULT_RATELIMIT_INTERVAL = 5 * HZ
DEFAULT_RATELIMIT_BURST = 10


@kernel("include/linux/ratelimit_types.h", "struct ratelimit_state", left_out="the lock; other limits than the usual")
class RatelimitState(Struct):
    """Since which jiffy messages are counted; how many were said, and how many not."""

    begin = Cell()
    printed = Cell()
    missed = Cell()


@kernel("lib/ratelimit.c", "___ratelimit", traced=False)
def ratelimit(rs: RatelimitState, current: Context, function: str) -> bool:
    """Whether `function` may say something now; when its time has come again, how often it might not is told."""
    if not rs.printed:  # the first time
        rs.begin = current.jiffies
    if current.jiffies > rs.begin + DEFAULT_RATELIMIT_INTERVAL:
        if rs.missed:
            current.printk.info(f"{function}: {rs.missed} callbacks suppressed")
            rs.missed = 0
        rs.begin, rs.printed = current.jiffies, 0
    if rs.printed < DEFAULT_RATELIMIT_BURST:
        rs.printed += 1
        return True
    rs.missed += 1
    return False
