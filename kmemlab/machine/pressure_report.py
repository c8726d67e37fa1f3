"""What a replay under pressure found: the model's free pages, wake-ups, reclaimed pages and victim beside Linux's."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmemlab.machine.machine import Machine
from kmemlab.machine.policy_report import check_policy
from kmemlab.machine.pressure_bulk import taken_in_bulk
from kmemlab.machine.pressure_model import PressureModel
from kmemlab.machine.pressure_names import saved_names
from kmemlab.machine.pressure_replay import PressureAt, PressureReplay, WakeUp
from kmemlab.machine.pressure_work import READ_HERE, Act, Step, WorkReader, victim_of
from kmemlab.machine.replay import Trace, start_memory
from kmemlab.machine.replay_exact import ExactReplay
from kmemlab.machine.replay_memory import free_page_map, memory_of_saved
from kmemlab.machine.replay_model import put_in_state
from kmemlab.machine.replay_start import first_types, pageblock_types, turns_of_blocks, waiting_in_pcp
from kmemlab.machine.saved_state import read_saved_state
from kmemlab.machine.saved_text import read_text
from kmemlab.machine.trace_reader import SkippedLine, SkippedLines, TraceEvent
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.sim.kernel import invented
from kmemlab.types.units import KIB, PAGE_SIZE

NEAR_SECONDS, NEAR_REQUESTS = 0.020, 64  # so far apart two wake-ups may be that are taken for the same

# How near the model must come: free pages on average, of all pages; the others of Linux's number.
MOST_FREE_APART, MOST_RECLAIMED_APART, LEAST_MATCHED, MOST_EXTRA = 0.02, 0.15, 0.9, 0.25
_RECLAIMED = re.compile(r"nr_reclaimed=(\d{1,9})(?!\d)")
LOST = "pages are given back as one block that was none before the trace: events before this one are missing"


@invented("a replay's result is data")
@dataclass(frozen=True, slots=True)
class PressureReport:
    """What became of a trace; `as_json` is what `kmemlab replay --pressure --json` prints. Counts are in pages."""

    trace: str
    events: int
    seconds: float
    skipped_lines: int
    skipped: tuple[SkippedLine, ...]
    managed_pages: int
    samples: tuple[tuple[str, float, int, int], ...]  # mark, time, the model's free pages, Linux's
    curve: tuple[PressureAt, ...]  # for a plot, with `watermarks` as lines and `free_pages_of_linux` beside it
    watermarks: tuple[int, int, int]  # min, low, high of all zones together, as the trace began
    wakeups: tuple[WakeUp, ...]
    wakeups_linux: tuple[WakeUp, ...]
    facts: dict[str, Any]

    @property
    def mean_abs_error_pages(self) -> float:
        """How far apart the free pages are at the samples, on average."""
        return sum(abs(model - linux) for _, _, model, linux in self.samples) / max(1, len(self.samples))

    @property
    def wakeups_matched(self) -> int:
        """How many of Linux's wake-ups have one of the model's near them, one to one."""
        return matched(self.wakeups, self.wakeups_linux)

    @property
    def wakeups_extra(self) -> int:
        """How many of the model's wake-ups have none of Linux's near them."""
        return len(self.wakeups) - self.wakeups_matched

    @property
    def misses(self) -> tuple[str, ...]:
        """In what the model is too far from the machine, a name each; nothing if it is near enough in all."""
        real, linux = self.facts["reclaimed_real"], len(self.wakeups_linux)
        near = {
            "mean_abs_error_pages": self.mean_abs_error_pages <= MOST_FREE_APART * self.managed_pages,
            "reclaimed": abs(self.facts["reclaimed"] - real) <= MOST_RECLAIMED_APART * real,
            "wakeups_matched": self.wakeups_matched >= LEAST_MATCHED * linux,
            "wakeups_extra": self.wakeups_extra <= MOST_EXTRA * linux,
            "oom_victim": self.facts["oom_victim"] == self.facts["oom_victim_real"],
        }
        return tuple(name for name, is_near in near.items() if not is_near)

    def as_json(self) -> dict[str, Any]:
        """The report as an object of JSON."""
        return {
            "trace": self.trace,
            "mode": "pressure",
            "events": self.events,
            "seconds": round(self.seconds, 3),
            "mean_abs_error_pages": round(self.mean_abs_error_pages, 2),
            "managed_pages": self.managed_pages,
            "wakeups_matched": self.wakeups_matched,
            "wakeups_real": len(self.wakeups_linux),
            "wakeups_extra": self.wakeups_extra,
            **self.facts,
            "misses": list(self.misses),
            "samples": [
                {"mark": mark, "time": at, "free": model, "free_real": linux} for mark, at, model, linux in self.samples
            ],
            "skipped_lines": self.skipped_lines,
            "skipped": [line._asdict() for line in self.skipped],
        }


@invented("a part of PressureReport")
def matched(model: Sequence[WakeUp], linux: Sequence[WakeUp]) -> int:
    """How many of Linux's wake-ups can be paired with one of the model's within 20 ms or 64 page requests."""

    def near(mine: WakeUp, theirs: WakeUp) -> bool:
        return abs(mine.time - theirs.time) <= NEAR_SECONDS or abs(mine.requests - theirs.requests) <= NEAR_REQUESTS

    pairs = at = 0
    for theirs in linux:
        while at < len(model) and not near(model[at], theirs) and model[at].time < theirs.time:
            at += 1
        if at < len(model) and near(model[at], theirs):
            pairs += 1
            at += 1
    return pairs


@invented("what `kmemlab replay --pressure` does")
def replay_pressure(trace: str | Path) -> PressureReport:
    """Replay a trace's work; the model reclaims by itself.

    `trace` is a folder with events.txt(.gz), before/ and hardware.json, or its file of events, of a kernel that the
    model is of (6.1). Raises `BadCapture` for a trace that can't be used so.
    """
    started = time.perf_counter()
    source = Trace(trace)
    check_policy(source, "pressure")
    skipped = SkippedLines()
    window = list(source.window(skipped))
    machine = booted(source)
    mm = machine.kernel.mm
    inside_events = [event for inside, event in window if inside and event.cpu < len(mm.numa.cpu_to_node)]
    events = readable(inside_events, skipped)
    run = put_in_place(machine, source, events)
    run.run()
    for step in run.model.contradictions:
        skipped.add(step.line, LOST, "")
    samples = (
        (at.mark, at.time, at.free, source.linux_free(at.mark)) for at in run.curve if at.mark.startswith("samples/")
    )
    zones = mm.populated_zones()
    marks = tuple(sum(zone.watermark[mark] for zone in zones) for mark in range(3))
    return PressureReport(
        source.name,
        len(window),
        time.perf_counter() - started,
        skipped.count,
        tuple(skipped.told),
        sum(zone.managed_pages for zone in zones),
        tuple(sample for sample in samples if sample[3] >= 0),
        tuple(run.curve),
        (marks[0], marks[1], marks[2]),
        tuple(run.wakeups),
        linux_wakeups(events, run.agenda.steps),
        {
            "reclaimed": run.reclaimed(),
            "reclaimed_real": linux_reclaimed(events),
            "oom_victim": next(iter(run.model.tasks.killed), None),
            "oom_victim_real": victim_of(events),
            "requests": run.model.requests,
            "refused": run.model.refused,
            "found_in_cache": run.model.hits,
        },
    )


@invented("a part of replay_pressure")
def readable(events: Sequence[TraceEvent], skipped: SkippedLines) -> list[TraceEvent]:
    """The events without those whose fields only this replay reads, and can't; these are added to `skipped`."""
    sound = []
    for event in events:
        form = READ_HERE.get(event.name)
        if form is None or form.match(event.fields[0]):
            sound.append(event)
        else:
            skipped.add(event.line, f"{event.name}: its fields can't be read", event.fields[0])
    return sound


