"""alloc_percpu: the same few bytes in every CPU's unit, under one pointer.

pointer   = offset from pcpu_base_addr, the same for all CPUs
per_cpu_ptr(pointer, cpu) = pcpu_base_addr + pointer + pcpu_unit_offsets[cpu]

alloc_percpu ──▶ a chunk with room (lists by size, lowest first) ──▶ its lowest room, by the hints
                 none: a new chunk, in vmalloc's area                pages behind it: taken if they are not there yet
"""

from __future__ import annotations

from kmemlab.alloc.bitmap import bit_is_set, for_each_clear_bitrange
from kmemlab.alloc.percpu_area import pcpu_alloc_area, pcpu_find_block_fit, pcpu_free_area
from kmemlab.alloc.percpu_chunk import (
    FIRST_CHUNK,
    PCPU_EMPTY_POP_PAGES_HIGH,
    PCPU_EMPTY_POP_PAGES_LOW,
    PCPU_MIN_ALLOC_SHIFT,
    PCPU_SLOT_FAIL_THRESHOLD,
    RESERVED_CHUNK,
    PcpuChunk,
    Percpu,
    pcpu_chunk_addr,
    pcpu_chunk_move,
    pcpu_chunk_relocate,
    pcpu_isolate_chunk,
    pcpu_reintegrate_chunk,
    pcpu_size_to_slot,
    word_mask,
)
from kmemlab.alloc.percpu_vm import pcpu_chunk_populated, pcpu_create_chunk, pcpu_populate_chunk
from kmemlab.alloc.vmap_pages import vmalloc_to_pfn
from kmemlab.boot.percpu import PCPU_MIN_ALLOC_SIZE, PCPU_MIN_UNIT_SIZE
from kmemlab.mm.kernel_access import clear
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, DoubleFree
from kmemlab.types.gfp import __GFP_DIRECT_RECLAIM, __GFP_NORETRY, __GFP_NOWARN, GFP_KERNEL
from kmemlab.types.units import PAGE_SIZE, pfn_down, pfn_up, round_up

MOST_WARNINGS = 10


@kernel("mm/percpu.c", "__addr_to_pcpu_ptr", left_out="__per_cpu_start: 0 here, as it is on x86-64", traced=False)
def addr_to_pcpu_ptr(percpu: Percpu, addr: int) -> int:
    """The pointer that stands for an address in the unit at offset 0."""
    return addr - percpu.units.base_addr & word_mask(percpu.mm)


@kernel("include/linux/percpu-defs.h", "per_cpu_ptr", traced=False)
def per_cpu_ptr(percpu: Percpu, ptr: int, cpu: int) -> int:
    """The address of a CPU's own copy."""
    return percpu.units.base_addr + ptr + percpu.units.unit_off[cpu] & word_mask(percpu.mm)


@kernel("mm/percpu.c", "pcpu_alloc", left_out="memcg; locks and what may change meanwhile", lock="pcpu_lock")
def pcpu_alloc(percpu: Percpu, size: int, align: int, reserved: bool, gfp: int) -> int | None:
    """A pointer to `size` bytes for each CPU, all zeros; None if they can't be had."""
    is_atomic = not gfp & __GFP_DIRECT_RECLAIM
    align = max(align, PCPU_MIN_ALLOC_SIZE)
    size = round_up(size, PCPU_MIN_ALLOC_SIZE)
    if not 0 < size <= PCPU_MIN_UNIT_SIZE or align > PAGE_SIZE or align & align - 1:
        if not gfp & __GFP_NOWARN:
            warn_illegal(percpu, size, align)
        return None
    bits, bit_align = size >> PCPU_MIN_ALLOC_SHIFT, align >> PCPU_MIN_ALLOC_SHIFT
    pcpu_gfp = gfp & (GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN)
    if reserved and percpu.chunks[RESERVED_CHUNK].in_use:
        found, err = in_reserved_chunk(percpu, bits, bit_align, is_atomic), "alloc from reserved chunk failed"
    else:
        found, err = in_any_chunk(percpu, size, bits, bit_align, is_atomic, pcpu_gfp)
    if found is None:
        allocation_failed(percpu, size, align, is_atomic, gfp, err)
        return None
    chunk, off = found
    if not is_atomic and not pcpu_populate(percpu, chunk, off, size, pcpu_gfp):
        allocation_failed(percpu, size, align, is_atomic, gfp, "failed to populate")
        return None
    if percpu.nr_empty_pop_pages < PCPU_EMPTY_POP_PAGES_LOW:
        pcpu_schedule_balance_work(percpu)
    for cpu in range(percpu.units.nr_cpus):
        clear(percpu.mm.boot, pcpu_chunk_addr(percpu, chunk, cpu, 0) + off, size)
    return addr_to_pcpu_ptr(percpu, chunk.base_addr + off)


