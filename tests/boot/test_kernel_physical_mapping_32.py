"""i386's page tables as the MMU finds them in RAM, with three levels and with two."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from kmemlab.boot.globals import Boot
from kmemlab.boot.layout_32 import cpu_entry_area_base, maxmem, pkmap_base, vmalloc_end
from kmemlab.boot.page_tables import PG_LEVEL_2M, PG_LEVEL_4K, pfn_mapped
from kmemlab.hardware.mmu import PageFault
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.procfs import meminfo
from kmemlab.machine.start_kernel import start_kernel
from tests.boot.captures import I386, MACHINES, saved

PAGE_OFFSET = 0xC0000000
WRITE = 2


def machine(name: str, cmdline: str = "", without: tuple[str, ...] = ()) -> dict[str, Any]:
    hardware: dict[str, Any] = json.loads((MACHINES / name / "hardware.json").read_text())
    hardware["cmdline"] += cmdline
    hardware["cpus"]["flags"] = [flag for flag in hardware["cpus"]["flags"] if flag not in without]
    return hardware


def booted(source: Any, until: str | None = None) -> Kernel:
    kernel = Kernel(load_spec(source))
    start_kernel(kernel, until)
    return kernel


def entries(boot: Boot, size: int) -> list[tuple[int, int]]:
    """What lies in the kernel's part of the tables, by the manual: (address, entry) of each second-level entry."""
    top, found = boot.spec.image.data[0] & -4096, []
    if size == 4:
        return [(at << 22, boot.ram.read(top + 4 * at, 4)) for at in range(768, 1024)]
    middle = boot.ram.read(top + 24) & ~0xFFF
    for at in range(512):
        found.append((PAGE_OFFSET + (at << 21), boot.ram.read(middle + 8 * at)))
    return found


@pytest.mark.parametrize("name", I386)
def test_the_mmu_finds_lowmem_and_nothing_behind(name: str) -> None:
    boot = booted(MACHINES / name).boot
    rng, low = random.Random(name), boot.max_low_pfn
    ranges = [(start, min(end, low)) for start, end in pfn_mapped(boot.direct_map)]
    assert ranges[-1][1] == low
    for start, end in ranges:
        for pfn in [start, end - 1, *(rng.randrange(start, end) for _ in range(100))]:
            paddr = pfn * 4096 + rng.randrange(4096)
            assert boot.mmu.access(PAGE_OFFSET + paddr, WRITE) == paddr
    with pytest.raises(PageFault):
        boot.mmu.access(PAGE_OFFSET + low * 4096)


@pytest.mark.parametrize("name", ["i386-pae-2g-2cpu", "i386-4g-2cpu"])
def test_tables_above_lowmem_are_all_there_and_no_page_is_two_tables(name: str) -> None:
    boot = booted(MACHINES / name).boot
    size = boot.swapper_pg_dir.layout.entry_size
    tables = {address: entry >> 12 for address, entry in entries(boot, size) if entry & 1 and not entry & 0x80}
    assert len(set(tables.values())) == len(tables)
    # kmap's area, the CPU entry area (32 CPUs of 43 pages, and one), the fixmap; the LDT's place has none.
    step = 1 << (22 if size == 4 else 21)
    wanted = {pkmap_base(boot), *range(0xFF400000, 0xFF400000 + 1377 * 4096, step), *range(0xFF800000, 1 << 32, step)}
    assert {address for address in tables if address > 0xF8000000} == wanted


@pytest.mark.parametrize(
    ("name", "areas"),
    [
        ("i386-pae-1g", (0xFF400000, 0xFF000000, 0xFEFFE000, 0x36FFE000)),
        ("i386-1g", (0xFF400000, 0xFEC00000, 0xFEBFE000, 0x36BFE000)),
    ],
)
def test_areas_lie_where_linux_says(name: str, areas: tuple[int, ...]) -> None:
    boot = Boot(load_spec(MACHINES / name))
    assert (cpu_entry_area_base(boot), pkmap_base(boot), vmalloc_end(boot), maxmem(boot)) == areas


@pytest.mark.parametrize("name", I386)
def test_the_boot_mapping_is_as_large_as_in_linux(name: str) -> None:
    line = next(line for line in booted(MACHINES / name).printk_lines if line.startswith("initial memory mapped"))
    assert line in saved(name, "dmesg.txt")


@pytest.mark.parametrize("name", ["i386-pae-1g", "i386-1g"])
def test_small_pages_only(name: str) -> None:
    boot = booted(machine(name, without=("pse",))).boot
    by_word = booted(machine(name, " mem=nopentium")).boot
    counts = boot.direct_map.direct_pages_count
    assert counts[PG_LEVEL_2M] == 0
    assert counts[PG_LEVEL_4K] == by_word.direct_map.direct_pages_count[PG_LEVEL_4K] == boot.max_low_pfn
    # A table for each 2 or 4 MiB behind the boot mapping, and each is a page of its own.
    step = boot.direct_map.pmd_size
    behind = -(-boot.max_low_pfn * 4096 // step) - 0x2400000 // step
    found = [entry >> 12 for address, entry in entries(boot, boot.swapper_pg_dir.layout.entry_size) if entry & 1]
    assert len(set(found)) == len(found) >= behind
    assert boot.mmu.access(PAGE_OFFSET + 0x2000123) == 0x2000123


def test_what_meminfo_calls_large_pages() -> None:
    assert "DirectMap4M:" in meminfo(booted(MACHINES / "i386-256m"))
    assert "DirectMap2M:" in meminfo(booted(MACHINES / "i386-pae-256m"))
    assert "HugePages" not in meminfo(booted(machine("i386-1g", " mem=nopentium")))
