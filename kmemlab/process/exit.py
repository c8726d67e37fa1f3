"""exit and wait: memory goes at once, the task_struct when the parent has asked how it ended.

do_exit ─▶ exit_mm: pages, tables, VMAs ─▶ the kernel stack ─▶ zombie: a task_struct with an exit code
                                                             └▶ wait4 of the parent ─▶ release_task
"""

from __future__ import annotations

from kmemlab.alloc.thread_stack import free_thread_stack
from kmemlab.mm.context import PF_EXITING
from kmemlab.process.fork import free_task_struct
from kmemlab.process.mmput import mmput
from kmemlab.process.oom_reaper import cancel_oom_reaper
from kmemlab.process.task_struct import (
    EXIT_ZOMBIE,
    INIT_PID,
    Processes,
    TaskStruct,
    find_task,
    for_each_process,
    task_mm,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, MustWait


@kernel("kernel/exit.c", "do_exit", left_out="files, signals, threads, accounting")
def do_exit(processes: Processes, task: TaskStruct, code: int) -> None:
    """End a task; `code` is the status as wait gives it: the number of a signal, or the exit code shifted by 8."""
    task.flags |= PF_EXITING
    task.exit_code = code
    exit_mm(processes, task)
    exit_notify(processes, task)
    finish_task_switch(processes, task)
    if task.parent == INIT_PID:
        release_task(processes, task)


@kernel("kernel/exit.c", "exit_mm", left_out="waiting for a core dump")
def exit_mm(processes: Processes, task: TaskStruct) -> None:
    """Let go of the address space."""
    mm = task_mm(processes, task)
    cancel_oom_reaper(processes, task)
    task.mm = task.vfork_done = 0  # a parent that slept since its vfork may go on
    if mm is not None:
        mmput(mm)
    if task.memdie:
        exit_oom_victim(processes, task)


@kernel("mm/oom_kill.c", "exit_oom_victim", left_out="waking who waits for it: nobody suspends this machine")
def exit_oom_victim(processes: Processes, task: TaskStruct) -> None:
    """A victim of the OOM killer has let go of its memory, and needs the reserves no longer."""
    task.memdie = 0
    processes.oom_victims -= 1


@kernel("kernel/sched/core.c", "finish_task_switch", left_out="all but the stack of a dead task (put_task_stack)")
def finish_task_switch(processes: Processes, task: TaskStruct) -> None:
    """Somebody else runs: the dead task's stack is of no more use."""
    free_thread_stack(processes.stacks, task.stack)
    task.stack = 0


@kernel("kernel/exit.c", "exit_notify", left_out="signals", lock="tasklist_lock", formerly=("forget_original_parent",))
def exit_notify(processes: Processes, task: TaskStruct) -> None:
    """Children that are left become those of process 1, which asks at once about those that are dead."""
    for child in list(for_each_process(processes)):
        if child.parent == task.pid:
            child.parent, child.vfork_done = INIT_PID, 0
            if child.exit_state == EXIT_ZOMBIE:
                release_task(processes, child)
    task.exit_state = EXIT_ZOMBIE


@kernel("kernel/exit.c", "release_task", lock="tasklist_lock")
def release_task(processes: Processes, task: TaskStruct) -> None:
    """Nobody will ask about a dead task any more: its task_struct and its pid are free."""
    free_task_struct(processes, task)


@kernel(
    "kernel/exit.c", "kernel_wait4", left_out="stopped children, groups, usage of resources", formerly=("sys_wait4",)
)
def kernel_wait4(processes: Processes, pid: int) -> tuple[int, int]:
    """wait of process `pid`: the pid and the status of a child that has ended, the oldest first.

    Raises `BadRequest` if it has no children, `MustWait` while all of them live.
    """
    find_task(processes, pid)
    family = [task for task in for_each_process(processes) if task.parent == pid]
    if not family:
        raise BadRequest(f"ECHILD: process {pid} has no children", where="wait", remedy="fork one first")
    for task in sorted(family, key=pid_of):
        if task.exit_state == EXIT_ZOMBIE:
            found = task.pid, task.exit_code
            release_task(processes, task)
            return found
    raise MustWait(f"process {pid} sleeps until a child ends", where="wait", remedy="let one of its children exit")


@invented("a key to sort by", traced=False)
def pid_of(task: TaskStruct) -> int:
    """The pid of a task."""
    return task.pid
