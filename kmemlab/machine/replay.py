"""Replay: what a real kernel's page allocator did, event by event, done again with the model.

before/ ─▶ free lists ─▶ events from `before end` to `after end` ─▶ free lists ═?═ after/
                                 │
                        samples/NNN: free pages on the way
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from operator import gt, lt
from pathlib import Path
from typing import Any

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.facts import zones_of
from kmemlab.machine.replay_exact import ExactReplay
from kmemlab.machine.replay_memory import (
    ReplayMemory,
    free_page_map,
    memory_of_booted,
    memory_of_saved,
    whole_blocks,
)
from kmemlab.machine.saved_state import SavedState, read_saved_state
from kmemlab.machine.saved_text import read_text
from kmemlab.machine.trace_reader import SkippedLine, SkippedLines, TraceEvent, find_events, trace_events
from kmemlab.mm.zone import NR_FREE_PAGES, zone_end_pfn
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture

SAVED, BOOTED = "the saved state before/", "the model's own boot"

# One block in so many may be taken out of turn before the order of the lists counts as wrong: Linux moves some blocks
# without a word, few where the trace logs every steal and nothing was compacted.
STRAY, STRAY_UNLOGGED = 1000, 20

FREE = bytes(value > 0 for value in range(256))  # a map of orders becomes one of free pages
RUN = re.compile(rb"[^\0]+")
_FREE_LINE = re.compile(r"  pages free +(\d{1,18})")


@invented("a replay's result is data")
@dataclass(frozen=True, slots=True)
class ZoneVerdict:
    """A zone at the end: free blocks of each order, the model's and Linux's; and the pages in which they differ."""

    node: int
    name: str
    model: tuple[int, ...]
    linux: tuple[int, ...]
    free_in_model_only: int
    free_in_linux_only: int
    not_joined: int


@invented("a replay's result is data")
@dataclass(frozen=True, slots=True)
class FreePagesAt:
    """Free pages at a mark of the trace; -1 where the machine did not save them."""

    mark: str
    time: float
    model: int
    linux: int


@invented("a replay's result is data")
@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of a trace; `as_json` is what `kmemlab replay --json` prints."""

    trace: str
    start: str
    events: int
    seconds: float
    skipped_lines: int
    skipped: tuple[SkippedLine, ...]
    zones: tuple[ZoneVerdict, ...]
    over_time: tuple[FreePagesAt, ...]
    facts: dict[str, Any]

    @property
    def mismatched_pages(self) -> int:
        """Pages that are free on one side only or should have been joined, and blocks taken out of turn."""
        pages = sum(zone.free_in_model_only + zone.free_in_linux_only + zone.not_joined for zone in self.zones)
        return pages + self.taken_out_of_turn

    @property
    def taken_out_of_turn(self) -> int:
        """Blocks that Linux took while the model's list began with another, if that is more than a stray few."""
        known, agree = self.facts["heads_known"], self.facts["heads_agree"]
        if self.start != SAVED:
            return 0  # what was taken before the trace began stood in the lists, too
        stray = STRAY if self.facts["moves_logged"] else STRAY_UNLOGGED
        return known - agree if (known - agree) * stray > known else 0

    def as_json(self) -> dict[str, Any]:
        """The report as an object of JSON."""
        return {
            "trace": self.trace,
            "mode": "exact",
            "start": self.start,
            "events": self.events,
            "seconds": round(self.seconds, 3),
            "mismatched_pages": self.mismatched_pages,
            "taken_out_of_turn": self.taken_out_of_turn,
            "skipped_lines": self.skipped_lines,
            "skipped": [line._asdict() for line in self.skipped],
            **self.facts,
            "zones": [
                {
                    "node": zone.node,
                    "name": zone.name,
                    "buddyinfo": list(zone.model),
                    "buddyinfo_real": list(zone.linux),
                    "free_in_model_only": zone.free_in_model_only,
                    "free_in_linux_only": zone.free_in_linux_only,
                    "not_joined": zone.not_joined,
                }
                for zone in self.zones
            ],
            "over_time": [
                {"mark": at.mark, "time": at.time, "free": at.model, "free_real": None if at.linux < 0 else at.linux}
                for at in self.over_time
            ],
        }


