"""Panels: what a player looks at. Each reads the live state once a step, and hands over a frozen sight of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

from kmemlab.boot.e820 import E820Table
from kmemlab.boot.memblock import Memblock
from kmemlab.machine.snapshot import E820Snapshot, FrameMap, frame_map, ranges_snapshot, zone_snapshot
from kmemlab.mm.mem_map import MAX_ORDER_NR_PAGES
from kmemlab.mm.zone import NR_FREE_PAGES, Zone, zone_end_pfn
from kmemlab.sim.recording import plain_column
from kmemlab.sim.timeline import Call, Event
from kmemlab.views import frame_map as frame_view
from kmemlab.views.memory_map import alt_of, memory_map_svg, unsorted_svg
from kmemlab.views.phrases import EFFECTS
from kmemlab.views.svg import Svg
from kmemlab.views.text import buddyinfo_line, free_text, pages_text, range_text, some
from kmemlab.views.told import told

_WIDEST = 16 * MAX_ORDER_NR_PAGES
STAGES = ("BIOS", "e820", "memblock", "page tables", "zones", "buddy", "slab", "vmalloc", "kswapd")


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen at one step: a picture, the text Linux would print, and facts by name, whose changes are shown."""

    picture: FrameMap | Svg
    alt: str
    proc: str
    facts: tuple[tuple[str, str], ...]
    counts: tuple[int, ...] | None = None  # free blocks by order, of the whole zone


class What(NamedTuple):
    """What was just written, or where a walk stops: its kind, its number, and for a sweep which entries are open."""

    kind: str
    number: int
    open: tuple[int, ...] = ()


class Panel(Protocol):
    """What a player needs to know of a kind of state."""

    stage: str
    proc_name: str

    def prepare(self, calls: list[Call]) -> None:
        """Learn beforehand what will be called, to choose what to show of a large state."""

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the state. `stack` says which calls are open, `what` what was just written, or where a walk stops."""

    def wrote(self, event: Event) -> What | None:
        """What a write changed that is worth a step of its own (what, which one); None for all else."""

    def write_sentence(self, by: str, what: What) -> str:
        """The step of such writes in a sentence; the state is as it is after them. `by` is the function that wrote."""


def in_order(table: E820Snapshot) -> bool:
    """Whether no entry starts before the one above it ends.

    >>> in_order(ranges_snapshot([(0, 8, 1), (4, 8, 2)]))
    False
    """
    return all(a.end <= b.start for a, b in pairwise(entry for entry in table.entries if entry.size))


class ZonePanel:
    """The page frames and free lists of a zone.

    Shows a window of page frames: the one that is asked for, or one that holds what the run touches.
    """

    stage = "buddy"
    proc_name = "/proc/buddyinfo"

    def __init__(
        self, zone: Zone, start_pfn: int | None = None, frames: int | None = None, memblock: Memblock | None = None
    ) -> None:
        """With `memblock` the picture tells what boot kept for itself from what was allocated later."""
        self.zone = zone
        self.memblock = memblock
        self.start_pfn = zone.zone_start_pfn & -MAX_ORDER_NR_PAGES if start_pfn is None else start_pfn
        # A zone that is smaller than the largest block is shown whole, so that its frames are large.
        whole = 1 << max(zone_end_pfn(zone) - self.start_pfn - 1, 1).bit_length()
        self.frames = frames or min(MAX_ORDER_NR_PAGES, whole)
        self._free_choice = start_pfn is None

    def prepare(self, calls: list[Call]) -> None:
        """Choose the smallest aligned window of 1,024 to 16,384 frames around the blocks that will come and go."""
        if not self._free_choice:
            return
        stories = [told((call,)).args for call in calls if call.name in EFFECTS]
        pfns = [args["pfn"] for args in stories if args.get("zone") is self.zone and isinstance(args.get("pfn"), int)]
        frames = self.frames
        while pfns and frames < _WIDEST and (min(pfns) ^ max(pfns)) >= frames:
            frames *= 2
        self.frames = frames
        if pfns:
            self.start_pfn = pfns[0] & -frames

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the zone."""
        frames = frame_map(self.zone, self.start_pfn, self.frames, self.memblock)
        zone = zone_snapshot(self.zone)
        facts = [("free pages", str(zone.free))]
        lists: dict[tuple[int, str], tuple[int, ...]] = {
            (item.order, item.migratetype): item.pfns for item in zone.lists
        }
        for (order, kind), pfns in lists.items():
            facts.append((f"free_area[{order}] {kind}", some(pfns, 3)))
        facts += [(f"nr_free[{order}]", str(count)) for order, count in enumerate(zone.nr_free) if count]
        alt = f"{frame_view.alt_of(frames)} Zone {zone.name}: {pages_text(zone.free)} free; {free_text(zone.nr_free)}."
        return Sight(frames, alt, buddyinfo_line(zone).rstrip(), tuple(facts), zone.nr_free)

    def wrote(self, event: Event) -> What | None:
        """The zone's count of free pages, and blocks marked free or not outside the list functions."""
        if event.column is plain_column(self.zone.vm_stat) and event.index == NR_FREE_PAGES:
            return What("free pages", 0)
        if event.column is plain_column(self.zone.page.buddy):
            return What("page", event.index)
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """The count, or the page's mark, as it is now."""
        if what.kind == "free pages":
            return f"{by} counts: {self.zone.vm_stat[NR_FREE_PAGES]} pages of the zone are free now."
        mark = self.zone.page.buddy[what.number]
        return f"{by} marks pfn {what.number} as " + (
            f"the head of a free block of order {mark - 1}." if mark else "not free."
        )


