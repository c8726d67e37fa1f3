"""Snapshots: what a machine was at one moment, frozen. Views see these and never the live state.

live            Zone, E820Table, Memblock, …      columns that change under your hands
snapshot        ZoneSnapshot, E820Snapshot, …     tuples and numbers: equal, hashable, the same text each time
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kmemlab.boot.memblock import Memblock, MemblockType
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.check_pcp import pcp_blocks
from kmemlab.mm.free_run import within_run
from kmemlab.mm.mem_map import MAX_ORDER, MAX_ORDER_NR_PAGES, MIXED, PAGES_PER_SECTION, page_zone_id
from kmemlab.mm.node import PglistData
from kmemlab.mm.per_cpu_pages import pindex_to_order
from kmemlab.mm.zone import NR_FREE_PAGES, TOP_ORDER, Zone, free_blocks, zone_end_pfn
from kmemlab.sim.column import Column
from kmemlab.sim.kernel import invented
from kmemlab.sim.recording import RecordingColumn, plain_column
from kmemlab.types.e820_type import e820_type_text
from kmemlab.types.migratetype import MIGRATETYPE_NAMES
from kmemlab.types.units import pfn_down, pfn_up, round_up

FROZEN = "views get frozen facts, never live state"

# One byte a page frame. A free block says its order in each of its frames, and HEAD marks its first one.
ORDER_MASK = 0x0F
HEAD = 0x10
IN_USE = 0x20  # some allocation holds it; the low bits say of which order, where that is known
ON_PCP = IN_USE | ORDER_MASK  # free, but on a CPU's own list: the buddy counts it as gone
RESERVED = 0x40  # has a struct page, but was never given to the buddy system
HOLE = 0x80  # has no struct page of this zone

_SET = re.compile(rb"[^\0]", re.DOTALL)
# A run of frames that are not free (whoever holds them), a run of holes or reserved ones, or blocks of one order.
_RUN = re.compile(
    rb"[\x20-\x3f]+|[\x40-\x7f]+|[\x80-\xff]+|"
    + b"|".join(b"[\\x%02x\\x%02x]+" % (o, HEAD | o) for o in range(MAX_ORDER))
)


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class Range:
    """`size` bytes of physical memory from `start` on, and what they are."""

    start: int
    size: int
    kind: str

    @property
    def end(self) -> int:
        """The first byte behind the range."""
        return self.start + self.size


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class E820Snapshot:
    """The entries of an e820 table in the order of its array; `kind` is what the boot log prints."""

    entries: tuple[Range, ...]


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class MemblockSnapshot:
    """memblock's two lists: what is memory (`kind` names its node), and what of it is reserved."""

    memory: tuple[Range, ...]
    reserved: tuple[Range, ...]


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class FreeList:
    """The free blocks of one order and mobility type, by their first page frame, the next to be taken first."""

    order: int
    migratetype: str
    pfns: tuple[int, ...]


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class ZoneSnapshot:
    """A zone: its span and counters in pages, and its free lists that are not empty, orders ascending."""

    node: int
    index: int
    name: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    free: int
    nr_free: tuple[int, ...]
    watermark: tuple[int, ...]
    lists: tuple[FreeList, ...]

    @property
    def end_pfn(self) -> int:
        """The first page frame behind the zone."""
        return self.start_pfn + self.spanned

    def blocks(self) -> Iterator[tuple[int, int, str]]:
        """Every free block as (first page frame, order, mobility type), list by list."""
        for free_list in self.lists:
            for pfn in free_list.pfns:
                yield pfn, free_list.order, free_list.migratetype


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """A node: its span in pages, its zones that have memory, and where its CPUs look for pages, best first."""

    node: int
    start_pfn: int
    spanned: int
    present: int
    zones: tuple[ZoneSnapshot, ...]
    zonelist: tuple[str, ...]

    @property
    def end_pfn(self) -> int:
        """The first page frame behind the node."""
        return self.start_pfn + self.spanned


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class MachineSnapshot:
    """A machine: what the firmware said, what the early allocator did, and the nodes."""

    e820: E820Snapshot
    memblock: MemblockSnapshot
    nodes: tuple[NodeSnapshot, ...]


