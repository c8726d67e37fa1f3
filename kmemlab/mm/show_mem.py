"""show_mem: Mem-Info, what Linux says about all memory when a request fails or somebody is killed for want of it."""

from __future__ import annotations

from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.numa import nodes_of
from kmemlab.boot.smp import num_online_cpus
from kmemlab.mm.globals import Mm
from kmemlab.mm.highmem import is_highmem
from kmemlab.mm.kswapd_wake import MAX_RECLAIM_RETRIES
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.node import PglistData
from kmemlab.mm.swap_state import total_swapcache_pages
from kmemlab.mm.vmstat import NODE_STAT_NAMES, ZONE_STAT_NAMES
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_LOW, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import wmark_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_KIB

_LETTERS = "UMEHI"  # a letter for each migratetype

# What each line names, and the kernel's counter.
_ALL = (
    (("active_anon", "active_anon"), ("inactive_anon", "inactive_anon"), ("isolated_anon", "isolated_anon")),
    (("active_file", "active_file"), ("inactive_file", "inactive_file"), ("isolated_file", "isolated_file")),
    (("unevictable", "unevictable"), ("dirty", "dirty"), ("writeback", "writeback")),
    (("slab_reclaimable", "slab_reclaimable"), ("slab_unreclaimable", "slab_unreclaimable")),
    (("mapped", "mapped"), ("shmem", "shmem"), ("pagetables", "page_table_pages")),
    (("sec_pagetables", "sec_page_table_pages"),),
    (("kernel_misc_reclaimable", "kernel_misc_reclaimable"),),
)
_NODE = (
    ("active_anon:", "active_anon"), ("inactive_anon:", "inactive_anon"), ("active_file:", "active_file"),
    ("inactive_file:", "inactive_file"), ("unevictable:", "unevictable"), ("isolated(anon):", "isolated_anon"),
    ("isolated(file):", "isolated_file"), ("mapped:", "mapped"), ("dirty:", "dirty"), ("writeback:", "writeback"),
    ("shmem:", "shmem"), ("shmem_thp: ", "shmem_hugepages"), ("shmem_pmdmapped: ", "shmem_pmdmapped"),
    ("anon_thp: ", "anon_transparent_hugepages"), ("writeback_tmp:", "writeback_temp"),
    ("kernel_stack:", "kernel_stack"), ("pagetables:", "page_table_pages"),
    ("sec_pagetables:", "sec_page_table_pages"),
)  # fmt: skip
_IN_KIB = ("kernel_stack",)
_ZONE = (
    ("active_anon", "zone_active_anon"), ("inactive_anon", "zone_inactive_anon"), ("active_file", "zone_active_file"),
    ("inactive_file", "zone_inactive_file"), ("unevictable", "zone_unevictable"),
    ("writepending", "zone_write_pending"),
)  # fmt: skip


@kernel("include/linux/vmstat.h", "node_page_state", traced=False)
def node_page_state(pgdat: PglistData, name: str) -> int:
    """A counter of a node, by its name without nr_."""
    return pgdat.vm_stat[NODE_STAT_NAMES.index(f"nr_{name}")]


@kernel("include/linux/vmstat.h", "zone_page_state", traced=False)
def zone_page_state(zone: Zone, name: str) -> int:
    """A counter of a zone, by its name without nr_."""
    return zone.vm_stat[ZONE_STAT_NAMES.index(f"nr_{name}")]


@invented("both reports add the lists of all CPUs up", traced=False)
def free_pcp(mm: Mm, zone: Zone) -> int:
    """The pages on the zone's lists of all online CPUs."""
    return sum(zone.per_cpu_pageset.count[: num_online_cpus(mm.boot)])


@invented("show_node: without NUMA zones go by their name alone", traced=False)
def node_prefix(mm: Mm, zone: Zone) -> str:
    """What stands before a zone's name."""
    return f"Node {zone.node} " if mm.boot.config.numa else ""


@kernel("lib/show_mem.c", "__show_mem", left_out="cpusets: every node is shown")
def show_mem(mm: Mm, max_zone_idx: int) -> None:
    """Say what memory is used for, in all zones up to an index, and how much there is."""
    say = mm.boot.printk.info
    say("Mem-Info:")
    show_free_areas(mm, max_zone_idx)
    zones = mm.populated_zones()
    say(f"{sum(zone.present_pages for zone in zones)} pages RAM")
    highmem = sum(zone.present_pages for zone in zones if is_highmem(mm, zone))
    say(f"{highmem} pages HighMem/MovableOnly")
    say(f"{sum(zone.present_pages - zone.managed_pages for zone in zones)} pages reserved")
    say("0 pages hwpoisoned")


