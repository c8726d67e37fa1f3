"""How long a CPU's own lists of free pages may grow, and how many pages move at a time (mm/page_alloc.c)."""

from __future__ import annotations

from kmemlab.boot.smp import num_online_cpus
from kmemlab.mm.globals import Mm
from kmemlab.mm.zone import WMARK_LOW, Zone, zone_pcp_init
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import MIB, PAGE_SIZE

MIN_PERCPU_PAGELIST_HIGH_FRACTION = 8


@kernel("mm/page_alloc.c", "zone_batchsize", traced=False)
def zone_batchsize(managed_pages: int) -> int:
    """Pages moved between a CPU's lists and the zone at a time: a 4096th of the zone, 63 at most.

    The size is one below a power of two, so that batches of all CPUs don't always want pages of the same cache colour.

    >>> zone_batchsize(3840), zone_batchsize(108656), zone_batchsize(262144)
    (1, 31, 63)
    """
    batch = max(1, min(managed_pages >> 10, MIB // PAGE_SIZE) // 4)
    return max(1, rounddown_pow_of_two(batch + batch // 2) - 1)


@kernel("include/linux/log2.h", "rounddown_pow_of_two", traced=False)
def rounddown_pow_of_two(value: int) -> int:
    """The largest power of two that is not above `value` (a positive number)."""
    return 1 << (value.bit_length() - 1)


@kernel("mm/page_alloc.c", "zone_highsize", left_out="a CPU that is just coming online")
def zone_highsize(mm: Mm, zone: Zone, batch: int) -> int:
    """When a CPU's lists are too long: the CPUs of the node together may hold what lies below the low watermark."""
    if mm.percpu_pagelist_high_fraction:
        total_pages = zone.managed_pages // mm.percpu_pagelist_high_fraction
    else:
        total_pages = zone.watermark[WMARK_LOW] + zone.watermark_boost
    nr_split_cpus = nr_cpus_node(mm, zone.node) or num_online_cpus(mm.boot)
    return max(total_pages // nr_split_cpus, batch * 4)


@kernel("include/linux/topology.h", "nr_cpus_node", traced=False)
def nr_cpus_node(mm: Mm, nid: int) -> int:
    """The online CPUs of a node; an emulated node has all those of the physical node that it is cut from."""
    physical = mm.numa.emu_nid_to_phys if mm.numa.emulated.nr_blks else None
    count = 0
    for cpu in range(min(num_online_cpus(mm.boot), len(mm.numa.cpu_to_node))):
        node = mm.numa.cpu_to_node[cpu]
        count += node == nid if physical is None else physical[node] == physical[nid]
    return count


@kernel("mm/page_alloc.c", "zone_set_pageset_high_and_batch")
def zone_set_pageset_high_and_batch(mm: Mm, zone: Zone) -> None:
    """Work the limits of the zone's per-CPU lists out anew, and tell them to every possible CPU."""
    batch = zone_batchsize(zone.managed_pages)
    high = zone_highsize(mm, zone, batch)
    if (high, batch) == (zone.pageset_high, zone.pageset_batch):
        return
    zone.pageset_batch, zone.pageset_high = batch, high
    pcp = zone.per_cpu_pageset
    for cpu in range(pcp.nr_cpus):
        pcp.batch[cpu], pcp.high[cpu] = batch, high


@kernel("mm/page_alloc.c", "setup_zone_pageset", left_out="taking the memory for them")
def setup_zone_pageset(mm: Mm, zone: Zone) -> None:
    """Give a zone per-CPU lists that keep pages."""
    zone_pcp_init(zone)
    zone_set_pageset_high_and_batch(mm, zone)


@kernel("mm/page_alloc.c", "setup_per_cpu_pageset")
def setup_per_cpu_pageset(mm: Mm) -> None:
    """Per-CPU memory can be had: from now on free pages stay on per-CPU lists. Watermarks are 0 yet, so few of them."""
    for zone in mm.populated_zones():
        setup_zone_pageset(mm, zone)