@invented("a part of pcpu_alloc")
def in_reserved_chunk(percpu: Percpu, bits: int, bit_align: int, is_atomic: bool) -> tuple[PcpuChunk, int] | None:
    """Room for a module's variables, which must lie near the kernel's own."""
    chunk = percpu.chunks[RESERVED_CHUNK]
    start = pcpu_find_block_fit(chunk, bits, bit_align, is_atomic)
    off = None if start is None else pcpu_alloc_area(percpu, chunk, bits, bit_align, start)
    return None if off is None else (chunk, off)


@invented("a part of pcpu_alloc")
def in_any_chunk(
    percpu: Percpu, size: int, bits: int, bit_align: int, is_atomic: bool, pcpu_gfp: int
) -> tuple[tuple[PcpuChunk, int] | None, str]:
    """Room in the first chunk that has it, a new one at last; else None and the reason."""
    while True:
        found = search_chunks(percpu, size, bits, bit_align, is_atomic)
        if found is not None:
            return found, ""
        if is_atomic:
            return None, "atomic alloc failed, no space left"
        if not percpu.on_list(percpu.free_slot):
            chunk = pcpu_create_chunk(percpu, pcpu_gfp)
            if chunk is None:
                return None, "failed to allocate new chunk"
            pcpu_chunk_relocate(percpu, chunk, -1)


@invented("a part of pcpu_alloc")
def search_chunks(
    percpu: Percpu, size: int, bits: int, bit_align: int, is_atomic: bool
) -> tuple[PcpuChunk, int] | None:
    """The chunk and the offset in it of the first room that is found: from the fullest chunks on that may have it."""
    for slot in range(pcpu_size_to_slot(percpu, size), percpu.free_slot + 1):
        for chunk in percpu.on_list(slot):
            start = pcpu_find_block_fit(chunk, bits, bit_align, is_atomic)
            if start is None:
                # Hardly any room, and it did not do: ask this chunk no more until something in it is freed.
                if slot < PCPU_SLOT_FAIL_THRESHOLD:
                    pcpu_chunk_move(percpu, chunk, 0)
                continue
            off = pcpu_alloc_area(percpu, chunk, bits, bit_align, start)
            if off is not None:
                pcpu_reintegrate_chunk(percpu, chunk)
                return chunk, off
    return None


@invented("a part of pcpu_alloc")
def pcpu_populate(percpu: Percpu, chunk: PcpuChunk, off: int, size: int, pcpu_gfp: int) -> bool:
    """See that there are pages behind [off, off + size) in all units; if they can't be had, give the room back."""
    for start, end in list(for_each_clear_bitrange(chunk.populated, pfn_down(off), pfn_up(off + size))):
        assert not chunk.immutable
        if not pcpu_populate_chunk(percpu, chunk, start, end, pcpu_gfp):
            pcpu_free_area(percpu, chunk, off)
            return False
        pcpu_chunk_populated(percpu, chunk, start, end)
    return True


@invented("the end of pcpu_alloc")
def allocation_failed(percpu: Percpu, size: int, align: int, is_atomic: bool, gfp: int, err: str) -> None:
    """Say why, ten times at most; one that could not wait gets the worker to provide pages for the next."""
    if not is_atomic and not gfp & __GFP_NOWARN and percpu.warnings < MOST_WARNINGS:
        printk = percpu.mm.boot.printk
        printk.info(f"percpu: allocation failed, size={size} align={align} atomic={int(is_atomic)}, {err}")
        percpu.warnings += 1
        if percpu.warnings == MOST_WARNINGS:
            printk.info("percpu: limit reached, disable warning")
    if is_atomic:
        percpu.atomic_alloc_failed = 1
        pcpu_schedule_balance_work(percpu)


@invented("WARN", traced=False)
def warn_illegal(percpu: Percpu, size: int, align: int) -> None:
    """Say that no chunk could ever have such a piece."""
    current = percpu.mm.current
    current.printk.info(f"illegal size ({size}) or align ({align}) for percpu allocation")
    current.printk.info(f"WARNING: CPU: {current.cpu} PID: {current.pid} at mm/percpu.c:1758 pcpu_alloc")


@kernel("mm/percpu.c", "pcpu_schedule_balance_work", traced=False)
def pcpu_schedule_balance_work(percpu: Percpu) -> None:
    """The worker shall run, once boot has come so far that there are workers."""
    if percpu.async_enabled:
        percpu.balance_work = 1


@kernel("mm/percpu.c", "percpu_enable_async")
def percpu_enable_async(percpu: Percpu) -> None:
    """There are workers now."""
    percpu.async_enabled = 1


@kernel("mm/percpu.c", "__alloc_percpu_gfp", formerly=("alloc_percpu_gfp",))
def alloc_percpu_gfp(percpu: Percpu, size: int, align: int, gfp: int) -> int | None:
    """A pointer to `size` bytes for each CPU; without `__GFP_DIRECT_RECLAIM` only where pages are there already."""
    return pcpu_alloc(percpu, size, align, False, gfp)


