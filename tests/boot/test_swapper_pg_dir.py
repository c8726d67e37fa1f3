"""The kernel's page tables as the MMU finds them in RAM, on real machines; and by the manual, entry by entry."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from kmemlab.boot.globals import Boot
from kmemlab.boot.page_tables import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K, pfn_mapped
from kmemlab.hardware.mmu import PageFault
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.machine import Machine
from kmemlab.machine.start_kernel import start_kernel
from tests.boot.captures import MACHINES, NAMES, expected

BASE = {4: 0xFFFF888000000000, 5: 0xFF11000000000000}
WRITE, USER, FETCH = 2, 4, 16


def mapped(name: str) -> Boot:
    kernel = Kernel(load_spec(MACHINES / name))
    start_kernel(kernel, "init_mem_mapping")
    return kernel.boot


def leaves(boot: Boot) -> tuple[Counter[int], list[int], int]:
    """A walk over everything below the top table: pages by size, the frames of tables, and the bytes mapped."""
    pages: Counter[int] = Counter()
    tables, total = [], 0
    todo = [(boot.spec.image.data[0] >> 12, 12 + 9 * (boot.page_table_levels - 1))]
    while todo:
        table, shift = todo.pop()
        for index in range(512):
            entry = boot.ram.read(table * 4096 + 8 * index)
            if not entry & 1:
                continue
            if shift == 12 or entry & 0x80:
                pages[shift] += 1
                total += 1 << shift
            else:
                tables.append(entry >> 12 & (1 << 40) - 1)
                todo.append((tables[-1], shift - 9))
    return pages, tables, total


@pytest.mark.parametrize("name", [name for name in NAMES if name != "amd64-1t"])
def test_every_frame_of_ram_is_where_the_direct_map_says(name: str) -> None:
    boot = mapped(name)
    pages, tables, total = leaves(boot)
    counted = boot.direct_map.direct_pages_count
    assert (pages[12], pages[21]) == (counted[PG_LEVEL_4K], counted[PG_LEVEL_2M])
    # C counts a page of 1 GiB anew when a later window finds it there.
    assert pages[30] <= counted[PG_LEVEL_1G]
    assert total == sum(end - start for start, end in pfn_mapped(boot.direct_map)) << 12
    # Every table is a page of its own, from the brk or a page that the real kernel, too, took for it.
    assert len(set(tables)) == len(tables)
    brk = range(boot.spec.image.brk[0] >> 12, (boot.spec.image.brk[1] >> 12) + 1)
    asked = "-{end:#018x}] memblock_alloc_range_nid"
    real = "\n".join(expected(name)["dmesg"])
    for table in tables:
        end = (table << 12) + 0xFFF
        assert table in brk or asked.format(end=end) in real, hex(table)


@pytest.mark.parametrize("name", ["amd64-2g-2cpu", "amd64-la57-2g", "amd64-gbpages-8g", "amd64-lowsplit-4g-2cpu"])
def test_the_mmu_finds_ram_and_faults_on_holes(name: str) -> None:
    boot = mapped(name)
    base, rng = BASE[boot.page_table_levels], random.Random(name)
    ranges = pfn_mapped(boot.direct_map)
    for start, end in ranges:
        for pfn in [start, end - 1, *(rng.randrange(start, end) for _ in range(200))]:
            paddr = pfn * 4096 + rng.randrange(4096)
            assert boot.mmu.access(base + paddr, WRITE) == paddr
        with pytest.raises(PageFault) as fault:
            boot.mmu.access(base + end * 4096)
        assert fault.value.error_code == 0
    with pytest.raises(PageFault, match="permissions violation"):
        boot.mmu.access(base + MIB, USER)
    with pytest.raises(PageFault, match="permissions violation"):
        boot.mmu.access(base + MIB, FETCH)


MIB = 1 << 20


def test_entries_by_the_book() -> None:
    boot = mapped("amd64-2g-2cpu")
    top = boot.spec.image.data[0]
    entry = top + 8 * 273
    for index in (0, 1):
        table = boot.ram.read(entry)
        assert table & 0xFFF == 0x67
        entry = (table & ~0xFFF) + 8 * index
    assert boot.ram.read(entry + 8) == 0x80000000004001E3  # 2 MiB at 0x400000: P RW A D PSE G, NX


def test_tables_rewind_and_fork_with_the_machine() -> None:
    machine = Machine.boot("tiny-128m", record=True)
    twin = machine.fork()
    assert twin.kernel.boot.mmu.access(BASE[4] + 5 * MIB) == 5 * MIB
    assert twin.kernel.boot.mmu.ram is twin.kernel.boot.swapper_pg_dir.ram is twin.kernel.boot.ram
    before = machine.kernel.boot.ram.frames()
    machine.timeline.rewind(0)
    assert machine.kernel.boot.ram.frames() == ()
    machine.timeline.to_end()
    assert machine.kernel.boot.ram.frames() == before
    assert machine.kernel.boot.mmu.access(BASE[4] + 5 * MIB) == 5 * MIB
    machine.stop_recording()
