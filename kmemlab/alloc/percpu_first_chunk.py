"""The first chunk, which boot took from memblock: its dynamic area, and (x86-64) an area reserved for modules.

unit     0             static_size        + reserved_size              size_sum
         │ variables of the kernel │ reserved: modules │ dynamic: alloc_percpu │
                          ▲ chunk 1 starts here        ▲ chunk 0 starts here, both on the page that their start is in
"""

from __future__ import annotations

from kmemlab.alloc.bitmap import bitmap_set
from kmemlab.alloc.percpu_chunk import (
    FIRST_CHUNK,
    MOST_CHUNKS,
    RESERVED_CHUNK,
    PcpuChunk,
    Percpu,
    pcpu_chunk_relocate,
)
from kmemlab.alloc.percpu_hint import pcpu_block_update_hint_alloc, pcpu_init_md_blocks
from kmemlab.boot.percpu import PCPU_MIN_ALLOC_SIZE
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, round_up


@invented("the second half of pcpu_setup_first_chunk: boot has already taken the memory")
def pcpu_init_chunks(percpu: Percpu) -> None:
    """From here on per-CPU memory can be given out, as long as the first chunk has room."""
    units = percpu.units
    for slot in range(percpu.to_depopulate_slot + 1):
        init_list_head(percpu.list, MOST_CHUNKS + slot)
    start = units.static_size
    if units.reserved_size:
        pcpu_alloc_first_chunk(percpu, percpu.chunks[RESERVED_CHUNK], start, units.reserved_size)
        start += units.reserved_size
    first = percpu.chunks[FIRST_CHUNK]
    pcpu_alloc_first_chunk(percpu, first, start, units.dyn_size)
    percpu.nr_empty_pop_pages = first.nr_empty_pop_pages
    pcpu_chunk_relocate(percpu, first, -1)
    percpu.nr_populated = units.size_sum >> PAGE_SHIFT


@kernel("mm/percpu.c", "pcpu_alloc_first_chunk", left_out="taking the tables: boot/percpu.py")
def pcpu_alloc_first_chunk(percpu: Percpu, chunk: PcpuChunk, start: int, map_size: int) -> None:
    """Let a chunk serve the bytes [start, start + map_size) of each unit; what else is in its pages counts as taken."""
    start_offset = start & ~PAGE_MASK
    region_size = round_up(start_offset + map_size, PAGE_SIZE)
    chunk.in_use = chunk.immutable = 1
    chunk.base_addr = percpu.units.base_addr + (start & PAGE_MASK)
    chunk.start_offset, chunk.end_offset = start_offset, region_size - start_offset - map_size
    chunk.nr_pages = chunk.nr_populated = chunk.nr_empty_pop_pages = region_size >> PAGE_SHIFT
    init_list_head(percpu.list, chunk.number)
    pcpu_init_md_blocks(chunk)
    bitmap_set(chunk.populated, 0, chunk.nr_pages)
    chunk.free_bytes = map_size
    if chunk.start_offset:
        bits = chunk.start_offset // PCPU_MIN_ALLOC_SIZE
        bitmap_set(chunk.alloc_map, 0, bits)
        bitmap_set(chunk.bound_map, 0, 1)
        bitmap_set(chunk.bound_map, bits, 1)
        chunk.first_free[chunk.whole] = bits
        pcpu_block_update_hint_alloc(percpu, chunk, 0, bits)
    if chunk.end_offset:
        bits = chunk.end_offset // PCPU_MIN_ALLOC_SIZE
        bitmap_set(chunk.alloc_map, chunk.map_bits - bits, bits)
        bitmap_set(chunk.bound_map, (chunk.start_offset + map_size) // PCPU_MIN_ALLOC_SIZE, 1)
        bitmap_set(chunk.bound_map, chunk.map_bits, 1)
        pcpu_block_update_hint_alloc(percpu, chunk, chunk.map_bits - bits, bits)
