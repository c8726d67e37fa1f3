"""Nodes: from the SRAT, from a bad one, from the command line."""

from __future__ import annotations

import itertools
import random

import pytest

from kmemlab.boot.numa import node_distance, nodes_of
from kmemlab.boot.numa_init import numa_init_array
from kmemlab.hardware.spec import CpuSpec, E820Range, ImageSpec, MachineSpec, NumaRange, NumaSpec, load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.types.errors import BadSpec, KernelPanic

GIB = 1 << 30


def machine(nodes: tuple[NumaRange, ...], cmdline: str = "", ram: int = 4, cpus: int = 2, **numa: object) -> Kernel:
    """A machine with `ram` GiB from address 0 on, booted as far as zones reach."""
    spec = MachineSpec(
        name="test",
        e820=(E820Range(0, 0x9FFFF), E820Range(0x100000, ram * GIB - 1)),
        cmdline=f"nokaslr {cmdline}",
        cpus=CpuSpec(
            present=cpus, possible=cpus, node_of=tuple(cpu % 2 for cpu in range(cpus)), flags=frozenset({"pse"})
        ),
        numa=NumaSpec(nodes=nodes, **numa),  # type: ignore[arg-type]
        image=ImageSpec(),
    )
    kernel = Kernel(spec)
    start_kernel(kernel, "build_all_zonelists")
    return kernel


def two(split: int = 2 * GIB, end: int = 4 * GIB) -> tuple[NumaRange, ...]:
    return NumaRange(0, 0, split - 1), NumaRange(1, split, end - 1)


def online(kernel: Kernel) -> list[int]:
    return nodes_of(kernel.numa.node_online)


def spans(kernel: Kernel) -> list[tuple[int, int]]:
    nodes = (kernel.mm.node_data[nid] for nid in online(kernel))
    return [(pgdat.node_start_pfn, pgdat.node_spanned_pages) for pgdat in nodes if pgdat.node_present_pages]


def test_two_nodes_share_the_memory() -> None:
    assert online(machine(two())) == [0, 1]


def test_nodes_that_overlap_are_not_believed() -> None:
    kernel = machine((NumaRange(0, 0, 3 * GIB - 1), NumaRange(1, 2 * GIB, 4 * GIB - 1)))
    assert "overlaps with node 1" in "\n".join(kernel.printk_lines)
    assert "No NUMA configuration found" in kernel.printk_lines
    assert online(kernel) == [0]


def test_a_node_that_overlaps_with_itself_is_merged() -> None:
    kernel = machine((NumaRange(0, 0, 3 * GIB - 1), NumaRange(0, 2 * GIB, 4 * GIB - 1)))
    text = "\n".join(kernel.printk_lines)
    assert "overlaps with itself" in text
    assert (
        "NUMA: Node 0 [mem 0x00000000-0xbfffffff] + [mem 0x80000000-0xffffffff] -> [mem 0x00000000-0xffffffff]" in text
    )
    assert "No NUMA" not in text


def test_an_srat_that_forgets_memory_is_not_used() -> None:
    kernel = machine(two(end=3 * GIB))
    assert "NUMA: nodes only cover 3071MB of your 4095MB e820 RAM. Not used." in kernel.printk_lines
    assert online(kernel) == [0]
    assert sum(zone.present_pages for zone in kernel.mm.zones()) == 4 * GIB // 4096 - (0x100 - 0xA0) - 1


def test_a_block_between_keeps_blocks_of_a_node_apart() -> None:
    kernel = machine((NumaRange(0, 0, GIB - 1), NumaRange(1, GIB, 2 * GIB - 1), NumaRange(0, 2 * GIB, 4 * GIB - 1)))
    assert not any(line.startswith("NUMA: Node") for line in kernel.printk_lines)
    assert online(kernel) == [0, 1]


@pytest.mark.parametrize("slit", [((10, 10), (20, 10)), ((11, 20), (20, 10)), ((10, 5), (5, 10))])
def test_a_nonsense_slit_is_not_used(slit: tuple[tuple[int, ...], ...]) -> None:
    kernel = machine(two(), slit=slit)
    assert "ACPI: SLIT table looks invalid. Not used." in kernel.printk_lines
    assert [node_distance(kernel.numa, 0, other) for other in (0, 1)] == [10, 20]


