"""Lazy hand-over: largest blocks that nobody has touched yet stand in the free list as one.

    free_list[10]   0x8000 ── [0x8400 ═══════════ run ═══════════ 0x100000) ── 0x100400
                                 │
                                 only the first block is threaded; when it is taken, the next one takes its place

Linux threads every block of a terabyte. Here a run costs nothing until it is used. Nobody can tell: blocks of the
largest order are never joined with a buddy, so they are only reached through the front of their list, and there they
stand in the order in which they would stand one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.mm.mem_map import MAX_ORDER_NR_PAGES
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import ListHead, list_add
from kmemlab.sim.struct import Cell, Struct

MOST_RUNS = 128  # of a zone; what comes after is threaded block by block


@invented("lazy hand-over", traced=False)
class FreeRuns(Struct):
    """The runs of a zone: run i is free from page frame `start[i]`, which is threaded, to before `end[i]`."""

    count = Cell()

    start: Column
    end: Column

    def __init__(self) -> None:
        self.start = column("q", MOST_RUNS)
        self.end = column("q", MOST_RUNS)


@invented("lazy hand-over", traced=False)
def run_of(runs: FreeRuns, pfn: int) -> int | None:
    """The number of the run that a page frame lies in."""
    for number in range(runs.count):
        if runs.start[number] <= pfn < runs.end[number]:
            return number
    return None


@invented("lazy hand-over", traced=False)
def within_run(runs: FreeRuns, pfn: int) -> bool:
    """Whether a page frame lies in a run, but not in the block that is threaded for it."""
    number = run_of(runs, pfn)
    return number is not None and pfn >= runs.start[number] + MAX_ORDER_NR_PAGES


@invented("lazy hand-over", traced=False)
def thread_next(runs: FreeRuns, lru: ListHead, buddy: Column, pfn: int) -> None:
    """The block at `pfn` is about to leave its list: if a run begins with it, the next block is put behind it."""
    for number in range(runs.count):
        if runs.start[number] == pfn:
            following = pfn + MAX_ORDER_NR_PAGES
            runs.start[number] = following
            if following < runs.end[number]:
                buddy[following] = buddy[pfn]
                list_add(lru, following, pfn)
            return


@invented("lazy hand-over", traced=False)
def unthreaded(runs: FreeRuns, pfn: int) -> Iterator[int]:
    """The blocks that stand behind the block at `pfn` without being threaded."""
    for number in range(runs.count):
        if runs.start[number] == pfn:
            yield from range(pfn + MAX_ORDER_NR_PAGES, runs.end[number], MAX_ORDER_NR_PAGES)
