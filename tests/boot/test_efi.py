"""UEFI machines: the map comes through the loader, and boot services' memory is kept, then given back."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.types.errors import BadSpec

GIB, MIB = 1 << 30, 1 << 20
E820 = [[0, 0x9FFFF, "usable"], [0x100000, GIB - 1, "usable"]]
KEPT = (512 * MIB, 520 * MIB - 1)
EFI_MAP = [
    ["Boot Data", 0, 0x4FFF],  # reserved anyway, as all of the first 64 KiB
    ["Boot Code", 0x50000, 0x57FFF],  # below 1 MiB: stays
    ["Boot Data", 15 * MIB, 17 * MIB - 1],  # touches the kernel: somebody else's
    ["Boot Data", *KEPT],
    ["Loader Data", 600 * MIB, 601 * MIB - 1],
    ["Boot Code", 700 * MIB, 701 * MIB - 1],
    ["Boot Data", GIB - MIB, GIB + MIB - 1],  # not all RAM: stays
]


def machine(cmdline: str, until: str | None = None, **more: Any) -> Machine:
    spec = {"firmware": "UEFI", "e820": E820, "efi_memory_map": EFI_MAP, "cmdline": f"nokaslr {cmdline}"}
    return Machine.boot({**spec, "cpus": {"flags": ["pse"]}, **more}, until=until)


def reserved(booted: Machine) -> list[tuple[int, int]]:
    return [(base, base + size) for base, size, _, _ in booted.kernel.boot.memblock.reserved.regions()]


def test_no_bios_is_asked() -> None:
    booted = machine("", until="main", int15={"e820": [{"carry": True}]}, e88=64)
    assert booted.kernel.boot.boot_params.e820_entries == 2
    assert booted.kernel.boot.boot_params.ext_mem_k == 0


def test_boot_services_are_kept_where_nobody_else_keeps_something() -> None:
    booted = machine("", until="efi_reserve_boot_services")
    assert (0x50000, 0x58000) in reserved(booted)
    assert (KEPT[0], KEPT[1] + 1) in reserved(booted)
    assert (GIB - MIB, GIB + MIB) in reserved(booted)
    assert not any(start <= 15 * MIB < end for start, end in reserved(booted))
    assert not any(start <= 600 * MIB < end for start, end in reserved(booted))


def test_they_are_given_back_unless_efi_debug_wants_to_see_them() -> None:
    free, kept = machine(""), machine("efi=noruntime,debug")
    assert free.kernel.mm.totalram_pages - kept.kernel.mm.totalram_pages == 9 * MIB >> 12
    assert "Freeing EFI boot services memory: 9216K" in free.kernel.printk_lines
    assert not any("EFI boot services" in line for line in kept.kernel.printk_lines)
    free.check()
    # Between the first watermarks and khugepaged's: reserves were worked out without these pages.
    assert free.zone("DMA").lowmem_reserve[1] == kept.zone("DMA").lowmem_reserve[1]


def test_tables_are_reserved_in_their_order() -> None:
    tables = [["efi_memattr_init", 0x20000018, 0x20000FFF], ["efi_memblock_x86_reserve_range", 0x30000000, 0x300007FF]]
    booted = machine("memblock=debug", until="efi_init", efi_reserved=tables, efi_memory_map=[])
    lines = [line for line in booted.kernel.printk_lines if line.startswith("memblock_reserve")]
    assert [line.split()[-1] for line in lines] == ["efi_memblock_x86_reserve_range", "efi_memattr_init"]


def many(count: int) -> list[list[Any]]:
    """A map of `count` entries: megabytes that are usable and others by turns, between two large usable ranges."""
    types = ("ACPI NVS", "usable")
    head = [[0, 0x9FFFF, "usable"], [MIB, 256 * MIB - 1, "usable"]]
    middle = [[(256 + n) * MIB, (257 + n) * MIB - 1, types[n % 2]] for n in range(count - 3)]
    return [*head, *middle, [GIB, 2 * GIB - 1, "usable"]]


def entry_line(who: str, entry: list[Any]) -> str:
    return f"{who}: [mem {entry[0]:#018x}-{entry[1]:#018x}] {entry[2]}"


def test_the_zero_page_holds_128_entries_and_says_where_the_rest_is() -> None:
    booted = machine("", until="main", e820=many(131), efi_memory_map=EFI_MAP)
    params, node = booted.kernel.boot.boot_params, booted.kernel.boot.setup_data
    assert (params.e820_entries, params.setup_data) == (128, 600 * MIB)  # the loader's data in the EFI map
    assert bytes(params.zero_page[0x250:0x258]) == (600 * MIB).to_bytes(8, "little")
    entries = b"".join(
        start.to_bytes(8, "little")
        + (end + 1 - start).to_bytes(8, "little")
        + (b"\x04" if type != "usable" else b"\x01")
        + bytes(3)
        for start, end, type in many(131)[128:]
    )
    assert bytes(node.data) == bytes(8) + b"\x01\0\0\0" + b"\x3c\0\0\0" + entries


def test_a_map_of_many_entries_is_whole_in_the_end() -> None:
    e820 = many(300)
    booted = machine("memblock=debug", e820=e820, efi_memory_map=[])
    booted.check()
    lines = booted.kernel.printk_lines
    at = lines.index("extended physical RAM map:")
    assert list(lines[at - 128 : at]) == [entry_line("BIOS-e820", entry) for entry in e820[:128]]
    assert list(lines[at + 1 : at + 301]) == [entry_line("extended", entry) for entry in e820]
    usable = sum(end + 1 - start for start, end, type in e820 if type == "usable")
    # Page 0 is never used; what the loader wrote into is memory like the rest.
    assert sum(zone.present_pages for zone in booted.zones) == (usable >> 12) - 1


def test_what_does_not_fit_stays_where_it_is() -> None:
    booted = machine("", until="e820__reserve_setup_data", e820=many(200), efi_memory_map=[])
    boot, size = booted.kernel.boot, 16 + 72 * 20
    start = 2 * GIB - 4096  # the last usable memory, whole pages
    assert boot.boot_params.setup_data == start
    assert (start, start + size) in reserved(booted)
    lines = booted.kernel.printk_lines
    update = f"e820: update [mem {start:#010x}-{start + size - 1:#010x}] usable ==> usable"
    assert lines.count(update) == 2  # the map, and the one for a kernel that kexec starts
    last = [line for line in lines if line.startswith("reserve setup_data: ")]
    assert len(last) == 202  # its last entry is three now
    assert last[-3:] == [
        entry_line("reserve setup_data", [GIB, start - 1, "usable"]),
        entry_line("reserve setup_data", [start, start + size - 1, "usable"]),
        entry_line("reserve setup_data", [start + size, 2 * GIB - 1, "usable"]),
    ]


def test_without_such_entries_nothing_is_said() -> None:
    assert not any("setup_data" in line or "extended" in line for line in machine("").kernel.printk_lines)


def test_no_room_for_the_rest_of_the_map() -> None:
    with pytest.raises(BadSpec, match="no room for 36 bytes of memory map below 4 GiB"):
        Machine.boot({"firmware": "UEFI", "e820": [[n << 12, (n << 12) + 4095, "usable"] for n in range(129)]})
