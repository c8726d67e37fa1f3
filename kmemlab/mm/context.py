"""Who is running: the CPU, the task and what it may do. C asks per-CPU variables and `current`.

A machine runs one thing at a time here; what C keeps apart by preemption, interrupts and CPUs is a state that the
caller sets and the allocators obey.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.boot.printk import Printk
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct

TASK_COMM_LEN = 16
HZ = 250
SYSTEM_SCHEDULING = 1  # boot has come to where one task can wait for another

# task_struct.flags
PF_EXITING = 0x4
PF_DUMPCORE = 0x200
PF_MEMALLOC = 0x800
PF_KSWAPD = 0x20000
PF_MEMALLOC_NOFS = 0x40000
PF_MEMALLOC_NOIO = 0x80000
PF_KTHREAD = 0x200000
PF_MEMALLOC_PIN = 0x10000000


@kernel("include/linux/sched.h", "current", left_out="all of task_struct that the allocators don't ask for")
class Context(Struct):
    """The CPU that runs, how deep it is in code that must not sleep, and the task it runs for."""

    cpu = Cell()  # smp_processor_id()
    preempt_count = Cell()  # > 0: the scheduler must not take this CPU away
    hardirq_count = Cell()  # > 0: an interrupt handler runs
    irqs_disabled = Cell()
    system_state = Cell()
    pid = Cell()
    flags = Cell()  # PF_…
    oom_victim = Cell()  # tsk_is_oom_victim(current)
    pagefault_disabled = Cell()  # > 0: a page that is not there is an error at once, as nobody may sleep to fetch it
    jiffies = Cell()  # ticks of the one clock, HZ a second
    reclaimed_slab = Cell()  # reclaim_state: pages that slabs gave back, for reclaim to count what it has come to
    need_resched = Cell()  # TIF_NEED_RESCHED: a daemon was woken, and gets the CPU as soon as this task may lose it

    comm: Column

    def __init__(self, printk: Printk) -> None:
        self.printk = printk
        self.comm = column("B", TASK_COMM_LEN)
        set_task_comm(self, "swapper/0")


PREEMPT, HARDIRQ, IRQS_OFF = Context.preempt_count.index, Context.hardirq_count.index, Context.irqs_disabled.index


@kernel("fs/exec.c", "__set_task_comm", traced=False)
def set_task_comm(current: Context, name: str) -> None:
    """Name the running task, in at most 15 bytes."""
    raw = name.encode("ascii", "replace")[: TASK_COMM_LEN - 1]
    for at in range(TASK_COMM_LEN):
        current.comm[at] = raw[at] if at < len(raw) else 0


@invented("C prints the bytes up to the first zero", traced=False)
def task_comm(current: Context) -> str:
    """The name of the running task."""
    return bytes(current.comm).split(b"\0")[0].decode("ascii")


@kernel("include/linux/preempt.h", "in_atomic", traced=False)
def in_atomic(current: Context) -> bool:
    """Whether the running code must not sleep: preemption is off, or an interrupt handler runs."""
    return bool(current.preempt_count or current.hardirq_count)


CPU, TASK_FLAGS = Context.cpu.index, Context.flags.index  # current.cells[…]: each request asks for these


@invented("each request for memory asks this first, so it must cost little", traced=False)
def may_sleep(current: Context) -> bool:
    """Whether nothing forbids the running code to sleep: no preemption off, no interrupt handler, interrupts on."""
    cells = current.cells
    return not (cells[PREEMPT] or cells[HARDIRQ] or cells[IRQS_OFF])


@kernel(
    "kernel/sched/core.c",
    "__might_resched",
    formerly=("___might_sleep",),
    left_out="the rate limit, the stack, and that only kernels built with CONFIG_DEBUG_ATOMIC_SLEEP look",
)
def might_sleep(current: Context, where: str) -> bool:
    """Report a sleeping function that is called where nobody may sleep; whether that was so.

    `where` is the C file of the function that may sleep.
    """
    if may_sleep(current) or not current.system_state:
        return False
    current.printk.info(f"BUG: sleeping function called from invalid context at {where}")
    current.printk.info(
        f"in_atomic(): {int(in_atomic(current))}, irqs_disabled(): {current.irqs_disabled}, non_block: 0, "
        f"pid: {current.pid}, name: {task_comm(current)}"
    )
    current.printk.info(f"preempt_count: {preempt_count_word(current):x}, expected: 0")
    return True


@kernel("include/linux/preempt.h", "preempt_count", traced=False)
def preempt_count_word(current: Context) -> int:
    """The counts in one word, as Linux keeps and prints them.

     19     16 15      8 7       0
    | hardirq | softirq | preempt |
    """
    return current.hardirq_count << 16 | current.preempt_count


@kernel("include/linux/preempt.h", "preempt_disable", traced=False)
def preempt_disable(current: Context) -> None:
    """From here on the task stays on this CPU and may not sleep."""
    current.preempt_count += 1


@kernel("include/linux/preempt.h", "preempt_enable", left_out="giving the CPU to a task that waited", traced=False)
def preempt_enable(current: Context) -> None:
    """The end of what `preempt_disable` began. A count below zero is a programmer's error."""
    assert current.preempt_count > 0, "preempt_enable without preempt_disable"
    current.preempt_count -= 1


@invented("C enters here by the interrupt itself: irq_enter and irq_exit", traced=False)
@contextmanager
def interrupt(current: Context) -> Iterator[None]:
    """While this lasts an interrupt handler runs: it belongs to no task and may not sleep."""
    current.hardirq_count += 1
    try:
        yield
    finally:
        current.hardirq_count -= 1
