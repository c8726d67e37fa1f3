"""oom_badness: how many pages the machine gets back if a task is killed, and what its owner says of it.

points = rss + swapped out + page tables + oom_score_adj · totalpages / 1000

oom_score_adj   -1000  never        0  as it is        1000  first of all
"""

from __future__ import annotations

from kmemlab.mm.context import PF_KTHREAD
from kmemlab.process.mm_struct import MM_SWAPENTS, MMF_OOM_SKIP, MmStruct, get_mm_counter, get_mm_rss
from kmemlab.process.task_struct import INIT_PID, Processes, TaskStruct, find_task, for_each_process, task_mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import PAGE_SIZE

OOM_SCORE_ADJ_MIN = -1000
OOM_SCORE_ADJ_MAX = 1000
LONG_MIN = -(1 << 63)
"""The points of a task that must not be killed."""


@kernel("mm/oom_kill.c", "oom_unkillable_task", traced=False)
def oom_unkillable_task(task: TaskStruct) -> bool:
    """Whether a task is never a victim: the first process, and the kernel's own threads."""
    return task.pid == INIT_PID or bool(task.flags & PF_KTHREAD)


@kernel("include/linux/sched/mm.h", "in_vfork", traced=False)
def in_vfork(processes: Processes, task: TaskStruct) -> bool:
    """Whether a task still uses the memory of its parent, which waits: what would be freed is the parent's."""
    if not task.vfork_done:
        return False
    return any(other.pid == task.parent and other.mm == task.mm for other in for_each_process(processes))


@kernel("mm/oom_kill.c", "oom_badness", left_out="threads")
def oom_badness(processes: Processes, task: TaskStruct, totalpages: int) -> int:
    """The points of a task: pages that killing it would free, moved by oom_score_adj; LONG_MIN if it can't be killed.

    `totalpages` is what a whole machine has, RAM and swap.
    """
    if oom_unkillable_task(task):
        return LONG_MIN
    mm = task_mm(processes, task)
    if mm is None:
        return LONG_MIN
    adj = task.oom_score_adj
    if adj == OOM_SCORE_ADJ_MIN or mm.flags & 1 << MMF_OOM_SKIP or in_vfork(processes, task):
        return LONG_MIN
    return pages_of(mm) + adj * (totalpages // 1000)


@invented("the middle of oom_badness", traced=False)
def pages_of(mm: MmStruct) -> int:
    """The pages that an address space holds: in RAM, in swap, and as page tables."""
    return get_mm_rss(mm) + get_mm_counter(mm, MM_SWAPENTS) + mm.pgtables_bytes // PAGE_SIZE


@kernel("fs/proc/base.c", "proc_oom_score", left_out="the text: the number is handed out")
def proc_oom_score(processes: Processes, task: TaskStruct) -> int:
    """/proc/PID/oom_score: 0 if it can't be killed, else 666 at no pages at all, up to 1999.

    The points per mille of all pages, moved up by 1000 so that none is negative, and two thirds of that.
    """
    mm = processes.common.mm
    totalpages = mm.totalram_pages + mm.total_swap_pages
    badness = oom_badness(processes, task, totalpages)
    if badness == LONG_MIN:
        return 0
    permille = abs(badness) * 1000 // totalpages  # C divides towards zero
    return (1000 + (permille if badness >= 0 else -permille)) * 2 // 3


@kernel("fs/proc/base.c", "__set_oom_adj", left_out="rights; tasks that share an address space")
def set_oom_score_adj(processes: Processes, pid: int, oom_adj: int) -> None:
    """Write /proc/PID/oom_score_adj. Raises `BadRequest` for a number beyond -1000 … 1000, or no such process."""
    if not OOM_SCORE_ADJ_MIN <= oom_adj <= OOM_SCORE_ADJ_MAX:
        raise BadRequest(f"EINVAL: oom_score_adj can't be {oom_adj}", where=f"/proc/{pid}/oom_score_adj",
                         remedy=f"write a number from {OOM_SCORE_ADJ_MIN} to {OOM_SCORE_ADJ_MAX}")  # fmt: skip
    find_task(processes, pid).oom_score_adj = oom_adj
