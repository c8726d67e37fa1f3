"""The texts under /proc that tell about memory, in the kernel's own formats. They only read."""

from __future__ import annotations

from kmemlab.alloc.percpu_chunk import pcpu_nr_pages
from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.globals import Boot
from kmemlab.boot.mtrr import mtrr_lines
from kmemlab.boot.numa import nodes_of
from kmemlab.boot.page_tables import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K, PUD_SIZE
from kmemlab.boot.resource import iomem_lines
from kmemlab.boot.smp import num_online_cpus
from kmemlab.boot.vmalloc_area import vmalloc_total
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.swaps import si_swapinfo
from kmemlab.mm.globals import Mm
from kmemlab.mm.highmem import highmem_zones
from kmemlab.mm.kswapd_wake import MAX_RECLAIM_RETRIES
from kmemlab.mm.lruvec import LRU_ACTIVE_FILE, LRU_INACTIVE_FILE, NR_LRU_LISTS
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_writeback import global_node_page_state
from kmemlab.mm.vm_event import NUMA_STAT_NAMES
from kmemlab.mm.vmstat import (
    NR_ANON_MAPPED,
    NR_FILE_DIRTY,
    NR_FILE_MAPPED,
    NR_FILE_PAGES,
    NR_KERNEL_MISC_RECLAIMABLE,
    NR_KERNEL_STACK_KB,
    NR_MLOCK,
    NR_PAGETABLE,
    NR_SHMEM,
    NR_SLAB_RECLAIMABLE,
    NR_SLAB_UNRECLAIMABLE,
    NR_SWAPCACHE,
    NR_WRITEBACK,
    ZONE_STAT_NAMES,
    node_stat_names,
)
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_LOW, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import wmark_pages
from kmemlab.process.overcommit import vm_commit_limit, vm_memory_committed
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pgtable import PMD, page_size_text
from kmemlab.types.units import KIB, PAGE_SIZE


@invented("the kernel log as `dmesg` prints it, without time stamps")
def dmesg(kernel: Kernel) -> str:
    """What the kernel has said so far."""
    return "".join(f"{line}\n" for line in kernel.boot.printk.lines())


@invented("/proc/iomem as root sees it; a line is made by r_show")
def iomem(kernel: Kernel) -> str:
    """Who claims which physical addresses. Devices are not modelled, so their lines are missing."""
    return "".join(f"{line}\n" for line in iomem_lines(kernel.boot.iomem_resource))


@invented("/proc/mtrr; a line is made by mtrr_seq_show")
def mtrr(kernel: Kernel) -> str | None:
    """Which ranges of addresses are cached in another way than the rest; None on a machine without MTRRs."""
    if "mtrr" not in kernel.boot.spec.cpus.flags:
        return None
    return "".join(f"{line}\n" for line in mtrr_lines(kernel.boot.mtrr))


@kernel("mm/vmstat.c", "frag_show")
def buddyinfo(kernel: Kernel) -> str:
    """How many free blocks of each order each zone has."""
    return "".join(
        f"Node {zone.node}, zone {zone.name:>8} {''.join(f'{count:6} ' for count in zone.nr_free)}\n"
        for zone in kernel.mm.populated_zones()
    )


@kernel("mm/vmstat.c", "zoneinfo_show")
def zoneinfo(kernel: Kernel) -> str:
    """Everything about each zone, empty zones too.

    Counters of what the model doesn't have are 0, as there are no such pages in it.
    """
    text = ""
    for nid in nodes_of(kernel.numa.node_online):
        pgdat = kernel.mm.node_data[nid]
        first = next((zone for zone in pgdat.node_zones if zone.present_pages), None)
        for zone in pgdat.node_zones:
            text += zoneinfo_zone(kernel, pgdat, zone, zone is first)
    return text


