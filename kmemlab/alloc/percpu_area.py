"""Finding room in a chunk, taking it, and giving it back.

request 24 bytes, 8-byte aligned = 6 bits, even start

alloc_map   111111 00 1111 0000000000 11…      the hints name a page and a bit to begin with,
                           ▲▲▲▲▲▲              the bits decide
bound_map   1.....1.1...1..^     ^1            set where something starts or ends: so free_percpu knows the size
"""

from __future__ import annotations

from kmemlab.alloc.bitmap import bitmap_clear, bitmap_set, find_next_bit, find_next_zero_bit
from kmemlab.alloc.percpu_chunk import (
    PCPU_BITMAP_BLOCK_BITS,
    PcpuChunk,
    Percpu,
    pcpu_chunk_relocate,
    pcpu_chunk_slot,
)
from kmemlab.alloc.percpu_hint import (
    better_aligned,
    pcpu_block_update_hint_alloc,
    pcpu_block_update_hint_free,
    pcpu_block_update_scan,
    pcpu_check_block_hint,
    pcpu_next_fit_region,
    pcpu_next_hint,
)
from kmemlab.boot.percpu import PCPU_MIN_ALLOC_SIZE
from kmemlab.sim.column import Column
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import pfn_down, pfn_up, round_up

PAGE_BITS = PCPU_BITMAP_BLOCK_BITS


@kernel("mm/percpu.c", "pcpu_is_populated", traced=False)
def pcpu_is_populated(chunk: PcpuChunk, bit_off: int, bits: int) -> int | None:
    """None if there are pages behind all of [bit_off, bit_off + bits); else the bit where to look again."""
    start = pfn_down(bit_off * PCPU_MIN_ALLOC_SIZE)
    end = pfn_up((bit_off + bits) * PCPU_MIN_ALLOC_SIZE)
    missing = find_next_zero_bit(chunk.populated, end, start)
    if missing >= end:
        return None
    return find_next_bit(chunk.populated, end, missing + 1) * PAGE_BITS


@kernel("mm/percpu.c", "pcpu_find_block_fit")
def pcpu_find_block_fit(chunk: PcpuChunk, alloc_bits: int, align: int, pop_only: bool) -> int | None:
    """The bit at which to begin to look for room, by the hints; None if the chunk has none.

    With `pop_only` only where pages are there: the request must not wait for new ones.
    """
    whole = chunk.whole
    if not pcpu_check_block_hint(chunk, whole, alloc_bits, align):
        return None
    bit_off = pcpu_next_hint(chunk, whole, alloc_bits)
    while True:
        bit_off, bits = pcpu_next_fit_region(chunk, alloc_bits, align, bit_off)
        if bit_off >= chunk.map_bits:
            return None
        next_off = pcpu_is_populated(chunk, bit_off, bits) if pop_only else None
        if next_off is None:
            return bit_off
        bit_off = next_off


@kernel("mm/percpu.c", "pcpu_find_zero_area", formerly=("bitmap_find_next_zero_area_off",))
def pcpu_find_zero_area(words: Column, size: int, start: int, nr: int, align: int) -> tuple[int, int, int]:
    """The first `nr` clear bits in a row from `start` on, aligned; beyond `size` if there are none.

    With it, the largest piece that was too small: where it starts, and its bits.
    """
    largest_off = largest_bits = 0
    while True:
        index = round_up(find_next_zero_bit(words, size, start), align)
        end = index + nr
        if end > size:
            return end, largest_off, largest_bits
        used = find_next_bit(words, end, index)
        if used >= end:
            return index, largest_off, largest_bits
        if used - index > largest_bits or (
            used - index == largest_bits and largest_off and better_aligned(index, largest_off)
        ):
            largest_off, largest_bits = index, used - index
        start = used + 1


@kernel("mm/percpu.c", "pcpu_alloc_area", lock="pcpu_lock")
def pcpu_alloc_area(percpu: Percpu, chunk: PcpuChunk, alloc_bits: int, align: int, start: int) -> int | None:
    """Take room from bit `start` on, within a page and the request's size; returns its offset in bytes, or None."""
    whole, oslot = chunk.whole, pcpu_chunk_slot(percpu, chunk)
    end = min(start + alloc_bits + PAGE_BITS, chunk.map_bits)
    bit_off, area_off, area_bits = pcpu_find_zero_area(chunk.alloc_map, end, start, alloc_bits, align)
    if bit_off >= end:
        return None
    if area_bits:
        pcpu_block_update_scan(chunk, area_off, area_bits)
    bitmap_set(chunk.alloc_map, bit_off, alloc_bits)
    bitmap_set(chunk.bound_map, bit_off, 1)
    bitmap_clear(chunk.bound_map, bit_off + 1, alloc_bits - 1)
    bitmap_set(chunk.bound_map, bit_off + alloc_bits, 1)
    chunk.free_bytes -= alloc_bits * PCPU_MIN_ALLOC_SIZE
    if bit_off == chunk.first_free[whole]:
        chunk.first_free[whole] = find_next_zero_bit(chunk.alloc_map, chunk.map_bits, bit_off + alloc_bits)
    pcpu_block_update_hint_alloc(percpu, chunk, bit_off, alloc_bits)
    pcpu_chunk_relocate(percpu, chunk, oslot)
    return bit_off * PCPU_MIN_ALLOC_SIZE


@kernel("mm/percpu.c", "pcpu_free_area", lock="pcpu_lock")
def pcpu_free_area(percpu: Percpu, chunk: PcpuChunk, off: int) -> int:
    """Give back what was taken at an offset in bytes; returns how many bytes that was."""
    oslot = pcpu_chunk_slot(percpu, chunk)
    bit_off = off // PCPU_MIN_ALLOC_SIZE
    bits = find_next_bit(chunk.bound_map, chunk.map_bits, bit_off + 1) - bit_off
    bitmap_clear(chunk.alloc_map, bit_off, bits)
    chunk.free_bytes += bits * PCPU_MIN_ALLOC_SIZE
    chunk.first_free[chunk.whole] = min(chunk.first_free[chunk.whole], bit_off)
    pcpu_block_update_hint_free(percpu, chunk, bit_off, bits)
    pcpu_chunk_relocate(percpu, chunk, oslot)
    return bits * PCPU_MIN_ALLOC_SIZE