@kernel("mm/page_alloc.c", "__show_free_areas", formerly=("show_free_areas",))
def show_free_areas(mm: Mm, max_zone_idx: int) -> None:
    """Say how many pages there are of each kind, in all, by node and by zone, and the free blocks by order."""
    say = mm.boot.printk.info
    nodes = [mm.node_data[nid] for nid in nodes_of(mm.numa.node_online)]
    zones = [zone for zone in mm.populated_zones() if zone.index <= max_zone_idx]
    for line in all_nodes_lines(mm, nodes, zones):
        say(line)
    for pgdat in nodes:
        if any(zone.managed_pages for zone in pgdat.node_zones[: max_zone_idx + 1]):
            say(node_line(pgdat))
    for zone in zones:
        say(zone_line(mm, zone))
        reserves = zone.lowmem_reserve[: len(mm.boot.config.zone_names)]
        say(f"lowmem_reserve[]:{''.join(f' {pages}' for pages in reserves)}")
    for zone in zones:
        say(f"{node_prefix(mm, zone)}{zone.name}: {free_blocks_line(zone)}")
    hugetlb_show_meminfo(mm, nodes)
    say(f"{sum(node_page_state(pgdat, 'file_pages') for pgdat in nodes)} total pagecache pages")
    show_swap_cache_info(mm)


@kernel("mm/swap_state.c", "show_swap_cache_info")
def show_swap_cache_info(mm: Mm) -> None:
    """Say how much is in the swap cache, and how much swap there is."""
    say = mm.boot.printk.info
    say(f"{total_swapcache_pages(mm)} pages in swap cache")
    say(f"Free swap  = {mm.nr_swap_pages * PAGE_KIB}kB")
    say(f"Total swap = {mm.total_swap_pages * PAGE_KIB}kB")


@invented("the first printk of __show_free_areas", traced=False)
def all_nodes_lines(mm: Mm, nodes: list[PglistData], zones: list[Zone]) -> list[str]:
    """The lines about the machine as a whole, in pages."""
    lines = []
    for row in _ALL:
        counts = [f"{name}:{sum(node_page_state(pgdat, counter) for pgdat in nodes)}" for name, counter in row]
        if row[0][0] == "sec_pagetables":
            counts.append(f"bounce:{sum(zone_page_state(zone, 'bounce') for zone in mm.zones())}")
        lines.append(" ".join(counts))
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.zones())
    lines.append(f"free:{free} free_pcp:{sum(free_pcp(mm, zone) for zone in zones)} free_cma:0")
    return [lines[0], *(f" {line}" for line in lines[1:])]


@invented("the second printk of __show_free_areas", traced=False)
def node_line(pgdat: PglistData) -> str:
    """What a node's pages are used for."""
    parts = []
    for name, counter in _NODE:
        kib = node_page_state(pgdat, counter)
        if counter not in _IN_KIB:
            kib *= PAGE_KIB
        parts.append(f"{name}{kib}kB")
    hopeless = "yes" if pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES else "no"
    return f"Node {pgdat.node_id} {' '.join(parts)} all_unreclaimable? {hopeless}"


@invented("the third printk of __show_free_areas", traced=False)
def zone_line(mm: Mm, zone: Zone) -> str:
    """A zone's free pages, its marks, and what the others are used for."""
    sizes = [
        ("free", zone.vm_stat[NR_FREE_PAGES]),
        ("boost", zone.watermark_boost),
        ("min", wmark_pages(zone, WMARK_MIN)),
        ("low", wmark_pages(zone, WMARK_LOW)),
        ("high", wmark_pages(zone, WMARK_HIGH)),
        ("reserved_highatomic", zone.nr_reserved_highatomic),
        *((name, zone_page_state(zone, counter)) for name, counter in _ZONE),
        ("present", zone.present_pages),
        ("managed", zone.managed_pages),
        ("mlocked", zone_page_state(zone, "mlock")),
        ("bounce", zone_page_state(zone, "bounce")),
        ("free_pcp", free_pcp(mm, zone)),
        ("local_pcp", zone.per_cpu_pageset.count[mm.current.cpu]),
        ("free_cma", zone_page_state(zone, "free_cma")),
    ]
    unit = {"reserved_highatomic": "KB"}  # the kernel's own spelling
    text = " ".join(f"{name}:{pages * PAGE_KIB}{unit.get(name, 'kB')}" for name, pages in sizes)
    return f"{node_prefix(mm, zone)}{zone.name} {text}"


@kernel("mm/page_alloc.c", "show_migration_types")
def free_blocks_line(zone: Zone) -> str:
    """How many free blocks of each order the zone has, and of which types: U M E H I."""
    text, total = "", 0
    following = zone.page.lru.next
    for order in range(MAX_ORDER):
        count = zone.nr_free[order]
        total += count << order
        text += f"{count}*{PAGE_KIB << order}kB "
        if count:
            heads = zone.free_list[order]
            types = (letter for letter, head in zip(_LETTERS, heads, strict=True) if following[head] != head)
            text += f"({''.join(types)}) "
    return f"{text}= {total * PAGE_KIB}kB"


@kernel("mm/hugetlb.c", "hugetlb_show_meminfo_node", left_out="surplus pages; which node has how many: node 0 says all")
def hugetlb_show_meminfo(mm: Mm, nodes: list[PglistData]) -> None:
    """Say how many huge pages of each size there are and are free."""
    if not boot_cpu_has(mm.boot, "pse"):
        return
    for pgdat in nodes:
        for h in mm.hugetlb.registered():
            total, free = (h.nr_huge_pages, h.free_huge_pages) if pgdat is nodes[0] else (0, 0)
            size = PAGE_KIB << h.order
            mm.boot.printk.info(
                f"Node {pgdat.node_id} hugepages_total={total} hugepages_free={free} hugepages_surp=0 "
                f"hugepages_size={size}kB"
            )