@kernel("mm/vmstat.c", "zoneinfo_show_print", traced=False)
def zoneinfo_zone(kernel: Kernel, pgdat: PglistData, zone: Zone, with_node: bool) -> str:
    """One zone's part of /proc/zoneinfo; the first populated zone of a node tells about the node, too."""
    lines = [f"Node {pgdat.node_id}, zone {zone.name:>8}"]
    if with_node:
        lines.append("  per-node stats")
        names = node_stat_names(kernel.boot.config)
        lines += [f"      {name:<12} {pgdat.vm_stat[at]}" for at, name in enumerate(names)]
    lines.append(f"  pages free     {zone.vm_stat[NR_FREE_PAGES]}")
    boost = zone.watermark_boost
    fields = (
        ("boost", boost),
        ("min", zone.watermark[WMARK_MIN] + boost),
        ("low", zone.watermark[WMARK_LOW] + boost),
        ("high", zone.watermark[WMARK_HIGH] + boost),
        ("spanned", zone.spanned_pages),
        ("present", zone.present_pages),
        ("managed", zone.managed_pages),
        ("cma", 0),
    )
    lines += [f"        {name:<8} {value}" for name, value in fields]
    protection = zone.lowmem_reserve[: len(pgdat.node_zones)]
    lines.append(f"        protection: ({', '.join(str(pages) for pages in protection)})")
    if zone.present_pages:
        lines += [f"      {name:<12} {zone.vm_stat[at]}" for at, name in enumerate(ZONE_STAT_NAMES)]
        if kernel.boot.config.numa:
            lines += [f"      {name:<12} {zone.vm_numa_event[at]}" for at, name in enumerate(NUMA_STAT_NAMES)]
        lines += pageset_lines(kernel, zone)
        unreclaimable = int(pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES)
        lines += [f"  node_unreclaimable:  {unreclaimable}", f"  start_pfn:           {zone.zone_start_pfn}"]
    return "".join(f"{line}\n" for line in lines)


@invented("a part of zoneinfo_show_print", traced=False)
def pageset_lines(kernel: Kernel, zone: Zone) -> list[str]:
    """How many pages each online CPU's lists hold, and their limits."""
    lines, pcp = ["  pagesets"], zone.per_cpu_pageset
    for cpu in range(num_online_cpus(kernel.boot)):
        lines += [
            f"    cpu: {cpu}",
            f"              count: {pcp.count[cpu]}",
            f"              high:  {pcp.high[cpu]}",
            f"              batch: {pcp.batch[cpu]}",
            f"  vm stats threshold: {zone.stat_threshold}",
        ]
    return lines


@kernel("fs/proc/meminfo.c", "meminfo_proc_show", left_out="what belongs to subsystems that the model doesn't have")
def meminfo(kernel: Kernel) -> str:
    """Where the memory is, by kinds; sizes in KiB."""
    mm = kernel.mm
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.zones())
    sizes = {
        "MemTotal": mm.totalram_pages * PAGE_SIZE,
        "MemFree": free * PAGE_SIZE,
        "MemAvailable": si_mem_available(kernel) * PAGE_SIZE,
        "Buffers": nr_blockdev_pages(mm) * PAGE_SIZE,
        "Cached": cached_pages(mm) * PAGE_SIZE,
        "SwapCached": global_node_page_state(mm, NR_SWAPCACHE) * PAGE_SIZE,
        **lru_sizes(mm),
        **highmem_sizes(mm),
        "SwapTotal": si_swapinfo(mm)[0] * PAGE_SIZE,
        "SwapFree": si_swapinfo(mm)[1] * PAGE_SIZE,
        "Dirty": global_node_page_state(mm, NR_FILE_DIRTY) * PAGE_SIZE,
        "Writeback": global_node_page_state(mm, NR_WRITEBACK) * PAGE_SIZE,
        "AnonPages": global_node_page_state(mm, NR_ANON_MAPPED) * PAGE_SIZE,
        "Mapped": global_node_page_state(mm, NR_FILE_MAPPED) * PAGE_SIZE,
        "Shmem": global_node_page_state(mm, NR_SHMEM) * PAGE_SIZE,
        **slab_sizes(mm),
        "KernelStack": global_node_page_state(mm, NR_KERNEL_STACK_KB) * KIB,
        "PageTables": global_node_page_state(mm, NR_PAGETABLE) * PAGE_SIZE,
        "CommitLimit": vm_commit_limit(mm) * PAGE_SIZE,
        "Committed_AS": vm_memory_committed(mm) * PAGE_SIZE,
        "VmallocTotal": vmalloc_total(kernel.boot),
        "VmallocUsed": mm.vmalloc.nr_vmalloc_pages * PAGE_SIZE,
        "VmallocChunk": 0,  # what it would mean changed too often
        "Percpu": pcpu_nr_pages(kernel.percpu) * PAGE_SIZE,
    }
    lines = [size_line(name, size) for name, size in sizes.items()]
    return "".join(lines + hugetlb_report_meminfo(mm) + arch_report_meminfo(kernel.boot))


