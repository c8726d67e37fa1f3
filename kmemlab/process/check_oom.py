"""The laws of the OOM killer: every victim is counted, has the reserves while it lives, and does not live for long."""

from __future__ import annotations

from typing import NoReturn

from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.process.mm_struct import MM_ANONPAGES, MMF_OOM_REAP_QUEUED, MMF_OOM_SKIP, MMF_UNSTABLE
from kmemlab.process.task_struct import (
    TASK_UNINTERRUPTIBLE,
    Processes,
    TaskStruct,
    current_task,
    for_each_process,
    task_mm,
)
from kmemlab.sim.kernel import invented
from kmemlab.types.vm_flags import VM_SHARED


@invented("a law is code beside the structure it speaks of", traced=False)
def check_oom(processes: Processes) -> None:
    """Victims and the reaper's timers are counted; who was sent SIGKILL is gone unless it can't run; what was reaped is
    empty. Raises `BrokenLaw` that names the law."""
    tasks = list(for_each_process(processes))
    victims = sum(task.memdie for task in tasks)
    if processes.oom_victims != victims:
        _broken(f"{processes.oom_victims} victims are counted, but there are {victims}")
    timers = sum(bool(task.oom_reaper_timer) for task in tasks)
    if processes.common.mm.oom_reaper_timers != timers:
        _broken(f"{processes.common.mm.oom_reaper_timers} timers of the OOM reaper are counted, but {timers} run")
    for task in tasks:
        check_victim(processes, task)
        check_reaped(processes, task)


@invented("one of the laws")
def check_victim(processes: Processes, task: TaskStruct) -> None:
    """A victim has its memory still, and knows it; it runs to its end unless it sleeps where no signal reaches it."""
    if task.memdie and not (task.mm and task.oom_mm == task.mm):
        _broken(f"process {task.pid} has the reserves of a victim, but not the memory that it shall free")
    if task.sigkill and task.mm and task.state != TASK_UNINTERRUPTIBLE and task is not current_task(processes):
        _broken(f"process {task.pid} was sent SIGKILL and lives on")
    if task.vfork_done and not any(other.mm == task.mm and other.pid == task.parent for other in processes.tasks):
        _broken(f"process {task.pid} uses the memory of a parent that there is not")


@invented("one of the laws")
def check_reaped(processes: Processes, task: TaskStruct) -> None:
    """A timer runs for memory that shall be reaped; memory that was reaped has no page left but shared ones."""
    mm = task_mm(processes, task)
    if task.oom_reaper_timer and (mm is None or not mm.flags & 1 << MMF_OOM_REAP_QUEUED):
        _broken(f"the OOM reaper waits for process {task.pid}, which nobody has told it of")
    if mm is None:
        return
    if mm.flags & (1 << MMF_OOM_REAP_QUEUED | 1 << MMF_OOM_SKIP) == 1 << MMF_OOM_REAP_QUEUED and not any(
        other.oom_reaper_timer for other in for_each_process(processes) if other.mm == task.mm
    ):
        _broken(f"the OOM reaper was told of process {task.pid}, and will never come")
    if not mm.flags & 1 << MMF_UNSTABLE:
        return
    shared = any(mm.common.vmas.vm_flags[vma] & VM_SHARED for vma in mm.vmas())
    if not mm.flags & 1 << MMF_OOM_SKIP or (mm.rss_stat[MM_ANONPAGES] and not shared):
        _broken(f"process {task.pid} was reaped, yet it has {mm.rss_stat[MM_ANONPAGES]} pages of its own")


def _broken(law: str) -> NoReturn:
    raise BrokenLaw(law, where="the OOM killer")
