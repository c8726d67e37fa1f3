"""Another task runs: what it takes to see that a mapping, or a per-CPU variable, belongs to a CPU and not to a task."""

from __future__ import annotations

from kmemlab.alloc.kmap_local import KmapCtrl, kmap_local_sched_in, kmap_local_sched_out, row_of
from kmemlab.mm.context import in_atomic, preempt_count_word, set_task_comm, task_comm
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest


@kernel(
    "kernel/sched/core.c",
    "context_switch",
    formerly=("__schedule_bug", "schedule"),
    left_out="who runs next, registers and stack; the other address space: process/",
)
def context_switch(ctrl: KmapCtrl, pid: int, cpu: int, comm: str) -> None:
    """Give the CPU to another task, or another CPU to the same: its local mappings follow it, but only on their CPU.

    Raises `BadRequest` where the running task must not lose its CPU, or the next one may not run there.
    """
    current = ctrl.mm.current
    where = f"run_task(pid={pid}, cpu={cpu})"
    if in_atomic(current):
        name = task_comm(current)
        current.printk.info(f"BUG: scheduling while atomic: {name}/{current.pid}/0x{preempt_count_word(current):08x}")
        raise BadRequest(
            f"{name} (pid {current.pid}) must not lose its CPU: preemption is off, or an interrupt handler runs",
            where=where,
            remedy="end what turned preemption off first: put_cpu_var, kunmap_atomic, preempt_enable",
        )
    row = row_of(ctrl, pid)
    if row is not None and ctrl.cpu[row] != cpu:
        raise BadRequest(
            f"pid {pid} may run on CPU {ctrl.cpu[row]} only: it has {ctrl.idx[row]} pages in that CPU's slots",
            where=where,
            remedy="let it unmap them with kunmap_local before it goes to another CPU",
        )
    kmap_local_sched_out(ctrl)
    current.pid, current.cpu = pid, cpu
    set_task_comm(current, comm)
    kmap_local_sched_in(ctrl)