def test_a_slit_with_more_nodes_than_there_are_tells_about_those_that_are() -> None:
    kernel = machine(two(), slit=((10, 31, 40), (32, 10, 40), (40, 40, 10)))
    assert [node_distance(kernel.numa, *pair) for pair in ((0, 0), (0, 1), (1, 0))] == [10, 31, 32]


def test_numa_off_makes_one_node_and_says_so() -> None:
    kernel = machine(two(), "numa=off")
    assert "NUMA turned off" in kernel.printk_lines
    assert online(kernel) == [0]


@pytest.mark.parametrize(("fake", "count"), [("4", 4), ("3", 3), ("1", 1), ("1G", None), ("512M", None), ("1M", None)])
@pytest.mark.parametrize("nodes", [(), two()])
def test_fake_nodes_share_all_memory(fake: str, count: int | None, nodes: tuple[NumaRange, ...]) -> None:
    kernel = machine(nodes, f"numa=fake={fake}")
    plain = machine(nodes)
    present = sum(zone.present_pages for zone in kernel.mm.zones())
    assert present == sum(zone.present_pages for zone in plain.mm.zones())
    # A rest too small for a node of its own goes to its neighbour, so physical nodes may leave fewer.
    assert count is None or (len(online(kernel)) <= count if nodes else len(online(kernel)) == count)
    blocks = sorted(kernel.numa.meminfo.blocks())
    assert all(end <= start for (_, end, _), (start, _, _) in itertools.pairwise(blocks))
    assert all(start % (32 << 20) == 0 for start, _, _ in blocks)


def test_uniform_fake_nodes_cut_each_physical_node_evenly() -> None:
    kernel = machine(two(), "numa=fake=2U")
    assert spans(kernel) == [(1, (1 << 18) - 1), (1 << 18, 1 << 18), (2 << 18, 1 << 18), (3 << 18, 1 << 18)]
    assert list(kernel.numa.emu_nid_to_phys) == [0, 0, 1, 1]
    assert node_distance(kernel.numa, 0, 1) == 10
    assert node_distance(kernel.numa, 0, 2) == 20


def test_fake_nodes_take_distances_from_the_command_line() -> None:
    kernel = machine((), "numa=fake=2:10,15,16,10")
    assert [node_distance(kernel.numa, *pair) for pair in ((0, 1), (1, 0))] == [15, 16]


@pytest.mark.parametrize("fake", ["0", "200"])
def test_fake_nodes_that_can_not_be_are_not_made(fake: str) -> None:
    kernel = machine((), f"numa=fake={fake}")
    assert online(kernel) == [0]


def test_a_fake_node_never_mixes_physical_nodes() -> None:
    rng = random.Random(7)
    for _ in range(10):
        split = rng.randrange(1, 8) * (256 << 20)
        kernel = machine(two(split), f"numa=fake={rng.randrange(2, 9)}")
        for start, end, nid in kernel.numa.meminfo.blocks():
            phys = kernel.numa.emu_nid_to_phys[nid]
            assert (end <= split) if phys == 0 else (start >= split)


def test_cpus_without_a_table_are_spread_round_robin() -> None:
    kernel = machine((), "numa=fake=3", cpus=7)
    assert list(kernel.numa.cpu_to_node) == [0, 1, 2, 0, 1, 2, 0]
    numa_init_array(kernel.numa)
    assert list(kernel.numa.cpu_to_node) == [0, 1, 2, 0, 1, 2, 0]


def test_a_node_with_cpus_only_comes_online_without_memory() -> None:
    kernel = machine((NumaRange(0, 0, 4 * GIB - 1),))
    assert "Initmem setup node 1 as memoryless" in kernel.printk_lines
    assert online(kernel) == [0, 1]
    assert list(kernel.numa.cpu_to_node) == [0, 1]


def test_a_node_for_hot_plugging_only_stays_offline() -> None:
    later = NumaRange(2, 8 * GIB, 9 * GIB - 1)
    kernel = machine((*two(), later), hotplug=(later,))
    assert "Initializing node 2 as memoryless" in kernel.printk_lines
    assert online(kernel) == [0, 1]


