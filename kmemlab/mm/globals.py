"""The global variables of the page allocator, in one struct: what C spreads over mm/page_alloc.c and mm/mm_init.c."""

from __future__ import annotations

from typing import Any

from kmemlab.boot.globals import Boot
from kmemlab.boot.numa import NumaInfo
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.hardware.disk import Disk
from kmemlab.mm.address_space import AddressSpaces
from kmemlab.mm.compact_control import NR_COMPACT_CONTROLS, NR_COMPACT_LISTS, CompactControl
from kmemlab.mm.context import Context
from kmemlab.mm.files import Files
from kmemlab.mm.folio_batch import CpuFbatches
from kmemlab.mm.hstate import Hugetlb
from kmemlab.mm.lruvec import NR_LRU_LISTS
from kmemlab.mm.mem_map import MemMap
from kmemlab.mm.mempolicy import Mempolicy
from kmemlab.mm.memtype import Memtypes
from kmemlab.mm.node import PglistData
from kmemlab.mm.per_cpu_pages import NR_PCP_LISTS
from kmemlab.mm.swap_info import Swap
from kmemlab.mm.vm_event import NR_VM_EVENT_ITEMS
from kmemlab.mm.vmalloc import Vmalloc
from kmemlab.mm.vmap_block import vmap_block_pages
from kmemlab.mm.xarray import nodes_for
from kmemlab.mm.zone import LISTS_PER_ZONE, Zone
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.gfp import GFP_BOOT_MASK, GFP_ZONEMASK, gfp_zone_index
from kmemlab.types.zone_type import MAX_NR_ZONES

LOWMEM_RESERVE_RATIO = {"DMA": 256, "DMA32": 256, "Normal": 32, "HighMem": 0, "Movable": 0, "Device": 0}
MAX_SHRINKERS = 32
NR_RECLAIM_WAITS = 5  # reasons for which one who frees pages may have to wait


