"""A bare zone with commands, recorded: the smallest thing that a journal can be tried on."""

from __future__ import annotations

import random

from kmemlab.mm.buddy import example_zone, free_one_page, rmqueue_smallest
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.sim.journal import Command, Journal
from kmemlab.sim.recorder import Recorder
from kmemlab.sim.struct import structs_of
from kmemlab.sim.timeline import Timeline
from kmemlab.types.migratetype import MIGRATE_MOVABLE


class Bench:
    """Takes and frees blocks of a small zone, each request a recorded command."""

    def __init__(self, blocks: int = 4, *, lines: bool = False, **journal: int) -> None:
        self.zone = example_zone(order=10, blocks=blocks)
        self.journal = Journal(self.carry_out, **journal)
        self.journal.lines = lines
        self.recorder = Recorder(self.zone, self.journal)
        self.timeline = Timeline(self.journal, self.recorder.listening)
        self.recorder.start()

    def carry_out(self, command: Command) -> None:
        getattr(self, f"_{command.name}")(*command.args)

    def do(self, name: str, *args: int) -> int | None:
        with self.recorder.command(name, args):
            return getattr(self, f"_{name}")(*args)

    def _take(self, order: int) -> int | None:
        pfn = rmqueue_smallest(self.zone, order, MIGRATE_MOVABLE)
        if pfn is not None:
            self.zone.vm_stat[NR_FREE_PAGES] -= 1 << order
        return pfn

    def _give(self, pfn: int, order: int) -> None:
        free_one_page(self.zone, pfn, order, MIGRATE_MOVABLE)

    def close(self) -> None:
        self.recorder.stop()


def state(zone: Zone) -> list[list[int]]:
    """Every cell of every column that can be reached."""
    return [list(view) for struct in structs_of(zone) for _, view in struct.columns()]


def work(bench: Bench, count: int, seed: int) -> None:
    """A seeded mix of `count` takes and frees; continues from the held blocks that the zone shows to nobody."""
    rng = random.Random(seed)
    held: list[tuple[int, int]] = []
    for _ in range(count):
        if held and rng.random() < 0.5:
            bench.do("give", *held.pop(rng.randrange(len(held))))
        else:
            order = rng.randrange(4)
            pfn = bench.do("take", order)
            if pfn is not None:
                held.append((pfn, order))
