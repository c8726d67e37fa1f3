"""Mem-Info against what a real machine (oom-192m, Linux 6.1) printed when it ran out of memory, to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.buddy import free_one_page
from kmemlab.mm.show_mem import (
    all_nodes_lines,
    free_blocks_line,
    node_line,
    show_mem,
    zone_line,
)
from kmemlab.mm.vmstat import NODE_STAT_NAMES, ZONE_STAT_NAMES
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_LOW, WMARK_MIN, bare_zone, set_pageblock_migratetype

REAL = (Path(__file__).parents[1] / "data" / "mem_info.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine.boot("tiny-128m")


def node_counts(machine: Machine, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        machine.kernel.mm.node_data[0].vm_stat[NODE_STAT_NAMES.index(name)] = count


def test_the_report_has_the_lines_of_a_real_one(machine: Machine) -> None:
    mm = machine.fork().kernel.mm
    said = len(mm.boot.printk.lines())
    show_mem(mm, 2)

    def lines(report: list[str]) -> list[str]:
        return [re.sub(r"( N\*NkB| \([UMEHI]+\))+ ", " … ", re.sub(r"\d+", "N", line)) for line in report]

    ours, real = list(mm.boot.printk.lines()[said:]), REAL
    assert [line.replace("? no", "? yes") for line in lines(ours)] == lines(real)


def test_the_lines_about_all_nodes_and_about_one(machine: Machine) -> None:
    twin = machine.fork()
    mm, zones = twin.kernel.mm, twin.zones
    node_counts(twin, {
        "nr_active_anon": 1153, "nr_inactive_anon": 20877, "nr_active_file": 3, "nr_inactive_file": 3,
        "nr_unevictable": 355, "nr_dirty": 2, "nr_slab_reclaimable": 2486, "nr_slab_unreclaimable": 1777,
        "nr_mapped": 599, "nr_shmem": 1340, "nr_page_table_pages": 62, "nr_kernel_stack": 752,
    })  # fmt: skip
    for zone, free in zip(zones, (166, 321), strict=True):
        zone.vm_stat[NR_FREE_PAGES] = free
    zones[0].per_cpu_pageset.count[0], zones[1].per_cpu_pageset.count[0] = 0, 6
    mm.node_data[0].kswapd_failures = 16
    assert all_nodes_lines(mm, [mm.node_data[0]], zones) == REAL[1:9]
    assert node_line(mm.node_data[0]) == REAL[9]


def test_the_line_about_a_zone(machine: Machine) -> None:
    twin = machine.fork()
    zone = twin.zone("DMA32")
    zone.vm_stat[NR_FREE_PAGES] = 321
    zone.watermark_boost = 0
    zone.watermark[WMARK_MIN], zone.watermark[WMARK_LOW], zone.watermark[WMARK_HIGH] = 325, 406, 487
    zone.present_pages, zone.managed_pages = 180072 // 4, 129844 // 4
    zone.per_cpu_pageset.count[0] = 6
    counts = {"active_anon": 1153, "inactive_anon": 17241, "active_file": 3, "inactive_file": 3, "unevictable": 355}
    for name, count in {f"nr_zone_{name}": n for name, n in counts.items()}.items():
        zone.vm_stat[ZONE_STAT_NAMES.index(name)] = count
    zone.vm_stat[ZONE_STAT_NAMES.index("nr_zone_write_pending")] = 2
    zone.vm_stat[ZONE_STAT_NAMES.index("nr_mlock")] = 355
    assert zone_line(twin.kernel.mm, zone) == REAL[12]


@pytest.mark.parametrize("line", REAL[14:16])
def test_the_line_about_free_blocks(line: str) -> None:
    counts = [(int(count), types or "") for count, types in re.findall(r"(\d+)\*\d+kB (?:\((\w+)\) )?", line)]
    zone = bare_zone(1 << 16)
    at = 0
    for order, (count, types) in enumerate(counts):
        for nth in range(count):
            migratetype = "UMEHI".index(types[min(nth, len(types) - 1)])
            # Each block in a pageblock of its own, so that none is joined with another.
            set_pageblock_migratetype(zone.page, at, migratetype)
            free_one_page(zone, at, order, migratetype)
            at += 1024
    assert line.endswith(f": {free_blocks_line(zone)}")
