"""What reclaim did meanwhile, told by the trace: when kswapd ran, and which boosts of the watermarks it took back.

A policy replay decides where pages come from; how much is reclaimed, and when, is the trace's: its frees are requests
like any other. Two things that belong to kswapd change where pages come from, though, and are the trace's, too:

    a block is stolen ▶ boost ▶ mm_vmscan_kswapd_wake ──── kswapd runs ────▶ its last event
                        │           │  per-CPU lists are cut sooner              │  the boosts that it saw at its start
                        │           └  (ZONE_RECLAIM_ACTIVE)                     └  are taken back
                        └  marks are higher (zone.watermark_boost)

A kswapd that waits for the CPU, or for the disk, goes on without an event: a list that is cut early shows it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kmemlab.machine.replay_memory import ReplayMemory
from kmemlab.machine.trace_events import gfp_of_names
from kmemlab.machine.trace_reader import TraceEvent
from kmemlab.mm.globals import Mm
from kmemlab.mm.zone import WMARK_HIGH, ZONE_RECLAIM_ACTIVE, Zone
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import KmemlabError
from kmemlab.types.gfp import gfp_zone_name

KSWAPD = re.compile(r"kswapd(\d+)")
CLASSZONE = re.compile(r"classzone=(\d+)")
ALL_ZONES = 1 << 10


@invented("a run of kswapd, by the trace")
@dataclass(slots=True)
class KswapdRun:
    """kswapd of `node` balanced zones up to number `highest`, from event `start` to event `end`."""

    node: int
    start: int
    end: int
    highest: int


@invented("a run of kswapd, by the trace")
def kswapd_runs(
    events: Sequence[TraceEvent], zone_names: Sequence[str], zone_index_of: dict[int, int]
) -> list[KswapdRun]:
    """The runs of all kswapds; `zone_index_of` gives the zone of each stolen block, by its event's place."""
    runs: list[KswapdRun] = []
    running: dict[int, KswapdRun] = {}
    wanted: Counter[int] = Counter()
    stolen: dict[int, int] = {}  # the zone that a task last stole in
    for at, event in enumerate(events):
        if event.name == "mm_page_alloc_extfrag":
            stolen[event.pid] = zone_index_of.get(at, ALL_ZONES)
        elif event.name == "mm_vmscan_wakeup_kswapd":
            node, highest = wake_up(event, zone_names, stolen)
            wanted[node] = max(wanted[node], highest)
        found = KSWAPD.fullmatch(event.task)
        if found is None or event.in_interrupt:
            continue
        node = int(found[1])
        if event.name in ("mm_vmscan_kswapd_wake", "mm_vmscan_kswapd_sleep"):
            running.pop(node, None)
            if event.name == "mm_vmscan_kswapd_wake":
                running[node] = KswapdRun(node, at, at, wanted.pop(node, ALL_ZONES))
                runs.append(running[node])
        elif node in running:
            running[node].end = at
            told = CLASSZONE.search(str(event.fields[0])) if event.name == "mm_vmscan_lru_isolate" else None
            if told:
                running[node].highest = int(told[1])
    return runs


@invented("a part of kswapd_runs", traced=False)
def wake_up(event: TraceEvent, zone_names: Sequence[str], stolen: dict[int, int]) -> tuple[int, int]:
    """Which node's kswapd a wake-up is for, and up to which zone; after a steal that is the zone of the block."""
    text = str(event.fields[0])
    node, flags = re.search(r"nid=(\d+)", text), re.search(r"gfp_flags=(\S+)", text)
    if flags is None or flags[1] == "none":
        return int(node[1]) if node else 0, stolen.get(event.pid, ALL_ZONES)
    try:
        name = gfp_zone_name(gfp_of_names(flags[1]))
    except (ValueError, KmemlabError):
        return int(node[1]) if node else 0, ALL_ZONES
    return int(node[1]) if node else 0, zone_names.index(name if name in zone_names else "Normal")


@invented("what the trace's kswapd does to the model's zones")
class TracedKswapd:
    """The runs of all kswapds of a trace, and the boosts that they work off."""

    def __init__(self, mm: Mm, real: ReplayMemory, events: Sequence[TraceEvent]) -> None:
        """`real` are Linux's own zones, followed beside the model."""
        self.mm = mm
        self.zones = mm.populated_zones()
        self.boost = {zone.slot: zone.watermark_boost for zone in real.zones}  # Linux's, by its steals
        self.seen: dict[tuple[int, int], int] = {}
        stolen_in: dict[int, int] = {}
        for at, event in enumerate(events):
            zone = real.zone_of(event.fields[0]) if event.name == "mm_page_alloc_extfrag" else None
            if zone is not None:
                stolen_in[at] = zone.index
        self.starts: dict[int, list[KswapdRun]] = {}
        self.ends: dict[int, list[KswapdRun]] = {}
        for run in kswapd_runs(events, mm.boot.config.zone_names, stolen_in):
            self.starts.setdefault(run.start, []).append(run)
            self.ends.setdefault(run.end, []).append(run)
        self.wakes = {
            at: wake_up(event, mm.boot.config.zone_names, {})[0]
            for at, event in enumerate(events)
            if event.name == "mm_vmscan_wakeup_kswapd"
        }

    def zones_of(self, run: KswapdRun) -> list[Zone]:
        """The model's zones that a run balances."""
        return [zone for zone in self.zones if zone.node == run.node and zone.index <= run.highest]

    def before(self, at: int) -> None:
        """What becomes of the zones before an event: a run starts, or it is seen that the last one has ended."""
        if at in self.wakes:  # is told only where kswapd waits
            for zone in self.zones:
                if zone.node == self.wakes[at]:
                    zone.flags &= ~ZONE_RECLAIM_ACTIVE
        for run in self.starts.get(at, ()):
            for zone in self.zones_of(run):
                zone.flags |= ZONE_RECLAIM_ACTIVE
                self.seen[run.start, zone.slot] = self.boost[zone.slot]

    def after(self, at: int) -> None:
        """A run ends: the boosts that it saw at its start are taken back."""
        for run in self.ends.get(at, ()):
            for zone in self.zones_of(run):
                zone.flags &= ~ZONE_RECLAIM_ACTIVE
                self.boost[zone.slot] = max(0, self.boost[zone.slot] - self.seen[run.start, zone.slot])
        if at in self.ends:
            self.put_boosts()

    def list_was_cut(self, zone: Zone, cpu: int, length: int) -> None:
        """Linux cut a CPU's list of `length` pages. So early only while kswapd runs, if it says nothing meanwhile."""
        pcp = zone.per_cpu_pageset
        if length <= pcp.batch[cpu] << 2 < pcp.high[cpu]:
            zone.flags |= ZONE_RECLAIM_ACTIVE

    def boosted(self, zone: Zone) -> None:
        """Linux stole a part of a pageblock: it boosts the zone's marks."""
        pageblock = zone.page.pageblock_nr_pages
        if zone.managed_pages >= 4 * pageblock:
            most = max(pageblock, zone.watermark[WMARK_HIGH] * self.mm.watermark_boost_factor // 10000)
            self.boost[zone.slot] = min(self.boost[zone.slot] + pageblock, most)

    def put_boosts(self) -> None:
        """The model's boosts become Linux's: they are there to call kswapd, and when that runs is the trace's."""
        for zone in self.zones:
            if zone.watermark_boost != self.boost[zone.slot]:
                zone.watermark_boost = self.boost[zone.slot]