@invented("C's global variables are fields here, so that a machine can be copied and rewound")
class Mm(Struct):
    """What the page allocator knows of the whole machine; page counts are in pages.

    At power-on all is 0 except the values that the kernel image itself brings (tunables).
    """

    # mm/page_alloc.c
    totalram_pages = Cell()
    totalhigh_pages = Cell()  # mm/highmem.c: those of them that are in HighMem
    reset_managed_pages_done = Cell()  # mm/memblock.c
    nr_kernel_pages = Cell()  # present pages without memory map and reserve: what hash tables are sized by
    nr_all_pages = Cell()
    dma_reserve = Cell()
    totalreserve_pages = Cell()
    # what is done to pages: init_on_alloc=, init_on_free=, page_poison= on the command line
    init_on_alloc = Cell()
    init_on_free = Cell()
    page_poisoning = Cell()
    gfp_allowed_mask = Cell()  # bits that a request may have: early in boot nobody may wait
    nopage_rs_begin = Cell()  # the rate limit of failure reports: since when, and how many
    nopage_rs_printed = Cell()
    page_group_by_mobility_disabled = Cell()
    movable_zone = Cell()
    policy_zone = Cell()  # mm/mempolicy.c: the highest zone that memory policies apply to
    # kernelcore= and movablecore=, in pages or per cent
    required_kernelcore = Cell()
    required_kernelcore_percent = Cell()
    required_movablecore = Cell()
    required_movablecore_percent = Cell()
    mirrored_kernelcore = Cell()
    stack_depot_want_early_init = Cell()  # lib/stackdepot.c: somebody will store call stacks
    # how far defer_init has come
    prev_end_pfn = Cell()
    nr_initialised = Cell()
    bucket_order = Cell()  # mm/workingset.c: how coarse the clock of shadows is
    wb_start_all = Cell()  # fs/fs-writeback.c: somebody wants all dirty pages written
    in_worker = Cell()  # ours: a daemon runs already while somebody waits
    nr_swap_pages = Cell()  # mm/swapfile.c: free slots of all swap areas
    vm_committed_as = Cell()  # mm/util.c: pages that programs have been promised
    total_swap_pages = Cell()  # mm/swapfile.c: slots of all swap areas
    oom_reaper_timers = Cell()  # victims of the OOM killer whose memory will be taken if they don't end by themselves
    # tunables (/proc/sys/vm)
    sysctl_extfrag_threshold = Cell()  # compaction: a zone less fragmented than this, in 1/1000, lacks memory
    sysctl_compaction_proactiveness = Cell()  # how soon kcompactd works without being asked, 0 to 100
    sysctl_compact_unevictable_allowed = Cell()
    panic_on_oom = Cell()  # mm/oom_kill.c
    oom_kill_allocating_task = Cell()
    oom_dump_tasks = Cell()
    sysctl_overcommit_memory = Cell()  # mm/util.c: OVERCOMMIT_…
    sysctl_overcommit_ratio = Cell()  # per cent
    sysctl_overcommit_kbytes = Cell()
    sysctl_user_reserve_kbytes = Cell()
    vm_swappiness = Cell()
    vm_dirty_ratio = Cell()  # per cent of what could be cache
    dirty_background_ratio = Cell()
    vm_dirty_bytes = Cell()  # the same two limits in bytes; 0: the ratio holds
    dirty_background_bytes = Cell()
    vm_highmem_is_dirtyable = Cell()
    dirty_writeback_interval = Cell()  # 1/100 s
    dirty_expire_interval = Cell()
    vfs_cache_pressure = Cell()  # per cent: how eagerly names and inodes are given up
    drop_caches_quiet = Cell()  # fs/drop_caches.c: no line in the log any more
    min_free_kbytes = Cell()
    user_min_free_kbytes = Cell()
    watermark_scale_factor = Cell()
    watermark_boost_factor = Cell()
    percpu_pagelist_high_fraction = Cell()
    sysctl_min_unmapped_ratio = Cell()
    sysctl_min_slab_ratio = Cell()
    transparent_hugepage = Cell()
    khugepaged_thread = Cell()
    memhp_default_online_type = Cell()  # what happens to memory that is plugged in: MMOP_…

    lowmem_reserve_ratio: Column
    nr_deferred: Column  # mm/vmscan.c: objects that shrinkers were to look at and did not, MAX_SHRINKERS a node
    reclaim_waits: Column  # ours: of each reason to wait while freeing pages, how often; then, how many jiffies
    vm_event: Column  # mm/vmstat.c: what happened, over all CPUs
    super_block: Any = None  # floor alloc/ sets it: from a shrinker one comes to the names and inodes in memory
    processes: Any  # floor process/ sets it: from a page one comes to the page tables that map it

    def __init__(self, boot: Boot, numa: NumaInfo, max_pfn: int) -> None:
        """`max_pfn` is the end of the highest memory that the machine can ever have."""
        nr_nodes = numa.nr_nodes
        names = boot.config.zone_names
        self.boot = boot
        self.numa = numa
        self.current = Context(boot.printk)
        nr_cpus = num_possible_cpus(boot.spec)
        list_heads = nr_nodes * (MAX_NR_ZONES * (LISTS_PER_ZONE + nr_cpus * NR_PCP_LISTS) + NR_LRU_LISTS)
        compact_heads = NR_COMPACT_CONTROLS * NR_COMPACT_LISTS
        self.page = MemMap(max_pfn, list_heads + compact_heads, boot.config.pageblock_order)
        self.node_data = tuple(PglistData(self.page, nid, names, nr_nodes, nr_cpus) for nid in range(nr_nodes))
        self.cpu_fbatches = CpuFbatches(nr_cpus)
        self.compact_controls = tuple(
            CompactControl(self.page.max_pfn + list_heads + nth * NR_COMPACT_LISTS)
            for nth in range(NR_COMPACT_CONTROLS)
        )
        self.nr_deferred = column("q", nr_nodes * MAX_SHRINKERS)
        self.reclaim_waits = column("q", 2 * NR_RECLAIM_WAITS)
        self.vm_event = column("q", NR_VM_EVENT_ITEMS)
        # Constants, looked up at each request and each free: a zone by the four zone bits, and by Zone.slot (0: none).
        self.gfp_zone_table = tuple(gfp_zone_index(names, bits) for bits in range(GFP_ZONEMASK + 1))
        self.has_numa = boot.config.numa
        self.has_dma32 = "DMA32" in names
        none = (None,) * (MAX_NR_ZONES - len(names))
        self.zone_table = (None, *(zone for pgdat in self.node_data for zone in (*pgdat.node_zones, *none)))
        self.gfp_allowed_mask = GFP_BOOT_MASK
        self.disk = Disk()
        self.files = Files()
        self.swap = Swap(nr_cpus, self.disk.nr_blocks)
        # Each slot of a swap area that is in use has a page or a shadow: 64 to a node, and some nodes above those.
        self.mappings = AddressSpaces(nodes_for(max_pfn) + self.disk.nr_blocks // 60)
        self.hugetlb = Hugetlb(nr_nodes, max_pfn)
        self.mempolicy = Mempolicy(nr_nodes)
        self.memtypes = Memtypes()
        self.vmalloc = Vmalloc(nr_cpus, vmap_block_pages(boot.config))
        self.node_has_memory = column("B", nr_nodes)  # node_states[N_MEMORY]
        self.node_load = column("q", nr_nodes)
        self.zone_movable_pfn = column("q", nr_nodes)
        self.arch_zone_lowest_possible_pfn = column("q", MAX_NR_ZONES)
        self.arch_zone_highest_possible_pfn = column("q", MAX_NR_ZONES)
        self.lowmem_reserve_ratio = column("q", len(names))
        for index, name in enumerate(names):
            self.lowmem_reserve_ratio[index] = LOWMEM_RESERVE_RATIO[name]
        self.min_free_kbytes = 1024
        self.user_min_free_kbytes = -1
        self.watermark_scale_factor = 10
        self.watermark_boost_factor = 15000
        self.sysctl_min_unmapped_ratio = 1
        self.sysctl_min_slab_ratio = 5
        self.oom_dump_tasks = 1
        self.sysctl_overcommit_ratio = 50
        self.sysctl_user_reserve_kbytes = 1 << 17
        self.sysctl_extfrag_threshold = 500
        self.sysctl_compaction_proactiveness = 20
        self.sysctl_compact_unevictable_allowed = 1
        self.vm_swappiness = 60
        self.vm_dirty_ratio = 20
        self.dirty_background_ratio = 10
        self.dirty_writeback_interval = 500
        self.dirty_expire_interval = 3000
        self.vfs_cache_pressure = 100
        self.transparent_hugepage = 1  # always

    def zones(self) -> list[Zone]:
        """Every zone of every online node, nodes ascending (C's `for_each_zone`)."""
        online = self.numa.node_online
        return [zone for pgdat in self.node_data if online[pgdat.node_id] for zone in pgdat.node_zones]

    def populated_zones(self) -> list[Zone]:
        """The zones that have memory (C's `for_each_populated_zone`)."""
        return [zone for zone in self.zones() if zone.present_pages]


# mm.cells[…]: each request asks for these.
GFP_ALLOWED_MASK, GROUP_BY_MOBILITY_DISABLED = Mm.gfp_allowed_mask.index, Mm.page_group_by_mobility_disabled.index
INIT_ON_ALLOC, INIT_ON_FREE, PAGE_POISONING = Mm.init_on_alloc.index, Mm.init_on_free.index, Mm.page_poisoning.index
