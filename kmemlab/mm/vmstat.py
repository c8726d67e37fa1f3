"""The names of the kernel's counters, in the order of its enums: /proc/zoneinfo and /proc/vmstat print them so."""

from __future__ import annotations

from kmemlab.sim.kernel import invented
from kmemlab.types.config import KernelConfig

# enum zone_stat_item; NR_FREE_PAGES is the first.
ZONE_STAT_NAMES = (
    "nr_free_pages",
    "nr_zone_inactive_anon",
    "nr_zone_active_anon",
    "nr_zone_inactive_file",
    "nr_zone_active_file",
    "nr_zone_unevictable",
    "nr_zone_write_pending",
    "nr_mlock",
    "nr_bounce",
    "nr_zspages",
    "nr_free_cma",
)

# enum node_stat_item.
NODE_STAT_NAMES = (
    "nr_inactive_anon",
    "nr_active_anon",
    "nr_inactive_file",
    "nr_active_file",
    "nr_unevictable",
    "nr_slab_reclaimable",
    "nr_slab_unreclaimable",
    "nr_isolated_anon",
    "nr_isolated_file",
    "workingset_nodes",
    "workingset_refault_anon",
    "workingset_refault_file",
    "workingset_activate_anon",
    "workingset_activate_file",
    "workingset_restore_anon",
    "workingset_restore_file",
    "workingset_nodereclaim",
    "nr_anon_pages",
    "nr_mapped",
    "nr_file_pages",
    "nr_dirty",
    "nr_writeback",
    "nr_writeback_temp",
    "nr_shmem",
    "nr_shmem_hugepages",
    "nr_shmem_pmdmapped",
    "nr_file_hugepages",
    "nr_file_pmdmapped",
    "nr_anon_transparent_hugepages",
    "nr_vmscan_write",
    "nr_vmscan_immediate_reclaim",
    "nr_dirtied",
    "nr_written",
    "nr_throttled_written",
    "nr_kernel_misc_reclaimable",
    "nr_foll_pin_acquired",
    "nr_foll_pin_released",
    "nr_kernel_stack",
    "nr_page_table_pages",
    "nr_sec_page_table_pages",
    "nr_swapcached",
    "pgpromote_success",
    "pgpromote_candidate",
)
NR_VM_NODE_STAT_ITEMS = len(NODE_STAT_NAMES)

# The enumerators: where a counter stands in zone.vm_stat (after NR_FREE_PAGES, of zone.py) and in pgdat.vm_stat.
NR_ZONE_WRITE_PENDING = ZONE_STAT_NAMES.index("nr_zone_write_pending")
NR_MLOCK = ZONE_STAT_NAMES.index("nr_mlock")
NR_SLAB_RECLAIMABLE = NODE_STAT_NAMES.index("nr_slab_reclaimable")
NR_SLAB_UNRECLAIMABLE = NODE_STAT_NAMES.index("nr_slab_unreclaimable")
NR_ISOLATED_ANON = NODE_STAT_NAMES.index("nr_isolated_anon")
NR_ISOLATED = (NR_ISOLATED_ANON, NODE_STAT_NAMES.index("nr_isolated_file"))
NR_ANON_MAPPED = NODE_STAT_NAMES.index("nr_anon_pages")
NR_FILE_MAPPED = NODE_STAT_NAMES.index("nr_mapped")
NR_FILE_PAGES = NODE_STAT_NAMES.index("nr_file_pages")
NR_FILE_DIRTY = NODE_STAT_NAMES.index("nr_dirty")
NR_WRITEBACK = NODE_STAT_NAMES.index("nr_writeback")
NR_SHMEM = NODE_STAT_NAMES.index("nr_shmem")
NR_VMSCAN_WRITE = NODE_STAT_NAMES.index("nr_vmscan_write")
NR_VMSCAN_IMMEDIATE = NODE_STAT_NAMES.index("nr_vmscan_immediate_reclaim")
NR_DIRTIED = NODE_STAT_NAMES.index("nr_dirtied")
NR_WRITTEN = NODE_STAT_NAMES.index("nr_written")
NR_THROTTLED_WRITTEN = NODE_STAT_NAMES.index("nr_throttled_written")
NR_KERNEL_MISC_RECLAIMABLE = NODE_STAT_NAMES.index("nr_kernel_misc_reclaimable")
NR_KERNEL_STACK_KB = NODE_STAT_NAMES.index("nr_kernel_stack")
NR_PAGETABLE = NODE_STAT_NAMES.index("nr_page_table_pages")
NR_SWAPCACHE = NODE_STAT_NAMES.index("nr_swapcached")


@invented("#ifdef CONFIG_NUMA_BALANCING within the enum", traced=False)
def node_stat_names(config: KernelConfig) -> tuple[str, ...]:
    """The counters of a node that a configuration has: without NUMA no page is ever promoted."""
    return tuple(name for name in NODE_STAT_NAMES if config.numa or not name.startswith("pgpromote"))
