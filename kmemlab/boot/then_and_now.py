"""bootmem and memblock side by side: the same memory, the same requests, and what differs.

request       bootmem, from below                memblock, from above
100 bytes     |▒▒▒▒| a page (or the rest of one)  |░| 100 bytes at the next multiple of 64
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from kmemlab.boot.bootmem import (
    BootmemData,
    alloc_bootmem,
    bootmem_bootmap_pages,
    free_all_bootmem,
    free_bootmem,
    init_bootmem,
    is_reserved,
    reserve_bootmem,
)
from kmemlab.boot.memblock import (
    Memblock,
    for_each_free_mem_range,
    memblock_add,
    memblock_alloc_try_nid,
    memblock_init,
    memblock_reserve,
)
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, pfn_down, pfn_up

Ranges: TypeAlias = tuple[tuple[int, int], ...]  # (first byte, byte behind) each
MAX_BLOCK_ORDER = 10  # the largest block of the page allocator


@invented("the comparison that the lecture makes")
@dataclass(frozen=True, slots=True)
class Request:
    """`size` bytes, a multiple of `align`, at or above `goal`."""

    size: int
    align: int = 64
    goal: int = 0


@invented("the comparison that the lecture makes")
@dataclass(frozen=True, slots=True)
class Side:
    """One allocator's answers: addresses in the order of the requests, and in bytes what it took and what it needs.

    `taken_bytes` counts what the requests made unavailable, `own_bytes` the bitmap or the lists of regions. `blocks`
    are those handed to the page allocator, by order; `free_pages` all pages in them.
    """

    addresses: tuple[int, ...]
    taken_bytes: int
    own_bytes: int
    blocks: tuple[int, ...]

    @property
    def free_pages(self) -> int:
        """What the page allocator got."""
        return sum(count << order for order, count in enumerate(self.blocks))


@invented("the comparison that the lecture makes")
def then(memory: Ranges, reserved: Ranges, requests: tuple[Request, ...]) -> Side:
    """What bootmem makes of memory and reserved ranges (first byte, byte behind) and the requests.

    Its bitmap lies in the first free pages. Raises `KernelPanic` when a request can't be met.
    """
    end_pfn = max(pfn_down(end) for _, end in memory)
    bdata = BootmemData(end_pfn)
    map_pages = bootmem_bootmap_pages(end_pfn)
    map_pfn = place_of_map(memory, reserved, map_pages)
    own = init_bootmem(bdata, map_pfn, 0)
    for start, end in memory:
        free_bootmem(bdata, start, end - start)
    for start, end in (*reserved, (map_pfn << PAGE_SHIFT, map_pfn + map_pages << PAGE_SHIFT)):
        # What is reserved may lie beyond memory: the bitmap knows nothing there.
        cut = min(end, end_pfn << PAGE_SHIFT)
        if start < cut:
            reserve_bootmem(bdata, start, cut - start)
    before = sum(is_reserved(bdata, idx) for idx in range(end_pfn))
    addresses = tuple(alloc_bootmem(bdata, ask.size, ask.align, ask.goal) for ask in requests)
    after = sum(is_reserved(bdata, idx) for idx in range(end_pfn))
    return Side(addresses, (after - before) * PAGE_SIZE, own, free_all_bootmem(bdata))


@invented("each architecture looked for a place by itself, before there was an allocator")
def place_of_map(memory: Ranges, reserved: Ranges, pages: int) -> int:
    """The first page frame from which so many pages are memory, and not reserved."""
    for start, end in memory:
        for candidate in (start, *sorted(edge for _, edge in reserved if start < edge < end)):
            first = pfn_up(candidate) << PAGE_SHIFT
            last = first + (pages << PAGE_SHIFT)
            if last <= end and not any(low < last and first < high for low, high in reserved):
                return first >> PAGE_SHIFT
    raise KernelPanic(
        "Cannot find bootmem map", where=f"{pages} pages in one piece", remedy="give more memory, or reserve less"
    )


@invented("the comparison that the lecture makes")
def now(memory: Ranges, reserved: Ranges, requests: tuple[Request, ...]) -> Side:
    """What memblock makes of the same. Raises `KernelPanic` when a request can't be met."""
    memblock = Memblock()
    memblock_init(memblock)
    for start, end in memory:
        memblock_add(memblock, start, end - start)
    for start, end in reserved:
        memblock_reserve(memblock, start, end - start)
    before = memblock.reserved.total_size
    addresses = []
    for ask in requests:
        addresses.append(memblock_alloc_try_nid(memblock, ask.size, ask.align, min_addr=ask.goal))
        if not addresses[-1]:
            raise KernelPanic(f"memblock: no room for {ask.size} bytes", where="now", remedy="ask for less")
    regions = memblock.memory.cnt + memblock.reserved.cnt
    own = regions * memblock.config.sizeof_memblock_region
    return Side(tuple(addresses), memblock.reserved.total_size - before, own, handed_over(memblock))


@invented("__free_pages_memory without giving the pages: they are only counted")
def handed_over(memblock: Memblock) -> tuple[int, ...]:
    """The blocks that memblock_free_all hands over, by order: always the largest that fits its place."""
    counts = [0] * (MAX_BLOCK_ORDER + 1)
    for start, end, _ in for_each_free_mem_range(memblock):
        pfn, end_pfn = pfn_up(start), pfn_down(end)
        while pfn < end_pfn:
            order = min(MAX_BLOCK_ORDER, (pfn & -pfn).bit_length() - 1 if pfn else MAX_BLOCK_ORDER)
            while pfn + (1 << order) > end_pfn:
                order -= 1
            counts[order] += 1
            pfn += 1 << order
    return tuple(counts)
