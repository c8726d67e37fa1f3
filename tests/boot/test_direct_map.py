"""The direct map: the pieces that a range is cut into, the pages counted, the tables taken."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kmemlab.boot.direct_map import BIT_1G, BIT_2M, split_mem_range
from kmemlab.boot.globals import Boot
from kmemlab.boot.page_tables import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K, pfn_mapped, pfn_range_is_mapped
from tests.boot.captures import MACHINES, NAMES, early_memory, expected

MIB, GIB = 1 << 20, 1 << 30
LARGE = ["pse", "pdpe1gb"]


def machine(ram: list[list[Any]], flags: list[str], cmdline: str = "nokaslr", **more: Any) -> Boot:
    e820 = [[start, end - 1, "usable"] for start, end in ram]
    return early_memory({"e820": e820, "cpus": {"flags": flags}, "cmdline": cmdline, **more})


def counts(boot: Boot) -> tuple[int, int, int]:
    count = boot.direct_map.direct_pages_count
    return count[PG_LEVEL_4K], count[PG_LEVEL_2M], count[PG_LEVEL_1G]


def test_two_gib_as_worked_out_by_hand() -> None:
    # [0,1M) and [1M,2M): 256 pages each; 480 pages behind the last whole 2 MiB; the rest by 2 MiB.
    boot = machine([[0, 0x9FC00], [MIB, 0x7FFE0000]], ["pse"])
    assert counts(boot) == (992, (0x7FE00000 - 2 * MIB) // (2 * MIB), 0)
    assert pfn_mapped(boot.direct_map) == [(0, 0x7FFE0)]
    assert (boot.max_pfn_mapped, boot.max_low_pfn_mapped) == (0x7FFE0, 0x7FFE0)


def test_pages_of_1_gib_where_a_whole_one_is_ram() -> None:
    ram = [[0, 0x9FC00], [MIB, 3 * GIB], [4 * GIB, 6 * GIB + 512 * MIB]]
    boot = machine(ram, LARGE)
    assert "Using GB pages for direct mapping" in boot.printk.lines()
    assert counts(boot) == (512, 511 + 256, 4)
    without = machine(ram, LARGE, "nokaslr nogbpages")
    assert "Using GB pages for direct mapping" not in without.printk.lines()
    assert counts(without) == (512, 511 + 256 + 4 * 512, 0)
    assert counts(machine(ram, LARGE, "nokaslr nogbpages gbpages")) == counts(boot)


def test_no_large_pages_at_all() -> None:
    boot = machine([[0, 0x9FC00], [MIB, 128 * MIB]], ["pdpe1gb"])
    assert counts(boot) == (128 * 256, 0, 0)


@pytest.mark.parametrize(
    ("start", "end", "mask", "pieces"),
    [
        (0x1000, 0x5000, BIT_2M, [(0x1000, 0x5000, 0)]),
        (2 * MIB, 4 * MIB, BIT_2M, [(2 * MIB, 4 * MIB, BIT_2M)]),
        (
            GIB - 3 * MIB,
            3 * GIB + 3 * MIB,
            BIT_2M | BIT_1G,
            [
                (GIB - 3 * MIB, GIB - 2 * MIB, 0),
                (GIB - 2 * MIB, GIB, BIT_2M),
                (GIB, 3 * GIB, BIT_2M | BIT_1G),
                (3 * GIB, 3 * GIB + 2 * MIB, BIT_2M),
                (3 * GIB + 2 * MIB, 3 * GIB + 3 * MIB, 0),
            ],
        ),
        # Without pages of 1 GiB the three middle pieces are alike, so they are one.
        (GIB - 2 * MIB, 3 * GIB + 2 * MIB, BIT_2M, [(GIB - 2 * MIB, 3 * GIB + 2 * MIB, BIT_2M)]),
        (0, GIB, 0, [(0, GIB, 0)]),
    ],
)
def test_split_mem_range(start: int, end: int, mask: int, pieces: list[tuple[int, int, int]]) -> None:
    boot = Boot(machine([[0, 0x9FC00], [MIB, 128 * MIB]], ["pse"]).spec)  # a kernel that knows of no memory yet
    boot.direct_map.page_size_mask = mask
    assert split_mem_range(boot, start, end) == pieces


def test_a_ragged_piece_in_the_middle_of_ram_gets_a_large_page() -> None:
    boot = machine([[0, 0x9FC00], [MIB, 128 * MIB]], ["pse"])
    assert split_mem_range(boot, 5 * MIB, 7 * MIB) == [(5 * MIB, 7 * MIB, BIT_2M)]
    assert split_mem_range(boot, MIB, 3 * MIB) == [(MIB, 2 * MIB, 0), (2 * MIB, 3 * MIB, BIT_2M)]


def test_holes_are_not_mapped() -> None:
    boot = machine([[0, 0x9FC00], [MIB, 128 * MIB], [256 * MIB, 512 * MIB]], ["pse"])
    assert pfn_mapped(boot.direct_map) == [(0, 128 * MIB >> 12), (256 * MIB >> 12, 512 * MIB >> 12)]
    assert not pfn_range_is_mapped(boot.direct_map, 120 * MIB >> 12, 130 * MIB >> 12)


@pytest.mark.parametrize(("cmdline", "flags", "tables"), [("nokaslr", [], 4), ("", [], 5), ("", ["la57"], 7)])
def test_kaslr_and_five_levels_take_tables_of_their_own(cmdline: str, flags: list[str], tables: int) -> None:
    # PUD, PMD and two PTE pages: for [0,2M) and for the ragged end; the second of them is below the first GiB's PMD.
    boot = machine([[0, 0x9FC00], [MIB, 0x3FFE0000]], ["pse", *flags], cmdline)
    assert boot.direct_map.pgt_buf_end - boot.direct_map.pgt_buf_start == tables


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_captured_machines_come_from_where_linux_took_them(name: str) -> None:
    real = [line for line in expected(name)["dmesg"] if re.match(r"memblock_(reserve|phys_free):", line)]
    said = [line for line in early_memory(MACHINES / name).printk.lines() if line.startswith("memblock_")]
    mine = [line for line in said if re.match(r"memblock_(reserve|phys_free):", line)]
    assert [line.split("] ")[0] for line in mine] == [line.split("] ")[0] for line in real[: len(mine)]]
