"""Who sleeps until something is given back: a row of process numbers.

This machine runs one thing at a time, so nobody can sleep in it: a function that would sleep puts the task in the row
and raises `MustWait`; whoever gives something back wakes the row, and the task asks again.
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import TooLarge

MOST_WAITERS = 64


@kernel("include/linux/wait.h", "struct wait_queue_head", left_out="functions that a waker calls; exclusive waiters")
class WaitQueueHead(Struct):
    """`pid[0]` … `pid[count - 1]` wait, the one that came last first."""

    count = Cell()

    pid: Column

    def __init__(self) -> None:
        self.pid = column("q", MOST_WAITERS)

    def waiting(self) -> tuple[int, ...]:
        """The tasks that wait, the last one first."""
        return tuple(self.pid[: self.count])


@kernel("kernel/sched/wait.c", "add_wait_queue", formerly=("prepare_to_wait",), lock="wq_head->lock")
def add_wait_queue(queue: WaitQueueHead, pid: int) -> None:
    """A task waits from now on; it stands in the row once, however often it asked."""
    if pid in queue.waiting():
        return
    if queue.count == MOST_WAITERS:
        raise TooLarge(
            f"more than {MOST_WAITERS} tasks wait for the same thing", where="add_wait_queue", remedy="let one give up"
        )
    for at in range(queue.count, 0, -1):
        queue.pid[at] = queue.pid[at - 1]
    queue.pid[0] = pid
    queue.count += 1


@kernel("include/linux/wait.h", "waitqueue_active", traced=False)
def waitqueue_active(queue: WaitQueueHead) -> bool:
    """Whether anybody waits."""
    return queue.count > 0


@kernel("kernel/sched/wait.c", "__wake_up", formerly=("wake_up",), lock="wq_head->lock")
def wake_up(queue: WaitQueueHead) -> tuple[int, ...]:
    """All who wait may run again; these are they. Each must ask anew, and may find that another was faster."""
    woken = queue.waiting()
    for at in range(len(woken)):
        queue.pid[at] = 0
    queue.count = 0
    return woken


@kernel("kernel/sched/wait.c", "finish_wait", formerly=("remove_wait_queue",), lock="wq_head->lock")
def finish_wait(queue: WaitQueueHead, pid: int) -> None:
    """A task waits no more; one that runs and asks can't be asleep."""
    left = [other for other in queue.waiting() if other != pid]
    if len(left) < queue.count:
        for at in range(queue.count):
            queue.pid[at] = left[at] if at < len(left) else 0
        queue.count = len(left)
