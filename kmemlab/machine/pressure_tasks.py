"""The tasks of a trace, as the OOM killer sees them: a row in the table of tasks, and what memory each has.

A task has no page tables and no stack here: its pages are those that it asked for (machine/pressure_model.py). So it
ends in another way than tasks of the model's own: by giving those pages back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kmemlab.mm.context import TASK_COMM_LEN
from kmemlab.process.exit import do_exit
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_SWAPENTS, MmStruct, add_mm_counter
from kmemlab.process.oom_reaper import cancel_oom_reaper
from kmemlab.process.task_struct import INIT_PID, NR_TASKS, Processes, TaskStruct, free_mm_slot, free_task_slot
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch

NO_OBJECT = 1  # where C's structs would lie: these have none
MOST_TASKS = NR_TASKS - 8


@invented("a trace's tasks among the machine's own")
class TraceTasks:
    """Rows of the table of tasks, by pid."""

    def __init__(
        self, processes: Processes, gives_back: Callable[[int], None], dies: Callable[[TaskStruct], None]
    ) -> None:
        """`gives_back(pid)` is called when a task ends; when it was killed, `dies(task)`: its exit takes time."""
        self.processes = processes
        self.gives_back, self.dies = gives_back, dies
        self.rows: dict[int, TaskStruct] = {}
        self.scores: dict[int, int] = {}
        self.killed: list[int] = []

    def address_space(self, pid: int, name: str) -> MmStruct:
        """The address space of a task; it is entered when it is first heard of, if need be in place of the smallest."""
        task = self.rows.get(pid)
        if task is None:
            if len(self.rows) == MOST_TASKS:
                self.forget(min(self.rows.values(), key=self.pages))
            task = self.rows[pid] = self.enter(pid, name)
        return self.processes.mms[task.mm - 1]

    def pages(self, task: TaskStruct) -> int:
        """How many pages a task has in RAM and in swap."""
        return sum(self.processes.mms[task.mm - 1].rss_stat)

    def enter(self, pid: int, name: str) -> TaskStruct:
        """A row for a task, and one for its address space."""
        task = free_task_slot(self.processes)
        task.address, task.pid, task.parent = NO_OBJECT, pid, INIT_PID
        for at, byte in enumerate(name.encode("ascii", "replace")[: TASK_COMM_LEN - 1]):
            task.comm[at] = byte
        mm = free_mm_slot(self.processes)
        mm.address, mm.mm_users = NO_OBJECT, 1
        task.mm = 1 + mm.number
        task.oom_score_adj = self.scores.get(pid, 0)
        self.processes.total_forks += 1
        task.tasks = self.processes.total_forks
        return task

    def set_score(self, pid: int, score: int) -> None:
        """Somebody wrote a task's oom_score_adj."""
        self.scores[pid] = score
        if pid in self.rows:
            self.rows[pid].oom_score_adj = score

    def count(self, pid: int, anon: int, swap: int = 0) -> None:
        """A task has so many pages more, or with negative numbers less, in RAM and in swap."""
        task = self.rows.get(pid)
        if task is not None:
            mm = self.processes.mms[task.mm - 1]
            add_mm_counter(mm, MM_ANONPAGES, anon)
            add_mm_counter(mm, MM_SWAPENTS, swap)

    def is_dead(self, pid: int) -> bool:
        """Whether the model has killed the task."""
        return pid in self.killed

    def end_killed(self) -> None:
        """Tasks that were sent SIGKILL, and did not come to their end yet, do so now."""
        for task in [task for task in self.rows.values() if task.sigkill]:
            self.end(task)

    def end(self, task: TaskStruct) -> None:
        """A task gives all back; one that was killed only begins to."""
        if not task.sigkill:
            self.gives_back(task.pid)
            self.bury(task)
        elif task.pid not in self.killed:
            self.killed.append(task.pid)
            self.dies(task)

    def bury(self, task: TaskStruct) -> None:
        """A task has given all back, and its rows are free."""
        cancel_oom_reaper(self.processes, task)
        if task.memdie:
            self.processes.oom_victims -= 1
        if self.processes.common.mm.current.pid == task.pid:
            self.processes.common.mm.current.oom_victim = 0
        self.forget(task)

    def forget(self, task: TaskStruct) -> None:
        """Free the rows of a task."""
        del self.rows[task.pid]
        mm = self.processes.mms[task.mm - 1]
        for cells in (mm.cells, task.cells):
            for cell in range(len(cells)):
                cells[cell] = 0
        for member in range(len(mm.rss_stat)):
            mm.rss_stat[member] = 0

    @contextmanager
    def ending(self) -> Iterator[None]:
        """While this lasts tasks of the trace end in their own way."""

        def exit_of(processes: Processes, task: TaskStruct, code: int) -> None:
            if self.rows.get(task.pid) is task:
                self.end(task)
            else:
                original(processes, task, code)

        with livepatch(do_exit, exit_of):
            original = do_exit.original  # type: ignore[attr-defined]
            yield
