"""A small recorded run to look at: a zone of 1,024 pages in which blocks were taken and given back."""

from __future__ import annotations

from kmemlab.mm.buddy import example_zone, free_one_page, rmqueue_smallest
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.sim.journal import Command, Journal
from kmemlab.sim.recorder import Recorder
from kmemlab.sim.timeline import Timeline
from kmemlab.types.migratetype import MIGRATE_MOVABLE


class Run:
    """take(0) splits down from order 10, give(0, 0) joins all the way up again."""

    def __init__(self, lines: bool = True) -> None:
        self.zone: Zone = example_zone(order=10)
        self.journal = Journal(self._again)
        self.journal.lines = lines
        self.recorder = Recorder(self.zone, self.journal)
        self.timeline = Timeline(self.journal, self.recorder.listening)
        self.recorder.start()

    def _again(self, command: Command) -> None:
        getattr(self, f"_{command.name}")(*command.args)

    def do(self, name: str, *args: int) -> int | None:
        with self.recorder.command(name, args):
            return getattr(self, f"_{name}")(*args)

    def _take(self, order: int) -> int | None:
        pfn = rmqueue_smallest(self.zone, order, MIGRATE_MOVABLE)
        self.zone.vm_stat[NR_FREE_PAGES] -= 1 << order
        return pfn

    def _give(self, pfn: int, order: int) -> None:
        free_one_page(self.zone, pfn, order, MIGRATE_MOVABLE)
