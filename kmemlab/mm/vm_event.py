"""What the kernel counts as it happens: events (/proc/vmstat), and where pages came from on a NUMA machine."""

from __future__ import annotations

from kmemlab.sim.kernel import invented
from kmemlab.types.zone_type import MAX_NR_ZONES

# enum vm_event_item, as far as the model counts. The first three have one counter a zone index.
PGALLOC = 0
ALLOCSTALL = PGALLOC + MAX_NR_ZONES
PGSCAN_SKIP = ALLOCSTALL + MAX_NR_ZONES
VM_EVENT_NAMES = (
    "pgfree", "pgactivate", "pgdeactivate", "pgfault", "pgmajfault", "pgrefill", "pgsteal_kswapd", "pgsteal_direct",
    "pgscan_kswapd", "pgscan_direct", "pgscan_direct_throttle", "pgscan_anon", "pgscan_file", "pgsteal_anon",
    "pgsteal_file", "pginodesteal", "slabs_scanned", "kswapd_inodesteal", "kswapd_low_wmark_hit_quickly",
    "kswapd_high_wmark_hit_quickly", "pageoutrun", "pgrotated", "drop_pagecache", "drop_slab", "oom_kill",
    "pgmigrate_success", "pgmigrate_fail", "compact_migrate_scanned", "compact_free_scanned", "compact_isolated",
    "compact_stall", "compact_fail", "compact_success", "compact_daemon_wake", "compact_daemon_migrate_scanned",
    "compact_daemon_free_scanned", "unevictable_pgs_culled", "unevictable_pgs_rescued",
    "unevictable_pgs_mlocked", "unevictable_pgs_munlocked", "unevictable_pgs_stranded", "swap_ra", "swap_ra_hit",
    "pgpgin", "pgpgout", "pswpin", "pswpout",
)  # fmt: skip
"""The events of the whole machine, by the names that /proc/vmstat prints."""
(
    PGFREE, PGACTIVATE, PGDEACTIVATE, PGFAULT, PGMAJFAULT, PGREFILL, PGSTEAL_KSWAPD, PGSTEAL_DIRECT, PGSCAN_KSWAPD,
    PGSCAN_DIRECT, PGSCAN_DIRECT_THROTTLE, PGSCAN_ANON, PGSCAN_FILE, PGSTEAL_ANON, PGSTEAL_FILE, PGINODESTEAL,
    SLABS_SCANNED, KSWAPD_INODESTEAL, KSWAPD_LOW_WMARK_HIT_QUICKLY, KSWAPD_HIGH_WMARK_HIT_QUICKLY, PAGEOUTRUN,
    PGROTATED, DROP_PAGECACHE, DROP_SLAB, OOM_KILL, PGMIGRATE_SUCCESS, PGMIGRATE_FAIL, COMPACTMIGRATE_SCANNED,
    COMPACTFREE_SCANNED, COMPACTISOLATED, COMPACTSTALL, COMPACTFAIL, COMPACTSUCCESS, KCOMPACTD_WAKE,
    KCOMPACTD_MIGRATE_SCANNED, KCOMPACTD_FREE_SCANNED, UNEVICTABLE_PGCULLED, UNEVICTABLE_PGRESCUED,
    UNEVICTABLE_PGMLOCKED, UNEVICTABLE_PGMUNLOCKED, UNEVICTABLE_PGSTRANDED, SWAP_RA,
    SWAP_RA_HIT, PGPGIN, PGPGOUT, PSWPIN, PSWPOUT,
) = range(PGSCAN_SKIP + MAX_NR_ZONES, PGSCAN_SKIP + MAX_NR_ZONES + len(VM_EVENT_NAMES))  # fmt: skip
NR_VM_EVENT_ITEMS = PGSCAN_SKIP + MAX_NR_ZONES + len(VM_EVENT_NAMES)

# enum numa_stat_item.
NUMA_HIT, NUMA_MISS, NUMA_FOREIGN, NUMA_INTERLEAVE_HIT, NUMA_LOCAL, NUMA_OTHER = range(6)
NUMA_STAT_NAMES = ("numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local", "numa_other")
NR_VM_NUMA_EVENT_ITEMS = len(NUMA_STAT_NAMES)


@invented("C's TEXTS_FOR_ZONES makes the names by the preprocessor", traced=False)
def texts_for_zones(event: str, zone_names: tuple[str, ...]) -> list[str]:
    """The names of an event's counters, one a zone of the configuration.

    >>> texts_for_zones("pgalloc", ("DMA", "Normal", "HighMem", "Movable"))
    ['pgalloc_dma', 'pgalloc_normal', 'pgalloc_high', 'pgalloc_movable']
    """
    return [f"{event}_{'high' if name == 'HighMem' else name.lower()}" for name in zone_names]
