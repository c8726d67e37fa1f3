"""dump_header: what Linux writes into its log before it kills for want of memory.

capt invoked oom-killer: gfp_mask=…          who asked for how much, and how
CPU: 0 PID: 113 Comm: capt …                 where it ran
Mem-Info: …                                  what memory is used for (mm/show_mem.py)
[    113]     0   113    77161    20935 …    all tasks that could be killed
oom-kill:constraint=CONSTRAINT_NONE, …       who will be, in one line
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.alloc.slab_dump import dump_unreclaimable_slab
from kmemlab.alloc.warn_alloc import dump_stack, node_list
from kmemlab.boot.numa import nodes_of
from kmemlab.mm.context import task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_writeback import global_node_page_state
from kmemlab.mm.show_mem import show_mem
from kmemlab.mm.vmstat import NODE_STAT_NAMES, NR_SLAB_UNRECLAIMABLE
from kmemlab.process.mm_struct import MM_SWAPENTS, get_mm_counter, get_mm_rss
from kmemlab.process.oom_badness import oom_unkillable_task
from kmemlab.process.task_struct import Processes, TaskStruct, current_task, for_each_process, task_mm
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import GFP_ZONEMASK, gfp_text

CONSTRAINT_NONE = "CONSTRAINT_NONE"
CONSTRAINT_MEMORY_POLICY = "CONSTRAINT_MEMORY_POLICY"
SYSRQ_ORDER = -1
"""The order of a request that is none: somebody has asked for a victim by hand."""

_LRU = tuple(
    NODE_STAT_NAMES.index(f"nr_{name}")
    for name in ("active_anon", "inactive_anon", "active_file", "inactive_file", "isolated_anon", "isolated_file",
                 "unevictable")
)  # fmt: skip


@kernel("include/linux/oom.h", "struct oom_control", left_out="control groups; the zonelist: `nid` names it")
@dataclass(slots=True)
class OomControl:
    """One run of the OOM killer: the request that nothing could be found for, and what has been decided so far.

    `nodemask` are the only nodes that a policy allows; None: all. `aborted` is C's chosen == -1: somebody dies already.
    """

    gfp_mask: int
    order: int
    nid: int = 0
    nodemask: frozenset[int] | None = None
    totalpages: int = 0
    chosen: TaskStruct | None = None
    chosen_points: int = 0
    aborted: bool = False
    constraint: str = CONSTRAINT_NONE


@kernel("mm/oom_kill.c", "dump_task", left_out="user ids: all are root's", traced=False)
def dump_task(processes: Processes, task: TaskStruct) -> None:
    """The line of one task, in pages; none for one that has no memory any more."""
    mm = task_mm(processes, task)
    if oom_unkillable_task(task) or mm is None:
        return
    processes.common.mm.boot.printk.info(
        f"[{task.pid:7}] {0:5} {task.pid:5} {mm.total_vm:8} {get_mm_rss(mm):8} {mm.pgtables_bytes:8} "
        f"{get_mm_counter(mm, MM_SWAPENTS):8}         {task.oom_score_adj:5} {task.name}"
    )


@kernel("mm/oom_kill.c", "dump_tasks", left_out="control groups")
def dump_tasks(processes: Processes) -> None:
    """The table of all tasks that could be killed."""
    say = processes.common.mm.boot.printk.info
    say("Tasks state (memory values in pages):")
    say("[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name")
    for task in for_each_process(processes):
        dump_task(processes, task)


@kernel("mm/oom_kill.c", "dump_oom_summary", left_out="cpusets and control groups: all tasks are in the first ones")
def dump_oom_summary(mm: Mm, oc: OomControl, victim: TaskStruct) -> None:
    """The line for those who read logs by programs."""
    nodemask = "(null)" if oc.nodemask is None else node_list(sorted(oc.nodemask))
    mm.boot.printk.info(
        f"oom-kill:constraint={oc.constraint},nodemask={nodemask},cpuset=/,"
        f"mems_allowed={node_list(nodes_of(mm.node_has_memory))},global_oom,task_memcg=/,"
        f"task={victim.name},pid={victim.pid},uid=0"
    )


@kernel("mm/oom_kill.c", "should_dump_unreclaim_slab", traced=False)
def should_dump_unreclaim_slab(mm: Mm) -> bool:
    """Whether the kernel's own objects take more than all programs and files: then they are to blame."""
    return global_node_page_state(mm, NR_SLAB_UNRECLAIMABLE) > sum(global_node_page_state(mm, item) for item in _LRU)


@kernel("mm/oom_kill.c", "dump_header", left_out="control groups; what dump_stack leaves out")
def dump_header(processes: Processes, oc: OomControl, victim: TaskStruct | None) -> None:
    """Write the report; the summary only if somebody is to be killed."""
    mm = processes.common.mm
    current = current_task(processes)
    mm.boot.printk.info(
        f"{task_comm(mm.current)} invoked oom-killer: gfp_mask={oc.gfp_mask:#x}({gfp_text(oc.gfp_mask)}), "
        f"order={oc.order}, oom_score_adj={current.oom_score_adj if current else 0}"
    )
    dump_stack(mm)
    highest = mm.gfp_zone_table[oc.gfp_mask & GFP_ZONEMASK]
    assert highest is not None, "the request was checked before"
    show_mem(mm, highest)
    if should_dump_unreclaim_slab(mm):
        dump_unreclaimable_slab(processes.common.slab)
    if mm.oom_dump_tasks:
        dump_tasks(processes)
    if victim is not None:
        dump_oom_summary(mm, oc, victim)
