"""Chunks in vmalloc's area: addresses at the same distances as the first chunk's units, pages only where needed.

VMALLOC …      | unit 0 | unit 1 |   …    | unit 2 | unit 3 |
page 0          pfn 812  pfn 97            pfn 40312 …            taken for all units at once, each from its CPU's node
page 1           -        -                 -                     nothing is given out here yet
"""

from __future__ import annotations

from kmemlab.alloc.bitmap import bitmap_clear, bitmap_set
from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.percpu_chunk import (
    FIRST_OTHER_CHUNK,
    MOST_CHUNKS,
    PcpuChunk,
    Percpu,
    pcpu_chunk_addr,
    pcpu_update_empty_pages,
    word_mask,
)
from kmemlab.alloc.percpu_hint import pcpu_init_md_blocks
from kmemlab.alloc.percpu_vm_areas import pcpu_free_vm_areas, pcpu_get_vm_areas
from kmemlab.alloc.vmap_pages import vmalloc_to_pfn, vmap_pages_range, vunmap_range_noflush
from kmemlab.boot.tlbflush import flush_tlb_kernel_range
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head, list_del
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import OutOfMemory, TooLarge
from kmemlab.types.gfp import __GFP_HIGHMEM
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE


@kernel("mm/percpu.c", "pcpu_alloc_chunk", left_out="taking the maps with kmalloc or vmalloc")
def pcpu_alloc_chunk(percpu: Percpu) -> PcpuChunk:
    """A chunk of whole units, all free, no page behind it. Raises `TooLarge` when there are no more."""
    chunk = next((chunk for chunk in percpu.chunks[FIRST_OTHER_CHUNK:] if not chunk.in_use), None)
    if chunk is None:
        raise TooLarge(
            f"this machine has {MOST_CHUNKS} chunks of per-CPU memory", where="pcpu_create_chunk", remedy="free some"
        )
    chunk.in_use = 1
    chunk.nr_pages = percpu.units.unit_size >> PAGE_SHIFT
    init_list_head(percpu.list, chunk.number)
    pcpu_init_md_blocks(chunk)
    chunk.free_bytes = chunk.nr_pages * PAGE_SIZE
    return chunk


@kernel("mm/percpu-vm.c", "pcpu_create_chunk")
def pcpu_create_chunk(percpu: Percpu, gfp: int) -> PcpuChunk | None:
    """A new chunk in vmalloc's area; None if that has no room at the distances of the units."""
    chunk = pcpu_alloc_chunk(percpu)
    vms = pcpu_get_vm_areas(percpu.mm, percpu.units.groups(), percpu.units.atom_size)
    if vms is None:
        forget(chunk)
        return None
    for group, vm in enumerate(vms):
        chunk.vms[group] = vm
    first = percpu.mm.vmalloc.vms.addr[vms[0]]
    chunk.base_addr = first - percpu.units.group_offset[0] & word_mask(percpu.mm)
    return chunk


@kernel("mm/percpu-vm.c", "pcpu_destroy_chunk", formerly=("pcpu_free_chunk",))
def pcpu_destroy_chunk(percpu: Percpu, chunk: PcpuChunk) -> None:
    """Give a chunk's addresses back; no page may be behind them any more."""
    assert chunk.nr_populated == 0
    list_del(percpu.list, chunk.number)
    pcpu_free_vm_areas(percpu.mm, [chunk.vms[group] for group in range(percpu.units.nr_groups)])
    forget(chunk)


@invented("C frees the struct and zeroes the next one")
def forget(chunk: PcpuChunk) -> None:
    """All of a chunk is 0 again."""
    used = chunk.map_bits // 64 + 1
    for words in (chunk.alloc_map, chunk.bound_map):
        for at in range(min(used, len(words))):
            if words[at]:
                words[at] = 0
    for _, cells in chunk.columns():
        if len(cells) <= chunk.whole + 1:
            for at in range(len(cells)):
                if cells[at]:
                    cells[at] = 0


@kernel("mm/percpu-vm.c", "pcpu_alloc_pages")
def pcpu_alloc_pages(percpu: Percpu, start: int, end: int, gfp: int) -> list[list[int]] | None:
    """Pages for [start, end) of each CPU's unit, from the CPU's node if it has any; None if they can't be had."""
    mm, taken = percpu.mm, []
    for cpu in range(percpu.units.nr_cpus):
        nid = mm.numa.cpu_to_node[cpu]
        nid = 0 if nid == NUMA_NO_NODE else nid
        pfns: list[int] = []
        taken.append(pfns)
        for _ in range(start, end):
            pfn = alloc_pages_inner(mm, gfp | __GFP_HIGHMEM, 0, nid)
            if pfn is None:
                pcpu_free_pages(percpu, taken)
                return None
            pfns.append(pfn)
    return taken


