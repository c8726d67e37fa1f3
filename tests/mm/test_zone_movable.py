"""kernelcore= and movablecore=: a real machine's cut, and what must hold for any wish on any nodes."""

from __future__ import annotations

import random

import pytest

from kmemlab.boot.memblock import for_each_mem_pfn_range
from kmemlab.hardware.spec import CpuSpec, E820Range, MachineSpec, NumaRange, NumaSpec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.types.zone_type import ZONE_MOVABLE

MIB = 1 << 20
GIB = 1 << 30


def machine(cmdline: str, sizes: tuple[int, ...] = (2 * GIB,)) -> Kernel:
    """A machine whose nodes have these sizes in bytes, one behind the other, booted as far as zones reach."""
    nodes, at = [], 0
    for nid, size in enumerate(sizes):
        nodes.append(NumaRange(nid, at, at + size - 1))
        at += size
    spec = MachineSpec(
        name="test",
        e820=(E820Range(0, 0x9FBFF), E820Range(0x100000, at - 0x20001)),
        cmdline=f"nokaslr {cmdline}",
        cpus=CpuSpec(flags=frozenset({"pse"})),
        numa=NumaSpec(nodes=tuple(nodes) if len(nodes) > 1 else ()),
    )
    kernel = Kernel(spec)
    start_kernel(kernel, "build_all_zonelists")
    return kernel


def movable_pages(kernel: Kernel) -> int:
    return sum(zone.present_pages for zone in kernel.mm.zones() if zone.index == ZONE_MOVABLE)


def test_the_cut_of_a_real_machine_with_2_gib_and_kernelcore_512m() -> None:
    assert "  Node 0: 0x0000000020400000" in machine("kernelcore=512M").printk_lines


@pytest.mark.parametrize("wish", ["kernelcore=64G", "movablecore=0", "kernelcore=100%", "kernelcore=0"])
def test_no_cut_where_nothing_is_left_or_nothing_asked(wish: str) -> None:
    kernel = machine(wish)
    assert movable_pages(kernel) == 0
    assert not any(line.startswith("  Node ") for line in kernel.printk_lines)


@pytest.mark.parametrize("seed", range(15))
def test_zones_share_all_memory_and_the_wish_is_kept(seed: int) -> None:
    rng = random.Random(seed)
    sizes = tuple(rng.randrange(2, 17) * 128 * MIB for _ in range(rng.randrange(1, 5)))
    total = sum(sizes)
    wish = rng.randrange(total // MIB // 4, total // MIB)
    option = rng.choice(("kernelcore", "movablecore"))
    kernel = machine(f"{option}={wish}M", sizes)
    memory = sum(end - start for start, end, _ in for_each_mem_pfn_range(kernel.boot.memblock))
    assert sum(zone.present_pages for zone in kernel.mm.zones()) == memory
    taken = movable_pages(kernel)
    # Each node's cut is rounded up to 4 MiB, and a node whose cut falls behind its end keeps all.
    slack = 1024 * len(sizes)
    kernel_pages = memory - taken
    required = wish * 256 if option == "kernelcore" else memory - wish * 256
    assert kernel_pages >= min(required, memory) - slack
    for pgdat in kernel.mm.node_data:
        cut = kernel.mm.zone_movable_pfn[pgdat.node_id]
        for zone in pgdat.node_zones:
            if cut and zone.present_pages:
                assert (zone.zone_start_pfn >= cut) == (zone.index == ZONE_MOVABLE)


def test_per_cent_means_of_all_memory() -> None:
    assert movable_pages(machine("movablecore=25%")) == pytest.approx(2 * GIB // 4096 // 4, abs=1024)


def test_without_mirrors_the_kernel_gets_what_starts_below_4_gib() -> None:
    kernel = Kernel(
        MachineSpec(
            name="hole",
            e820=(E820Range(0, 0x9FFFF), E820Range(0x100000, 3 * GIB - 1), E820Range(4 * GIB, 6 * GIB - 1)),
            cmdline="nokaslr kernelcore=mirror",
        )
    )
    start_kernel(kernel)
    assert "This configuration results in unmirrored kernel memory." in kernel.printk_lines
    assert movable_pages(kernel) == 2 * GIB // 4096
    assert [zone.name for zone in kernel.mm.populated_zones()] == ["DMA", "DMA32", "Movable"]
