"""What happens when a kernel stack is used up.

VMAP_STACK        |guard|█ stack |     the store faults; on the fault's own stack the kernel says whose stack it was
direct map        | page |█ stack |    the store goes into the page below: its owner will wonder. The magic number is
                                       gone, which the scheduler finds, if it ever runs
"""

from __future__ import annotations

from kmemlab.alloc.thread_stack import STACK_END_MAGIC, ThreadStacks, index_of
from kmemlab.hardware.mmu import PageFault
from kmemlab.mm.kernel_access import load, store
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, KernelPanic, KmemlabError
from kmemlab.types.units import PAGE_SIZE


class StackOverflow(KmemlabError):
    """A task ran over the end of its stack into a guard page; Linux ends the task."""


@invented("a call instruction, and room for the function's variables")
def call(stacks: ThreadStacks, stack: int, frame: int, value: int) -> int:
    """Call a function that needs `frame` bytes: the stack pointer goes down, and the function writes at its lowest.

    Returns the address that was written. Raises `StackOverflow` at a guard page, `PageFault` beyond it.
    """
    at = index_of(stacks, stack, "call")
    word = stacks.mm.boot.config.sizeof_pointer
    if frame <= 0 or frame % word:
        raise BadRequest(f"a frame has no {frame} bytes", where="call", remedy=f"choose a multiple of {word}")
    address = stacks.sp[at] - frame
    try:
        store(stacks.mm.boot, address, value, word)
    except PageFault:
        guarded = get_stack_guard_info(stacks, address)
        if guarded is None:
            raise
        handle_stack_overflow(stacks, address, guarded)
    stacks.sp[at] = address
    return address


@invented("a return instruction")
def ret(stacks: ThreadStacks, stack: int, frame: int) -> None:
    """Return from a function that needed `frame` bytes. Raises `BadRequest` where nothing was called."""
    at = index_of(stacks, stack, "ret")
    if not 0 < frame <= stack + stacks.thread_size - stacks.sp[at]:
        raise BadRequest(f"no call took {frame} bytes", where="ret", remedy="return from what was called")
    stacks.sp[at] += frame


@kernel("arch/x86/include/asm/stacktrace.h", "get_stack_guard_info", left_out="interrupt and exception stacks")
def get_stack_guard_info(stacks: ThreadStacks, address: int) -> int | None:
    """The stack whose guard page an address lies in: the page above is of a stack, and the address is not."""
    if stack_of(stacks, address) is not None or not stacks.vmap_stack:
        return None
    return stack_of(stacks, address + PAGE_SIZE)


@kernel("arch/x86/kernel/dumpstack.c", "in_task_stack", left_out="C asks the task that runs", traced=False)
def stack_of(stacks: ThreadStacks, address: int) -> int | None:
    """The stack that an address lies in."""
    return next((stack for stack in stacks.in_use() if stack <= address < stack + stacks.thread_size), None)


@kernel("arch/x86/kernel/traps.c", "handle_stack_overflow", left_out="registers, stack and end of the task (die)")
def handle_stack_overflow(stacks: ThreadStacks, address: int, stack: int) -> None:
    """Say which stack was overrun, and end the task. Raises `StackOverflow`."""
    digits = 2 * stacks.mm.boot.config.sizeof_pointer
    end = stack + stacks.thread_size
    text = f"BUG: TASK stack guard page was hit at {address:0{digits}x} (stack is {stack:0{digits}x}..{end:0{digits}x})"
    stacks.mm.boot.printk.info(text)
    stacks.mm.boot.printk.info("stack guard page: 0000 [#1] PREEMPT SMP")
    raise StackOverflow(text, where="handle_stack_overflow", remedy="call less deeply, or keep large things elsewhere")


@kernel("include/linux/sched/task_stack.h", "task_stack_end_corrupted", traced=False)
def task_stack_end_corrupted(stacks: ThreadStacks, stack: int) -> bool:
    """Whether the number at the far end of a stack is gone."""
    return load(stacks.mm.boot, stack, stacks.mm.boot.config.sizeof_pointer) != STACK_END_MAGIC


@kernel("kernel/sched/core.c", "schedule_debug", left_out="all but the stack (CONFIG_SCHED_STACK_END_CHECK)")
def schedule_debug(stacks: ThreadStacks, stack: int) -> None:
    """What the scheduler looks at before it takes a CPU from a task. Raises `KernelPanic` if its stack was used up."""
    index_of(stacks, stack, "schedule")
    if task_stack_end_corrupted(stacks, stack):
        stacks.mm.boot.printk.info("Kernel panic - not syncing: corrupted stack end detected inside scheduler")
        raise KernelPanic(
            "corrupted stack end detected inside scheduler",
            where="schedule_debug",
            remedy="call less deeply; with VMAP_STACK the overflow itself would have been found",
        )
