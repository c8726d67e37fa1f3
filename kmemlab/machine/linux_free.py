"""The free pages of a traced machine over time, counted along its own events.

free lists ── mm_page_alloc_zone_locked ──▶ a CPU's own list, or the caller
free lists ◀── mm_page_pcpu_drain ───────── a CPU's own list
free lists ◀── mm_page_free ─────────────── a block too large for those lists
"""

from __future__ import annotations

from pathlib import Path

from kmemlab.machine.replay import Trace
from kmemlab.machine.trace_reader import SkippedLines
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture


@invented("what /proc would have told, had somebody read it all the time")
def linux_free_over_time(trace: str | Path, every: int = 256) -> tuple[tuple[float, int], ...]:
    """Free pages of the machine that was traced, (seconds, pages), a point every so many changes.

    Raises `BadCapture` for a trace without the machine's state before it.
    """
    source = Trace(trace)
    free = source.linux_free("before")
    if free < 0:
        raise BadCapture(
            "nothing tells how many pages were free at first",
            where=str(source.folder),
            remedy="save /proc/zoneinfo as before/zoneinfo.txt when the trace begins",
        )
    points: list[tuple[float, int]] = []
    changes = 0
    for inside, event in source.window(SkippedLines()):
        change = change_of(event.name, event.fields) if inside else 0
        free += change
        if change and changes % every == 0:
            points.append((event.time, free))
        changes += bool(change)
    return tuple(points)


@invented("a part of linux_free_over_time", traced=False)
def change_of(name: str, fields: tuple[object, ...]) -> int:
    """By how many pages an event changes what the free lists hold."""
    if name not in ("mm_page_alloc_zone_locked", "mm_page_pcpu_drain", "mm_page_free"):
        return 0
    order = fields[1]
    assert isinstance(order, int)
    if name == "mm_page_free" and order <= PAGE_ALLOC_COSTLY_ORDER:
        return 0  # into a CPU's own list
    return -1 << order if name == "mm_page_alloc_zone_locked" else 1 << order