@invented("a part of replay_pressure")
def put_in_place(machine: Machine, source: Trace, events: Sequence[TraceEvent]) -> PressureReplay:
    """The machine in the state in which the trace begins, and the trace's work, ready to go."""
    mm = machine.kernel.mm
    state = read_saved_state(source.folder / "before")
    types = pageblock_types(state, first_types(events, mm.page.pageblock_order))
    free = free_page_map(memory_of_saved(state, types))
    waiting = waiting_in_pcp(events, free, state, mm.page.pageblock_order)
    put_in_state(mm, state, types, waiting, turns_of_blocks(events))
    reader = WorkReader(events, bytearray(not pages for pages in free), taken_in_bulk(events, types, state))
    for event in waiting:
        reader.forget(event.fields[0], event.fields[1])
    model = PressureModel(machine.kernel.processes, state, bytes(reader.used))
    return PressureReplay(model, reader.steps(), saved_names(source.folder))


@invented("a part of replay_pressure")
def booted(source: Trace) -> Machine:
    """The machine of a trace, with as much swap as it had."""
    machine = Machine.boot(source.folder / "hardware.json")
    found = re.search(r"^SwapTotal: +(\d+) kB", read_text(source.folder / "before", "meminfo.txt") or "", re.M)
    pages = int(found[1]) * KIB // PAGE_SIZE if found else 0
    if pages:
        machine.swapon(pages + 1)  # one is the area's header
        machine.sync()
        machine.drop_caches()
    return machine


@invented("the other curve of a plot")
def free_pages_of_linux(trace: str | Path, every: int = 1024) -> tuple[tuple[float, int], ...]:
    """Linux's free pages on the way, each so many events: (seconds of the trace's clock, pages).

    Here the allocator's own events are followed one by one, reclaim's too: to be looked at beside a model's curve.
    Raises `BadCapture` for a trace that can't be used.
    """
    source, skipped = Trace(trace), SkippedLines()
    memory = start_memory(source)
    exact = ExactReplay(memory, skipped, source.kernel_version() >= (6, 10))
    curve: list[tuple[float, int]] = []
    inside_events = (event for inside, event in source.window(skipped) if inside)
    for at, event in enumerate(inside_events):
        exact.follow(event)
        if at % every == 0:
            curve.append((event.time, sum(zone.vm_stat[NR_FREE_PAGES] for zone in memory.zones)))
    return tuple(curve)


@invented("what the model is compared with")
def linux_wakeups(events: Sequence[TraceEvent], steps: Sequence[Step]) -> tuple[WakeUp, ...]:
    """Linux's wake-ups of kswapd. Page requests are counted as the model's are: the work's, and not reclaim's own."""
    asked = [step.time for step in steps if step.act is Act.REQUEST]
    times = (event.time for event in events if event.name == "mm_vmscan_wakeup_kswapd")
    return tuple(WakeUp(time, bisect_left(asked, time)) for time in times)


@invented("what the model is compared with")
def linux_reclaimed(events: Sequence[TraceEvent]) -> int:
    """How many pages Linux reclaimed, batch by batch."""
    batches = (event.fields[0] for event in events if event.name == "mm_vmscan_lru_shrink_inactive")
    return sum(int(found[1]) for found in map(_RECLAIMED.search, batches) if found is not None)
