"""The texts under /proc that tell about memory, in the kernel's own formats. They only read."""

from __future__ import annotations

from kmemlab.boot.numa import nodes_of
from kmemlab.boot.resource import iomem_lines
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.node import PglistData
from kmemlab.mm.vmstat import NODE_STAT_NAMES, ZONE_STAT_NAMES
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_LOW, WMARK_MIN, Zone
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import KIB, PAGE_SIZE


@invented("the kernel log as `dmesg` prints it, without time stamps")
def dmesg(kernel: Kernel) -> str:
    """What the kernel has said so far."""
    return "".join(f"{line}\n" for line in kernel.boot.printk.lines())


@invented("/proc/iomem as root sees it; a line is made by r_show")
def iomem(kernel: Kernel) -> str:
    """Who claims which physical addresses. Devices are not modelled, so their lines are missing."""
    return "".join(f"{line}\n" for line in iomem_lines(kernel.boot.iomem_resource))


@kernel("mm/vmstat.c", "frag_show")
def buddyinfo(kernel: Kernel) -> str:
    """How many free blocks of each order each zone has."""
    return "".join(
        f"Node {zone.node}, zone {zone.name:>8} {''.join(f'{count:6} ' for count in zone.nr_free)}\n"
        for zone in kernel.mm.populated_zones()
    )


@kernel("mm/vmstat.c", "zoneinfo_show", left_out="numa_hit … numa_other; per-CPU lists exist only as their limits")
def zoneinfo(kernel: Kernel) -> str:
    """Everything about each zone, empty zones too.

    Counters of what the model doesn't have (LRU lists, slabs, page tables) are 0, as there are no such pages in it.
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
        lines += [f"      {name:<12} {pgdat.vm_stat[at]}" for at, name in enumerate(NODE_STAT_NAMES)]
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
    lines.append(f"        protection: ({', '.join(str(pages) for pages in zone.lowmem_reserve)})")
    if zone.present_pages:
        lines += [f"      {name:<12} {zone.vm_stat[at]}" for at, name in enumerate(ZONE_STAT_NAMES)]
        lines += pageset_lines(kernel, zone)
        lines += ["  node_unreclaimable:  0", f"  start_pfn:           {zone.zone_start_pfn}"]
    return "".join(f"{line}\n" for line in lines)


@invented("a part of zoneinfo_show_print", traced=False)
def pageset_lines(kernel: Kernel, zone: Zone) -> list[str]:
    """The limits of each online CPU's lists; no page is ever on them, as the model has no such lists yet."""
    lines = ["  pagesets"]
    for cpu in range(kernel.boot.spec.cpus.present):
        lines += [
            f"    cpu: {cpu}",
            "              count: 0",
            f"              high:  {zone.pageset_high}",
            f"              batch: {zone.pageset_batch}",
            f"  vm stats threshold: {zone.stat_threshold}",
        ]
    return lines


@kernel("fs/proc/meminfo.c", "meminfo_proc_show", left_out="all fields of page cache, slab, swap, vmalloc, huge pages")
def meminfo(kernel: Kernel) -> str:
    """MemTotal, MemFree and MemAvailable. The other fields belong to subsystems that the model does not have yet."""
    mm = kernel.mm
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.zones())
    pages = {"MemTotal": mm.totalram_pages, "MemFree": free, "MemAvailable": si_mem_available(kernel)}
    return "".join(f"{name + ':':<16}{count * PAGE_SIZE // KIB:8} kB\n" for name, count in pages.items())


@kernel("mm/page_alloc.c", "si_mem_available", left_out="page cache and slabs that could be reclaimed: there are none")
def si_mem_available(kernel: Kernel) -> int:
    """How many pages programs could get without swapping: the free ones, without the reserves."""
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in kernel.mm.zones())
    return max(0, free - kernel.mm.totalreserve_pages)


@invented("the files of /proc/sys/vm in one text, a line each")
def sys_vm(kernel: Kernel) -> str:
    """The tunables that the model has."""
    mm = kernel.mm
    values: dict[str, object] = {
        "lowmem_reserve_ratio": "\t".join(str(ratio) for ratio in mm.lowmem_reserve_ratio),
        "min_free_kbytes": mm.min_free_kbytes,
        "min_slab_ratio": mm.sysctl_min_slab_ratio,
        "min_unmapped_ratio": mm.sysctl_min_unmapped_ratio,
        "numa_zonelist_order": "Node",
        "percpu_pagelist_high_fraction": mm.percpu_pagelist_high_fraction,
        "watermark_boost_factor": mm.watermark_boost_factor,
        "watermark_scale_factor": mm.watermark_scale_factor,
    }
    return "".join(f"{name}: {value}\n" for name, value in values.items())
