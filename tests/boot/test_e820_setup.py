"""From the BIOS's answers to last_pfn: real machines, the command line, and BIOSes that tell nonsense."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kmemlab.boot.e820 import E820Table, e820__update_table
from kmemlab.boot.globals import Boot
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadSpec, KernelPanic
from tests.boot.captures import MACHINES, NAMES, early_memory, expected, memory_map, resources

MAP = re.compile(r"BIOS-|user|e820: (update|remove)|last_pfn = ")
MEMBLOCK = re.compile(r"memblock_\w+: |MEMBLOCK| memory| reserved|found SMP|RAMDISK|ACPI: Reserving")
LATE = re.compile(r"PM: hibernation: Registered nosave|.*available for PCI|e820: reserve RAM buffer")
LIMITS = re.compile(r"memblock_(phys_alloc_range|alloc_try_nid): ")


def lines(boot: Boot, pattern: re.Pattern[str]) -> list[str]:
    """What the kernel said, of one kind."""
    return [line for line in boot.printk.lines() if pattern.match(line)]


@pytest.mark.parametrize("name", NAMES)
def test_the_map_of_real_machines(name: str) -> None:
    real = [line for line in expected(name)["dmesg"] if MAP.match(line)]
    assert lines(memory_map(MACHINES / name), MAP) == real


@pytest.mark.parametrize("name", NAMES)
def test_memblock_of_real_machines(name: str) -> None:
    """Every line up to where page-table pages of the direct map are taken, which come later."""
    real = [line for line in expected(name)["dmesg"] if MEMBLOCK.match(line)]
    given_back = next(at for at, line in enumerate(real) if line.startswith("memblock_phys_free"))
    model = [line for line in lines(early_memory(MACHINES / name), MEMBLOCK) if not LIMITS.match(line)]
    assert model[: given_back + 1] == real[: given_back + 1]


@pytest.mark.parametrize("name", NAMES)
def test_resources_of_real_machines(name: str) -> None:
    boot = resources(MACHINES / name)
    assert lines(boot, LATE) == [line for line in expected(name)["dmesg"] if LATE.match(line)]


def pc(*ranges: Any, **more: Any) -> dict[str, Any]:
    """A machine with these e820 ranges."""
    return {"e820": list(ranges), "cmdline": "nokaslr", **more}


LOW, HIGH = [0, 0x9FBFF, "usable"], [0x100000, 0xFFFFFFF, "usable"]


def test_e801_steps_in_where_there_is_no_e820() -> None:
    boot = memory_map(pc(e801={"ax": 15360, "bx": 3840}, e88=64512))
    assert lines(boot, MAP)[:3] == [
        "BIOS-provided physical RAM map:",
        "BIOS-e801: [mem 0x0000000000000000-0x000000000009efff] usable",
        "BIOS-e801: [mem 0x0000000000100000-0x000000000fffffff] usable",
    ]


def test_88_is_quoted_where_it_tells_more() -> None:
    assert lines(memory_map(pc(e88=65535)), MAP)[2] == "BIOS-88: [mem 0x0000000000100000-0x00000000040ffbff] usable"


@pytest.mark.parametrize(
    "ranges",
    [
        [LOW],
        [LOW, HIGH, [0xFFFFFFFFFFFFF000, 0xFFF, "reserved"]],  # wraps around the end
        [LOW, [0x2000000, 0x1000000, "usable"]],  # ends before it starts: wraps as well
    ],
)
def test_a_map_that_makes_no_sense_is_not_believed(ranges: list[Any]) -> None:
    boot = memory_map(pc(*ranges, e801={"ax": 15360, "bx": 3840}))
    assert [entry.type for entry in boot.e820_table_firmware.entries()] == [1, 1]
    assert lines(boot, MAP)[1].startswith("BIOS-e801: ")


def test_the_firmwares_map_is_kept_as_it_was() -> None:
    boot = memory_map(pc(LOW, HIGH, cmdline="mem=128M"))
    assert boot.e820_table_firmware.entries()[-1].end == 0x10000000
    assert boot.e820_table.entries()[-1].end == 0x8000000


def test_overlapping_ranges_and_what_comes_behind_128() -> None:
    many = [[n << 20, (n << 20) + 0x7FFFF, "usable"] for n in range(1, 200)]
    boot = memory_map(pc(LOW, *many))
    assert len(boot.e820_table_firmware.entries()) == 128
    assert boot.boot_params.e820_entries == 128


# In the fifth, persistent memory wins over ACPI data, and is never merged: each end of an entry parts it.
USER = [
    ("mem=128M", ["0-9fbff usable", "100000-7ffffff usable"]),
    ("mem=128M mem=64M", ["0-9fbff usable", "100000-3ffffff usable"]),
    ("memmap=128M", ["0-9fbff usable", "100000-7ffffff usable"]),
    (
        "memmap=64K$0x8000000",
        ["0-9fbff usable", "100000-7ffffff usable", "8000000-800ffff reserved", "8010000-fffffff usable"],
    ),
    (
        "memmap=64K#0x20000000,1M!512M",
        [
            "0-9fbff usable",
            "100000-fffffff usable",
            "20000000-2000ffff persistent (type 12)",
            "20010000-200fffff persistent (type 12)",
        ],
    ),
    ("memmap=exactmap memmap=640K@0 memmap=127M@1M", ["0-9ffff usable", "100000-7ffffff usable"]),
    (
        "memmap=1M%0x8000000-1+2",
        ["0-9fbff usable", "100000-7ffffff usable", "8000000-80fffff reserved", "8100000-fffffff usable"],
    ),
    ("memmap=1M%0x8000000-1", ["0-9fbff usable", "100000-7ffffff usable", "8100000-fffffff usable"]),
    ("memmap=1M%0x8000000", ["0-9fbff usable", "100000-7ffffff usable", "8100000-fffffff usable"]),
    (
        "memmap=64K!0x20000000 memmap=0%0x20008000-12",  # nothing is taken out, but the entry is cut
        [
            "0-9fbff usable",
            "100000-fffffff usable",
            "20000000-20007fff persistent (type 12)",
            "20008000-2000ffff persistent (type 12)",
        ],
    ),
    # An entry that wraps around ends below its start, so it counts as covered.
    ("memmap=64K@0xffffffffffffffff memmap=2G", ["0-9fbff usable", "100000-fffffff usable"]),
    ("memmap=1M%0x20000000+7", ["0-9fbff usable", "100000-fffffff usable", "20000000-200fffff persistent (type 7)"]),
]


@pytest.mark.parametrize(("cmdline", "ranges"), USER)
def test_the_command_lines_say(cmdline: str, ranges: list[str]) -> None:
    boot = memory_map(pc(LOW, HIGH, cmdline=cmdline))
    said = lines(boot, re.compile("user: "))
    short = [re.sub(r"user: \[mem 0x0*([0-9a-f]+)-0x0*([0-9a-f]+)\]", r"\1-\2", line) for line in said]
    assert short == ranges


@pytest.mark.parametrize("cmdline", ["mem", "mem=nothing", "mem=0", "mem=nopentium"])
def test_a_size_that_can_not_be_read(cmdline: str) -> None:
    boot = memory_map(pc(LOW, HIGH, cmdline=cmdline))
    assert "Malformed early option 'mem'" in boot.printk.lines()
    assert boot.max_pfn == 0x10000


def test_numbers_are_read_as_c_reads_them() -> None:
    # 010M is octal; "09M" ends behind the 0; a type has no suffix, so with one the step is no step.
    boot = memory_map(pc(LOW, HIGH, cmdline="memmap=010M$010M memmap=1M%64M-1+2K memmap=1M%96M-1+4294967298"))
    kinds = {(entry.addr, entry.size) for entry in boot.e820_table.entries() if entry.type == 2 and entry.addr}
    assert kinds == {(8 << 20, 8 << 20), (96 << 20, 1 << 20)}
    assert "Malformed early option 'mem'" in memory_map(pc(LOW, HIGH, cmdline="mem=09M")).printk.lines()


def test_a_type_that_shall_become_itself_is_a_panic() -> None:
    with pytest.raises(KernelPanic, match="kernel BUG in e820__range_update"):
        memory_map(pc(LOW, HIGH, cmdline="memmap=1M%16M-1+1"))


def test_no_map_at_all_is_a_panic() -> None:
    with pytest.raises(KernelPanic, match="Invalid user supplied memory map"):
        memory_map(pc(LOW, HIGH, cmdline="memmap=exactmap memmap=128M@1M"))


def test_the_kernel_itself_is_ram_whatever_the_map_says() -> None:
    boot = memory_map(pc(LOW, [0x100000, 0xFFFFFF, "usable"], [0x1000000, 0xFFFFFFF, "reserved"]))
    assert ".text .data .bss are not marked as E820_TYPE_RAM!" in boot.printk.lines()
    assert boot.max_pfn == 0x4411


@pytest.mark.parametrize(
    "other",
    [{"kernel": "amd64-6.12"}, {"kernel": "i386-6.1"}, {"arch": "i386", "kernel": "amd64-6.1"}, {"kernel": "hurd"}],
)
def test_machines_that_can_not_be_booted_yet_are_refused(other: dict[str, str]) -> None:
    with pytest.raises(BadSpec, match="not modelled") as refusal:
        memory_map(pc(LOW, HIGH, **other))
    assert refusal.value.remedy


def test_levels_of_page_tables_decide_max_arch_pfn() -> None:
    deep = {"flags": ["la57"]}
    assert memory_map(pc(LOW, HIGH, cpus=deep)).max_arch_pfn == 1 << 40
    assert memory_map(pc(LOW, HIGH, cpus=deep, cmdline="no5lvl")).max_arch_pfn == 1 << 34


GOLDEN = """\
0000000000000000 0000000000057fff usable
0000000000058000 0000000000058fff reserved
0000000000059000 000000000009cfff usable
000000000009d000 00000000000fffff reserved
0000000000100000 00000000cc8e2fff usable
00000000cc8e3000 00000000cc8e3fff ACPI NVS
00000000cc8e4000 00000000cc90dfff reserved
00000000cc90e000 00000000d6202fff usable
00000000d6203000 00000000d7f52fff reserved
00000000d7f53000 00000000d7fa2fff ACPI NVS
00000000d7fa3000 00000000d7ffefff ACPI data
00000000d7fff000 00000000d7ffffff usable
00000000d8000000 00000000d80fffff reserved
00000000d8200000 00000000db7fffff reserved
00000000f80fa000 00000000f80fafff reserved
00000000f80fd000 00000000f80fdfff reserved
00000000fe000000 00000000fe010fff reserved
0000000100000000 00000002237fffff usable"""


def test_the_laptop_of_the_lecture() -> None:
    boot = memory_map("laptop-8g")
    said = lines(boot, re.compile("BIOS-e820: "))
    golden = [row.split(" ", 2) for row in GOLDEN.splitlines()]
    assert said == [f"BIOS-e820: [mem 0x{start}-0x{end}] {kind}" for start, end, kind in golden]
    assert lines(boot, re.compile("last_pfn")) == [
        "last_pfn = 0x223800 max_arch_pfn = 0x400000000",
        "last_pfn = 0xd8000 max_arch_pfn = 0x400000000",
    ]


def test_a_livepatched_sanitiser_is_the_one_that_boots() -> None:
    seen = []

    def watched(table: E820Table) -> int:
        seen.append(table.nr_entries)
        return e820__update_table.original(table)  # type: ignore[attr-defined]

    with livepatch(e820__update_table, watched):
        memory_map(pc(LOW, HIGH))
    memory_map(pc(LOW, HIGH))
    # Once for the BIOS's map, once after page 0 was taken out of it.
    assert seen == [2, 3]
