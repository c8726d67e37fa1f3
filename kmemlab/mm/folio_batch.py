"""Per-CPU batches: a page on its way to or within the LRU lists waits until its CPU has 15 of them.

folio_add_lru(pfn) ──▶ [p0 p1 p2 … p14]   full, or drained   ──▶   the node's lists, under their lock only once

So the lists' lengths lag behind by up to 14 pages a CPU and kind of move. Each page in a batch is referred to by it.
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Struct

PAGEVEC_SIZE = 15

# Which move the pages of a batch wait for, in the order in which lru_add_drain makes them.
LRU_ADD, LRU_ROTATE, LRU_DEACTIVATE_FILE, LRU_DEACTIVATE, ACTIVATE = range(5)
NR_FOLIO_BATCHES = 5


@kernel("mm/swap.c", "struct cpu_fbatches", formerly=("struct lru_pvecs",), left_out="lru_lazyfree (madvise)")
class CpuFbatches(Struct):
    """The batches of all possible CPUs: batch `kind` of CPU `cpu` is row `cpu * NR_FOLIO_BATCHES + kind`."""

    nr: Column
    folios: Column

    def __init__(self, nr_cpus: int) -> None:
        self.nr_cpus = nr_cpus
        self.nr = column("B", nr_cpus * NR_FOLIO_BATCHES)
        self.folios = column("q", nr_cpus * NR_FOLIO_BATCHES * PAGEVEC_SIZE)


@kernel("include/linux/pagevec.h", "folio_batch_add", formerly=("pagevec_add",), traced=False)
def folio_batch_add(batches: CpuFbatches, cpu: int, kind: int, pfn: int) -> int:
    """Put a page into a CPU's batch; returns for how many more there is room."""
    row = cpu * NR_FOLIO_BATCHES + kind
    nr = batches.nr[row]
    batches.folios[row * PAGEVEC_SIZE + nr] = pfn
    batches.nr[row] = nr + 1
    return PAGEVEC_SIZE - nr - 1


@kernel("include/linux/pagevec.h", "struct folio_batch", formerly=("struct pagevec",), traced=False)
def folio_batch(batches: CpuFbatches, cpu: int, kind: int) -> list[int]:
    """The pages in a CPU's batch, in the order in which they came."""
    row = cpu * NR_FOLIO_BATCHES + kind
    return list(batches.folios[row * PAGEVEC_SIZE : row * PAGEVEC_SIZE + batches.nr[row]])


@kernel("include/linux/pagevec.h", "folio_batch_reinit", formerly=("pagevec_reinit",), traced=False)
def folio_batch_reinit(batches: CpuFbatches, cpu: int, kind: int) -> None:
    """Make a CPU's batch empty."""
    batches.nr[cpu * NR_FOLIO_BATCHES + kind] = 0
