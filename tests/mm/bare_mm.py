"""A zone with several CPUs and the few global variables that the lists need, without a machine around them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kmemlab.boot.printk import Printk
from kmemlab.mm.context import Context
from kmemlab.mm.mem_map import MemMap, set_page_links
from kmemlab.mm.per_cpu_pages import NR_PCP_LISTS
from kmemlab.mm.vm_event import NR_VM_EVENT_ITEMS
from kmemlab.mm.zone import LISTS_PER_ZONE, Zone, zone_init_free_lists, zone_pcp_init
from kmemlab.sim.column import column


def bare_mm(zone: Zone, boost_factor: int = 0) -> Any:
    """What functions ask `mm` for, beside its zones."""
    return SimpleNamespace(
        page=zone.page,
        current=Context(Printk()),
        vm_event=column("q", NR_VM_EVENT_ITEMS),
        page_group_by_mobility_disabled=0,
        watermark_boost_factor=boost_factor,
    )


def zone_of_cpus(pages: int, nr_cpus: int, high: int, batch: int) -> Zone:
    """A zone of nothing but movable pageblocks, none of them free, with per-CPU lists."""
    page = MemMap(pages, LISTS_PER_ZONE + nr_cpus * NR_PCP_LISTS)
    zone = Zone(page, 0, 0, "Normal", 0, nr_cpus=nr_cpus)
    zone.spanned_pages = zone.present_pages = zone.managed_pages = pages
    zone_init_free_lists(zone)
    zone_pcp_init(zone)
    set_page_links(page, 0, page.max_pfn, zone.slot)
    for cpu in range(nr_cpus):
        zone.per_cpu_pageset.high[cpu], zone.per_cpu_pageset.batch[cpu] = high, batch
    return zone
