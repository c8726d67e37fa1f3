"""Using per-CPU variables: each CPU writes its own copy, so it needs no lock. It must stay on its CPU meanwhile.

task on CPU 0: reads CPU 0's 7 ─────────▶ moves to CPU 1 ─────────▶ writes 8 into CPU 1's copy
                                                                    which had 40: those 40 are lost
get_cpu_var … put_cpu_var turns preemption off in between, and this_cpu_add is one instruction: both are safe.
"""

from __future__ import annotations

from kmemlab.alloc.percpu import per_cpu_ptr
from kmemlab.alloc.percpu_chunk import Percpu
from kmemlab.mm.context import preempt_disable, preempt_enable
from kmemlab.mm.kernel_access import load, store
from kmemlab.sim.kernel import kernel


@kernel("include/linux/percpu-defs.h", "this_cpu_ptr", traced=False)
def this_cpu_ptr(percpu: Percpu, ptr: int) -> int:
    """The address of the copy of the CPU that runs, which is right only as long as the task stays on it."""
    return per_cpu_ptr(percpu, ptr, percpu.mm.current.cpu)


@kernel("include/linux/percpu-defs.h", "this_cpu_read", left_out="the segment register: one instruction, as here")
def this_cpu_read(percpu: Percpu, ptr: int, size: int = 8) -> int:
    """What this CPU's copy holds."""
    return load(percpu.mm.boot, this_cpu_ptr(percpu, ptr), size)


@kernel("include/linux/percpu-defs.h", "this_cpu_write", left_out="the segment register: one instruction, as here")
def this_cpu_write(percpu: Percpu, ptr: int, value: int, size: int = 8) -> None:
    """Write this CPU's copy."""
    store(percpu.mm.boot, this_cpu_ptr(percpu, ptr), value, size)


@kernel("include/linux/percpu-defs.h", "this_cpu_add", left_out="the segment register: one instruction, as here")
def this_cpu_add(percpu: Percpu, ptr: int, value: int, size: int = 8) -> None:
    """Add to this CPU's copy. Nobody can come between the reading and the writing."""
    this_cpu_write(percpu, ptr, this_cpu_read(percpu, ptr, size) + value, size)


@kernel("include/linux/percpu-defs.h", "get_cpu_var", formerly=("get_cpu_ptr",))
def get_cpu_var(percpu: Percpu, ptr: int) -> int:
    """The address of this CPU's copy; until `put_cpu_var` the task stays on this CPU and may not sleep."""
    preempt_disable(percpu.mm.current)
    return this_cpu_ptr(percpu, ptr)


@kernel("include/linux/percpu-defs.h", "put_cpu_var", formerly=("put_cpu_ptr",))
def put_cpu_var(percpu: Percpu) -> None:
    """The end of what `get_cpu_var` began."""
    preempt_enable(percpu.mm.current)