@invented("a trace is a folder, or the file in it")
class Trace:
    """A trace's folder and its file of events."""

    def __init__(self, trace: str | Path) -> None:
        """Raises `BadCapture` if there is nothing to read."""
        self.events_path = find_events(Path(trace))
        self.folder = self.events_path.parent
        self.name = self.folder.absolute().name

    @property
    def has_before(self) -> bool:
        """Whether the state at the start was saved."""
        return (self.folder / "before").is_dir()

    def kernel_version(self) -> tuple[int, int]:
        """Major and minor number of the kernel that was traced; 6.1 where nothing tells."""
        text = read_text(self.folder, "version.txt") or ""
        found = re.search(r"Linux version (\d+)\.(\d+)", text)
        if found is None and (self.folder / "hardware.json").is_file():
            found = re.match(r"(\d+)\.(\d+)", load_spec(self.folder / "hardware.json").kernel_version)
        return (int(found[1]), int(found[2])) if found else (6, 1)

    def window(self, skipped: SkippedLines) -> Iterator[tuple[bool, TraceEvent]]:
        """All events, each with whether it lies between the two saved states.

        Raises `BadCapture` for a trace without the marks that bracket these states.
        """
        inside, begun, ended = not self.has_before, not self.has_before, False
        for event in trace_events(self.events_path, skipped):
            if event.name == "tracing_mark_write":
                mark = event.fields[0].strip()
                inside = (inside or mark == "before end") and mark != "after end"
                begun |= mark == "before end"
                ended |= mark in ("after begin", "after end")
            yield inside, event
        if not begun or not ended:
            missing = "after end" if begun else "before end"
            raise BadCapture(
                f"this trace has no mark `{missing}`: nothing tells where a saved state belongs",
                where=str(self.events_path),
                remedy="write the marks into /sys/kernel/tracing/trace_marker around each snapshot",
            )

    def linux_free(self, mark: str) -> int:
        """The free pages that the machine saved at a mark; -1 if it did not, or was stopped before the last zone."""
        free = self.free_by_zone(mark.split()[0])
        return sum(free) if free and len(free) == len(self.free_by_zone("before")) else -1

    def free_by_zone(self, name: str) -> list[int]:
        """The free pages of each zone whose line in a saved zoneinfo is whole."""
        text = read_text(self.folder / name, "zoneinfo.txt") if (self.folder / name).is_dir() else None
        lines = (line for _, lines in zones_of(text or "") for line in lines[:-1])  # the last may be cut off
        return [int(found[1]) for found in map(_FREE_LINE.fullmatch, lines) if found]


@invented("what `kmemlab replay` does")
def replay(trace: str | Path) -> ReplayReport:
    """Replay a trace exactly: Linux's own events drive the model's free lists, from one saved state to the other.

    `trace` is a folder with events.txt(.gz), before/ and after/, or its file of events. Without before/ the model boots
    the machine of hardware.json and starts from there. Raises `BadCapture` for a trace that can't be used.
    """
    started = time.perf_counter()
    source = Trace(trace)
    after = read_saved_state(source.folder / "after")
    skipped = SkippedLines()
    memory = start_memory(source)
    run = ExactReplay(memory, skipped, source.kernel_version() >= (6, 10))
    events, over_time = 0, []
    for inside, event in source.window(skipped):
        events += 1
        if inside:
            run.follow(event)
        if event.name == "tracing_mark_write":
            over_time += free_pages_at(source, memory, event, inside)
    return ReplayReport(
        source.name,
        SAVED if source.has_before else BOOTED,
        events,
        time.perf_counter() - started,
        skipped.count,
        tuple(skipped.told),
        zone_verdicts(memory, after),
        tuple(over_time),
        run.facts(),
    )


@invented("a part of replay")
def start_memory(source: Trace) -> ReplayMemory:
    """The free lists at the start: those of before/, or those of a machine that has just booted."""
    if source.has_before:
        return memory_of_saved(read_saved_state(source.folder / "before"))
    if not (source.folder / "hardware.json").is_file():
        raise BadCapture(
            "neither before/ nor hardware.json is there: nothing tells which pages were free",
            where=str(source.folder),
            remedy="save the state before the events, or describe the machine",
        )
    from kmemlab.machine.deferred_init import page_alloc_init_late  # a boot is only needed here
    from kmemlab.machine.machine import Machine

    # What boot frees later (initrd, its own code) is in the trace; the pages that were put off come without an event.
    mm = Machine.boot(source.folder / "hardware.json", until="mem_init").kernel.mm
    page_alloc_init_late(mm)
    return memory_of_booted(mm)


@invented("a part of replay", traced=False)
def free_pages_at(source: Trace, memory: ReplayMemory, event: TraceEvent, inside: bool) -> list[FreePagesAt]:
    """The free pages at a mark that begins a snapshot; those of before/ are known when it has ended."""
    mark = event.fields[0].strip()
    if not ((inside and mark.endswith(" begin")) or mark == "before end"):
        return []
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in memory.zones)
    return [FreePagesAt(mark, event.time, free, source.linux_free(mark))]


@invented("a part of replay")
def zone_verdicts(memory: ReplayMemory, after: SavedState) -> tuple[ZoneVerdict, ...]:
    """Compare the free lists with a saved state, zone by zone, page by page."""
    model = free_page_map(memory)
    linux = bytearray(len(model))
    for start, end in after.free_ranges():
        end = min(end, len(linux))
        linux[start:end] = b"\1" * (end - start)
    verdicts = []
    for zone in memory.zones:
        first, last = zone.zone_start_pfn, zone_end_pfn(zone)
        mine, theirs = model[first:last].translate(FREE), linux[first:last]
        same = mine == theirs
        verdicts.append(
            ZoneVerdict(
                zone.node,
                zone.name,
                tuple(zone.nr_free),
                after.nr_free.get((zone.node, zone.name), ()),
                0 if same else sum(map(gt, mine, theirs)),
                0 if same else sum(map(lt, mine, theirs)),
                not_joined(model[first:last], first),
            )
        )
    return tuple(verdicts)


@invented("a part of replay", traced=False)
def not_joined(model: bytearray, first_pfn: int) -> int:
    """The pages of free blocks that could have been joined and were not: then the model's lists are no buddy system.

    `model` has a byte a page frame from `first_pfn` on: 1 + the order of the free block that holds it, or 0.
    """
    pages = 0
    for run in RUN.finditer(model):
        for pfn, order in whole_blocks(first_pfn + run.start(), first_pfn + run.end()):
            at = pfn - first_pfn
            if model[at : at + (1 << order)] != bytes([1 + order]) * (1 << order):
                pages += 1 << order
    return pages