@kernel("mm/percpu-vm.c", "pcpu_free_pages")
def pcpu_free_pages(percpu: Percpu, pages: list[list[int]]) -> None:
    """Give pages back, unit by unit."""
    for pfns in pages:
        for pfn in pfns:
            percpu.mm.page.index[pfn] = 0
            free_pages_inner(percpu.mm, pfn, 0)


@kernel("mm/percpu-vm.c", "pcpu_map_pages", formerly=("__pcpu_map_pages",))
def pcpu_map_pages(percpu: Percpu, chunk: PcpuChunk, pages: list[list[int]], start: int, end: int) -> bool:
    """Map pages behind [start, end) of each CPU's unit; each remembers its chunk. False if no table could be had."""
    mm = percpu.mm
    for cpu, pfns in enumerate(pages):
        addr = pcpu_chunk_addr(percpu, chunk, cpu, start)
        try:
            vmap_pages_range(mm, addr, addr + (end - start) * PAGE_SIZE, mm.vmalloc.page_kernel, pfns)
        except OutOfMemory:
            for done in range(cpu + 1):
                pcpu_unmap(percpu, chunk, done, start, end)
            pcpu_post_unmap_tlb_flush(percpu, chunk, start, end)
            return False
        for pfn in pfns:
            mm.page.index[pfn] = chunk.number
    return True


@kernel("mm/percpu-vm.c", "__pcpu_unmap_pages", traced=False)
def pcpu_unmap(percpu: Percpu, chunk: PcpuChunk, cpu: int, start: int, end: int) -> None:
    """Clear the entries of [start, end) of one CPU's unit."""
    addr = pcpu_chunk_addr(percpu, chunk, cpu, start)
    vunmap_range_noflush(percpu.mm, addr, addr + (end - start) * PAGE_SIZE)


@kernel("mm/percpu-vm.c", "pcpu_post_unmap_tlb_flush")
def pcpu_post_unmap_tlb_flush(percpu: Percpu, chunk: PcpuChunk, start: int, end: int) -> None:
    """Let the TLB forget [start, end) of all units: one range from the lowest to the highest."""
    low, high = low_and_high_cpu(percpu)
    flush_tlb_kernel_range(
        percpu.mm.boot.mmu, pcpu_chunk_addr(percpu, chunk, low, start), pcpu_chunk_addr(percpu, chunk, high, end)
    )


@invented("C notes pcpu_low_unit_cpu and pcpu_high_unit_cpu at boot", traced=False)
def low_and_high_cpu(percpu: Percpu) -> tuple[int, int]:
    """The CPUs whose units have the lowest and the highest address."""
    cpus = range(percpu.units.nr_cpus)
    unit_off = percpu.units.unit_off
    return min(cpus, key=lambda cpu: unit_off[cpu]), max(cpus, key=lambda cpu: unit_off[cpu])


@kernel("mm/percpu-vm.c", "pcpu_populate_chunk")
def pcpu_populate_chunk(percpu: Percpu, chunk: PcpuChunk, start: int, end: int, gfp: int) -> bool:
    """Take pages for [start, end) of all units and map them; all or nothing."""
    pages = pcpu_alloc_pages(percpu, start, end, gfp)
    if pages is None:
        return False
    if not pcpu_map_pages(percpu, chunk, pages, start, end):
        pcpu_free_pages(percpu, pages)
        return False
    return True


@kernel("mm/percpu.c", "pcpu_chunk_populated", lock="pcpu_lock")
def pcpu_chunk_populated(percpu: Percpu, chunk: PcpuChunk, start: int, end: int) -> None:
    """Note that there are pages behind [start, end)."""
    nr = end - start
    bitmap_set(chunk.populated, start, nr)
    chunk.nr_populated += nr
    percpu.nr_populated += nr
    pcpu_update_empty_pages(percpu, chunk, nr)


@kernel("mm/percpu-vm.c", "pcpu_depopulate_chunk", formerly=("pcpu_unmap_pages",))
def pcpu_depopulate_chunk(percpu: Percpu, chunk: PcpuChunk, start: int, end: int) -> None:
    """Unmap [start, end) of all units and give the pages back; the caller flushes the TLB, or frees the addresses."""
    pages = []
    for cpu in range(percpu.units.nr_cpus):
        addr = pcpu_chunk_addr(percpu, chunk, cpu, start)
        found = [vmalloc_to_pfn(percpu.mm, addr + page * PAGE_SIZE) for page in range(end - start)]
        assert None not in found
        pages.append([pfn for pfn in found if pfn is not None])
        pcpu_unmap(percpu, chunk, cpu, start, end)
    pcpu_free_pages(percpu, pages)


@kernel("mm/percpu.c", "pcpu_chunk_depopulated", lock="pcpu_lock")
def pcpu_chunk_depopulated(percpu: Percpu, chunk: PcpuChunk, start: int, end: int) -> None:
    """Note that there are no pages behind [start, end) any more."""
    nr = end - start
    bitmap_clear(chunk.populated, start, nr)
    chunk.nr_populated -= nr
    percpu.nr_populated -= nr
    pcpu_update_empty_pages(percpu, chunk, -nr)