@invented(FROZEN)
@dataclass(frozen=True, slots=True, repr=False)
class FrameMap:
    """What each page frame from `start_pfn` on is used for: one byte a frame, made of the constants above."""

    start_pfn: int
    cells: bytes

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """The map as (first page frame, frames, cell): a free block is a run of its own, told by its head's cell."""
        for found in _RUN.finditer(self.cells):
            at, end, cell = found.start(), found.end(), found[0][0]
            if cell & (IN_USE | RESERVED | HOLE):
                yield self.start_pfn + at, end - at, cell & ~(HEAD | ORDER_MASK)
                continue
            size = 1 << (cell & ORDER_MASK)
            while at < end:  # blocks of one order side by side
                step = min(size - (self.start_pfn + at & (size - 1)), end - at)
                yield self.start_pfn + at, step, cell
                at += step

    def __repr__(self) -> str:
        runs = ", ".join(f"{pfn}+{count}:{cell_text(cell)}" for pfn, count, cell in self.runs())
        return f"FrameMap({runs})"


@invented("a page frame's state in words, for text views and screen readers", traced=False)
def cell_text(cell: int) -> str:
    """What a cell of a frame map means.

    >>> cell_text(HEAD | 3), cell_text(IN_USE), cell_text(IN_USE | HEAD | 1), cell_text(ON_PCP)
    ('free, order 3', 'in use', 'in use, order 1', "free, on a CPU's list")
    """
    if cell & HOLE:
        return "hole"
    if cell & RESERVED:
        return "reserved"
    if cell == ON_PCP:
        return "free, on a CPU's list"
    if cell & IN_USE:
        return f"in use, order {cell & ORDER_MASK}" if cell & HEAD else "in use"
    return f"free, order {cell & ORDER_MASK}"


@invented(FROZEN, traced=False)
def ranges_snapshot(entries: Iterable[tuple[int, int, int]]) -> E820Snapshot:
    """The snapshot of e820 entries (addr, size, type) in their order.

    >>> ranges_snapshot([(0, 4096, 2)]).entries
    (Range(start=0, size=4096, kind='reserved'),)
    """
    return E820Snapshot(tuple(Range(addr, size, e820_type_text(type)) for addr, size, type in entries))


@invented(FROZEN, traced=False)
def memblock_snapshot(memblock: Memblock) -> MemblockSnapshot:
    """The snapshot of memblock's two lists."""

    def ranges(regions: MemblockType) -> tuple[Range, ...]:
        return tuple(Range(base, size, f"{regions.name}, node {nid}") for base, size, nid, _ in regions.regions())

    reserved = tuple(Range(base, size, "reserved") for base, size, _, _ in memblock.reserved.regions())
    return MemblockSnapshot(ranges(memblock.memory), reserved)


@invented(FROZEN, traced=False)
def node_snapshot(pgdat: PglistData) -> NodeSnapshot:
    """The snapshot of a node and its zones that have memory."""
    zonelist = pgdat.node_zonelists[0]
    names = [zone.name for zone in pgdat.node_zones]
    return NodeSnapshot(
        pgdat.node_id,
        pgdat.node_start_pfn,
        pgdat.node_spanned_pages,
        pgdat.node_present_pages,
        tuple(zone_snapshot(zone) for zone in pgdat.node_zones if zone.present_pages),
        tuple(f"{zonelist.nid[at]}:{names[zonelist.zone_idx[at]]}" for at in range(zonelist.count)),
    )


@invented(FROZEN, traced=False)
def machine_snapshot(kernel: Kernel) -> MachineSnapshot:
    """The snapshot of a whole machine, however far it has booted."""
    mm = kernel.mm
    return MachineSnapshot(
        ranges_snapshot(kernel.boot.e820_table.entries()),
        memblock_snapshot(kernel.boot.memblock),
        tuple(node_snapshot(pgdat) for pgdat in mm.node_data if mm.numa.node_online[pgdat.node_id]),
    )


@invented(FROZEN, traced=False)
def zone_snapshot(zone: Zone) -> ZoneSnapshot:
    """The snapshot of a zone."""
    lists = []
    for order in range(MAX_ORDER):
        for migratetype, name in enumerate(MIGRATETYPE_NAMES):
            head = zone.free_list[order][migratetype]
            first = zone.page.lru.next[head]
            # Before boot has made the lists, a head points at page 0, which does not point back.
            if first != head and zone.page.lru.prev[first] == head:
                lists.append(FreeList(order, name, tuple(free_blocks(zone, order, migratetype))))
    return ZoneSnapshot(
        zone.node,
        zone.index,
        zone.name,
        zone.zone_start_pfn,
        zone.spanned_pages,
        zone.present_pages,
        zone.managed_pages,
        zone.vm_stat[NR_FREE_PAGES],
        tuple(zone.nr_free),
        tuple(zone.watermark),
        tuple(lists),
    )


