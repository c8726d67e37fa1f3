"""UEFI machines: the map comes through the loader, and boot services' memory is kept, then given back."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.boot.efi import setup_e820
from kmemlab.boot.globals import Boot
from kmemlab.hardware.spec import load_spec
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


def test_more_than_the_zero_page_holds_is_refused() -> None:
    boot = Boot(load_spec({"firmware": "UEFI", "e820": [[n << 20, (n << 20) + 4095, "usable"] for n in range(129)]}))
    with pytest.raises(BadSpec, match="129 entries don't fit the zero page"):
        setup_e820(boot)
