"""pg_data_t: one node's memory: its zones, and in which order its CPUs look for pages.

node 0                                     node 1
  zones   DMA  DMA32  (Normal) …             zones   (DMA)  DMA32  Normal …      in brackets: empty
  list    0:DMA32  0:DMA  1:Normal  1:DMA32  list    1:Normal  1:DMA32  0:DMA32  0:DMA
"""

from __future__ import annotations

from kmemlab.mm.lruvec import NR_LRU_LISTS, Lruvec
from kmemlab.mm.mem_map import MemMap
from kmemlab.mm.per_cpu_pages import NR_PCP_LISTS
from kmemlab.mm.vmstat import NR_VM_NODE_STAT_ITEMS
from kmemlab.mm.zone import LISTS_PER_ZONE, Zone
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell
from kmemlab.types.zone_type import MAX_NR_ZONES

ZONELIST_FALLBACK = 0  # all nodes, the nearest first
ZONELIST_NOFALLBACK = 1  # the own node only, for __GFP_THISNODE
MAX_ZONELISTS = 2


@kernel("include/linux/mmzone.h", "struct zonelist", left_out="the cached index of a zone within its zoneref")
class Zonelist(Struct):
    """Where an allocation looks, best first: entry i < `count` is zone `zone_idx[i]` of node `nid[i]`."""

    count = Cell()

    nid: Column
    zone_idx: Column

    def __init__(self, entries: int) -> None:
        self.nid = column("H", entries)
        self.zone_idx = column("B", entries)


COUNT = Zonelist.count.index  # zonelist.cells[…]: each request asks for this


@kernel("include/linux/mmzone.h", "pg_data_t")
class PglistData(Struct):
    """One node: a stretch of page frames that lie at the same distance, and the zones that it is cut into.

    All zones exist, most of them may be empty. `first_deferred_pfn` is the first page frame whose `struct page` waits
    for the threads of `page_alloc_init_late` (all ones: none waits).
    """

    node_start_pfn = Cell()
    node_spanned_pages = Cell()
    node_present_pages = Cell()
    nr_zones = Cell()
    first_deferred_pfn = U64Cell()
    min_unmapped_pages = Cell()
    min_slab_pages = Cell()
    # what kswapd was last asked for; the highest zone is MAX_NR_ZONES if it was not asked
    kswapd_order = Cell()
    kswapd_highest_zoneidx = Cell()
    kswapd_failures = Cell()  # how often in a row it could free nothing
    flags = Cell()  # PGDAT_…
    nr_writeback_throttled = Cell()  # how many wait for the disk while they free pages
    nr_reclaim_start = Cell()  # nr_throttled_written when the first of them began to
    # ours, as kswapd is called again each jiffy: until when it sleeps lightly (0: it does not), and its local variables
    kswapd_sleep_until = Cell()
    kswapd_reclaim_order = Cell()
    kswapd_prev_zoneidx = Cell()
    kswapd_awake = Cell()  # ours: it was woken and has not gone to sleep again (C: nobody waits on kswapd_wait)

    # what kcompactd was last asked for: the largest order, and the highest zone anybody asked for
    kcompactd_max_order = Cell()
    kcompactd_highest_zoneidx = Cell()
    proactive_compact_trigger = Cell()  # vm.compaction_proactiveness was written
    kcompactd_awake = Cell()  # ours: it was woken and has not gone to sleep again
    kcompactd_wakes_at = Cell()  # ours: the jiffy in which it looks round without being woken

    vm_stat: Column

    def __init__(self, page: MemMap, node_id: int, zone_names: tuple[str, ...], nr_nodes: int, nr_cpus: int) -> None:
        self.node_id = node_id
        self.kswapd_highest_zoneidx = MAX_NR_ZONES
        self.kcompactd_highest_zoneidx = MAX_NR_ZONES - 1
        self.vm_stat = column("q", NR_VM_NODE_STAT_ITEMS)
        first_slot = node_id * MAX_NR_ZONES
        pcp_heads = page.max_pfn + nr_nodes * MAX_NR_ZONES * LISTS_PER_ZONE
        self.node_zones = tuple(
            Zone(page, node_id, index, name, first_slot + index, pcp_heads, nr_cpus)
            for index, name in enumerate(zone_names)
        )
        lru_heads = pcp_heads + nr_nodes * MAX_NR_ZONES * nr_cpus * NR_PCP_LISTS
        self.lruvec = Lruvec(page, lru_heads + node_id * NR_LRU_LISTS)
        self.node_zonelists = tuple(Zonelist(nr_nodes * MAX_NR_ZONES) for _ in range(MAX_ZONELISTS))


@kernel("include/linux/mmzone.h", "pgdat_end_pfn", traced=False)
def pgdat_end_pfn(pgdat: PglistData) -> int:
    """The first page frame behind the node."""
    return pgdat.node_start_pfn + pgdat.node_spanned_pages
