"""The OOM killer: nothing can be freed any more, so somebody has to go.

__alloc_pages_may_oom ─▶ out_of_memory ┬▶ current dies already: let it have the reserves, so that it gets on
                                       ├▶ select_bad_process: the most points (oom_badness) ─▶ oom_kill_process
                                       ├▶ somebody dies already: wait for that
                                       └▶ nobody can be killed: panic
oom_kill_process ─▶ dump_header, SIGKILL, mark_oom_victim (reserves: ALLOC_OOM), queue_oom_reaper
"""

from __future__ import annotations

from kmemlab.boot.numa import nodes_of
from kmemlab.mm.context import PF_EXITING, task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.ratelimit import ratelimit
from kmemlab.mm.reclaim_table import OUT_OF_MEMORY
from kmemlab.mm.vm_event import OOM_KILL
from kmemlab.mm.wait import io_schedule
from kmemlab.process.mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MMF_OOM_SKIP,
    get_mm_counter,
)
from kmemlab.process.oom_badness import LONG_MIN, OOM_SCORE_ADJ_MIN, oom_badness, oom_unkillable_task
from kmemlab.process.oom_reaper import OOM_REAPER_DELAY, kib, queue_oom_reaper
from kmemlab.process.oom_report import (
    CONSTRAINT_MEMORY_POLICY,
    CONSTRAINT_NONE,
    SYSRQ_ORDER,
    OomControl,
    dump_header,
)
from kmemlab.process.signal import run_killed, send_sigkill
from kmemlab.process.task_struct import (
    INIT_PID,
    Processes,
    TaskStruct,
    current_task,
    fatal_signal_pending,
    for_each_process,
    processes_of,
    task_mm,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.gfp import __GFP_FS, __GFP_THISNODE
from kmemlab.types.units import KIB


@kernel("mm/oom_kill.c", "constrained_alloc", left_out="cpusets, control groups")
def constrained_alloc(mm: Mm, oc: OomControl) -> str:
    """Whether the request lacks memory only because it may use some nodes alone; sets what counts as all pages."""
    oc.totalpages = mm.totalram_pages + mm.total_swap_pages
    if not mm.boot.config.numa or oc.gfp_mask & __GFP_THISNODE or oc.nodemask is None:
        return CONSTRAINT_NONE
    if not set(nodes_of(mm.node_has_memory)) <= oc.nodemask:
        present = sum(mm.node_data[nid].node_present_pages for nid in sorted(oc.nodemask))
        oc.totalpages = mm.total_swap_pages + present
        return CONSTRAINT_MEMORY_POLICY
    return CONSTRAINT_NONE


@invented("test_bit(MMF_OOM_SKIP, &tsk->signal->oom_mm->flags): an address space that is gone is skipped, too")
def oom_mm_skipped(processes: Processes, task: TaskStruct) -> bool:
    """Whether nothing more is to be had of a victim's memory."""
    mm = task_mm(processes, task)
    return mm is None or bool(mm.flags & 1 << MMF_OOM_SKIP)


@kernel("mm/oom_kill.c", "oom_evaluate_task", left_out="cpusets and policies of tasks; who asks to be killed first")
def oom_evaluate_task(processes: Processes, task: TaskStruct, oc: OomControl) -> bool:
    """See whether a task is the worst so far; True ends the search, as somebody dies already."""
    if oom_unkillable_task(task):
        return False
    if oc.order != SYSRQ_ORDER and task.oom_mm:
        if oom_mm_skipped(processes, task):
            return False
        oc.chosen, oc.aborted = None, True
        return True
    points = oom_badness(processes, task, oc.totalpages)
    if points != LONG_MIN and points >= oc.chosen_points:
        oc.chosen, oc.chosen_points = task, points
    return False


@kernel("mm/oom_kill.c", "select_bad_process", left_out="control groups")
def select_bad_process(processes: Processes, oc: OomControl) -> None:
    """Find the task with the most points; of two that have as many, the one that began later."""
    oc.chosen_points = LONG_MIN
    for task in for_each_process(processes):
        if oom_evaluate_task(processes, task, oc):
            return


@kernel("mm/oom_kill.c", "mark_oom_victim", left_out="being frozen", lock="oom_lock")
def mark_oom_victim(processes: Processes, task: TaskStruct) -> None:
    """From now on the task may use a part of the reserves, so that it comes to its end."""
    if task.memdie:
        return
    task.memdie = 1
    task.oom_mm = task.oom_mm or task.mm
    processes.oom_victims += 1
    current = processes.common.mm.current
    if task.pid == current.pid:
        current.oom_victim = 1


@kernel("mm/oom_kill.c", "task_will_free_mem", left_out="core dumps", formerly=("__task_will_free_mem",))
def task_will_free_mem(processes: Processes, task: TaskStruct) -> bool:
    """Whether a task is about to end, with all that share its memory: then nobody need be killed for it."""
    mm = task_mm(processes, task)
    if mm is None or mm.flags & 1 << MMF_OOM_SKIP:
        return False
    sharing = (other for other in for_each_process(processes) if other.mm == task.mm)
    return all(other.sigkill or other.flags & PF_EXITING for other in sharing)


@kernel("mm/oom_kill.c", "__oom_kill_process", left_out="control groups, user ids")
def kill_victim(processes: Processes, victim: TaskStruct, message: str) -> None:
    """Send SIGKILL to a task and to all that share its memory, and say what it had."""
    mm, kernel_mm = task_mm(processes, victim), processes.common.mm
    say = kernel_mm.boot.printk.info
    assert mm is not None, "a task without memory was chosen"
    kernel_mm.vm_event[OOM_KILL] += 1
    send_sigkill(victim)
    mark_oom_victim(processes, victim)
    anon, file, shmem = (kib(get_mm_counter(mm, member)) for member in (MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES))
    say(
        f"{message}: Killed process {victim.pid} ({victim.name}) total-vm:{kib(mm.total_vm)}kB, anon-rss:{anon}kB, "
        f"file-rss:{file}kB, shmem-rss:{shmem}kB, UID:0 pgtables:{mm.pgtables_bytes // KIB}kB "
        f"oom_score_adj:{victim.oom_score_adj}"
    )
    can_oom_reap = True
    for task in for_each_process(processes):
        if task.mm != victim.mm or task.pid == victim.pid:
            continue
        if task.pid == INIT_PID:
            can_oom_reap = False
            mm.flags |= 1 << MMF_OOM_SKIP
            say(f"oom killer {victim.pid} ({victim.name}) has mm pinned by {task.pid} ({task.name})")
            continue
        if not oom_unkillable_task(task):
            send_sigkill(task)
    if can_oom_reap:
        queue_oom_reaper(processes, victim)


@kernel("mm/oom_kill.c", "oom_kill_process", left_out="killing a whole control group")
def oom_kill_process(processes: Processes, oc: OomControl, message: str) -> None:
    """Report and kill the chosen task; one that ends already only gets the reserves."""
    victim = oc.chosen
    assert victim is not None, "nobody was chosen"
    if task_will_free_mem(processes, victim):
        mark_oom_victim(processes, victim)
        queue_oom_reaper(processes, victim)
        return
    if ratelimit(processes.oom_rs, processes.common.mm.current, "oom_kill_process"):
        dump_header(processes, oc, victim)
    kill_victim(processes, victim, message)


@kernel("kernel/panic.c", "panic", left_out="stopping the machine: it can be looked at, and rewound", traced=False)
def panic(mm: Mm, why: str, remedy: str) -> KernelPanic:
    """Say that the kernel can't go on; the error to raise."""
    mm.boot.printk.info(f"Kernel panic - not syncing: {why}")
    return KernelPanic(why, where=f"out_of_memory, asked by {task_comm(mm.current)}", remedy=remedy)


@kernel("mm/oom_kill.c", "check_panic_on_oom")
def check_panic_on_oom(processes: Processes, oc: OomControl) -> None:
    """Raise `KernelPanic` if vm.panic_on_oom says so: 1 for a lack of all memory, 2 for one of some nodes', too."""
    mm = processes.common.mm
    how = mm.panic_on_oom
    if not how or (how == 1 and oc.constraint != CONSTRAINT_NONE) or oc.order == SYSRQ_ORDER:
        return
    dump_header(processes, oc, None)
    kind = "compulsory" if how == 2 else "system-wide"
    raise panic(mm, f"Out of memory: {kind} panic_on_oom is enabled", "write 0 to vm.panic_on_oom")


@kernel("mm/oom_kill.c", "out_of_memory", left_out="control groups; notifiers; being off (suspend)")
def out_of_memory(processes: Processes, oc: OomControl) -> bool:
    """Have the worst task killed; whether there will be memory. Raises `KernelPanic` if nobody can be killed."""
    mm = processes.common.mm
    current = current_task(processes)
    if current is not None and task_will_free_mem(processes, current):
        mark_oom_victim(processes, current)
        queue_oom_reaper(processes, current)
        return True
    if not oc.gfp_mask & __GFP_FS:
        return True  # it could not wait for files to be written, so perhaps others can free memory yet
    oc.constraint = constrained_alloc(mm, oc)
    if oc.constraint != CONSTRAINT_MEMORY_POLICY:
        oc.nodemask = None
    check_panic_on_oom(processes, oc)
    if mm.oom_kill_allocating_task and current is not None and may_kill_itself(current):
        oc.chosen = current
        oom_kill_process(processes, oc, "Out of memory (oom_kill_allocating_task)")
        return True
    select_bad_process(processes, oc)
    if oc.chosen is None and not oc.aborted:
        no_killable_process(processes, oc)
        return False
    if oc.chosen is not None:
        oom_kill_process(processes, oc, "Out of memory")
    return True


@invented("a condition of out_of_memory", traced=False)
def may_kill_itself(current: TaskStruct) -> bool:
    """Whether vm.oom_kill_allocating_task reaches the task that asked."""
    return bool(current.mm) and not oom_unkillable_task(current) and current.oom_score_adj != OOM_SCORE_ADJ_MIN


@invented("the middle part of out_of_memory", traced=False)
def no_killable_process(processes: Processes, oc: OomControl) -> None:
    """Say that nobody can be killed. Raises `KernelPanic`, unless somebody had only asked by hand."""
    mm = processes.common.mm
    dump_header(processes, oc, None)
    mm.boot.printk.info("Out of memory and no killable processes...")
    if oc.order != SYSRQ_ORDER:
        raise panic(mm, "System is deadlocked on memory", "rewind, and free pages; or give the machine more memory")


@invented("C's allocator knows the OOM killer by name, and other CPUs run the victim while it tries again")
def oom_killer(mm: Mm, gfp: int, order: int, nid: int) -> int:
    """Kill for a request, and let the victim come to its end; whether there will be memory.

    Before the first program runs nobody could be killed: then the request fails, where Linux would panic.
    """
    processes = processes_of(mm)
    if processes is None or not processes.total_forks:
        return 0
    if not out_of_memory(processes, OomControl(gfp, order, nid)):
        return 0
    if not run_killed(processes):
        wait_for_victim(processes)
    return 1


@invented("C's allocator tries again and again meanwhile")
def wait_for_victim(processes: Processes) -> None:
    """Sleep until no victim is on its way any more, which the OOM reaper sees to; `current` itself can't be waited for.

    Whoever was called by a daemon can't wait for another one, and gives up when the reaper should have come.
    """
    mm = processes.common.mm
    end = mm.current.jiffies + OOM_REAPER_DELAY + 1
    while mm.current.jiffies < end and any(
        fatal_signal_pending(task) and task.pid != mm.current.pid and not oom_mm_skipped(processes, task)
        for task in for_each_process(processes)
    ):
        io_schedule(mm)


@kernel("drivers/tty/sysrq.c", "moom_callback", left_out="the key: Alt, SysRq, f; being done a little later")
def moom_callback(processes: Processes, gfp_mask: int) -> None:
    """Somebody at the keyboard wants the worst task gone."""
    say = processes.common.mm.boot.printk.info
    say("sysrq: Manual OOM execution")
    if not out_of_memory(processes, OomControl(gfp_mask, SYSRQ_ORDER)):
        say("OOM request ignored. No task eligible")
    run_killed(processes)


OUT_OF_MEMORY.append(oom_killer)
