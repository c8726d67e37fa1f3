"""Nodes that meet in the middle of a pageblock, as an SRAT may say: each page is still of its own node's zone."""

from __future__ import annotations

import contextlib
import random
from itertools import pairwise

import pytest

from kmemlab import GFP_KERNEL, Machine
from kmemlab.alloc.page_alloc import page_zone
from kmemlab.boot.memblock import for_each_mem_pfn_range
from kmemlab.types.errors import OutOfMemory

MIB = 1 << 20


def machine_with_borders(borders: list[int], nodes: int) -> Machine:
    """256 MiB in which memory of the nodes lies in turn, with these borders between."""
    cuts = [0, *borders, 256 * MIB]
    blocks = [[turn % nodes, start, end - 1] for turn, (start, end) in enumerate(pairwise(cuts))]
    return Machine.boot(
        {
            "e820": [[0, 0x9FBFF, "usable"], [0x100000, 256 * MIB - 1, "usable"]],
            "cpus": {"present": 2, "node_of": {"0": 0, "1": 1}, "flags": ["nx", "pse"]},
            "numa": {"nodes": blocks},
        }
    )


@pytest.mark.parametrize("seed", range(6))
def test_borders_within_pageblocks(seed: int) -> None:
    rng = random.Random(seed)
    borders = sorted(rng.randrange(80 * MIB, 250 * MIB) & -4096 for _ in range(rng.randrange(1, 6)))
    if seed == 0:
        borders = [100 * MIB + 4096, 100 * MIB + 8192]  # three parts within one pageblock
    machine = machine_with_borders(borders, 2 + seed % 2)
    machine.check()
    for start, end, nid in for_each_mem_pfn_range(machine.kernel.boot.memblock):
        for pfn in (start, (start + end) // 2, end - 1):
            zone = page_zone(machine.kernel.mm, pfn)
            assert zone is not None
            assert (zone.node, zone.zone_start_pfn <= pfn) == (nid, True)


def test_what_is_taken_there_goes_back_to_its_zone() -> None:
    machine = machine_with_borders([100 * MIB + 5 * 4096, 101 * MIB, 200 * MIB + 4096], 2)
    machine.drain_all_pages()
    before = [(zone.node, zone.name, zone.nr_free[:].tolist()) for zone in machine.zones]
    near_borders = {25601 * 4096, 101 * MIB, 200 * MIB}
    held = []
    with contextlib.suppress(OutOfMemory):  # take all there is, now from one node, now from the other
        while True:
            held.append(machine.alloc_pages(GFP_KERNEL, 0, node=len(held) % 2))
    assert all(any(abs(pfn * 4096 - border) < MIB for pfn in held) for border in near_borders)
    for pfn in held:
        machine.free_pages(pfn, 0)
    machine.drain_all_pages()
    machine.check()
    assert [(zone.node, zone.name, zone.nr_free[:].tolist()) for zone in machine.zones] == before
