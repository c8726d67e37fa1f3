"""A model that takes the sizes of its zones from a running machine, and computes from them what Linux computes.

What a running machine lets everybody see are its zones, not the addresses that made them. So the model boots a machine
with such zones, is told how large they really came out, and works watermarks, reserves and limits out anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kmemlab.machine.kernel import Kernel
from kmemlab.machine.sysctl import proc_sys_call_handler
from kmemlab.machine.zoneinfo_text import ZoneText
from kmemlab.mm.watermark import hugepage_init, init_per_zone_wmark_min
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture

DMA_RATIO = 256  # lowmem_reserve_ratio of the zones DMA and DMA32, unless somebody changed it
TUNABLES = ("watermark_scale_factor", "lowmem_reserve_ratio", "percpu_pagelist_high_fraction", "min_free_kbytes")


@invented("a running machine is rebuilt from what it shows")
def managed_at_boot(zones: Sequence[ZoneText], ratio: int = DMA_RATIO) -> tuple[int, ...]:
    """The least that each zone can have managed when Linux worked its reserves out, before the last pages came back.

    The first zone of a node keeps back a `ratio`-th of what is managed above it, so that row tells the sums, rounded
    down. Where it tells something else (the ratio was changed), a zone's size of today is returned.
    """
    found = []
    for zone in zones:
        now = zone.fields.get("managed", 0)
        own = [other for other in zones if other.node == zone.node]
        at, first = own.index(zone), next((other for other in own if other.fields.get("managed", 0)), zone)
        row = first.protection
        least = now
        if own.index(first) < at < len(row):
            least = row[at] * ratio - (row[at - 1] * ratio + ratio - 1 if row[at - 1] else 0)
        found.append(least if now // 2 < least < now else now)
    return tuple(found)


@invented("a running machine is rebuilt from what it shows")
def adopt_sizes(kernel: Kernel, zones: Sequence[ZoneText], managed: Sequence[int]) -> None:
    """Give the model's zones the sizes of real ones, and compute their watermarks, reserves and limits.

    Raises `BadCapture` for a zone that the model can't have, or whose sizes are not told.
    """
    mm = kernel.mm
    ours = {(zone.node, zone.name): zone for zone in mm.zones()}
    for told, managed_pages in zip(zones, managed, strict=True):
        zone = ours.get((told.node, told.name))
        if zone is None and not told.fields.get("present", 0):
            continue  # a node without memory
        if zone is None or told.missing:
            why = f"its {', '.join(told.missing)} is not told" if told.missing else "the model has no such zone"
            raise BadCapture(
                f"zone {told.name} of node {told.node} can't be rebuilt: {why}",
                where="/proc/zoneinfo",
                remedy="copy the whole file, from a kernel of version 4.0 or later on x86",
            )
        zone.zone_start_pfn, zone.spanned_pages = told.fields.get("start_pfn", 0), told.fields["spanned"]
        zone.present_pages, zone.managed_pages = told.fields["present"], managed_pages
        zone.watermark_boost = 0
        for mark in range(len(zone.watermark)):
            zone.watermark[mark] = 0
    mm.totalram_pages = sum(managed)
    init_per_zone_wmark_min(mm)
    hugepage_init(mm)


@invented("a running machine is rebuilt from what it shows")
def adopt_tunables(kernel: Kernel, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Write the tunables that the texts tell into the model; returns those that it would not have had by itself."""
    told = []
    for name in TUNABLES:
        value = " ".join(texts.get(f"/proc/sys/vm/{name}", "").split())
        if value and value != " ".join(proc_sys_call_handler(kernel, f"vm.{name}", None).split()):
            proc_sys_call_handler(kernel, f"vm.{name}", value)
            told.append(name)
    return tuple(told)
