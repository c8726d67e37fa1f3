"""task_struct: who runs. Its pid, its name, its parent, its kernel stack, and the address space that it uses.

task ─┬─ mm ─────▶ mm_struct       (threads would share it; here each task has its own)
      ├─ stack ──▶ a kernel stack, while the task lives
      └─ parent ─▶ the pid that hears of its end; 1, which is no task of the table, if nobody else does
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.thread_stack import ThreadStacks
from kmemlab.mm.context import TASK_COMM_LEN, Context, set_task_comm, task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.ratelimit import RatelimitState
from kmemlab.process.mm_struct import NR_MMS, MmStruct, ProcessMemory
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell
from kmemlab.types.errors import BadRequest, TooLarge

NR_TASKS = NR_MMS
INIT_PID = 1
KTHREADD_PID = 2

TASK_RUNNING = 0
TASK_UNINTERRUPTIBLE = 2
EXIT_ZOMBIE = 0x20


@kernel("include/linux/sched.h", "struct task_struct", left_out="scheduling, signals, files, credentials, threads")
class TaskStruct(Struct):
    """One task; `pid` is 0 where there is none."""

    address = U64Cell()  # where C's struct lies
    pid = Cell()
    parent = Cell()  # the pid of real_parent
    exit_state = Cell()
    exit_code = Cell()
    flags = Cell()  # PF_…
    mm = Cell()  # 1 + the number of its mm_struct; 0: it has none any more
    stack = U64Cell()  # 0 once it is dead
    ip = U64Cell()  # the registers of the program
    sp = U64Cell()
    min_flt = Cell()  # page faults, and those that waited for the disk
    maj_flt = Cell()
    oom_score_adj = Cell()
    tasks = Cell()  # its place in the list of all tasks: the later a task began, the larger
    state = Cell()  # TASK_RUNNING or TASK_UNINTERRUPTIBLE (C: __state)
    sigkill = Cell()  # 1: SIGKILL was sent, and the task ends as soon as it runs (SIGNAL_GROUP_EXIT)
    memdie = Cell()  # TIF_MEMDIE: the OOM killer has chosen it
    oom_mm = Cell()  # signal->oom_mm: as `mm`, and kept when the task has left that
    oom_reaper_timer = Cell()  # the jiffy in which the OOM reaper takes the memory; 0: it won't
    vfork_done = Cell()  # 1: its parent waits until it has an address space of its own

    comm: Column

    def __init__(self, number: int) -> None:
        self.number = number
        self.comm = column("B", TASK_COMM_LEN)

    @property
    def name(self) -> str:
        """What the task is called (`comm`)."""
        return bytes(self.comm).split(b"\0")[0].decode("ascii")


@invented("C's global variables are fields here, so that a machine can be copied and rewound")
class Processes(Struct):
    """All tasks and all address spaces, in tables of a fixed size."""

    last_pid = Cell()
    total_forks = Cell()
    oom_victims = Cell()  # mm/oom_kill.c: how many have been chosen and are not gone yet

    def __init__(self, mm: Mm, slab: SlabCommon, stacks: ThreadStacks) -> None:
        self.common = ProcessMemory(mm, slab)
        self.stacks = stacks
        self.tasks = tuple(TaskStruct(number) for number in range(NR_TASKS))
        self.mms = tuple(MmStruct(self.common, number) for number in range(NR_MMS))
        self.oom_rs = RatelimitState()
        self.pfoom_rs = RatelimitState()
        self.enough_rs = RatelimitState()
        self.last_pid = KTHREADD_PID
        mm.processes = self  # what walks from a page to its users begins at `mm`


@kernel("include/linux/sched/signal.h", "for_each_process", traced=False)
def for_each_process(processes: Processes) -> Iterator[TaskStruct]:
    """The tasks that there are, zombies included, in the order in which they began."""
    return iter(sorted((task for task in processes.tasks if task.pid), key=tasks_place))


@invented("C's list holds the tasks in this order", traced=False)
def tasks_place(task: TaskStruct) -> int:
    """A key to sort tasks by: their place in the list of all."""
    return task.tasks


@invented("C's list of tasks is a global variable", traced=False)
def processes_of(mm: Mm) -> Processes | None:
    """All tasks of a machine; None where there is only a page allocator, as in tests."""
    found = vars(mm).get("processes")
    assert found is None or isinstance(found, Processes)
    return found


@invented("C's current; the idle task and the kernel's threads are in no table here", traced=False)
def current_task(processes: Processes) -> TaskStruct | None:
    """The task that runs; None for a thread of the kernel."""
    pid = processes.common.mm.current.pid
    return next((task for task in processes.tasks if pid and task.pid == pid), None)


@kernel("include/linux/sched/signal.h", "fatal_signal_pending", traced=False)
def fatal_signal_pending(task: TaskStruct | None) -> bool:
    """Whether a task is about to be ended: SIGKILL was sent, and it has not obeyed yet. No thread of the kernel is."""
    return task is not None and bool(task.sigkill and task.mm)


@invented("the scheduler: a task runs, then the one before it again", traced=False)
@contextmanager
def running(current: Context, task: TaskStruct) -> Iterator[None]:
    """While this lasts the task is `current`."""
    before = current.pid, task_comm(current), current.oom_victim
    current.pid, current.oom_victim = task.pid, int(bool(task.oom_mm))
    set_task_comm(current, task.name)
    try:
        yield
    finally:
        # A victim stays one, also where it ran within what it did itself.
        current.oom_victim = int(bool(before[2] or (before[0] == task.pid and task.oom_mm)))
        current.pid = before[0]
        set_task_comm(current, before[1])


@kernel("kernel/pid.c", "find_task_by_vpid", left_out="the tree of pids, namespaces", traced=False)
def find_task(processes: Processes, pid: int) -> TaskStruct:
    """The task with a pid. Raises `BadRequest` if there is none."""
    for task in processes.tasks:
        if task.pid == pid and pid:
            return task
    there = ", ".join(str(task.pid) for task in for_each_process(processes)) or "none: spawn one"
    raise BadRequest(f"ESRCH: there is no process {pid}", where="pid", remedy=f"there are {there}")


@kernel("kernel/fork.c", "get_task_mm", left_out="kernel threads", traced=False)
def task_mm(processes: Processes, task: TaskStruct) -> MmStruct | None:
    """The address space of a task; None if it is dead."""
    return processes.mms[task.mm - 1] if task.mm else None


@invented("what most commands need")
def living(processes: Processes, pid: int) -> tuple[TaskStruct, MmStruct]:
    """A task and its address space. Raises `BadRequest` for a pid that nobody has, or a zombie."""
    task = find_task(processes, pid)
    mm = task_mm(processes, task)
    if mm is None:
        raise BadRequest(f"process {pid} is dead", where="pid", remedy="its parent can still wait for it")
    return task, mm


@invented("an object of a cache stands for the struct; its fields are in our columns", traced=False)
def free_task_slot(processes: Processes) -> TaskStruct:
    """A row for a new task. Raises `TooLarge` when all are taken."""
    for task in processes.tasks:
        if not task.address:
            return task
    raise TooLarge(f"more than {NR_TASKS} tasks", where="dup_task_struct", remedy="let some exit, and wait for them")


@invented("as for tasks", traced=False)
def free_mm_slot(processes: Processes) -> MmStruct:
    """A row for a new address space. Raises `TooLarge` when all are taken."""
    for mm in processes.mms:
        if not mm.address:
            return mm
    raise TooLarge(f"more than {NR_MMS} address spaces", where="mm_alloc", remedy="let some processes exit")
