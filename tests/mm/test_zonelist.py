"""Fallback orders: nearest first, every node with memory once, own zones first."""

from __future__ import annotations

import itertools
import random

import pytest

from kmemlab.boot.numa import node_distance, nodes_of
from kmemlab.hardware.spec import CpuSpec, E820Range, MachineSpec, NumaRange, NumaSpec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.mm.node import ZONELIST_FALLBACK, ZONELIST_NOFALLBACK
from kmemlab.mm.zonelist import build_all_zonelists, for_each_zone_zonelist, nr_free_zone_pages

GIB = 1 << 30


def machine(seed: int) -> Kernel:
    rng = random.Random(seed)
    count = rng.randrange(1, 7)
    nodes = tuple(NumaRange(nid, nid * GIB, (nid + 1) * GIB - 1) for nid in range(count))
    slit = [[10] * count for _ in range(count)]
    for i in range(count):
        for j in range(i):
            slit[i][j] = slit[j][i] = rng.choice((12, 16, 20, 30))
    spec = MachineSpec(
        name="test",
        e820=(E820Range(0, 0x9FFFF), E820Range(0x100000, count * GIB - 1)),
        cmdline="nokaslr",
        cpus=CpuSpec(present=count, possible=count, node_of=tuple(range(count)), flags=frozenset({"pse"})),
        numa=NumaSpec(nodes=nodes, slit=tuple(map(tuple, slit))),
    )
    kernel = Kernel(spec)
    start_kernel(kernel, "build_all_zonelists")
    return kernel


@pytest.mark.parametrize("seed", range(10))
def test_lists_go_outwards_and_name_each_zone_with_memory_once(seed: int) -> None:
    mm = machine(seed).mm
    populated = {(zone.node, zone.index) for zone in mm.populated_zones()}
    for nid in nodes_of(mm.numa.node_online):
        general = mm.node_data[nid].node_zonelists[ZONELIST_FALLBACK]
        entries = [(zone.node, zone.index) for zone in for_each_zone_zonelist(mm, general)]
        assert sorted(entries) == sorted(populated)
        distances = [node_distance(mm.numa, nid, node) for node, _ in entries]
        assert distances == sorted(distances)
        assert entries[0][0] == nid
        for (node, index), (following, lower) in itertools.pairwise(entries):
            assert node != following or index > lower
        own = mm.node_data[nid].node_zonelists[ZONELIST_NOFALLBACK]
        assert [zone.node for zone in for_each_zone_zonelist(mm, own)] == [nid] * own.count
        assert own.count == sum(node == nid for node, _ in populated)


def test_total_pages_are_those_of_all_zones_while_there_are_no_watermarks() -> None:
    mm = machine(3).mm
    assert nr_free_zone_pages(mm, 4) == sum(zone.managed_pages for zone in mm.zones())


@pytest.mark.parametrize(("kib", "grouping"), [(8 << 10, "off"), (64 << 10, "on")])
def test_a_machine_too_small_for_pageblocks_of_each_type_does_not_group(kib: int, grouping: str) -> None:
    spec = MachineSpec(
        name="small",
        e820=(E820Range(0, 0x9FFFF), E820Range(0x100000, 0x4400000 + (kib << 10) - 1)),
        cmdline="nokaslr",
        cpus=CpuSpec(flags=frozenset({"pse"})),
    )
    kernel = Kernel(spec)
    start_kernel(kernel, "setup_arch")
    for zone in kernel.mm.zones():
        zone.managed_pages = kib // 4 if zone.name == "DMA32" else 0
    build_all_zonelists(kernel.mm)
    assert f"mobility grouping {grouping}.  Total pages: {kib // 4}" in "\n".join(kernel.printk_lines)
