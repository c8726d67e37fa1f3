"""Huge pages: what the three parameters mean in every order, and where the pages come from."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.hstate import huge_page_size_text

GIB = 1 << 30
LOW = [[0, 0x9FBFF, "usable"], [0x100000, 3 * GIB - 1, "usable"]]


def machine(cmdline: str, flags: tuple[str, ...] = ("pse", "pdpe1gb"), **more: Any) -> Machine:
    e820 = [*LOW, [4 * GIB, 7 * GIB - 1, "usable"]]
    return Machine.boot({"e820": e820, "cmdline": f"nokaslr {cmdline}", "cpus": {"flags": list(flags)}, **more})


def pools(booted: Machine) -> list[tuple[str, int]]:
    return [(huge_page_size_text(h), h.nr_huge_pages) for h in booted.kernel.mm.hugetlb.registered()]


def said(booted: Machine) -> list[str]:
    return [line for line in booted.kernel.printk_lines if line.startswith("HugeTLB: ")]


@pytest.mark.parametrize(
    ("cmdline", "found"),
    [
        ("", [("1.00 GiB", 0), ("2.00 MiB", 0)]),
        ("hugepages=3", [("1.00 GiB", 0), ("2.00 MiB", 3)]),
        ("hugepagesz=1G hugepages=2", [("1.00 GiB", 2), ("2.00 MiB", 0)]),
        ("hugepagesz=2M hugepages=5 hugepagesz=1G hugepages=1", [("2.00 MiB", 5), ("1.00 GiB", 1)]),
        ("default_hugepagesz=1G hugepages=2", [("1.00 GiB", 2), ("2.00 MiB", 0)]),
        ("hugepages=2 default_hugepagesz=1G", [("1.00 GiB", 2), ("2.00 MiB", 0)]),
        ("hugepagesz=1G hugepages=1 hugepages=2", [("1.00 GiB", 1), ("2.00 MiB", 0)]),
        ("hugepagesz=4M hugepages=1 hugepages=2", [("1.00 GiB", 0), ("2.00 MiB", 2)]),
        ("hugepages=7 hugepagesz=2M hugepages=5", [("2.00 MiB", 7), ("1.00 GiB", 0)]),
        ("hugepagesz=1G hugepages=0:1", [("1.00 GiB", 1), ("2.00 MiB", 0)]),
        ("hugepages=0:12", [("1.00 GiB", 0), ("2.00 MiB", 12)]),
        ("hugepages=0:2 default_hugepagesz=1G", [("1.00 GiB", 2), ("2.00 MiB", 0)]),
        ("hugepages=5,0:2", [("1.00 GiB", 0), ("2.00 MiB", 5)]),
    ],
)
def test_the_parameters(cmdline: str, found: list[tuple[str, int]]) -> None:
    booted = machine(cmdline)
    assert pools(booted) == found
    booted.check()


def test_what_is_said() -> None:
    assert said(machine("hugepagesz=1G hugepages=1")) == [
        "HugeTLB: registered 1.00 GiB page size, pre-allocated 1 pages",
        "HugeTLB: 16380 KiB vmemmap can be freed for a 1.00 GiB page",
        "HugeTLB: registered 2.00 MiB page size, pre-allocated 0 pages",
        "HugeTLB: 28 KiB vmemmap can be freed for a 2.00 MiB page",
    ]
    assert said(machine("hugepagesz=1G hugepages=2", flags=("pse",)))[:2] == [
        "HugeTLB: unsupported hugepagesz=1G",
        "HugeTLB: hugepages=2 does not follow a valid hugepagesz, ignoring",
    ]
    assert said(machine("hugepages=2", flags=())) == [
        "HugeTLB: huge pages not supported, ignoring associated command-line parameters"
    ]
    assert "HugeTLB: Invalid hugepages parameter 7:1" in said(machine("hugepagesz=2M hugepages=7:1"))


def test_more_than_there_are() -> None:
    booted = machine("hugepagesz=1G hugepages=9")
    # Six GiB: the first has the kernel, the last one below 4 GiB and the last one page tables and NODE_DATA.
    assert pools(booted)[0] == ("1.00 GiB", 4)
    assert "HugeTLB: allocating 9 of page size 1.00 GiB failed.  Only allocated 4 hugepages." in said(booted)


@pytest.mark.parametrize("number", ["9" * 20, "9" * 5000, "0:" + "9" * 5000, f"0:{1 << 62},0:{1 << 62}", "0:77"])
def test_more_than_any_machine_has(number: str) -> None:
    booted = machine(f"hugepagesz=1G hugepages={number}")
    assert pools(booted)[0] == ("1.00 GiB", 4)


def test_gigantic_pages_are_managed_and_held() -> None:
    without, booted = machine(""), machine("hugepagesz=1G hugepages=2")
    gone = 2 << 18
    assert booted.kernel.mm.totalram_pages == without.kernel.mm.totalram_pages
    # Watermarks shared out at postcore time don't know of them: the protection of DMA32 lacks their 1/256.
    reserve = [m.zone("DMA32").lowmem_reserve[2] for m in (without, booted)]
    assert reserve[0] - reserve[1] == gone // 256
    assert sum(zone.nr_owned for zone in booted.zones) - sum(zone.nr_owned for zone in without.zones) == gone


def test_pages_of_two_nodes_in_turn() -> None:
    nodes = [[0, 0, 3 * GIB - 1], [1, 4 * GIB, 7 * GIB - 1]]

    def held(cmdline: str) -> list[int]:
        booted = machine(cmdline, numa={"nodes": nodes})
        return [sum(zone.nr_owned for zone in booted.zones if zone.node == nid) for nid in (0, 1)]

    without = held("")  # the page tables of vmalloc's area, and the hash tables, which are spread, too
    assert [more - less for more, less in zip(held("hugepages=6"), without, strict=True)] == [3 << 9, 3 << 9]
    # Numbers for single nodes; 30 in all is what a real machine made of 0:10,1:20.
    assert [more - less for more, less in zip(held("hugepages=0:10,1:20"), without, strict=True)] == [10 << 9, 20 << 9]
    # The whole number holds for what could be read of a list, then again for all nodes in turn.
    assert [more - less for more, less in zip(held("hugepages=1:4,9:1"), without, strict=True)] == [2 << 9, 2 << 9]