@kernel("mm/percpu.c", "__alloc_percpu", formerly=("alloc_percpu",))
def alloc_percpu(percpu: Percpu, size: int, align: int) -> int | None:
    """A pointer to `size` bytes for each CPU, all zeros; it may wait for pages."""
    return pcpu_alloc(percpu, size, align, False, GFP_KERNEL)


@kernel("mm/percpu.c", "__alloc_reserved_percpu")
def alloc_reserved_percpu(percpu: Percpu, size: int, align: int) -> int | None:
    """The same for the DEFINE_PER_CPU variables of a module: from the reserved area, if there is one."""
    return pcpu_alloc(percpu, size, align, True, GFP_KERNEL)


@kernel("mm/percpu.c", "pcpu_addr_in_chunk", traced=False)
def pcpu_addr_in_chunk(chunk: PcpuChunk, addr: int) -> bool:
    """Whether a chunk serves an address of the unit at offset 0."""
    start = chunk.base_addr + chunk.start_offset
    end = chunk.base_addr + chunk.nr_pages * PAGE_SIZE - chunk.end_offset
    return bool(chunk.in_use) and start <= addr < end


@kernel("mm/percpu.c", "pcpu_chunk_addr_search", left_out="C believes the page's index, whatever it is")
def pcpu_chunk_addr_search(percpu: Percpu, addr: int) -> PcpuChunk | None:
    """The chunk that serves an address of the unit at offset 0, by way of the page behind this CPU's copy."""
    for number in (FIRST_CHUNK, RESERVED_CHUNK):
        if pcpu_addr_in_chunk(percpu.chunks[number], addr):
            return percpu.chunks[number]
    mm = percpu.mm
    pfn = vmalloc_to_pfn(mm, addr + percpu.units.unit_off[mm.current.cpu] & word_mask(mm))
    number = 0 if pfn is None else mm.page.index[pfn]
    chunk = percpu.chunks[number] if 0 < number < len(percpu.chunks) else None
    return chunk if chunk is not None and pcpu_addr_in_chunk(chunk, addr) else None


@kernel("mm/percpu.c", "free_percpu", lock="pcpu_lock")
def free_percpu(percpu: Percpu, ptr: int) -> None:
    """Give back what `alloc_percpu` gave; the worker is woken when pages or chunks have become too many.

    Raises `DoubleFree` for what is free, `BadRequest` for what was never given out.
    """
    addr = percpu.units.base_addr + ptr & word_mask(percpu.mm)
    chunk = pcpu_chunk_addr_search(percpu, addr)
    off = check_free(chunk, ptr, addr)
    assert chunk is not None
    pcpu_free_area(percpu, chunk, off)
    if not chunk.isolated and chunk.free_bytes == percpu.units.unit_size:
        if len(percpu.on_list(percpu.free_slot)) > 1:
            pcpu_schedule_balance_work(percpu)
    elif pcpu_should_reclaim_chunk(percpu, chunk):
        pcpu_isolate_chunk(percpu, chunk)
        pcpu_schedule_balance_work(percpu)


@invented("C frees whatever it is given: the next user of those bytes pays")
def check_free(chunk: PcpuChunk | None, ptr: int, addr: int) -> int:
    """The offset within the chunk of what starts at an address. Raises `DoubleFree`, `BadRequest`."""
    where = f"free_percpu({ptr:#x})"
    remedy = "free what alloc_percpu returned, once: the pointer, not the address of one CPU's copy"
    if chunk is None:
        raise BadRequest("no chunk serves this pointer", where=where, remedy=remedy)
    off = addr - chunk.base_addr
    bit = off // PCPU_MIN_ALLOC_SIZE
    if off % PCPU_MIN_ALLOC_SIZE == 0 and not bit_is_set(chunk.alloc_map, bit):
        raise DoubleFree(f"{off:#x} of chunk {chunk.number} is free already", where=where, remedy=remedy)
    if off % PCPU_MIN_ALLOC_SIZE or not bit_is_set(chunk.bound_map, bit):
        raise BadRequest(f"nothing starts at {off:#x} of chunk {chunk.number}", where=where, remedy=remedy)
    return off


@kernel("mm/percpu-vm.c", "pcpu_should_reclaim_chunk", traced=False)
def pcpu_should_reclaim_chunk(percpu: Percpu, chunk: PcpuChunk) -> bool:
    """Whether a chunk's empty pages shall be given back: a quarter of its pages, and others have enough of them."""
    if chunk.immutable:
        return False
    empty = chunk.nr_empty_pop_pages
    if chunk.isolated and empty:
        return True
    return percpu.nr_empty_pop_pages > PCPU_EMPTY_POP_PAGES_HIGH + empty and empty >= chunk.nr_pages // 4
