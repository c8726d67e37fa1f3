"""Hash tables on machines with several nodes: in vmalloc's area, large pages only where each node's share is large."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.vfs_caches import alloc_spread_system_hash
from kmemlab.mm.page_free import page_zone
from kmemlab.mm.vm_struct import vm_pages
from kmemlab.mm.vmalloc import busy_areas

GIB = 1 << 30


def machine(cmdline: str = "", ends: tuple[int, ...] = (2, 4), **more: Any) -> Machine:
    nodes = [[nid, start * GIB, end * GIB - 1] for nid, (start, end) in enumerate(zip((0, *ends), ends, strict=False))]
    e820 = [[0, 0x9FBFF, "usable"], [0x100000, ends[-1] * GIB - 1, "usable"]]
    return Machine.boot(
        {"e820": e820, "cmdline": cmdline, "numa": {"nodes": nodes}, "cpus": {"flags": ["pse"]}, **more}
    )


@pytest.mark.parametrize(
    ("cmdline", "ends", "kinds"),
    [
        ("", (4,), ["linear", "linear"]),
        ("hashdist=0", (2, 4), ["linear", "linear"]),
        ("", (2, 4), ["vmalloc hugepage", "vmalloc"]),
        ("nohugevmalloc", (2, 4), ["vmalloc", "vmalloc"]),
        ("", (1, 2, 4), ["vmalloc", "vmalloc"]),  # 4 MiB over three nodes
    ],
)
def test_kinds(cmdline: str, ends: tuple[int, ...], kinds: list[str]) -> None:
    booted = machine(cmdline, ends)
    lines = [line for line in booted.kernel.printk_lines if " hash table" in line]
    assert [line.rpartition(", ")[2].rstrip(")") for line in lines] == kinds
    booted.check()


def test_each_node_holds_its_share() -> None:
    mm = machine().kernel.mm
    pages = [vm_pages(mm.page, mm.vmalloc.vms, mm.vmalloc.areas.vm[va]) for va in busy_areas(mm.vmalloc)]
    nodes = [sorted(page_zone(mm, pfn).node for pfn in held) for held in pages]
    # 4 MiB by large pages and 2 MiB by small ones, and the list of the large one's pages: half of each on each node.
    assert sorted(nodes, key=len) == [[0, 1], [0] * 256 + [1] * 256, [0] * 512 + [1] * 512]
    assert mm.vmalloc.nr_vmalloc_pages == 2 + 512 + 1024


def test_a_table_that_does_not_fit_is_halved() -> None:
    booted = machine(ends=(1, 2))
    alloc_spread_system_hash(booted.kernel.mm, "Huge", 1 << 32)
    said = booted.kernel.printk_lines[-1]
    assert said.startswith("Huge hash table entries: 134217728 (order: 18, 1073741824 bytes")
    booted.check()
