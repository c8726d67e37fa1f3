"""What kmap's slots and per-CPU memory hold now, frozen for a view."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from kmemlab.alloc.bitmap import bit_is_set, for_each_set_bitrange
from kmemlab.alloc.highmem import Pkmap
from kmemlab.alloc.kmap_local import KM_MAX_IDX, KmapCtrl, kmap_local_addr, row_of
from kmemlab.alloc.page_address import pkmap_addr
from kmemlab.alloc.percpu_chunk import (
    PCPU_BITMAP_BLOCK_BITS,
    RESERVED_CHUNK,
    PcpuChunk,
    Percpu,
    pcpu_chunk_slot,
    word_mask,
)
from kmemlab.boot.percpu import PCPU_MIN_ALLOC_SIZE
from kmemlab.machine.snapshot import FROZEN
from kmemlab.sim.kernel import invented
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

NO_LIST = -1
NOT_THERE, EMPTY, PARTLY, FULL = "not there", "empty", "partly given out", "given out"


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class KmapSlot:
    """A slot that is not free: its page, and how many use it; 0: mapped still, until the round is over."""

    nr: int
    address: int
    pfn: int
    users: int
    owner: int


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class LocalSlot:
    """A slot of the fixmap that the running task has filled."""

    cpu: int
    idx: int
    address: int
    pfn: int


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class KmapSnapshot:
    """kmap's area, what is in it, who waits, and what the running task has mapped for itself."""

    base: int
    slots: int
    last: int
    taken: tuple[KmapSlot, ...]
    waiting: tuple[int, ...]
    cpus: int
    local: tuple[LocalSlot, ...]


@invented(FROZEN)
def kmap_snapshot(pkmap: Pkmap, ctrl: KmapCtrl) -> KmapSnapshot:
    """kmap as it is now; without HighMem there are no slots."""
    mm = pkmap.mm
    taken = tuple(
        KmapSlot(nr, pkmap_addr(mm, nr), pkmap.addresses.pfn[nr], count - 1, pkmap.owner[nr])
        for nr, count in enumerate(pkmap.pkmap_count)
        if count
    )
    row = row_of(ctrl, mm.current.pid)
    filled = range(ctrl.idx[row]) if row is not None else range(0)
    mask = mm.boot.swapper_pg_dir.layout.address_mask
    local = tuple(
        LocalSlot(
            ctrl.cpu[row or 0],
            idx,
            kmap_local_addr(idx, ctrl.cpu[row or 0]),
            (ctrl.pteval[KM_MAX_IDX * (row or 0) + idx] & mask) >> PAGE_SHIFT,
        )
        for idx in filled
    )
    return KmapSnapshot(
        pkmap_addr(mm, 0) if pkmap.last_pkmap else 0,
        pkmap.last_pkmap,
        pkmap.last_pkmap_nr,
        taken,
        pkmap.pkmap_map_wait.waiting(),
        len(mm.numa.cpu_to_node),
        local,
    )


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class ChunkSnapshot:
    """A chunk: where its unit at offset 0 starts, its pages by state, its free bytes, the list it belongs on.

    `pieces` are what is given out, as (offset from pcpu_base_addr, bytes): the pointers of alloc_percpu.
    """

    number: int
    name: str
    base: int
    pages: tuple[str, ...]
    free_bytes: int
    largest: int
    slot: int
    pieces: tuple[tuple[int, int], ...]


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class PercpuSnapshot:
    """Per-CPU memory: the sizes of a unit, where each CPU's unit is, and the chunks."""

    base: int
    unit_size: int
    static_size: int
    reserved_size: int
    dyn_size: int
    unit_off: tuple[int, ...]
    chunks: tuple[ChunkSnapshot, ...]
    empty_pages: int
    populated: int


@invented(FROZEN)
def percpu_snapshot(percpu: Percpu) -> PercpuSnapshot:
    """Per-CPU memory as it is now."""
    units = percpu.units
    return PercpuSnapshot(
        units.base_addr,
        units.unit_size,
        units.static_size,
        units.reserved_size,
        units.dyn_size,
        tuple(units.unit_off),
        tuple(chunk_snapshot(percpu, chunk) for chunk in percpu.chunks if chunk.in_use),
        percpu.nr_empty_pop_pages,
        percpu.nr_populated,
    )


@invented(FROZEN)
def chunk_snapshot(percpu: Percpu, chunk: PcpuChunk) -> ChunkSnapshot:
    """One chunk; what of its pages is not its own counts as given out, but is no piece."""
    name = ("first: dynamic area", "first: reserved area")[chunk.number] if chunk.immutable else "in vmalloc's area"
    own = range(chunk.start_offset, chunk.nr_pages * PAGE_SIZE - chunk.end_offset)
    pieces = []
    for start, end in for_each_set_bitrange(chunk.alloc_map, 0, chunk.map_bits):
        # What lies side by side is told apart by the bounds.
        bounds = [at for at in range(start, end) if bit_is_set(chunk.bound_map, at)] + [end]
        for first, last in pairwise(bounds):
            if first * PCPU_MIN_ALLOC_SIZE in own:
                offset = chunk.base_addr - percpu.units.base_addr + first * PCPU_MIN_ALLOC_SIZE
                pieces.append((offset & word_mask(percpu.mm), (last - first) * PCPU_MIN_ALLOC_SIZE))
    return ChunkSnapshot(
        chunk.number,
        name,
        chunk.base_addr,
        tuple(page_state(chunk, page) for page in range(chunk.nr_pages)),
        chunk.free_bytes,
        chunk.contig_hint[chunk.whole] * PCPU_MIN_ALLOC_SIZE,
        NO_LIST if chunk.number == RESERVED_CHUNK else pcpu_chunk_slot(percpu, chunk),
        tuple(pieces),
    )


@invented(FROZEN, traced=False)
def page_state(chunk: PcpuChunk, page: int) -> str:
    """How a page of a chunk is: not there, empty, partly given out, or all given out."""
    if not bit_is_set(chunk.populated, page):
        return NOT_THERE
    first = page * PCPU_BITMAP_BLOCK_BITS
    taken = sum(
        end - start for start, end in for_each_set_bitrange(chunk.alloc_map, first, first + PCPU_BITMAP_BLOCK_BITS)
    )
    return {0: EMPTY, PCPU_BITMAP_BLOCK_BITS: FULL}.get(taken, PARTLY)
