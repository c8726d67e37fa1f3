"""movable_node: memory that can be unplugged holds nothing of the kernel, and all of it is ZONE_MOVABLE."""

from __future__ import annotations

import json
from typing import Any

from kmemlab.machine.machine import Machine

MIB, GIB = 1 << 20, 1 << 30
NODES = [[0, 0, GIB - 1], [1, GIB, 2 * GIB - 1]]


def machine(cmdline: str, hotplug: list[list[int]]) -> Machine:
    spec: dict[str, Any] = {
        "e820": [[0, 0x9FBFF, "usable"], [0x100000, 2 * GIB - 1, "usable"]],
        "cmdline": f"nokaslr memblock=debug {cmdline}",
        "cpus": {"present": 2, "node_of": {"0": 0, "1": 1}, "flags": ["pse"]},
        "numa": {"nodes": NODES, "hotplug": hotplug},
    }
    return Machine.boot(json.loads(json.dumps(spec)))


def taken_from(booted: Machine, start: int, end: int) -> list[int]:
    """What is reserved of [start, end)."""
    regions = booted.kernel.boot.memblock.reserved.regions()
    return [base for base, size, _, _ in regions if base < end and start < base + size]


def test_a_node_that_can_be_unplugged_is_all_movable() -> None:
    booted = machine("movable_node", [NODES[1]])
    assert {zone.name for zone in booted.zones if zone.node == 1} == {"Movable"}
    assert booted.zone("Movable", 1).present_pages == GIB // 4096
    assert taken_from(booted, GIB, 2 * GIB) == []
    booted.check()


def test_without_the_parameter_it_is_like_any_other() -> None:
    booted = machine("", [NODES[1]])
    assert {zone.name for zone in booted.zones if zone.node == 1} == {"DMA32"}
    assert taken_from(booted, GIB, 2 * GIB) != []


def test_the_node_of_the_kernel_can_t_be_unplugged() -> None:
    booted = machine("movable_node", NODES)
    assert {zone.name for zone in booted.zones if zone.node == 0} == {"DMA", "DMA32"}


def test_kernelcore_is_not_heard() -> None:
    booted = machine("movable_node kernelcore=512M", [])
    assert "Movable" not in {zone.name for zone in booted.zones}


def test_until_the_srat_is_read_memory_is_taken_upwards() -> None:
    down, up = machine("", []), machine("movable_node", [])
    places = []
    for booted in (down, up):
        log = list(booted.kernel.printk_lines)
        at = next(nth for nth, line in enumerate(log) if line.endswith("reserve_real_mode"))
        places.append(int(log[at + 1].partition("[")[2].partition("-")[0], 16))
    assert places[0] > 0x90000 > 0x20000 > places[1]
    # A page that both halves of the bottom-up mapping touch is counted twice: so does Linux, on a machine of 2 GiB.
    sums = [booted.kernel.boot.direct_map.direct_pages_count for booted in (down, up)]
    assert [count[2] for count in sums] == [sums[0][2], sums[0][2] + 1]
