"""struct per_cpu_pages: each CPU keeps a few free pages of each zone for itself, and needs no lock to take one.

pindex        0          1        2             3          4       …   11                  12         13
order         0          0        0             1          1       …   3                   9          9
type          Unmovable  Movable  Reclaimable   Unmovable  Movable …   Reclaimable         not mov.   Movable
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Struct
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_PCPTYPES

PAGE_ALLOC_COSTLY_ORDER = 3
"""Blocks of up to 2**3 pages are expected to be had; for larger ones nobody tries very hard."""

NR_LOWORDER_PCP_LISTS = MIGRATE_PCPTYPES * (PAGE_ALLOC_COSTLY_ORDER + 1)
NR_PCP_THP = 2
NR_PCP_LISTS = NR_LOWORDER_PCP_LISTS + NR_PCP_THP

BOOT_PAGESET_HIGH, BOOT_PAGESET_BATCH = 0, 1  # nothing stays on the lists


@kernel(
    "include/linux/mmzone.h",
    "struct per_cpu_pages",
    left_out="the lock: one CPU runs at a time; one struct a CPU: here a CPU is a row of each column",
)
class PerCpuPages(Struct):
    """The lists of all possible CPUs for one zone; page counts are in pages, not blocks.

    List `pindex` of CPU `cpu` has its head at node `head + cpu * NR_PCP_LISTS + pindex` of `page.lru`.
    """

    count: Column  # pages on all lists of the CPU together
    high: Column  # from how many pages on the lists are cut
    batch: Column  # how many pages come and go at a time
    free_factor: Column  # grows while the CPU only frees: more and more go at a time
    changed: Column  # pages came or went since the statistics were refreshed (C: vm_stat_diff is not 0)
    expire: Column  # refreshes of the statistics until an idle CPU gives back what it holds of another node

    def __init__(self, head: int, nr_cpus: int, pageblock_order: int) -> None:
        """`head` is the first node behind the pages that is free for these lists."""
        self.head = head
        self.nr_cpus = nr_cpus
        self.pageblock_order = pageblock_order
        self.count = column("q", nr_cpus)
        self.high = column("q", nr_cpus)
        self.batch = column("q", nr_cpus)
        self.free_factor = column("B", nr_cpus)
        self.changed = column("B", nr_cpus)
        self.expire = column("B", nr_cpus)


@kernel("mm/page_alloc.c", "order_to_pindex", traced=False)
def order_to_pindex(migratetype: int, order: int) -> int:
    """The number of the list for blocks of an order and type.

    >>> order_to_pindex(MIGRATE_MOVABLE, 0), order_to_pindex(0, 3), order_to_pindex(MIGRATE_MOVABLE, 9)
    (1, 9, 13)
    """
    if order > PAGE_ALLOC_COSTLY_ORDER:
        return NR_LOWORDER_PCP_LISTS + (migratetype == MIGRATE_MOVABLE)
    return MIGRATE_PCPTYPES * order + migratetype


@invented("C's &pcp->lists[order_to_pindex(migratetype, order)]", traced=False)
def pcp_list(pcp: PerCpuPages, cpu: int, migratetype: int, order: int) -> int:
    """The head of a CPU's list for blocks of an order and type."""
    return pcp.head + cpu * NR_PCP_LISTS + order_to_pindex(migratetype, order)


@kernel("mm/page_alloc.c", "pindex_to_order", traced=False)
def pindex_to_order(pcp: PerCpuPages, pindex: int) -> int:
    """The order of the blocks on a list."""
    return pcp.pageblock_order if pindex >= NR_LOWORDER_PCP_LISTS else pindex // MIGRATE_PCPTYPES


@kernel("mm/page_alloc.c", "pcp_allowed_order", traced=False)
def pcp_allowed_order(pcp: PerCpuPages, order: int) -> bool:
    """Whether blocks of this order have lists: the cheap orders, and the size of a huge page."""
    return order <= PAGE_ALLOC_COSTLY_ORDER or order == pcp.pageblock_order
