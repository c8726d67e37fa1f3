"""What reclaim did meanwhile, told by the trace: when kswapd ran, and which boosts of the watermarks it took back.

A policy replay decides where pages come from; how much is reclaimed, and when, is the trace's: its frees are requests
like any other. Two things that kswapd leaves behind change where pages come from, though:

    mm_vmscan_kswapd_wake ──── kswapd runs ────▶ its last event
        │  per-CPU lists are cut sooner              │  the boosts that it saw at its start are taken back
        └  (ZONE_RECLAIM_ACTIVE)                     └  (zone.watermark_boost)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kmemlab.machine.trace_events import gfp_of_names
from kmemlab.machine.trace_reader import TraceEvent
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