class E820Panel:
    """An e820 table: the entries in lanes while they are appended, then the lanes beside the sanitised ranges."""

    stage = "e820"
    proc_name = "dmesg, if it were printed now"

    def __init__(self, table: E820Table) -> None:
        self.table = table
        self.reach = E820Snapshot(())
        self._update: Call | None = None  # the sanitising that is under way, or was last
        self._raw: E820Snapshot | None = None  # what the table held before it
        self._written = 0

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the table; while it is being sanitised, and after, beside what it was before."""
        now = self._entries(self.table.nr_entries)
        update = next((call for call in stack if call.name == "e820__update_table"), None)
        if update is not None and update is not self._update:
            self._update, self._raw, self._written = update, now, 0
        writing = what.number if what and what.kind == "entry" else None
        stop = (what.number, what.open) if what and what.kind == "stop" else None
        if update is not None and writing is not None:
            self._written = writing + 1
        elif update is not None and what and what.kind == "nr_entries":
            self._written = self.table.nr_entries
        shown = self._entries(self._written) if update is not None else now
        if self._raw is None or (update is None and not in_order(now)):
            last = len(now.entries) - 1
            picture = unsorted_svg(now, title="e820 table", current=last, reach=self.reach)
            alt = alt_of((), now.entries)
        else:
            picture = memory_map_svg(shown, self._raw, title="e820 table", current=writing, stop=stop)
            alt = alt_of(shown.entries, self._raw.entries)
        facts = [("nr_entries", str(self.table.nr_entries))]
        listed = self._entries(max(self.table.nr_entries, self._written if update else 0))
        facts += [(f"entries[{at}]", range_text(entry)) for at, entry in enumerate(listed.entries)]
        proc = "\n".join(f"BIOS-e820: [mem {e.start:#018x}-{max(e.end - 1, 0):#018x}] {e.kind}" for e in now.entries)
        return Sight(picture, alt, proc, tuple(facts))

    def prepare(self, calls: list[Call]) -> None:
        """Learn which entries will come, so that the picture keeps its scale from the first step on."""
        stories = [told((call,)).args for call in calls if call.name == "__e820__range_add"]
        mine = [args for args in stories if args["table"] is self.table]
        self.reach = ranges_snapshot((args["start"], args["size"], args["type"]) for args in mine)
        self._update = self._raw = None

    def _entries(self, count: int) -> E820Snapshot:
        table = self.table
        return ranges_snapshot((table.addr[at], table.size[at], table.type[at]) for at in range(count))

    def wrote(self, event: Event) -> What | None:
        """An entry, or their number."""
        table = self.table
        if event.column in (plain_column(table.addr), plain_column(table.size), plain_column(table.type)):
            return What("entry", event.index)
        if event.column is plain_column(table.cells):
            return What("nr_entries", -1)
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """The entry as it is now, or how many count."""
        table = self.table
        if what.kind == "nr_entries":
            return f"{by} is done with the table: {table.nr_entries} entries count now."
        at = what.number
        entry = ranges_snapshot([(table.addr[at], table.size[at], table.type[at])]).entries[0]
        return f"{by} writes entry {at}: {range_text(entry)}."