@invented(FROZEN, traced=False)
def frame_map(
    zone: Zone, start_pfn: int | None = None, frames: int | None = None, memblock: Memblock | None = None
) -> FrameMap:
    """What the zone's page frames are used for, of all its span or of a window of it.

    With `memblock` holes are told page by page, and what boot kept for itself is told from what was allocated later.

    Works block by block, not frame by frame: a zone of 65,536 frames takes milliseconds.
    """
    start = zone.zone_start_pfn if start_pfn is None else start_pfn
    end = zone_end_pfn(zone) if frames is None else start + frames
    cells = _mapped(zone, start, end)
    if memblock is not None:
        _paint_boot(cells, start, memblock)
    for pfn, order in block_heads(zone.page.owned, start, end):
        _paint(cells, start, pfn, order, IN_USE | order)
    for pfn, order in (*block_heads(zone.page.buddy, start, end), *_run_blocks(zone, start, end)):
        if not cells[max(pfn, start) - start] & HOLE:
            _paint(cells, start, pfn, order, order)
    _paint_pcp(cells, start, zone)
    return FrameMap(start, bytes(cells))


@invented(FROZEN, traced=False)
def block_heads(view: Column | RecordingColumn, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The blocks that reach into [start, end), by a column that holds 1 + order at their first frame."""
    plain = plain_column(view)
    first = start & -(1 << (MAX_ORDER - 1))
    for found in _SET.finditer(bytes(plain[first:end])):
        pfn, order = first + found.start(), found[0][0] - 1
        if pfn + (1 << order) > start:
            yield pfn, order


def _run_blocks(zone: Zone, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The free blocks of [start, end) that no page tells of, because boot handed them over as one."""
    for pfn in range(start & -MAX_ORDER_NR_PAGES, end, MAX_ORDER_NR_PAGES):
        if within_run(zone.runs, pfn):
            yield pfn, TOP_ORDER


def _paint(cells: bytearray, start: int, pfn: int, order: int, cell: int) -> None:
    first, last = max(pfn, start) - start, min(pfn + (1 << order) - start, len(cells))
    cells[first:last] = bytes((cell,)) * (last - first)
    if pfn >= start:
        cells[first] |= HEAD


def _paint_pcp(cells: bytearray, start: int, zone: Zone) -> None:
    for cpu in range(zone.per_cpu_pageset.nr_cpus):
        if zone.per_cpu_pageset.count[cpu]:
            for pindex, pfn in pcp_blocks(zone, cpu):
                end = pfn + (1 << pindex_to_order(zone.per_cpu_pageset, pindex))
                first, last = max(pfn - start, 0), min(end - start, len(cells))
                if first < last:
                    cells[first:last] = bytes((ON_PCP,)) * (last - first)


def _paint_boot(cells: bytearray, start: int, memblock: Memblock) -> None:
    kept = bytearray(cells)
    cells[:] = bytes((HOLE,)) * len(cells)
    for base, size, _nid, _flags in memblock.memory.regions():
        first, last = pfn_up(base) - start, pfn_down(base + size) - start
        first, last = max(0, first), min(len(cells), last)
        if first < last:
            cells[first:last] = kept[first:last]
    for base, size, _nid, _flags in memblock.reserved.regions():
        first, last = max(0, pfn_down(base) - start), min(len(cells), pfn_up(base + size) - start)
        if first < last:
            cells[first:last] = cells[first:last].replace(bytes((IN_USE,)), bytes((RESERVED,)))


def _mapped(zone: Zone, start: int, end: int) -> bytearray:
    """IN_USE for each frame of the zone, HOLE for each frame that is not the zone's."""
    cells = bytearray((HOLE,)) * (end - start)
    slots = zone.page.section_slot
    first, last = max(start, zone.zone_start_pfn), min(end, zone_end_pfn(zone))
    while first < last:
        border = min(last, round_up(first + 1, PAGES_PER_SECTION))
        slot = slots[first // PAGES_PER_SECTION]
        if slot == zone.slot:
            cells[first - start : border - start] = bytes((IN_USE,)) * (border - first)
        elif slot == MIXED:
            for pfn in range(first, border):
                cells[pfn - start] = IN_USE if page_zone_id(zone.page, pfn) == zone.slot else HOLE
        first = border
    return cells