@invented("a line of meminfo_proc_show", traced=False)
def cached_pages(mm: Mm) -> int:
    """Pages of files: all that mappings hold, without what belongs to swap and to the disk itself."""
    return max(
        0, global_node_page_state(mm, NR_FILE_PAGES) - global_node_page_state(mm, NR_SWAPCACHE) - nr_blockdev_pages(mm)
    )


@invented("the part of meminfo_proc_show that tells about LRU lists", traced=False)
def lru_sizes(mm: Mm) -> dict[str, int]:
    """The lengths of the lists, of both kinds together and each by itself."""
    inactive_anon, active_anon, inactive_file, active_file, unevictable = (
        global_node_page_state(mm, lru) * PAGE_SIZE for lru in range(NR_LRU_LISTS)
    )
    return {
        "Active": active_anon + active_file,
        "Inactive": inactive_anon + inactive_file,
        "Active(anon)": active_anon,
        "Inactive(anon)": inactive_anon,
        "Active(file)": active_file,
        "Inactive(file)": inactive_file,
        "Unevictable": unevictable,
        "Mlocked": sum(zone.vm_stat[NR_MLOCK] for zone in mm.zones()) * PAGE_SIZE,
    }


@invented("the HIGHMEM part of meminfo_proc_show")
def highmem_sizes(mm: Mm) -> dict[str, int]:
    """How much of the memory, and of what is free of it, is high and low; nothing where all is low."""
    if not mm.boot.config.highmem:
        return {}
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.zones())
    free_high = sum(zone.vm_stat[NR_FREE_PAGES] for zone in highmem_zones(mm))
    return {
        "HighTotal": mm.totalhigh_pages * PAGE_SIZE,
        "HighFree": free_high * PAGE_SIZE,
        "LowTotal": (mm.totalram_pages - mm.totalhigh_pages) * PAGE_SIZE,
        "LowFree": (free - free_high) * PAGE_SIZE,
    }


@invented("the part of meminfo_proc_show that tells about slabs")
def slab_sizes(mm: Mm) -> dict[str, int]:
    """The memory of all slabs, and of large kmallocs: what could be had back from shrinkers, and what could not."""
    reclaimable = sum(pgdat.vm_stat[NR_SLAB_RECLAIMABLE] for pgdat in mm.node_data) * PAGE_SIZE
    unreclaimable = sum(pgdat.vm_stat[NR_SLAB_UNRECLAIMABLE] for pgdat in mm.node_data) * PAGE_SIZE
    misc = global_node_page_state(mm, NR_KERNEL_MISC_RECLAIMABLE) * PAGE_SIZE
    return {
        "KReclaimable": reclaimable + misc,
        "Slab": reclaimable + unreclaimable,
        "SReclaimable": reclaimable,
        "SUnreclaim": unreclaimable,
    }


@invented("show_val_kb", traced=False)
def size_line(name: str, size: int) -> str:
    """A line of /proc/meminfo: a size in bytes, shown in KiB."""
    return f"{name + ':':<16}{size // KIB:8} kB\n"


