"""What a machine's page allocator looked like at one moment: /proc texts and the free pages, saved in a folder.

before/  zoneinfo.txt              where each zone lies, its counters, its per-CPU lists
         buddyinfo.txt             how many free blocks of each order
         pagetypeinfo.txt          the same by mobility type, and how many pageblocks are of which type
         kpageflags_rle.txt.gz     which pages are free (KPF_BUDDY), run-length coded
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from kmemlab.machine.facts import zones_of
from kmemlab.machine.saved_text import read_text
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture
from kmemlab.types.migratetype import MIGRATETYPE_NAMES
from kmemlab.types.units import PAGE_SHIFT

KPF_LRU, KPF_ACTIVE, KPF_SLAB, KPF_BUDDY, KPF_MMAP, KPF_ANON, KPF_PRIVATE = 5, 6, 7, 10, 11, 12, 35
ZoneKey = tuple[int, str]  # node, name
MOST_PAGES = 1 << 46 >> PAGE_SHIFT  # x86 has physical addresses of 46 bits with four levels of page tables

_TYPE_LINE = re.compile(r"Node +(\d+), zone +(\w+), type +(\w+) +([>\d ]+)")
_BLOCKS_LINE = re.compile(r"Node +(\d+), zone +(\w+) +([\d ]+)")


@invented("a saved state is data")
@dataclass(frozen=True, slots=True)
class SavedPageset:
    """The lists of one CPU for one zone: how many pages wait there, and the limits."""

    count: int
    high: int
    batch: int


@invented("a saved state is data")
@dataclass(frozen=True, slots=True)
class SavedZone:
    """One zone of zoneinfo; `index` is its place among the node's zones. Counts are in pages."""

    node: int
    name: str
    index: int
    start_pfn: int
    numbers: dict[str, int]  # free, boost, min, low, high, spanned, present, managed, and all counters
    protection: tuple[int, ...]
    pagesets: tuple[SavedPageset, ...]

    @property
    def key(self) -> ZoneKey:
        """What names the zone."""
        return self.node, self.name

    @property
    def end_pfn(self) -> int:
        """The first page frame behind the zone."""
        return self.start_pfn + self.numbers["spanned"]


@invented("a saved state is data")
@dataclass(frozen=True, slots=True)
class SavedState:
    """A moment of a machine. `flags` lists runs (first page frame, pages, KPF_* bits)."""

    zones: tuple[SavedZone, ...]
    nr_free: dict[ZoneKey, tuple[int, ...]]
    flags: tuple[tuple[int, int, int], ...]
    free_by_type: dict[ZoneKey, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    pageblocks: dict[ZoneKey, tuple[int, ...]] = field(default_factory=dict)
    pageblock_order: int = 9

    def populated(self) -> tuple[SavedZone, ...]:
        """The zones that have memory."""
        return tuple(zone for zone in self.zones if zone.numbers["present"])

    def free_ranges(self) -> list[tuple[int, int]]:
        """The ranges [start, end) of page frames that are free, ascending."""
        return ranges_with(self.flags, KPF_BUDDY)


@invented("a saved state is data", traced=False)
def ranges_with(flags: tuple[tuple[int, int, int], ...], bit: int) -> list[tuple[int, int]]:
    """The ranges [start, end) whose pages have a flag; neighbours are joined.

    >>> ranges_with(((0, 4, 0), (4, 4, 1 << 10), (8, 2, 1 << 10 | 1), (10, 6, 0)), 10)
    [(4, 10)]
    """
    ranges: list[tuple[int, int]] = []
    for start, pages, bits in flags:
        if not bits >> bit & 1:
            continue
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], start + pages)
        else:
            ranges.append((start, start + pages))
    return ranges


@invented("a saved state is data")
def read_saved_state(folder: Path) -> SavedState:
    """The state that the texts of a folder tell; pagetypeinfo may be missing.

    Raises `BadCapture` that names the file, and what is wrong with it.
    """
    zones = saved_zones(sound(folder, "zoneinfo.txt"), folder / "zoneinfo.txt")
    nr_free = buddyinfo_counts(sound(folder, "buddyinfo.txt"), folder / "buddyinfo.txt")
    flags = page_flag_runs(needed(folder, "kpageflags_rle.txt"), folder / "kpageflags_rle.txt")
    if read_text(folder, "pagetypeinfo.txt") is None:
        return SavedState(zones, nr_free, flags)
    types = sound(folder, "pagetypeinfo.txt")
    by_type, pageblocks, order = pagetypeinfo_counts(types, folder / "pagetypeinfo.txt")
    return SavedState(zones, nr_free, flags, by_type, pageblocks, order)


@invented("a part of read_saved_state", traced=False)
def needed(folder: Path, name: str) -> str:
    """A text of the folder, packed or not; raises `BadCapture` where it is missing."""
    text = read_text(folder, name)
    if text is None:
        raise BadCapture(
            f"{name} is missing",
            where=str(folder),
            remedy="a trace is replayed between two saved states: zoneinfo, buddyinfo, kpageflags_rle",
        )
    return text


