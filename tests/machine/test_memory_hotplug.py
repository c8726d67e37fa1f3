"""Memory that is plugged in: known, or on line block by block with new limits each time."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.boot.memory_hotplug import probe_memory_block_size
from kmemlab.machine.machine import Machine

GIB, MIB = 1 << 30, 1 << 20
SECTION = 1 << 15


def machine(cmdline: str = "", dimm: tuple[int, int] = (4 * GIB, 5 * GIB - 1), **more: Any) -> Machine:
    e820 = [[0, 0x9FBFF, "usable"], [0x100000, 2 * GIB - 1, "usable"]]
    spec = {"e820": e820, "cmdline": f"nokaslr {cmdline}", "cpus": {"flags": ["pse"]}, "dimms": [list(dimm)], **more}
    booted = Machine.boot(spec)
    booted.check()
    return booted


def sizes(booted: Machine) -> dict[str, tuple[int, int, int]]:
    return {
        zone.name: (zone.spanned_pages, zone.present_pages, zone.managed_pages)
        for zone in booted.kernel.mm.zones()
        if zone.index >= 2 and zone.spanned_pages
    }


@pytest.mark.parametrize(
    ("policy", "where"),
    [("", None), ("offline", None), ("online", "Normal"), ("online_kernel", "Normal"), ("online_movable", "Movable")],
)
def test_the_policy_decides_where_new_memory_goes(policy: str, where: str | None) -> None:
    booted = machine(f"memhp_default_state={policy}" if policy else "")
    assert sizes(booted) == ({where: (8 * SECTION,) * 3} if where else {})
    without = machine("mem=2G")
    more = booted.kernel.mm.totalram_pages - without.kernel.mm.totalram_pages
    assert more == (8 * SECTION if where else 0)
    # A new zone is asked for first, and pages below are kept for those who can use no others.
    rebuilt = [line for line in booted.kernel.printk_lines if line.startswith("Built ")]
    assert len(rebuilt) == (2 if where else 1)
    dma32 = booted.zone("DMA32").lowmem_reserve[4]
    assert dma32 == (8 * SECTION // 256 if where else 0)


def test_it_is_in_iomem_and_in_the_direct_map_in_any_case() -> None:
    plain, plugged = machine("mem=2G"), machine()
    count = [booted.kernel.boot.direct_map.direct_pages_count[2] for booted in (plain, plugged)]
    assert count[1] - count[0] == 512
    # The memory map: 2 MiB a section, and one page table for the new GiB; each from where the node has memory.
    owned = [sum(zone.nr_owned for zone in booted.zones) for booted in (plain, plugged)]
    assert owned[1] - owned[0] == 8 * 512 + 1


def test_what_is_no_whole_block_is_refused() -> None:
    booted = machine("memhp_default_state=online", (4 * GIB, 4 * GIB + 100 * MIB - 1))
    assert sizes(booted) == {}
    said = "Block size [0x8000000] unaligned hotplug range: start 0x100000000, size 0x6400000"
    assert said in booted.kernel.printk_lines


def test_memory_of_a_new_node() -> None:
    room = [1, 4 * GIB, 8 * GIB - 1]
    numa = {"nodes": [[0, 0, 2 * GIB - 1], room], "hotplug": [room]}
    booted = machine("memhp_default_state=online", numa=numa)
    assert [(zone.node, zone.name) for zone in booted.zones] == [(0, "DMA"), (0, "DMA32"), (1, "Normal")]


@pytest.mark.parametrize(
    ("end_mib", "flags", "mib"),
    [
        (2048, (), 128),
        (65535, (), 128),
        (65536, (), 2048),
        (65536 + 3072, ("hypervisor",), 1024),
        (65536 + 128, ("hypervisor",), 128),
        (65536 + 128, (), 2048),
    ],
)
def test_the_size_of_a_block(end_mib: int, flags: tuple[str, ...], mib: int) -> None:
    boot = Machine({"e820": [], "cpus": {"flags": list(flags)}}).kernel.boot
    boot.max_pfn = end_mib << 8
    assert probe_memory_block_size(boot) == mib * MIB
