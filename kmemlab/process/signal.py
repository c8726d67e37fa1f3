"""SIGKILL, the one signal that the model sends: nobody can refuse it, but it is obeyed only when its task runs.

send_sigkill ─▶ sigkill = 1 ─┬▶ the task was about to go back to its program: it ends there (get_signal)
                             ├▶ it slept: it runs next, and ends
                             └▶ it sleeps uninterruptibly: it ends when whatever it waits for has come
"""

from __future__ import annotations

from kmemlab.process.exit import do_exit
from kmemlab.process.pgtable import switch_mm
from kmemlab.process.task_struct import (
    TASK_UNINTERRUPTIBLE,
    Processes,
    TaskStruct,
    fatal_signal_pending,
    for_each_process,
    running,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KmemlabError, MustWait

SIGKILL = 9


class Killed(KmemlabError):
    """A process was ended by SIGKILL while it did something."""


@kernel("kernel/signal.c", "do_send_sig_info", left_out="all signals but SIGKILL; who may send it", traced=False)
def send_sigkill(task: TaskStruct) -> None:
    """The task will end as soon as it runs."""
    task.sigkill = 1


@kernel("kernel/signal.c", "get_signal", left_out="all signals but SIGKILL", formerly=("get_signal_to_deliver",))
def get_signal(processes: Processes, task: TaskStruct) -> None:
    """On its way back to its program a task that was sent SIGKILL ends. Raises `Killed` then."""
    if not fatal_signal_pending(task):
        return
    error = killed(task)
    switch_mm(processes.common, None)
    do_exit(processes, task, SIGKILL)
    raise error


@invented("the scheduler would not run it")
def check_awake(processes: Processes, task: TaskStruct) -> None:
    """Raise `MustWait` for a task that sleeps until something has come: its device, or the end of its vfork's child."""
    if task.state == TASK_UNINTERRUPTIBLE:
        raise MustWait(f"process {task.pid} sleeps, and no signal reaches it", where="the scheduler",
                       remedy="wake it: uninterruptible(pid, False)")  # fmt: skip
    for child in for_each_process(processes):
        if child.vfork_done and child.parent == task.pid:
            raise MustWait(f"process {task.pid} sleeps until its child {child.pid} has gone", where="vfork",
                           remedy="let the child exit")  # fmt: skip


@invented("what a shell says of it: Killed", traced=False)
def killed(task: TaskStruct) -> Killed:
    """The error that tells who was ended, and why."""
    why = "memory ran out, and the OOM killer chose it" if task.oom_mm else "it was sent SIGKILL"
    return Killed(
        f"process {task.pid} ({task.name}) was killed: {why}",
        where="on its way back from the kernel to the program",
        remedy="dmesg has the kernel's report; free some memory first, or let another process be killed "
        "(oom_score_adj)",
    )


@invented("the scheduler gives the CPU to those that are to end; here one task runs at a time, so they are asked for")
def run_killed(processes: Processes) -> int:
    """Let every task that was sent SIGKILL, and can run, come to its end; how many did. `current` can't: it runs."""
    current, gone = processes.common.mm.current, 0
    for task in list(for_each_process(processes)):
        if not fatal_signal_pending(task) or task.pid == current.pid or task.state == TASK_UNINTERRUPTIBLE:
            continue
        with running(current, task):
            do_exit(processes, task, SIGKILL)
        gone += 1
    return gone
