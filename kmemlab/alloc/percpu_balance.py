"""The worker of per-CPU memory: some empty pages are kept for those who can't wait, and not more.

           0       2               4                       empty pages that are there, over all chunks
           │ wake  │  nothing to do│   a quarter of a chunk more: give back, highest pages first
           ▼       ▼               ▼
pcpu_balance_populated                 pcpu_reclaim_populated
"""

from __future__ import annotations

from kmemlab.alloc.bitmap import bit_is_set, for_each_clear_bitrange, for_each_set_bitrange
from kmemlab.alloc.percpu_chunk import (
    PCPU_BITMAP_BLOCK_BITS,
    PCPU_EMPTY_POP_PAGES_HIGH,
    PcpuChunk,
    Percpu,
    pcpu_chunk_move,
    pcpu_chunk_relocate,
    pcpu_reintegrate_chunk,
    pcpu_size_to_slot,
)
from kmemlab.alloc.percpu_vm import (
    pcpu_chunk_depopulated,
    pcpu_chunk_populated,
    pcpu_create_chunk,
    pcpu_depopulate_chunk,
    pcpu_destroy_chunk,
    pcpu_populate_chunk,
    pcpu_post_unmap_tlb_flush,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import __GFP_NORETRY, __GFP_NOWARN, GFP_NOIO
from kmemlab.types.units import PAGE_SIZE

# C asks with GFP_KERNEL under memalloc_noio_save: that is GFP_NOIO.
BALANCE_GFP = GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN


@kernel("mm/percpu.c", "pcpu_balance_workfn", lock="pcpu_alloc_mutex")
def pcpu_balance_workfn(percpu: Percpu) -> None:
    """What the worker does when it runs."""
    percpu.balance_work = 0
    pcpu_balance_free(percpu, empty_only=False)
    pcpu_reclaim_populated(percpu)
    pcpu_balance_populated(percpu)
    pcpu_balance_free(percpu, empty_only=True)


@kernel("mm/percpu.c", "pcpu_balance_free", lock="pcpu_lock")
def pcpu_balance_free(percpu: Percpu, empty_only: bool) -> None:
    """Keep one chunk of which nothing is given out; the others go, with `empty_only` if they have no empty pages."""
    for chunk in percpu.on_list(percpu.free_slot)[1:]:
        if empty_only and chunk.nr_empty_pop_pages:
            continue
        for start, end in list(for_each_set_bitrange(chunk.populated, 0, chunk.nr_pages)):
            pcpu_depopulate_chunk(percpu, chunk, start, end)
            pcpu_chunk_depopulated(percpu, chunk, start, end)
        pcpu_destroy_chunk(percpu, chunk)


@kernel("mm/percpu.c", "pcpu_balance_populated", lock="pcpu_lock")
def pcpu_balance_populated(percpu: Percpu) -> None:
    """Provide empty pages up to four, fullest chunks first; four more if somebody who could not wait got nothing."""
    while True:
        if percpu.atomic_alloc_failed:
            nr_to_pop = PCPU_EMPTY_POP_PAGES_HIGH
            percpu.atomic_alloc_failed = 0
        else:
            missing = PCPU_EMPTY_POP_PAGES_HIGH - percpu.nr_empty_pop_pages
            nr_to_pop = min(max(missing, 0), PCPU_EMPTY_POP_PAGES_HIGH)
        for slot in range(pcpu_size_to_slot(percpu, PAGE_SIZE), percpu.free_slot + 1):
            if nr_to_pop:
                nr_to_pop = populate_one_of(percpu, slot, nr_to_pop)
        if not nr_to_pop:
            return
        chunk = pcpu_create_chunk(percpu, BALANCE_GFP)
        if chunk is None:
            return
        pcpu_chunk_relocate(percpu, chunk, -1)


@invented("the loop of pcpu_balance_populated")
def populate_one_of(percpu: Percpu, slot: int, nr_to_pop: int) -> int:
    """Provide pages in the first chunk of a list that lacks some; how many are still wanted, 0 if none can be had."""
    chunk = next((chunk for chunk in percpu.on_list(slot) if chunk.nr_pages > chunk.nr_populated), None)
    if chunk is None:
        return nr_to_pop
    for start, end in list(for_each_clear_bitrange(chunk.populated, 0, chunk.nr_pages)):
        nr = min(end - start, nr_to_pop)
        if not pcpu_populate_chunk(percpu, chunk, start, start + nr, BALANCE_GFP):
            return 0
        nr_to_pop -= nr
        pcpu_chunk_populated(percpu, chunk, start, start + nr)
        if not nr_to_pop:
            break
    return nr_to_pop


@kernel("mm/percpu.c", "pcpu_reclaim_populated", lock="pcpu_lock")
def pcpu_reclaim_populated(percpu: Percpu) -> None:
    """Give back the empty pages of the chunks that were set aside for it, as long as four are left elsewhere."""
    while chunks := percpu.on_list(percpu.to_depopulate_slot):
        chunk = chunks[0]
        assert not chunk.immutable
        freed, reintegrate = reclaim_chunk(percpu, chunk)
        if freed:
            pcpu_post_unmap_tlb_flush(percpu, chunk, min(start for start, _ in freed), max(end for _, end in freed))
        if reintegrate or chunk.free_bytes == percpu.units.unit_size:
            pcpu_reintegrate_chunk(percpu, chunk)
        else:
            pcpu_chunk_move(percpu, chunk, percpu.sidelined_slot, front=False)


@invented("the loop of pcpu_reclaim_populated")
def reclaim_chunk(percpu: Percpu, chunk: PcpuChunk) -> tuple[list[tuple[int, int]], bool]:
    """Give back a chunk's empty pages from its end on; which, and whether it must serve again at once."""
    freed: list[tuple[int, int]] = []
    end = -1
    page = chunk.nr_pages - 1
    while page >= 0 and chunk.nr_empty_pop_pages:
        if percpu.nr_empty_pop_pages < PCPU_EMPTY_POP_PAGES_HIGH:
            return freed, True
        if chunk.contig_hint[page] == PCPU_BITMAP_BLOCK_BITS and bit_is_set(chunk.populated, page):
            end = page if end == -1 else end
            if page > 0:
                page -= 1
                continue
            page -= 1  # the first page ends the piece, as a page in use would
        if end != -1:
            pcpu_depopulate_chunk(percpu, chunk, page + 1, end + 1)
            pcpu_chunk_depopulated(percpu, chunk, page + 1, end + 1)
            freed.append((page + 1, end + 1))
            end = -1
        page -= 1
    return freed, False
