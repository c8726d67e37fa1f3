"""Watermarks: how much of each zone is kept free, and for whom.

free pages
    │      all is well: kswapd sleeps
────┼───── high
    │      kswapd works, if it was woken, until high is reached
────┼───── low
    │      an allocation wakes kswapd
────┼───── min
    │      ordinary allocations must reclaim for themselves; only urgent ones may have these pages
    0
"""

from __future__ import annotations

from math import isqrt

from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.numa import nodes_of
from kmemlab.boot.smp import num_online_cpus
from kmemlab.mm.globals import Mm
from kmemlab.mm.highmem import is_highmem
from kmemlab.mm.pageset import zone_set_pageset_high_and_batch
from kmemlab.mm.zone import WMARK_HIGH, WMARK_LOW, WMARK_MIN, WMARK_PROMO, populated_zone
from kmemlab.mm.zonelist import nr_free_zone_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import MIGRATE_PCPTYPES
from kmemlab.types.units import MIB, PAGE_SHIFT
from kmemlab.types.zone_type import MAX_NR_ZONES

MIN_FREE_KBYTES, MAX_FREE_KBYTES = 128, 262144
SWAP_CLUSTER_MAX = 32  # pages that are freed at a time
THP_MIN_RAM_PAGES = 512 * MIB >> PAGE_SHIFT  # with less, huge pages cost more than they give

THP_NEVER, THP_ALWAYS, THP_MADVISE = range(3)


@kernel("mm/page_alloc.c", "init_per_zone_wmark_min", formerly=("init_per_zone_pages_min",))
def init_per_zone_wmark_min(mm: Mm) -> None:
    """Set all watermarks and reserves, from the memory that the page allocator has by now."""
    calculate_min_free_kbytes(mm)
    setup_per_zone_wmarks(mm)
    refresh_zone_stat_thresholds(mm)
    setup_per_zone_lowmem_reserve(mm)
    setup_min_unmapped_and_slab(mm)
    khugepaged_min_free_kbytes_update(mm)


@kernel("mm/page_alloc.c", "calculate_min_free_kbytes")
def calculate_min_free_kbytes(mm: Mm) -> None:
    """min_free_kbytes = 4·√(KiB of low memory), between 128 KiB and 256 MiB; what the user set holds if it is more.

    It grows with the root because emergencies grow slower than memory: 16 MiB keep 512 KiB, 16 GiB keep 16 MiB.
    """
    lowmem_kbytes = nr_free_zone_pages(mm, mm.boot.config.zone_normal) << (PAGE_SHIFT - 10)
    new_min_free_kbytes = isqrt(lowmem_kbytes * 16)
    if new_min_free_kbytes > mm.user_min_free_kbytes:
        mm.min_free_kbytes = min(max(new_min_free_kbytes, MIN_FREE_KBYTES), MAX_FREE_KBYTES)
    else:
        mm.boot.printk.info(
            f"min_free_kbytes is not updated to {new_min_free_kbytes} "
            f"because user defined value {mm.user_min_free_kbytes} is preferred"
        )


