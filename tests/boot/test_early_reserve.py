"""What is taken before anybody asks, and the two that move: initrd and crash kernel."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.boot.crash_reserve import parse_crashkernel, parse_crashkernel_suffix, reserve_crashkernel
from kmemlab.boot.globals import Boot
from kmemlab.boot.resource import iomem_lines
from kmemlab.types.errors import KernelPanic
from tests.boot.captures import early_memory

GIB = 1 << 30


def machine(ram_end: int, cmdline: str = "", **more: Any) -> Boot:
    """A machine with RAM up to `ram_end`, holes only below 1 MiB."""
    high = [[4 * GIB, ram_end + GIB - 1, "usable"]] if ram_end > 3 * GIB else []
    e820 = [[0, 0x9FBFF, "usable"], [0x100000, min(ram_end, 3 * GIB) - 1, "usable"], *high]
    return early_memory({"e820": e820, "cmdline": cmdline, "cpus": {"flags": ["pse"]}, **more})


def reserved(boot: Boot) -> list[tuple[int, int]]:
    """[start, end) of each reserved region."""
    return [(base, base + size) for base, size, _, _ in boot.memblock.reserved.regions()]


def test_the_usual_machine() -> None:
    boot = machine(GIB, initrd=[0x3F000000, 0x3F1004FF])
    # All of the first MiB, the kernel with its brk, and the initrd to the end of its last page.
    assert reserved(boot) == [(0, 0x100000), (0x1000000, 0x4411000), (0x3F000000, 0x3F101000)]
    assert (boot.initrd_start, boot.initrd_end) == (0x3F000000, 0x3F101000)
    assert "RAMDISK: [mem 0x3f000000-0x3f100fff]" in boot.printk.lines()


def test_an_initrd_out_of_reach_is_moved_to_the_top() -> None:
    boot = machine(GIB, "mem=512M", initrd=[0x3F000000, 0x3F1004FF])
    assert reserved(boot)[-1] == (0x1FEFF000, 0x20000000)
    assert boot.printk.lines()[-3:] == (
        "RAMDISK: [mem 0x3f000000-0x3f100fff]",
        "Allocated new RAMDISK: [mem 0x1feff000-0x1ffff4ff]",
        "Move RAMDISK from [mem 0x3f000000-0x3f1004ff] to [mem 0x1feff000-0x1ffff4ff]",
    )


def test_no_room_for_the_initrd_is_a_panic() -> None:
    with pytest.raises(KernelPanic, match="Cannot find place for new RAMDISK of size 50331648"):
        machine(GIB, "mem=96M", initrd=[0x3C000000, 0x3EFFFFFF])


@pytest.mark.parametrize(
    ("cmdline", "ram", "found"),
    [
        ("crashkernel=64M", GIB, (64 << 20, 0)),
        ("crashkernel=64M@32M", GIB, (64 << 20, 32 << 20)),
        ("crashkernel=64M crashkernel=32M", GIB, (32 << 20, 0)),
        ("crashkernel=512M-2G:64M,2G-:128M@1G", GIB, (64 << 20, GIB)),
        ("crashkernel=512M-2G:64M,2G-:128M", 2 * GIB, (128 << 20, 0)),
        ("crashkernel=512M-2G:64M", 4 * GIB, (0, 0)),
        ("crashkernel=64M,high", GIB, (0, 0)),
        ("crashkernel=much", GIB, (0, 0)),
        ("quiet", GIB, (0, 0)),
    ],
)
def test_parse_crashkernel(cmdline: str, ram: int, found: tuple[int, int]) -> None:
    assert parse_crashkernel(cmdline, ram) == found


def test_parse_crashkernel_suffix() -> None:
    assert parse_crashkernel_suffix("crashkernel=1G,high crashkernel=72M,low", ",low") == 72 << 20
    assert parse_crashkernel_suffix("crashkernel=1G", ",low") is None


def crash_rows(boot: Boot) -> list[str]:
    """The crash kernel's rows of /proc/iomem."""
    reserve_crashkernel(boot)
    return [line.strip() for line in iomem_lines(boot.iomem_resource) if "Crash" in line]


def test_the_crash_kernel_lies_below_4_gib_if_it_can() -> None:
    assert crash_rows(machine(8 * GIB, "crashkernel=256M")) == ["b0000000-bfffffff : Crash kernel"]


def test_a_high_crash_kernel_takes_some_low_memory_as_well() -> None:
    # Not at the very top: page tables of the direct map are there.
    rows = crash_rows(machine(8 * GIB, "crashkernel=1G,high"))
    assert rows == ["b0000000-bfffffff : Crash kernel", "1ff000000-23effffff : Crash kernel"]
    assert crash_rows(machine(8 * GIB, "crashkernel=1G,high crashkernel=0,low")) == [
        "1ff000000-23effffff : Crash kernel"
    ]


def test_a_place_in_use_is_refused() -> None:
    boot = machine(GIB, "crashkernel=64M@16M")
    assert crash_rows(boot) == []
    assert boot.printk.lines()[-1] == "crashkernel reservation failed - memory is in use."
    boot = machine(GIB, "crashkernel=2G")
    assert crash_rows(boot) == []
    assert boot.printk.lines()[-1] == "crashkernel reservation failed - No suitable area found."
