"""The laws of per-CPU memory: bits, bounds, hints, lists, page tables and counts tell the same story."""

from __future__ import annotations

from typing import NoReturn

from kmemlab.alloc.bitmap import bit_is_set
from kmemlab.alloc.percpu_chunk import (
    MOST_CHUNKS,
    PCPU_BITMAP_BLOCK_BITS,
    PCPU_SLOT_FAIL_THRESHOLD,
    RESERVED_CHUNK,
    PcpuChunk,
    Percpu,
    pcpu_chunk_addr,
    pcpu_chunk_slot,
)
from kmemlab.alloc.vmap_pages import vmalloc_to_pfn
from kmemlab.boot.percpu import PCPU_MIN_ALLOC_SIZE
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.sim.column import Column
from kmemlab.sim.kernel import invented
from kmemlab.sim.recording import plain_column
from kmemlab.types.units import PAGE_SHIFT

BLOCK_MASK = (1 << PCPU_BITMAP_BLOCK_BITS) - 1


@invented("a law is code beside the structure it speaks of", traced=False)
def check_percpu(percpu: Percpu) -> None:
    """What is given out has bounds and pages behind it, in all units; hints promise no more than there is; each chunk
    is on its list; the counts are right.

    Raises `BrokenLaw` that names the law and the chunk.
    """
    if not percpu.units.nr_units:
        return
    used = [chunk for chunk in percpu.chunks if chunk.in_use]
    owners: dict[int, PcpuChunk] = {}
    for chunk in used:
        alloc = bits_of(chunk.alloc_map, chunk.map_bits)
        _check_bits(chunk, alloc)
        _check_hints(chunk, alloc)
        _check_empty(chunk, alloc)
        if not chunk.immutable:
            _check_pages(percpu, chunk, owners)
    _check_lists(percpu, used)
    pages = sum(chunk.nr_populated for chunk in used if not chunk.immutable) + (percpu.units.size_sum >> PAGE_SHIFT)
    if percpu.nr_populated != pages:
        _broken(None, f"{percpu.nr_populated} pages of a unit are counted, but {pages} are there")
    empty = sum(chunk.nr_empty_pop_pages for chunk in used if chunk.number != RESERVED_CHUNK and not chunk.isolated)
    if percpu.nr_empty_pop_pages != empty:
        _broken(None, f"{percpu.nr_empty_pop_pages} empty pages are counted, but the chunks have {empty}")


@invented("a bitmap as one number", traced=False)
def bits_of(words: Column, size: int) -> int:
    """The first `size` bits; more must not be looked at."""
    return int.from_bytes(plain_column(words).tobytes(), "little") & (1 << size) - 1


def _check_bits(chunk: PcpuChunk, alloc: int) -> None:
    free = chunk.map_bits - alloc.bit_count()
    if chunk.free_bytes != free * PCPU_MIN_ALLOC_SIZE:
        _broken(chunk, f"counts {chunk.free_bytes} free bytes, its bits say {free * PCPU_MIN_ALLOC_SIZE}")
    bound = bits_of(chunk.bound_map, chunk.map_bits + 1)
    starts, ends = alloc & ~(alloc << 1), alloc << 1 & ~alloc
    for name, edges in (("starts", starts), ("ends", ends)):
        missing = edges & ~bound
        if missing:
            at = (missing & -missing).bit_length() - 1
            _broken(chunk, f"has something that {name} at bit {at}, but no bound there")


def _check_hints(chunk: PcpuChunk, alloc: int) -> None:
    for block in (*range(chunk.nr_pages), chunk.whole):
        start, length = chunk.contig_hint_start[block], chunk.contig_hint[block]
        first = 0 if block == chunk.whole else block * PCPU_BITMAP_BLOCK_BITS
        if length and alloc >> first + start & (1 << length) - 1:
            _broken(chunk, f"promises {length} free bits from {first + start} on, but some are given out")
        here = alloc >> first & (1 << chunk.nr_bits(block)) - 1
        first_clear = (~here & here + 1).bit_length() - 1
        if chunk.first_free[block] > first_clear:
            _broken(chunk, f"says that bit {first + chunk.first_free[block]} is the first free one: {first_clear} is")
        if not length and here.bit_count() < chunk.nr_bits(block) and block != chunk.whole:
            _broken(chunk, f"says that page {block} is full, but it is not")


def _check_empty(chunk: PcpuChunk, alloc: int) -> None:
    populated = [bit_is_set(chunk.populated, page) for page in range(chunk.nr_pages)]
    taken = [alloc >> page * PCPU_BITMAP_BLOCK_BITS & BLOCK_MASK for page in range(chunk.nr_pages)]
    if chunk.nr_populated != sum(populated):
        _broken(chunk, f"counts {chunk.nr_populated} pages that are there, its bits say {sum(populated)}")
    for page in range(chunk.nr_pages):
        if taken[page] and not populated[page]:
            _broken(chunk, f"has given out something in page {page}, which is not there")
    empty = sum(there and not bits for there, bits in zip(populated, taken, strict=True))
    if chunk.nr_empty_pop_pages != empty:
        _broken(chunk, f"counts {chunk.nr_empty_pop_pages} empty pages, but {empty} are")


def _check_pages(percpu: Percpu, chunk: PcpuChunk, owners: dict[int, PcpuChunk]) -> None:
    mm = percpu.mm
    for cpu in range(percpu.units.nr_cpus):
        for page in range(chunk.nr_pages):
            pfn = vmalloc_to_pfn(mm, pcpu_chunk_addr(percpu, chunk, cpu, page))
            if (pfn is not None) != bit_is_set(chunk.populated, page):
                _broken(chunk, f"page {page} of CPU {cpu}: the map and the page tables differ")
            if pfn is None:
                continue
            if owners.setdefault(pfn, chunk) is not chunk or mm.page.index[pfn] != chunk.number:
                _broken(chunk, f"pfn {pfn} belongs to another chunk, too")
            if not mm.page.owned[pfn]:
                _broken(chunk, f"pfn {pfn} is mapped, but free")
    for group in range(percpu.units.nr_groups):
        addr, size = mm.vmalloc.vms.addr[chunk.vms[group]], mm.vmalloc.vms.size[chunk.vms[group]]
        if (addr, size) != (chunk.base_addr + percpu.units.group_offset[group], percpu.units.group_size[group]):
            _broken(chunk, f"group {group} is not where the distances of the units say")


def _check_lists(percpu: Percpu, used: list[PcpuChunk]) -> None:
    place = {}
    for slot in range(percpu.to_depopulate_slot + 1):
        for chunk in percpu.on_list(slot):
            if chunk.number in place or chunk.number >= MOST_CHUNKS or not chunk.in_use:
                _broken(chunk, f"is on list {slot}, and should not be")
            place[chunk.number] = slot
    for chunk in used:
        if chunk.number == RESERVED_CHUNK:
            continue
        slot, right = place.get(chunk.number, -1), pcpu_chunk_slot(percpu, chunk)
        aside = chunk.isolated and slot in (percpu.sidelined_slot, percpu.to_depopulate_slot)
        given_up = slot == 0 and right < PCPU_SLOT_FAIL_THRESHOLD
        if slot != right and not aside and not given_up:
            _broken(chunk, f"is on list {slot}, but belongs on {right}")
        if chunk.isolated and not aside:
            _broken(chunk, f"is isolated, but on list {slot}")


def _broken(chunk: PcpuChunk | None, law: str) -> NoReturn:
    raise BrokenLaw(law if chunk is None else f"chunk {chunk.number} {law}", where="per-CPU memory")
