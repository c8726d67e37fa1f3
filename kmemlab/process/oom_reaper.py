"""The OOM reaper: a thread that takes the memory of a victim that does not end by itself.

killed ──── 2 s ────▶ still there? ─▶ oom_reap_task ─▶ its private pages are unmapped ─▶ MMF_OOM_SKIP: who is next?

A victim may sleep where no signal reaches it, with all its memory. Nobody else would ever get that.
"""

from __future__ import annotations

from kmemlab.mm.context import HZ
from kmemlab.mm.globals import Mm
from kmemlab.mm.wait import DAEMONS
from kmemlab.process.mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MMF_OOM_REAP_QUEUED,
    MMF_OOM_SKIP,
    MMF_UNSTABLE,
    MmStruct,
    get_mm_counter,
)
from kmemlab.process.task_struct import Processes, TaskStruct, for_each_process, processes_of, task_mm
from kmemlab.process.zap import zap_pte_range
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import KIB, PAGE_SIZE
from kmemlab.types.vm_flags import VM_SHARED

OOM_REAPER_DELAY = 2 * HZ


@invented("K() of mm/oom_kill.c", traced=False)
def kib(pages: int) -> int:
    """Pages in KiB."""
    return pages * (PAGE_SIZE // KIB)


@kernel("mm/oom_kill.c", "queue_oom_reaper", left_out="the timer's own list")
def queue_oom_reaper(processes: Processes, task: TaskStruct) -> None:
    """Give a victim two seconds to end by itself."""
    mm = task_mm(processes, task)
    if mm is None or mm.flags & 1 << MMF_OOM_REAP_QUEUED:
        return
    mm.flags |= 1 << MMF_OOM_REAP_QUEUED
    task.oom_reaper_timer = processes.common.mm.current.jiffies + OOM_REAPER_DELAY
    processes.common.mm.oom_reaper_timers += 1


@invented("C's timer keeps a reference to its task; here it passes to who still has the memory, or ends with it")
def cancel_oom_reaper(processes: Processes, task: TaskStruct) -> None:
    """The task lets go of its memory. If that was the last one, nothing is left to be reaped."""
    timer, task.oom_reaper_timer = task.oom_reaper_timer, 0
    if not timer:
        return
    for other in for_each_process(processes):
        if other.mm == task.mm and other is not task:
            other.oom_reaper_timer = timer
            return
    processes.common.mm.oom_reaper_timers -= 1


@kernel("mm/oom_kill.c", "__oom_reap_task_mm", left_out="huge pages", lock="mm->mmap_lock")
def oom_reap_pages(mm: MmStruct) -> None:
    """Unmap all private pages: the program will never run again, so nobody will miss them."""
    vmas = mm.common.vmas
    mm.flags |= 1 << MMF_UNSTABLE
    for vma in mm.vmas():
        if not vmas.vm_flags[vma] & VM_SHARED:
            zap_pte_range(mm, vmas.vm_start[vma], vmas.vm_end[vma], vmas.vm_flags[vma])


@kernel("mm/oom_kill.c", "oom_reap_task_mm", left_out="waiting for the lock: one task runs at a time", lock="mmap_lock")
def oom_reap_task_mm(task: TaskStruct, mm: MmStruct) -> None:
    """Take the memory of a victim, and say what is left of it."""
    if mm.flags & 1 << MMF_OOM_SKIP:
        return
    oom_reap_pages(mm)
    anon, file, shmem = (kib(get_mm_counter(mm, member)) for member in (MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES))
    mm.common.mm.boot.printk.info(
        f"oom_reaper: reaped process {task.pid} ({task.name}), now anon-rss:{anon}kB, file-rss:{file}kB, "
        f"shmem-rss:{shmem}kB"
    )


@kernel("mm/oom_kill.c", "oom_reap_task", left_out="trying ten times: here nobody else holds the lock")
def oom_reap_task(processes: Processes, task: TaskStruct) -> None:
    """Reap a victim; after that it counts as gone, whatever was left."""
    task.oom_reaper_timer = 0
    processes.common.mm.oom_reaper_timers -= 1
    mm = task_mm(processes, task)
    if mm is not None:
        oom_reap_task_mm(task, mm)
        mm.flags |= 1 << MMF_OOM_SKIP


@kernel("mm/oom_kill.c", "oom_reaper", left_out="being a task, with a stack", formerly=("wake_oom_reaper",))
def oom_reaper(mm: Mm) -> None:
    """Each jiffy: reap the victims whose two seconds are over."""
    processes = processes_of(mm) if mm.oom_reaper_timers else None
    if processes is None:
        return
    for task in for_each_process(processes):
        if task.oom_reaper_timer and task.oom_reaper_timer <= mm.current.jiffies:
            oom_reap_task(processes, task)


DAEMONS["oom_reaper"] = oom_reaper