def test_too_many_nodes_are_no_nodes() -> None:
    kernel = machine((*two()[:1], NumaRange(1024, 2 * GIB, 4 * GIB - 1)))
    assert "SRAT: Too many proximity domains." in kernel.printk_lines
    assert online(kernel) == [0]


def test_a_slit_that_is_not_square_is_no_slit() -> None:
    with pytest.raises(BadSpec, match="not square"):
        machine(two(), slit=((10,), (20,)))


def test_a_malformed_option_is_told_and_ignored() -> None:
    kernel = machine((), "numa")
    assert "Malformed early option 'numa'" in kernel.printk_lines


@pytest.mark.parametrize("option", ["kernelcore=lots", "kernelcore=120%", "movablecore=100%", "kernelcore=09M"])
def test_what_asks_for_no_movable_zone_is_not_malformed(option: str) -> None:
    kernel = machine((), option)
    assert not [line for line in kernel.printk_lines if "Malformed" in line]
    assert not any(kernel.mm.zone_movable_pfn)


@pytest.mark.parametrize("fake", ["M", "", "x", "-1", "U", "0M", "08"])
def test_a_fake_that_is_no_number_changes_nothing(fake: str) -> None:
    kernel = machine(two(), f"numa=fake={fake}")
    assert online(kernel) == [0, 1]
    assert not [line for line in kernel.printk_lines if line.startswith("Faking node")]


def test_only_distances_with_a_comma_behind_them_count() -> None:
    kernel = machine((), "numa=fake=2:10,15,16")
    assert [node_distance(kernel.numa, *pair) for pair in ((0, 1), (1, 0))] == [15, 10]
    kernel = machine((), "numa=fake=2U:10,15,16,")
    assert [node_distance(kernel.numa, *pair) for pair in ((0, 1), (1, 0))] == [10, 10]


def test_uniform_fake_nodes_beside_a_node_without_memory() -> None:
    later = NumaRange(2, 8 * GIB, 9 * GIB - 1)
    kernel = machine((*two(), later), "numa=fake=2U", hotplug=(later,))
    assert "Fake node size 0MB too small, increasing to 32MB" in kernel.printk_lines
    assert len([line for line in kernel.printk_lines if line.startswith("Faking node")]) == 4


def test_uniform_fake_nodes_of_nodes_in_turn() -> None:
    # The size is that of the first block's part, so the larger blocks of the node make more nodes than asked for.
    blocks = (
        NumaRange(0, 0, GIB // 4 - 1),
        NumaRange(1, GIB // 4, GIB // 2 - 1),
        NumaRange(0, GIB // 2, 4 * GIB - 1),
    )
    kernel = machine(blocks, "numa=fake=1U")
    sizes = [line.rpartition("(")[2] for line in kernel.printk_lines if line.startswith("Faking node")]
    assert sizes[:2] == ["256MB)", "256MB)"]
    assert len(sizes) > 4


def test_memory_that_the_srat_leaves_out_is_a_panic() -> None:
    # Less than 1 MiB passes as covered; then nobody has the pages.
    with pytest.raises(KernelPanic, match=r"\[mem 0x80000000-0x8007ffff\] is memory of no node"):
        machine((NumaRange(0, 0, 2 * GIB - 1), NumaRange(1, 2 * GIB + 0x80000, 4 * GIB - 1)))


def test_memory_behind_the_last_page_frame_is_a_panic() -> None:
    spec = load_spec(
        {"e820": [[0, 0x9FFFF, "usable"], [0x100000, GIB - 1, "usable"], [1 << 50, (1 << 50) + 65535, "usable"]]}
    )
    with pytest.raises(KernelPanic, match="is memory of no node"):
        start_kernel(Kernel(spec))


def test_pages_between_the_zones_of_kernelcore_mirror_are_a_panic() -> None:
    ranges = [[0, 0x9FFFF, "usable"], [0x100000, 2 * GIB - 1, "usable"], [4 * GIB + 0x5000, 5 * GIB - 1, "usable"]]
    with pytest.raises(KernelPanic, match="in no zone"):
        start_kernel(Kernel(load_spec({"e820": ranges, "cmdline": "kernelcore=mirror"})))
