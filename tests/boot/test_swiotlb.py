"""The bounce buffer: when there is one, how large, and what happens when it does not fit."""

from __future__ import annotations

import pytest

from kmemlab.boot.cmdline import parse_early_param
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_add, memblock_init
from kmemlab.boot.swiotlb import pci_iommu_alloc
from kmemlab.hardware.spec import load_spec

GIB, MIB = 1 << 30, 1 << 20


def machine(cmdline: str = "", end: int = 6 * GIB, low: int = 2 * GIB, cpus: int = 3) -> Boot:
    boot = Boot(load_spec({"e820": [], "cmdline": cmdline, "cpus": {"present": cpus}}))
    memblock_init(boot.memblock)
    memblock_add(boot.memblock, 0, low)
    memblock_add(boot.memblock, 4 * GIB, max(end - 4 * GIB, 0))
    boot.max_pfn = end >> 12
    parse_early_param(boot)
    pci_iommu_alloc(boot)
    return boot


def sizes(cmdline: str = "", **more: int) -> list[int]:
    boot = machine(cmdline, **more)
    return [size for _, size, _, _ in boot.memblock.reserved.regions()]


@pytest.mark.parametrize(
    ("cmdline", "end", "total"),
    [
        ("", 6 * GIB, 64 * MIB + 786432 + 64),
        ("", 4 * GIB, 0),
        ("iommu=off", 6 * GIB, 0),
        ("iommu=noforce,off", 6 * GIB, 0),
        ("swiotlb=noforce", 6 * GIB, 0),
        ("iommu=soft", 4 * GIB, 64 * MIB + 786432 + 64),
        ("swiotlb=force", 4 * GIB, 64 * MIB + 786432 + 64),
        ("swiotlb=65536", 6 * GIB, 128 * MIB + 2 * 786432 + 64),
        ("swiotlb=40000,2", 6 * GIB, 128 * MIB + 2 * 786432 + 32),
        ("swiotlb=1024,,force", 4 * GIB, 2 * MIB + 24576 + 64),
    ],
)
def test_size(cmdline: str, end: int, total: int) -> None:
    assert sum(sizes(cmdline, end=end)) == total


def test_it_lies_below_4_gib_and_its_tables_need_not() -> None:
    regions = machine().memblock.reserved.regions()
    assert [(base >= 4 * GIB) for base, _, _, _ in regions] == [False, True]


def test_a_buffer_that_does_not_fit_is_halved() -> None:
    boot = machine(low=40 * MIB)
    assert "software IO TLB: SWIOTLB bounce buffer size adjusted 32768 -> 16384 slabs" in boot.printk.lines()
    assert sum(sizes(low=40 * MIB)) == 32 * MIB + 393216 + 64
    assert sizes(low=512 << 10) == []


def test_many_cpus_need_many_slots() -> None:
    boot = machine(cpus=300)
    said = [line for line in boot.printk.lines() if "IO TLB" in line]
    assert said[:2] == [
        "software IO TLB: area num 512.",
        "software IO TLB: SWIOTLB bounce buffer size roundup to 128MB",
    ]
