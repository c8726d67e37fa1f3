"""Policy replay: Linux's requests and frees drive the model, which decides by itself what to hand out.

    trace                          model                                   compared with Linux's page
    mm_page_alloc order, gfp  ──▶  zonelist, watermarks, per-CPU lists,    same zone?
                                   buddy, fallback                  ──▶    same mobility type of the pageblock?
    mm_page_free              ──▶  per-CPU lists, batches back to the buddy

The two hand out different pages, so each page of the trace has a page of the model that stands for it. An exact replay
runs beside and knows Linux's pages. How much is reclaimed, and when, is the trace's (machine/replay_reclaim.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kmemlab.machine.replay_bulk import BulkRequests, drain_runs
from kmemlab.machine.replay_counters import FreePageCounts
from kmemlab.machine.replay_exact import ExactReplay
from kmemlab.machine.replay_memory import ReplayMemory, free_page_map, memory_of_saved
from kmemlab.machine.replay_model import free_held, isolate_page, put_in_state, request_pages
from kmemlab.machine.replay_reclaim import TracedKswapd
from kmemlab.machine.replay_slabs import ALLOCS, FREES, SlabReplay
from kmemlab.machine.replay_start import first_types, pageblock_types, waiting_in_pcp
from kmemlab.machine.saved_state import SavedState
from kmemlab.machine.trace_reader import SkippedLines, TraceEvent
from kmemlab.mm.fallback import steal_suitable_fallback
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_free import page_zone
from kmemlab.mm.page_state import clear_page_flag, set_page_flag
from kmemlab.mm.pcp import free_pcppages_bulk
from kmemlab.mm.zone import NR_FREE_PAGES, Zone, get_pageblock_migratetype
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import gfp_migratetype_bits
from kmemlab.types.migratetype import MIGRATE_MOVABLE
from kmemlab.types.pageflags import PG_lru

NEAR = 64  # events; other CPUs' may lie between two of one CPU
ROWS = 8  # of the table over time, beside those of the trace's own samples


@invented("a replay's result is data")
@dataclass(frozen=True, slots=True)
class PolicyAt:
    """Where model and Linux stand at a mark: requests so far, those that agree, fallbacks, free pages of each zone."""

    mark: str
    time: float
    requests: int
    zone_agree: int
    migratetype_agree: int
    fallbacks: int
    fallbacks_real: int
    free: tuple[tuple[str, int, int], ...]  # zone, the model's, Linux's
    slabs_change: int | None  # since the start; None for a trace without slab events


@invented("Linux's requests drive the model")
class PolicyReplay:
    """The model, Linux's own lists beside it, and what is counted."""

    def __init__(
        self,
        mm: Mm,
        state: SavedState,
        events: Sequence[TraceEvent],
        skipped: SkippedLines,
        slabs: SlabReplay | None = None,
    ) -> None:
        """`mm` is the page allocator of the machine, booted; `events` are those between the two saved states."""
        self.mm = mm
        self.slabs = slabs
        self.events = events
        order = mm.page.pageblock_order
        types = pageblock_types(state, first_types(events, order))
        self.real = memory_of_saved(state, types)
        self.exact = ExactReplay(self.real, skipped, False)
        free = free_page_map(self.real)
        waiting = waiting_in_pcp(events, free, state, order)
        put_in_state(mm, state, types, waiting)
        # Pages in use since before the trace are the same in both: 1 until they are freed.
        self.old = bytearray(not pages for pages in free)
        for event in waiting:
            self.forget(event.fields[0], event.fields[1])
        self.memory = ReplayMemory(mm.page, tuple(mm.populated_zones()))
        self.stands_for: dict[int, int] = {}  # Linux's page → the model's
        self.bulk = BulkRequests(self.real, waiting)
        self.drains = drain_runs(events)
        self.batched = batched_frees(events)
        self.kswapd = TracedKswapd(mm, self.real, events)
        self.counts = FreePageCounts(mm)
        self.counted: Counter[str] = Counter()
        self.first_other_zone = self.first_other_type = ""
        self.over_time: list[PolicyAt] = []

    def run(self) -> None:
        """Follow all events."""
        handlers: dict[str, Callable[..., None]] = {
            "mm_page_alloc": self.page_alloc,
            "mm_page_free": self.page_free,
            "mm_page_free_batched": self.page_free_batched,
            "mm_page_alloc_zone_locked": self.zone_locked,
            "mm_page_pcpu_drain": self.pcpu_drain,
            "mm_page_alloc_extfrag": self.linux_steals,
            "mm_compaction_isolate_freepages": self.isolate_freepages,
            "mm_lru_insertion": self.isolate_freepages,
            "tracing_mark_write": self.mark,
        }
        if self.slabs is not None:
            handlers |= dict.fromkeys(ALLOCS + FREES, self.slab_event)
        step = max(1, len(self.events) // ROWS)

        def counting(mm: Mm, zone: Zone, pfn: int, alloc_flags: int, start_migratetype: int, whole_block: bool) -> None:
            self.counted["fallbacks"] += 1
            original(mm, zone, pfn, alloc_flags, start_migratetype, whole_block)

        with livepatch(steal_suitable_fallback, counting), self.counts.in_force():
            original = steal_suitable_fallback.original  # type: ignore[attr-defined]
            for at, event in enumerate(self.events):
                sound = self.exact.follow(event)
                self.counts.passes(event.cpu, event.time)
                self.kswapd.before(at)
                handler = handlers.get(event.name)
                if handler is not None and sound:
                    handler(at, event)
                self.kswapd.after(at)
                if (at + 1) % step == 0:
                    self.note(f"{(at + 1) // step} of {ROWS}", event.time)

    # -- requests and frees --------------------------------------------------------------------------------------------

    def page_alloc(self, at: int, event: TraceEvent) -> None:
        """A request: ask the model, and compare its page with Linux's."""
        pfn, order, _, gfp = event.fields
        linux = self.real.zone_of(pfn)
        if not pfn or linux is None:
            return
        self.mm.current.cpu = event.cpu
        self.forget(pfn, order)
        for page in self.bulk.taken(pfn):
            self.bulk_alloc(page, gfp, event.cpu)
        try:
            mine = request_pages(self.mm, gfp, order, self.mm.numa.cpu_to_node[event.cpu])
        except BadRequest:  # flags that no caller of Linux's could give
            mine = None
        self.counted["requests"] += 1
        self.kswapd.put_boosts()
        if mine is None:
            self.counted["refused"] += 1
            return
        self.stands_for[pfn] = mine
        if gfp_migratetype_bits(gfp) == MIGRATE_MOVABLE:
            # A page of a program or a file: it comes to an LRU list, from which it could be moved.
            for page in range(mine, mine + (1 << order)):
                set_page_flag(self.mm.page, page, PG_lru)
        zone = page_zone(self.mm, mine)
        assert zone is not None
        if (zone.node, zone.name) == (linux.node, linux.name):
            self.counted["zone_agree"] += 1
        elif not self.first_other_zone:
            self.first_other_zone = (
                f"line {event.line}: Linux took a page of node {linux.node}'s {linux.name}, "
                f"the model of node {zone.node}'s {zone.name}"
            )
        theirs = get_pageblock_migratetype(self.real.page, pfn)
        ours = get_pageblock_migratetype(self.mm.page, mine)
        if ours == theirs:
            self.counted["migratetype_agree"] += 1
        elif not self.first_other_type:
            self.first_other_type = f"line {event.line}: Linux took from a block of type {theirs}, the model of {ours}"

    def bulk_alloc(self, pfn: int, gfp: int, cpu: int) -> None:
        """A page that Linux took in bulk, for a vmalloc or a stack: it is asked for as the request that shows it."""
        mine = request_pages(self.mm, gfp, 0, self.mm.numa.cpu_to_node[cpu])
        if mine is not None:
            self.counted["bulk"] += 1
            self.forget(pfn, 0)
            self.stands_for[pfn] = mine

    def zone_locked(self, at: int, event: TraceEvent) -> None:
        """Linux's per-CPU list is filled: the model fills its own when it wants to."""
        pfn, order, migratetype, _ = event.fields
        if self.exact.pcp_allowed_order(order):
            self.bulk.put(event, pfn, order, migratetype, at_head=False)

    def pcpu_drain(self, at: int, event: TraceEvent) -> None:
        """A block leaves Linux's per-CPU list for the buddy; the model cuts its own, unless somebody asked for this."""
        pfn = event.fields[0]
        asked, key, zone = self.drains.get(at, 0), self.bulk.where.get(pfn), page_zone(self.mm, pfn)
        if asked and key is not None and zone is not None:
            pcp = zone.per_cpu_pageset
            cpu = key[0]
            everything = asked >= self.bulk.waiting(cpu, key[1])
            free_pcppages_bulk(zone, cpu, pcp.count[cpu] if everything else asked, 0)
            self.counted["drains"] += 1
        elif key is not None and zone is not None and self.follows_a_page(at):
            self.kswapd.list_was_cut(zone, key[0], self.bulk.waiting(key[0], key[1]))
        self.bulk.drop(pfn)

    def follows_a_page(self, at: int) -> bool:
        """Whether a drain begins right behind a single page that came to its CPU's list."""
        cpu = self.events[at].cpu
        before = next((event for event in reversed(self.events[max(0, at - NEAR) : at]) if event.cpu == cpu), None)
        return before is not None and before.name in ("mm_page_free", "mm_page_free_batched") and not before.fields[1]

    def page_free(self, at: int, event: TraceEvent) -> None:
        """A free; pages of a list follow later, each with an event of its own."""
        if at not in self.batched:
            self.free(event, event.fields[0], event.fields[1])

    def page_free_batched(self, at: int, event: TraceEvent) -> None:
        """A page of a list goes to the CPU's list."""
        self.free(event, event.fields[0], 0)

    def free(self, event: TraceEvent, pfn: int, order: int) -> None:
        """Give back what stands for Linux's page; for one that Linux took in bulk, without an event, nothing does."""
        self.mm.current.cpu = event.cpu
        # An interrupt that finds the list locked frees to the buddy: the model can't know of the lock.
        to_buddy = event.name == "mm_page_free" and self.exact.went_to_buddy
        if not to_buddy:
            self.bulk.freed(event, pfn, order)
        mine = self.stands_for.pop(pfn, None)
        if mine is None:
            if pfn >= len(self.old) or not self.old[pfn]:
                self.counted["frees_of_bulk"] += 1
                return
            self.forget(pfn, order)
            mine = pfn
            self.mm.page.owned[pfn] = 1 + order
        for page in range(mine, mine + (1 << order)):
            clear_page_flag(self.mm.page, page, PG_lru)
        if not free_held(self.mm, mine, order, to_buddy):
            self.counted["frees_of_other_order"] += 1

    def isolate_freepages(self, at: int, event: TraceEvent) -> None:
        """Compaction asks for targets: it gets the pages that Linux's got, as far as they are free here, too."""
        for head, order in self.exact.isolated:
            for pfn in range(head, head + (1 << order)):
                if isolate_page(self.mm, self.memory, pfn):
                    self.stands_for[pfn] = pfn
                    self.forget(pfn, 0)

    def forget(self, pfn: int, order: int) -> None:
        """From now on this block is no longer one from before the trace."""
        self.old[pfn : pfn + (1 << order)] = bytes(1 << order)

    def slab_event(self, at: int, event: TraceEvent) -> None:
        """An object is handed out or given back."""
        assert self.slabs is not None
        self.slabs.follow(event)

    def linux_steals(self, at: int, event: TraceEvent) -> None:
        """Linux's fallback: count it, and the boost that its kswapd will take back."""
        self.counted["fallbacks_real"] += 1
        zone = self.real.zone_of(event.fields[0])
        if zone is not None and event.fields[6]:
            self.kswapd.boosted(zone)

    # -- what is told --------------------------------------------------------------------------------------------------

    def mark(self, at: int, event: TraceEvent) -> None:
        """Note where both stand when the machine saved its state."""
        mark = str(event.fields[0]).strip()
        if mark.endswith(" begin"):
            self.note(mark, event.time)

    def note(self, mark: str, time: float) -> None:
        """Add a row to the table over time."""
        linux = {(zone.node, zone.name): zone.vm_stat[NR_FREE_PAGES] for zone in self.real.zones}
        free = tuple(
            (f"{zone.node}/{zone.name}", zone.vm_stat[NR_FREE_PAGES], linux.get((zone.node, zone.name), 0))
            for zone in self.mm.populated_zones()
        )
        counted = self.counted
        self.over_time.append(
            PolicyAt(
                mark,
                time,
                counted["requests"],
                counted["zone_agree"],
                counted["migratetype_agree"],
                counted["fallbacks"],
                counted["fallbacks_real"],
                free,
                self.slabs_change(),
            )
        )

    def slabs_change(self) -> int | None:
        """How many slabs there are more than at the start."""
        return None if self.slabs is None else self.slabs.slabs() - self.slabs.slabs_before

    def facts(self) -> dict[str, Any]:
        """What was counted, shares in per cent."""
        requests = max(1, self.counted["requests"])
        return {
            "requests": self.counted["requests"],
            "zone_agree": round(100 * self.counted["zone_agree"] / requests, 3),
            "migratetype_agree": round(100 * self.counted["migratetype_agree"] / requests, 3),
            "fallbacks": self.counted["fallbacks"],
            "fallbacks_real": self.counted["fallbacks_real"],
            "slabs_change": self.slabs_change(),
            "refused": self.counted["refused"],
            "bulk": self.counted["bulk"],
            "frees_of_bulk": self.counted["frees_of_bulk"],
            "first_other_zone": self.first_other_zone,
            "first_other_type": self.first_other_type,
        }


@invented("the pages of a list are told twice", traced=False)
def batched_frees(events: Sequence[TraceEvent]) -> set[int]:
    """The places of those mm_page_free events whose page goes to the CPU's list only later, by mm_page_free_batched."""
    last: dict[int, int] = {}
    later = set()
    for at, event in enumerate(events):
        if event.name == "mm_page_free":
            last[event.fields[0]] = at
        elif event.name == "mm_page_free_batched" and event.fields[0] in last:
            later.add(last.pop(event.fields[0]))
    return later
