"""What a request for memory costs, counted on a machine: functions called, cells written, pages that are free no more.

No clock is read, so the same machine gives the same numbers everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from kmemlab.machine.machine import Machine
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.sim.kernel import invented
from kmemlab.sim.timeline import Call
from kmemlab.types.units import PAGE_SIZE

REQUESTS = 16


@invented("a bill is data")
@dataclass(frozen=True, slots=True)
class Price:
    """The cost of `REQUESTS` requests of `size` bytes each; calls and writes are of one request."""

    what: str
    size: int
    first_calls: int  # of the first request: whoever is first often pays for those to come
    calls: int  # of a usual one
    writes: int
    pages: int  # of all requests together

    @property
    def spare(self) -> int:
        """Bytes that were taken beyond what was asked for, for all requests together."""
        return self.pages * PAGE_SIZE - REQUESTS * self.size


@invented("a bill is data")
def price(machine: Machine, what: str, size: int, ask: Callable[[], Any]) -> Price:
    """Let `ask` request memory `REQUESTS` times, and count; `ask` is one command. What it got stays taken.

    The machine must be recording.
    """
    before = unused_pages(machine)
    timeline = machine.timeline
    first = len(timeline.commands)
    for _ in range(REQUESTS):
        ask()
    pages = before - unused_pages(machine)
    calls = [sum(map(calls_in, timeline.calls(first + at))) for at in range(REQUESTS)]
    usual = median_low(calls)
    writes = len(timeline.writes(first + calls.index(usual)))
    timeline.to_end()
    return Price(what, size, calls[0], usual, writes, pages)


@invented("a part of price", traced=False)
def calls_in(call: Call) -> int:
    """A call and all that it led to.

    >>> calls_in(Call(print, (), 0, 0, calls=[Call(print, (), 1, 0)]))
    2
    """
    return 1 + sum(map(calls_in, call.calls))


@invented("what is free for anybody, and what a CPU keeps at hand", traced=False)
def unused_pages(machine: Machine) -> int:
    """Free pages of all zones, with those that wait on the lists of the CPUs."""
    zones = machine.kernel.mm.populated_zones()
    return sum(zone.vm_stat[NR_FREE_PAGES] + sum(zone.per_cpu_pageset.count) for zone in zones)


@invented("a bill for a reader", traced=False)
def price_text(prices: Sequence[Price]) -> str:
    """The prices as a table."""
    head = f"{'what':<32}{'bytes':>9}  {'calls, first':>12}{'then':>6}{'writes':>8}  {'pages of 16':>11}{'spare':>11}"
    rows = [
        f"{each.what:<32}{each.size:>9,}  {each.first_calls:>12,}{each.calls:>6,}{each.writes:>8,}  "
        f"{each.pages:>11,}{each.spare:>11,}"
        for each in prices
    ]
    return "\n".join([head, *rows])
