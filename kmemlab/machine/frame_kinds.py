"""What kind of frame each one is, besides free or not: whose it is, or of which mobility type. Frozen, for views.

frames       |3 3 3 3 3 3 3 3|·|2 2 2 2|· · ·      FrameMap: free blocks by order, the rest in use
owners       |       free    |A|  free |S S S      FrameKinds: a byte a frame, the place of its name in `names`
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from kmemlab.boot.pgtable import PageTables
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.snapshot import FROZEN, HOLE, IN_USE, ON_PCP, RESERVED, FrameMap, block_heads, zone_snapshot
from kmemlab.mm.mem_map import FLIP, PAGEBLOCK_ORDER
from kmemlab.mm.page_mapping import PAGE_MAPPING_ANON
from kmemlab.mm.zone import Zone
from kmemlab.process.pgtable import next_level
from kmemlab.sim.kernel import invented
from kmemlab.sim.recording import plain_column
from kmemlab.types.migratetype import MIGRATETYPE_NAMES
from kmemlab.types.pageflags import PG_slab
from kmemlab.types.pgtable import PAGE_PRESENT, PGD, PTE
from kmemlab.types.units import PAGE_SHIFT

FREE, PAGE_CACHE, ANONYMOUS, SLAB, PAGE_TABLE, KERNEL, KEPT, NO_FRAME = range(8)
OWNER_NAMES = ("free", "page cache", "anonymous", "slab", "page tables", "kernel, other", "kept by boot", "hole")
TYPE_NAMES = (
    *(f"{name}, {state}" for name in MIGRATETYPE_NAMES for state in ("free", "in use")),
    "kept by boot",
    "hole",
)
"""2 * the mobility type for a frame that is free, one more for one in use, and two for frames that have no type."""


@invented(FROZEN)
@dataclass(frozen=True, slots=True, repr=False)
class FrameKinds:
    """The kind of each page frame from `start_pfn` on; `by` says what was asked: "migratetype" or "owner"."""

    by: str
    start_pfn: int
    names: tuple[str, ...]
    kinds: bytes

    def counts(self) -> tuple[int, ...]:
        """How many frames are of each kind."""
        count = Counter(self.kinds)
        return tuple(count[kind] for kind in range(len(self.names)))

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """The frames as (first page frame, frames, kind)."""
        pfn = self.start_pfn
        for kind, group in groupby(self.kinds):
            count = sum(1 for _ in group)
            yield pfn, count, kind
            pfn += count

    def __repr__(self) -> str:
        return f"FrameKinds({', '.join(f'{pfn}+{count}:{self.names[kind]}' for pfn, count, kind in self.runs())})"


@invented(FROZEN)
def frame_owners(kernel: Kernel, zone: Zone, frames: FrameMap) -> FrameKinds:
    """Whose each frame of a map is. A block of several pages is whose its first page is."""
    page, start = zone.page, frames.start_pfn
    kinds = bytearray(frames.cells.translate(_OWNER_BY_CELL))
    flags, mapping, tables = plain_column(page.flags), plain_column(page.mapping), table_pfns(kernel)
    for pfn in tables:
        if start <= pfn < start + len(kinds) and frames.cells[pfn - start] & RESERVED:
            kinds[pfn - start] = PAGE_TABLE
    for pfn, order in block_heads(page.owned, start, start + len(kinds)):
        if flags[pfn] >> PG_slab & 1:
            _paint(kinds, start, pfn, order, SLAB)
        elif pfn in tables:
            _paint(kinds, start, pfn, order, PAGE_TABLE)
        elif mapping[pfn]:
            _paint(kinds, start, pfn, order, ANONYMOUS if mapping[pfn] & PAGE_MAPPING_ANON else PAGE_CACHE)
    return FrameKinds("owner", start, OWNER_NAMES, bytes(kinds))


@invented(FROZEN)
def frame_migratetypes(zone: Zone, frames: FrameMap) -> FrameKinds:
    """Of which mobility type each frame is: a free one by the list that it is on, any other by its pageblock."""
    start, cells = frames.start_pfn, frames.cells
    kinds = bytearray(cells.translate(_BY_CELL[0]))  # what lies behind the last pageblock are holes
    pageblock = plain_column(zone.page.pageblock)
    for block in range(start >> PAGEBLOCK_ORDER, min((start + len(cells) - 1 >> PAGEBLOCK_ORDER) + 1, len(pageblock))):
        low = max((block << PAGEBLOCK_ORDER) - start, 0)
        high = (block + 1 << PAGEBLOCK_ORDER) - start
        kinds[low:high] = cells[low:high].translate(_BY_CELL[pageblock[block] ^ FLIP])
    for pfn, order, name in zone_snapshot(zone).blocks():
        _paint(kinds, start, pfn, order, 2 * MIGRATETYPE_NAMES.index(name))
    return FrameKinds("migratetype", start, TYPE_NAMES, bytes(kinds))


@invented("C has no list of all page tables: ptdump walks them, too", traced=False)
def table_pfns(kernel: Kernel) -> set[int]:
    """The page frames that hold page tables: the kernel's, and each process's."""
    roots = [kernel.boot.swapper_pg_dir, *(mm.tables for mm in kernel.processes.mms if mm.mm_users)]
    found: set[int] = set()
    for tables in roots:
        if tables.pgd:
            _tables_below(tables, PGD, tables.pgd, found)
    return found


def _tables_below(tables: PageTables, level: int, table: int, found: set[int]) -> None:
    """Enter a table and those that it names; the kernel's are below every process's, so each is read once."""
    if table >> PAGE_SHIFT in found:
        return
    found.add(table >> PAGE_SHIFT)
    if level == PTE:
        return
    layout = tables.layout
    count, size = layout.levels[level].entries, layout.entry_size
    below = next_level(layout, level)
    for entry in struct.unpack(f"<{count}{'Q' if size == 8 else 'I'}", tables.ram.read_bytes(table, count * size)):
        # A level that is folded has the entries of the one above: one of those may be a large page.
        if entry & PAGE_PRESENT and not any(layout.is_leaf(each, entry) for each in range(level, below)):
            _tables_below(tables, below, entry & layout.address_mask, found)


def _paint(kinds: bytearray, start: int, pfn: int, order: int, kind: int) -> None:
    first, last = max(pfn - start, 0), min(pfn + (1 << order) - start, len(kinds))
    if first < last:
        kinds[first:last] = bytes((kind,)) * (last - first)


def _by_cell(free: int, used: int, kept: int, hole: int) -> bytes:
    """A table from the cells of a frame map to four kinds."""
    kinds = []
    for cell in range(256):
        in_use = cell & IN_USE and cell != ON_PCP
        kinds.append(hole if cell & HOLE else kept if cell & RESERVED else used if in_use else free)
    return bytes(kinds)


_OWNER_BY_CELL = _by_cell(FREE, KERNEL, KEPT, NO_FRAME)
_BY_CELL = tuple(
    _by_cell(2 * kind, 2 * kind + 1, len(TYPE_NAMES) - 2, len(TYPE_NAMES) - 1) for kind in range(len(MIGRATETYPE_NAMES))
)
