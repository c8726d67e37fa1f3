"""Zonelists: in which zones an allocation looks, and in which order.

    node 0 of 2:   0:Normal  0:DMA32  0:DMA   1:Normal  1:DMA32
                   └── its own zones, the ──┘  └── then those of the
                       best usable first           next nearest node ──┘

The scarce low zones come last on each node, so that who doesn't need low addresses leaves them alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.boot.numa import MAX_NUMNODES, node_distance, nodes_of
from kmemlab.mm.globals import Mm
from kmemlab.mm.mminit import mminit_verify_zonelist
from kmemlab.mm.node import COUNT, ZONELIST_FALLBACK, ZONELIST_NOFALLBACK, PglistData, Zonelist
from kmemlab.mm.zone import WMARK_HIGH, Zone, populated_zone
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import MIGRATE_TYPES
from kmemlab.types.zone_type import MAX_NR_ZONES, ZONE_MOVABLE


@kernel("mm/page_alloc.c", "build_all_zonelists", left_out="per-CPU page lists of boot")
def build_all_zonelists(mm: Mm) -> None:
    """Order the zones for each node, and decide whether there is enough memory to keep mobility types apart."""
    build_all_zonelists_inner(mm)
    mminit_verify_zonelist(mm)
    set_mobility_grouping(mm)


@invented("C's build_all_zonelists, called when boot is over: a zone has got its first memory")
def build_all_zonelists_late(mm: Mm) -> None:
    """The same without the lines that mminit_loglevel= asks for."""
    build_all_zonelists_inner(mm)
    set_mobility_grouping(mm)


@invented("the second part of build_all_zonelists")
def set_mobility_grouping(mm: Mm) -> None:
    """Keep mobility types apart if each of them can have a pageblock, and say what there is."""
    vm_total_pages = nr_free_zone_pages(mm, ZONE_MOVABLE)
    # With less than one pageblock a type, types would only steal from each other.
    mm.page_group_by_mobility_disabled = int(vm_total_pages < mm.page.pageblock_nr_pages * MIGRATE_TYPES)
    count = len(nodes_of(mm.numa.node_online))
    grouping = "off" if mm.page_group_by_mobility_disabled else "on"
    mm.boot.printk.info(f"Built {count} zonelists, mobility grouping {grouping}.  Total pages: {vm_total_pages}")
    if mm.boot.config.numa:
        mm.boot.printk.info(f"Policy zone: {mm.boot.config.zone_names[mm.policy_zone]}")


@kernel("mm/page_alloc.c", "__build_all_zonelists")
def build_all_zonelists_inner(mm: Mm) -> None:
    """Build the lists of each online node."""
    for nid in range(len(mm.node_load)):
        mm.node_load[nid] = 0
    for nid in nodes_of(mm.numa.node_online):
        build_zonelists(mm, mm.node_data[nid])


@kernel("mm/page_alloc.c", "build_zonelists")
def build_zonelists(mm: Mm, pgdat: PglistData) -> None:
    """Order the other nodes by how near they are, and build both lists."""
    used: list[int] = []
    previous = pgdat.node_id
    while (node := find_next_best_node(mm, pgdat.node_id, used)) is not None:
        # The first of a new group of equally far nodes gets a little weight, so that other nodes begin
        # with another one of that group.
        if node_distance(mm.numa, pgdat.node_id, node) != node_distance(mm.numa, pgdat.node_id, previous):
            mm.node_load[node] += 1
        used.append(node)
        previous = node
    build_zonelists_in_node_order(mm, pgdat, used)
    build_thisnode_zonelists(mm, pgdat)
    if mm.boot.config.numa:
        mm.boot.printk.info(f"Fallback order for Node {pgdat.node_id}: {''.join(f'{node} ' for node in used)}")


@kernel("mm/page_alloc.c", "find_next_best_node", left_out="nodes without CPUs first, when lists are built after boot")
def find_next_best_node(mm: Mm, node: int, used: list[int]) -> int | None:
    """The nearest node that is not used yet; None when there is none with memory left.

    The node itself is always first, even without memory. C prefers nodes without CPUs, but no CPU is in a node's mask
    while the boot list is built, so that preference decides nothing here.
    """
    if node not in used:
        return node
    best, best_value = None, 0
    for candidate, has_memory in enumerate(mm.node_has_memory):
        if not has_memory or candidate in used:
            continue
        # Among equally far nodes those behind the own one are preferred, then those used by fewer.
        value = node_distance(mm.numa, node, candidate) + (1 if candidate < node else 0)
        value = value * MAX_NUMNODES + mm.node_load[candidate]
        if best is None or value < best_value:
            best, best_value = candidate, value
    return best


@kernel("mm/page_alloc.c", "build_zonelists_in_node_order")
def build_zonelists_in_node_order(mm: Mm, pgdat: PglistData, node_order: list[int]) -> None:
    """The list of all nodes: one node after the other."""
    zonelist = pgdat.node_zonelists[ZONELIST_FALLBACK]
    zonelist.count = 0
    for nid in node_order:
        build_zonerefs_node(mm, mm.node_data[nid], zonelist)


@kernel("mm/page_alloc.c", "build_thisnode_zonelists")
def build_thisnode_zonelists(mm: Mm, pgdat: PglistData) -> None:
    """The list of the node alone."""
    zonelist = pgdat.node_zonelists[ZONELIST_NOFALLBACK]
    zonelist.count = 0
    build_zonerefs_node(mm, pgdat, zonelist)


@kernel("mm/page_alloc.c", "build_zonerefs_node")
def build_zonerefs_node(mm: Mm, pgdat: PglistData, zonelist: Zonelist) -> None:
    """Append the node's zones that have memory, the highest first."""
    for zone in reversed(pgdat.node_zones):
        if not populated_zone(zone):
            continue
        zonelist.nid[zonelist.count] = pgdat.node_id
        zonelist.zone_idx[zonelist.count] = zone.index
        zonelist.count += 1
        check_highest_zone(mm, zone.index)


