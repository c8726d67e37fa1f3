"""What a policy replay found: shares that agree, and how that went over time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmemlab.machine.machine import Machine
from kmemlab.machine.replay import Trace
from kmemlab.machine.replay_policy import PolicyAt, PolicyReplay
from kmemlab.machine.replay_slabs import ALLOCS, SlabReplay, saved_caches
from kmemlab.machine.saved_state import read_saved_state
from kmemlab.machine.trace_reader import SkippedLine, SkippedLines
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture


@invented("a replay's result is data")
@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What became of a trace; `as_json` is what `kmemlab replay --policy --json` prints."""

    trace: str
    events: int
    seconds: float
    skipped_lines: int
    skipped: tuple[SkippedLine, ...]
    over_time: tuple[PolicyAt, ...]
    facts: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The report as an object of JSON; shares are in per cent."""
        return {
            "trace": self.trace,
            "mode": "policy",
            "events": self.events,
            "seconds": round(self.seconds, 3),
            **self.facts,
            "skipped_lines": self.skipped_lines,
            "skipped": [line._asdict() for line in self.skipped],
            "over_time": [
                {
                    "mark": at.mark,
                    "time": at.time,
                    "requests": at.requests,
                    "zone_agree": at.zone_agree,
                    "migratetype_agree": at.migratetype_agree,
                    "fallbacks": at.fallbacks,
                    "fallbacks_real": at.fallbacks_real,
                    "slabs_change": at.slabs_change,
                    "free": {zone: [model, linux] for zone, model, linux in at.free},
                }
                for at in self.over_time
            ],
        }


@invented("what `kmemlab replay --policy` does")
def replay_policy(trace: str | Path) -> PolicyReport:
    """Replay a trace's requests and frees; the model decides by itself where pages come from.

    `trace` is a folder with events.txt(.gz), before/ and hardware.json, or its file of events, of a kernel that the
    model is of (6.1). Raises `BadCapture` for a trace that can't be used so.
    """
    started = time.perf_counter()
    source = Trace(trace)
    check_policy(source)
    state = read_saved_state(source.folder / "before")
    skipped = SkippedLines()
    total, events = 0, []
    hardware = source.folder / "hardware.json"
    machine = Machine.boot(hardware)
    cpus = machine.spec.cpus.present
    for inside, event in source.window(skipped):
        total += 1
        if inside and event.cpu < cpus:
            events.append(event)
        elif inside:
            skipped.add(event.line, f"there is no CPU {event.cpu}: this machine has {cpus}", "")
    before, after = saved_caches(source.folder / "before"), saved_caches(source.folder / "after")
    has_slabs = bool(before and after) and any(event.name in ALLOCS for event in events)
    slabs = SlabReplay(hardware, before, events) if has_slabs else None
    run = PolicyReplay(machine.kernel.mm, state, events, skipped, slabs)
    run.run()
    real = sum(cache.slabs for cache in after.values()) - sum(cache.slabs for cache in before.values())
    facts = run.facts() | {"slabs_change_real": real if has_slabs else None}
    seconds = time.perf_counter() - started
    return PolicyReport(source.name, total, seconds, skipped.count, tuple(skipped.told), tuple(run.over_time), facts)


@invented("a part of replay_policy", traced=False)
def check_policy(source: Trace, mode: str = "policy") -> None:
    """Raise `BadCapture` for a trace that a replay in which the model decides can't do."""
    missing = [name for name in ("before", "hardware.json") if not (source.folder / name).exists()]
    if missing:
        raise BadCapture(
            f"a {mode} replay needs {missing[0]}",
            where=str(source.folder),
            remedy=f"without it, replay the trace exactly (without --{mode})",
        )
    version = source.kernel_version()
    if version != (6, 1):
        raise BadCapture(
            f"this trace is of Linux {version[0]}.{version[1]}, the model decides as 6.1 does",
            where=str(source.folder),
            remedy=f"replay it exactly (without --{mode})",
        )