@invented("a part of read_saved_state", traced=False)
def sound(folder: Path, name: str) -> str:
    """A text that is needed; raises `BadCapture` where it is missing, or a number in it can't be one of Linux's."""
    text = needed(folder, name)
    long = re.search(r"\d{19,}", text)
    if long:
        number = text.count("\n", 0, long.start()) + 1
        raise BadCapture(
            f"line {number} has a number of {len(long[0])} digits: no machine has so much memory",
            where=str(folder / name),
            remedy="copy it again",
        )
    return text


@invented("a part of read_saved_state")
def saved_zones(text: str, path: Path) -> tuple[SavedZone, ...]:
    """The zones of /proc/zoneinfo, empty ones too."""
    zones: list[SavedZone] = []
    for name, lines in zones_of(text):
        node, _, zone = name.partition("/")
        index = sum(other.node == int(node) for other in zones)
        zones.append(saved_zone(int(node), zone, index, lines, path))
    return tuple(zones)


@invented("a part of read_saved_state", traced=False)
def saved_zone(node: int, name: str, index: int, lines: list[str], path: Path) -> SavedZone:
    """One zone; the lines behind `cpu:` are those of a CPU's lists."""
    numbers: dict[str, int] = {}
    protection: tuple[int, ...] = ()
    pagesets: list[dict[str, int]] = []
    for line in lines:
        words = line.split()
        if line.lstrip().startswith("protection:"):
            protection = tuple(int(word) for word in re.findall(r"\d+", line))
        elif words[:1] == ["cpu:"]:
            pagesets.append({})
        elif pagesets and words and words[0] in ("count:", "high:", "batch:"):
            pagesets[-1][words[0]] = int(words[-1]) if words[-1].isdecimal() else 0
        elif len(words) >= 2 and words[-1].isdecimal():
            numbers[words[-2].rstrip(":")] = int(words[-1])
    missing = [key for key in ("free", "min", "low", "high", "spanned", "present", "managed") if key not in numbers]
    if missing:
        raise BadCapture(f"zone {node}/{name} has no {missing[0]}", where=str(path), remedy="copy /proc/zoneinfo whole")
    if numbers.get("start_pfn", 0) + numbers["spanned"] > MOST_PAGES:
        raise BadCapture(
            f"zone {node}/{name} ends behind 64 TiB, where no memory is", where=str(path), remedy="copy it again"
        )
    lists = tuple(SavedPageset(*(cpu.get(key, 0) for key in ("count:", "high:", "batch:"))) for cpu in pagesets)
    return SavedZone(node, name, index, numbers.get("start_pfn", 0), numbers, protection, lists)


@invented("a part of read_saved_state")
def buddyinfo_counts(text: str, path: Path) -> dict[ZoneKey, tuple[int, ...]]:
    """The free blocks of each order, zone by zone."""
    counts = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _BLOCKS_LINE.fullmatch(line.strip())
        numbers = tuple(int(word) for word in found[3].split()) if found else ()
        if found is None or len(numbers) != MAX_ORDER:
            raise BadCapture(
                f"line {number} does not tell {MAX_ORDER} orders of a zone", where=str(path), remedy="copy it again"
            )
        counts[int(found[1]), found[2]] = numbers
    return counts


@invented("a part of read_saved_state")
def page_flag_runs(text: str, path: Path) -> tuple[tuple[int, int, int], ...]:
    """The runs of pages with the same flags; lines are `first pfn (hex), pages, flags (hex), map count`."""
    runs = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            start, pages, flags = line.split()[:3]
            run = int(start, 16), int(pages), int(flags, 16)
            if not (0 <= run[0] <= MOST_PAGES and 0 <= run[1] <= MOST_PAGES and 0 <= run[2] < 1 << 64):
                raise ValueError
            runs.append(run)
        except ValueError:
            raise BadCapture(
                f"line {number} is no run of pages: {line[:40]!r}", where=str(path), remedy="copy it again"
            ) from None
    return tuple(sorted(runs))


TypeCounts = tuple[dict[ZoneKey, dict[int, tuple[int, ...]]], dict[ZoneKey, tuple[int, ...]], int]


@invented("a part of read_saved_state")
def pagetypeinfo_counts(text: str, path: Path) -> TypeCounts:
    """Free blocks by zone, type and order; pageblocks by zone and type; the order of a pageblock."""
    free: dict[ZoneKey, dict[int, tuple[int, ...]]] = {}
    blocks: dict[ZoneKey, tuple[int, ...]] = {}
    order = re.search(r"^Page block order: (\d+)", text)
    for line in text.splitlines():
        of_type, of_zone = _TYPE_LINE.fullmatch(line.strip()), _BLOCKS_LINE.fullmatch(line.strip())
        if of_type and of_type[3] in MIGRATETYPE_NAMES:
            counts = tuple(int(word.strip(">")) for word in of_type[4].split())
            free.setdefault((int(of_type[1]), of_type[2]), {})[MIGRATETYPE_NAMES.index(of_type[3])] = counts
        elif of_zone:
            blocks[int(of_zone[1]), of_zone[2]] = tuple(int(word) for word in of_zone[3].split())
    if order is None or not blocks or int(order[1]) >= MAX_ORDER:
        raise BadCapture("this is no pagetypeinfo", where=str(path), remedy="copy /proc/pagetypeinfo, whole")
    return free, blocks, int(order[1])