@kernel("include/linux/mempolicy.h", "check_highest_zone", traced=False)
def check_highest_zone(mm: Mm, index: int) -> None:
    """Memory policies apply to the highest zone that has memory (ZONE_MOVABLE doesn't count)."""
    if index > mm.policy_zone and index != ZONE_MOVABLE:
        mm.policy_zone = index


@kernel("include/linux/mmzone.h", "for_each_zone_zonelist", traced=False)
def for_each_zone_zonelist(mm: Mm, zonelist: Zonelist, highidx: int = MAX_NR_ZONES - 1) -> Iterator[Zone]:
    """The zones of the list, best first, without those above the zone index `highidx`."""
    for at in range(zonelist.cells[COUNT]):
        if zonelist.zone_idx[at] <= highidx:
            yield mm.node_data[zonelist.nid[at]].node_zones[zonelist.zone_idx[at]]


@kernel("include/linux/mmzone.h", "first_zones_zonelist", left_out="masks of nodes", traced=False)
def first_zones_zonelist(mm: Mm, zonelist: Zonelist, highidx: int) -> Zone | None:
    """The best zone of the list whose index is not above `highidx`; None if there is none."""
    zone_idx, at = zonelist.zone_idx, 0
    # Behind the last entry stand zeros (no configuration fills its list), so the search ends there at the latest.
    while zone_idx[at] > highidx:
        at += 1
    if at >= zonelist.cells[COUNT]:
        return None
    return mm.node_data[zonelist.nid[at]].node_zones[zone_idx[at]]


@kernel("include/linux/topology.h", "cpu_to_mem", traced=False)
def cpu_to_mem(mm: Mm, cpu: int) -> int:
    """The node that a CPU takes memory from: its own, or the nearest one that has any."""
    if len(mm.node_data) == 1:
        return 0
    nid = max(mm.numa.cpu_to_node[cpu], 0)
    zonelist = mm.node_data[nid].node_zonelists[ZONELIST_FALLBACK]
    return nid if mm.node_has_memory[nid] or not zonelist.count else zonelist.nid[0]


@kernel("include/linux/topology.h", "numa_mem_id", traced=False)
def numa_mem_id(mm: Mm) -> int:
    """The node that the running CPU takes memory from."""
    return cpu_to_mem(mm, mm.current.cpu)


@kernel("mm/page_alloc.c", "nr_free_zone_pages", formerly=("nr_free_buffer_pages", "nr_free_pagecache_pages"))
def nr_free_zone_pages(mm: Mm, highidx: int) -> int:
    """Pages above the high watermark in the zones that the boot CPU's node uses, up to the zone index `highidx`."""
    zonelist = mm.node_data[mm.numa.cpu_to_node[0]].node_zonelists[ZONELIST_FALLBACK]
    total = 0
    for zone in for_each_zone_zonelist(mm, zonelist, highidx):
        high = zone.watermark[WMARK_HIGH] + zone.watermark_boost
        if zone.managed_pages > high:
            total += zone.managed_pages - high
    return total