@kernel("mm/hugetlb.c", "hugetlb_report_meminfo", left_out="reserved and surplus pages: there are none")
def hugetlb_report_meminfo(mm: Mm) -> list[str]:
    """The pool of the default size, and the memory of all pools; nothing where the CPU has no large pages."""
    pools = mm.hugetlb.registered()
    if not boot_cpu_has(mm.boot, "pse") or not pools:
        return []
    default = pools[mm.hugetlb.default_hstate_idx]
    counts = {"Total": default.nr_huge_pages, "Free": default.free_huge_pages, "Rsvd": 0, "Surp": 0}
    lines = [f"HugePages_{name + ':':<9}{count:5}\n" for name, count in counts.items()]
    total = sum(h.nr_huge_pages * (PAGE_SIZE << h.order) for h in pools)
    return [*lines, size_line("Hugepagesize", PAGE_SIZE << default.order), size_line("Hugetlb", total)]


@kernel("arch/x86/mm/pat/set_memory.c", "arch_report_meminfo")
def arch_report_meminfo(boot: Boot) -> list[str]:
    """How much of the direct map is mapped by pages of which size."""
    tables = boot.direct_map
    large = page_size_text(PMD, boot.swapper_pg_dir.layout)
    sizes = [("DirectMap4k", PG_LEVEL_4K, PAGE_SIZE), (f"DirectMap{large}", PG_LEVEL_2M, tables.pmd_size)]
    if tables.direct_gbpages:
        sizes.append(("DirectMap1G", PG_LEVEL_1G, PUD_SIZE))
    return [size_line(name, tables.direct_pages_count[level] * size) for name, level, size in sizes]


@kernel("mm/page_alloc.c", "si_mem_available", left_out="other kernel memory that could be reclaimed")
def si_mem_available(kernel: Kernel) -> int:
    """How many pages programs could get without swapping.

    These are the free ones without the reserves, and of files' pages and of slabs with shrinkers all that exceeds the
    low watermarks, or half of them.
    """
    mm = kernel.mm
    available = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.zones()) - mm.totalreserve_pages
    low = sum(wmark_pages(zone, WMARK_LOW) for zone in mm.zones())
    for items in ((LRU_INACTIVE_FILE, LRU_ACTIVE_FILE), (NR_SLAB_RECLAIMABLE,)):
        pages = sum(pgdat.vm_stat[item] for pgdat in mm.node_data for item in items)
        available += pages - min(pages // 2, low)
    return max(0, available)


@kernel("block/bdev.c", "nr_blockdev_pages", traced=False)
def nr_blockdev_pages(mm: Mm) -> int:
    """The pages that hold blocks of the disk itself."""
    mapping = mm.files.bdev_mapping
    return mm.mappings.nrpages[mapping] if mapping else 0


@invented("the files of /proc/sys/vm in one text, a line each")
def sys_vm(kernel: Kernel) -> str:
    """The tunables that the model has."""
    mm = kernel.mm
    values: dict[str, object] = {
        "dirty_background_bytes": mm.dirty_background_bytes,
        "dirty_background_ratio": mm.dirty_background_ratio,
        "dirty_bytes": mm.vm_dirty_bytes,
        "dirty_expire_centisecs": mm.dirty_expire_interval,
        "dirty_ratio": mm.vm_dirty_ratio,
        "dirty_writeback_centisecs": mm.dirty_writeback_interval,
        "lowmem_reserve_ratio": "\t".join(str(ratio) for ratio in mm.lowmem_reserve_ratio),
        "min_free_kbytes": mm.min_free_kbytes,
        "page-cluster": mm.swap.page_cluster,
        "percpu_pagelist_high_fraction": mm.percpu_pagelist_high_fraction,
        "swappiness": mm.vm_swappiness,
        "vfs_cache_pressure": mm.vfs_cache_pressure,
        "watermark_boost_factor": mm.watermark_boost_factor,
        "watermark_scale_factor": mm.watermark_scale_factor,
    }
    if mm.boot.config.numa:
        values |= {
            "min_slab_ratio": mm.sysctl_min_slab_ratio,
            "min_unmapped_ratio": mm.sysctl_min_unmapped_ratio,
            "numa_zonelist_order": "Node",
        }
    if mm.boot.config.highmem:
        values["highmem_is_dirtyable"] = mm.vm_highmem_is_dirtyable
    return "".join(f"{name}: {value}\n" for name, value in sorted(values.items()))
