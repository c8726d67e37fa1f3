"""Whom the OOM killer would choose: a frozen ranking of all processes, for texts and pictures."""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.process.mm_struct import MM_SWAPENTS, get_mm_counter, get_mm_rss
from kmemlab.process.oom_badness import LONG_MIN, oom_badness, proc_oom_score
from kmemlab.process.task_struct import Processes, for_each_process, task_mm
from kmemlab.sim.kernel import invented
from kmemlab.types.units import PAGE_SIZE


@invented("C looks at each task when it needs to", traced=False)
@dataclass(frozen=True, slots=True)
class OomRank:
    """One process, in pages; `points` is None for one that is never killed, `oom_score` what /proc shows."""

    pid: int
    name: str
    rss: int
    swap: int
    page_tables: int
    oom_score_adj: int
    points: int | None
    oom_score: int
    dying: bool

    @property
    def killable(self) -> bool:
        """Whether it can be chosen at all."""
        return self.points is not None


@invented("a snapshot of what oom_badness says of all tasks", traced=False)
def oom_ranking(processes: Processes) -> tuple[OomRank, ...]:
    """Every process that has memory, in the order in which the OOM killer would kill them; the unkillable last.

    Of two with as many points the one that began later goes first.
    """
    kernel_mm = processes.common.mm
    totalpages = kernel_mm.totalram_pages + kernel_mm.total_swap_pages
    rows = []
    for task in for_each_process(processes):
        mm = task_mm(processes, task)
        if mm is None:
            continue
        points = oom_badness(processes, task, totalpages)
        rows.append((points, task.tasks, OomRank(
            task.pid, task.name, get_mm_rss(mm), get_mm_counter(mm, MM_SWAPENTS), mm.pgtables_bytes // PAGE_SIZE,
            task.oom_score_adj, None if points == LONG_MIN else points, proc_oom_score(processes, task),
            bool(task.oom_mm),
        )))  # fmt: skip
    rows.sort(key=_worst_first, reverse=True)
    return tuple(rank for _, _, rank in rows)


def _worst_first(row: tuple[int, int, OomRank]) -> tuple[int, int]:
    return row[0], row[1]


@invented("the ranking as a table", traced=False)
def oom_ranking_text(ranks: tuple[OomRank, ...]) -> str:
    """A line a process, worst first."""
    text = "    pid      rss     swap  tables    adj   points  score  name\n"
    for rank in ranks:
        points = "never" if rank.points is None else str(rank.points)
        text += (
            f"{rank.pid:7} {rank.rss:8} {rank.swap:8} {rank.page_tables:7} {rank.oom_score_adj:6} {points:>8} "
            f"{rank.oom_score:6}  {rank.name}{' (dying)' if rank.dying else ''}\n"
        )
    return text