@kernel("mm/page_alloc.c", "__setup_per_zone_wmarks", formerly=("setup_per_zone_pages_min",), lock="zone->lock")
def setup_per_zone_wmarks(mm: Mm) -> None:
    """Share min_free_kbytes out over the zones by size; low and high lie each a step above.

    The step is a quarter of min, or 0.1 % of the zone if that is more (watermark_scale_factor / 10000).
    """
    pages_min = mm.min_free_kbytes >> (PAGE_SHIFT - 10)
    zones = mm.zones()
    lowmem_pages = sum(zone.managed_pages for zone in zones if not is_highmem(mm, zone))
    for zone in zones:
        share = pages_min * zone.managed_pages // lowmem_pages if lowmem_pages else 0
        step = max(share >> 2, zone.managed_pages * mm.watermark_scale_factor // 10000)
        least = share
        if is_highmem(mm, zone):
            # The kernel does not need these pages for itself: only its reclaim wants a few to begin with.
            least = min(max(zone.managed_pages // 1024, SWAP_CLUSTER_MAX), 128)
        zone.watermark_boost = 0
        zone.watermark[WMARK_MIN] = least
        zone.watermark[WMARK_LOW] = least + step
        zone.watermark[WMARK_HIGH] = least + 2 * step
        zone.watermark[WMARK_PROMO] = least + 3 * step
    calculate_totalreserve_pages(mm)
    for zone in zones:
        zone_set_pageset_high_and_batch(mm, zone)


@kernel("mm/page_alloc.c", "setup_per_zone_lowmem_reserve")
def setup_per_zone_lowmem_reserve(mm: Mm) -> None:
    """Defend low zones against requests that could have been met higher.

    A request that may use zone j leaves in a lower zone i a part of what lies above i: 1/256 for DMA and DMA32.
    """
    for nid in nodes_of(mm.numa.node_online):
        zones = mm.node_data[nid].node_zones
        for zone in zones[:-1]:
            ratio = mm.lowmem_reserve_ratio[zone.index]
            managed_above = 0
            for upper in zones[zone.index + 1 :]:
                managed_above += upper.managed_pages
                clear = not ratio or not zone.managed_pages
                zone.lowmem_reserve[upper.index] = 0 if clear else managed_above // ratio
    calculate_totalreserve_pages(mm)


@kernel("mm/page_alloc.c", "calculate_totalreserve_pages")
def calculate_totalreserve_pages(mm: Mm) -> None:
    """How many pages of the machine are not for ordinary use: reserves and high watermarks together."""
    reserve_pages = 0
    for zone in mm.zones():
        highest = max(zone.lowmem_reserve[index] for index in range(zone.index, MAX_NR_ZONES))
        reserve_pages += min(highest + zone.watermark[WMARK_HIGH] + zone.watermark_boost, zone.managed_pages)
    mm.totalreserve_pages = reserve_pages


@invented("C's setup_min_unmapped_ratio and setup_min_slab_ratio in one")
def setup_min_unmapped_and_slab(mm: Mm) -> None:
    """The two limits of zone_reclaim_mode, in per cent of each node."""
    for nid in nodes_of(mm.numa.node_online):
        pgdat = mm.node_data[nid]
        pgdat.min_unmapped_pages = sum(z.managed_pages * mm.sysctl_min_unmapped_ratio // 100 for z in pgdat.node_zones)
        pgdat.min_slab_pages = sum(z.managed_pages * mm.sysctl_min_slab_ratio // 100 for z in pgdat.node_zones)


@kernel("mm/vmstat.c", "refresh_zone_stat_thresholds", left_out="per-node thresholds, percpu_drift_mark")
def refresh_zone_stat_thresholds(mm: Mm) -> None:
    """Set how many pages each CPU may count for itself, so that counting doesn't make CPUs fight for a cache line."""
    for zone in mm.populated_zones():
        zone.stat_threshold = calculate_normal_threshold(num_online_cpus(mm.boot), zone.managed_pages)


@kernel("mm/vmstat.c", "calculate_normal_threshold", traced=False)
def calculate_normal_threshold(online_cpus: int, managed_pages: int) -> int:
    """More CPUs and more memory allow for more error; 125 at most, as the counts are bytes.

    >>> calculate_normal_threshold(2, 3840), calculate_normal_threshold(2, 499701)
    (4, 20)
    """
    mem_128_mib = managed_pages >> (27 - PAGE_SHIFT)
    return min(125, 2 * online_cpus.bit_length() * (1 + mem_128_mib.bit_length()))


@kernel("mm/huge_memory.c", "hugepage_init", left_out="khugepaged itself, shrinkers, the huge zero page")
def hugepage_init(mm: Mm) -> None:
    """Switch transparent huge pages on, if the CPU has large pages and the machine at least 512 MiB."""
    if not boot_cpu_has(mm.boot, "pse"):
        return
    if mm.totalram_pages < THP_MIN_RAM_PAGES:
        mm.transparent_hugepage = THP_NEVER
        return
    start_stop_khugepaged(mm)


@kernel("mm/khugepaged.c", "start_stop_khugepaged", left_out="the thread itself")
def start_stop_khugepaged(mm: Mm) -> None:
    """Let khugepaged run if huge pages are wanted at all, and set what is kept free by that."""
    mm.khugepaged_thread = int(mm.transparent_hugepage != THP_NEVER)
    set_recommended_min_free_kbytes(mm)


@kernel("mm/khugepaged.c", "khugepaged_min_free_kbytes_update", lock="khugepaged_mutex")
def khugepaged_min_free_kbytes_update(mm: Mm) -> None:
    """Memory came or went: raise what is kept free again, if khugepaged runs."""
    if mm.khugepaged_thread and mm.transparent_hugepage != THP_NEVER:
        set_recommended_min_free_kbytes(mm)


@kernel("mm/khugepaged.c", "set_recommended_min_free_kbytes")
def set_recommended_min_free_kbytes(mm: Mm) -> None:
    """Keep enough free that whole pageblocks can be had: eleven in each zone, but 5 % of low memory at most."""
    if mm.transparent_hugepage == THP_NEVER:
        calculate_min_free_kbytes(mm)
    else:
        highest = mm.boot.config.zone_normal
        nr_zones = sum(1 for zone in mm.zones() if populated_zone(zone) and zone.index <= highest)
        pageblocks = nr_zones * 2 + nr_zones * MIGRATE_PCPTYPES * MIGRATE_PCPTYPES
        recommended = min(pageblocks << mm.page.pageblock_order, nr_free_zone_pages(mm, highest) // 20)
        recommended_kib = recommended << (PAGE_SHIFT - 10)
        if recommended_kib > mm.min_free_kbytes:
            if mm.user_min_free_kbytes >= 0:
                mm.boot.printk.info(
                    f"raising min_free_kbytes from {mm.min_free_kbytes} to {recommended_kib} "
                    "to help transparent hugepage allocations"
                )
            mm.min_free_kbytes = recommended_kib
    setup_per_zone_wmarks(mm)


@kernel("mm/huge_memory.c", "setup_transparent_hugepage", left_out="two bits of flags: one number does")
def setup_transparent_hugepage(mm: Mm, value: str) -> None:
    """transparent_hugepage=always, madvise or never; anything else changes nothing, as in C."""
    known = {"always": THP_ALWAYS, "madvise": THP_MADVISE, "never": THP_NEVER}
    if value in known:
        mm.transparent_hugepage = known[value]
    else:
        mm.boot.printk.info("transparent_hugepage= cannot parse, ignored")
