"""Watermarks and reserves against numbers read from real machines (managed pages as those machines had them)."""

from __future__ import annotations

import pytest

from kmemlab.hardware.spec import CpuSpec, E820Range, MachineSpec, NumaRange, NumaSpec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.mm.watermark import hugepage_init, init_per_zone_wmark_min
from kmemlab.types.zone_type import MAX_NR_ZONES

GIB = 1 << 30


def machine(ram: int, managed: dict[tuple[int, str], int], cmdline: str = "", cpus: int = 1, split: int = 0) -> Kernel:
    """A machine with zones that manage what is given, at the moment of the postcore initcalls."""
    low = min(ram, 3 * GIB)
    e820 = [E820Range(0, 0x9FFFF), E820Range(0x100000, low - 1)]
    if ram > low:
        e820.append(E820Range(4 * GIB, 4 * GIB + ram - low - 1))
    end = e820[-1].end
    nodes = (NumaRange(0, 0, split - 1), NumaRange(1, split, end)) if split else ()
    node_of = tuple(cpu * 2 // cpus if split else 0 for cpu in range(cpus))
    spec = MachineSpec(
        name="test",
        e820=tuple(e820),
        cmdline=f"nokaslr {cmdline}",
        cpus=CpuSpec(present=cpus, possible=cpus, node_of=node_of, flags=frozenset({"pse"})),
        numa=NumaSpec(nodes=nodes),
    )
    kernel = Kernel(spec)
    start_kernel(kernel, "build_all_zonelists")
    for zone in kernel.mm.zones():
        zone.managed_pages = managed.get((zone.node, zone.name), 0)
    kernel.mm.totalram_pages = sum(managed.values())
    init_per_zone_wmark_min(kernel.mm)
    hugepage_init(kernel.mm)
    return kernel


def marks(kernel: Kernel, nid: int, name: str) -> tuple[int, ...]:
    zone = next(zone for zone in kernel.mm.node_data[nid].node_zones if zone.name == name)
    return tuple(zone.watermark[:3])


def protection(kernel: Kernel, nid: int, name: str) -> tuple[int, ...]:
    zone = next(zone for zone in kernel.mm.node_data[nid].node_zones if zone.name == name)
    return tuple(zone.lowmem_reserve[at] for at in range(MAX_NR_ZONES))


def test_512_mib_keep_their_first_marks() -> None:
    kernel = machine(GIB // 2, {(0, "DMA"): 3840, (0, "DMA32"): 106400})
    assert kernel.mm.min_free_kbytes == 2656
    assert marks(kernel, 0, "DMA") == (23, 28, 33)
    assert marks(kernel, 0, "DMA32") == (640, 800, 960)
    assert protection(kernel, 0, "DMA") == (0, 415, 415, 415, 415)


def test_2_gib_are_raised_for_huge_pages() -> None:
    kernel = machine(2 * GIB, {(0, "DMA"): 3840, (0, "DMA32"): 492836}, cpus=2)
    assert kernel.mm.min_free_kbytes == 45056
    assert marks(kernel, 0, "DMA") == (87, 108, 129)
    assert marks(kernel, 0, "DMA32") == (11176, 13970, 16764)
    assert protection(kernel, 0, "DMA") == (0, 1925, 1925, 1925, 1925)
    zones = kernel.mm.node_data[0].node_zones
    assert [(zone.pageset_high, zone.pageset_batch) for zone in zones[:2]] == [(54, 1), (6985, 63)]
    assert [zone.stat_threshold for zone in zones[:2]] == [4, 20]
    assert kernel.mm.totalreserve_pages == 18818


def test_never_means_that_the_first_calculation_runs_once_more() -> None:
    kernel = machine(GIB, {(0, "DMA"): 3840, (0, "DMA32"): 239800}, "transparent_hugepage=never")
    assert kernel.mm.min_free_kbytes == 3936  # 3948 before the high watermarks were there


@pytest.mark.parametrize("zones", [1, 2, 3])
def test_each_populated_zone_asks_for_eleven_pageblocks(zones: int) -> None:
    names = ("DMA32", "DMA", "Normal")[:zones]
    kernel = machine(8 * GIB, dict.fromkeys([(0, name) for name in names], 1 << 20))
    for zone in kernel.mm.zones():
        zone.present_pages = zone.managed_pages
    kernel.mm.min_free_kbytes = 0
    hugepage_init(kernel.mm)
    assert kernel.mm.min_free_kbytes == 22528 * zones


def test_what_the_user_set_is_raised_with_a_word_and_never_lowered() -> None:
    kernel = machine(2 * GIB, {(0, "DMA"): 3840, (0, "DMA32"): 492836})
    kernel.mm.user_min_free_kbytes = kernel.mm.min_free_kbytes = 1 << 18
    init_per_zone_wmark_min(kernel.mm)
    hugepage_init(kernel.mm)
    assert kernel.mm.min_free_kbytes == 1 << 18
    assert "is not updated to" in kernel.printk_lines[-1]
    kernel.mm.user_min_free_kbytes = kernel.mm.min_free_kbytes = 8192
    hugepage_init(kernel.mm)
    assert kernel.printk_lines[-1].startswith("raising min_free_kbytes from 8192 to 45056 ")


def test_marks_add_up_to_min_free_kbytes() -> None:
    kernel = machine(8 * GIB, {(0, "DMA"): 3840, (0, "DMA32"): 750000, (0, "Normal"): 1300000})
    total = sum(zone.watermark[0] for zone in kernel.mm.zones())
    assert kernel.mm.min_free_kbytes // 4 - 3 <= total <= kernel.mm.min_free_kbytes // 4
