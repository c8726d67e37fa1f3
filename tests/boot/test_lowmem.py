"""Where lowmem ends on i386: highmem=, vmalloc=, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.types.errors import KernelPanic

MIB = 1 << 20
PAE_IMAGE = {
    "code": [0x1000000, 0x1933EFF],
    "rodata": [0x1934000, 0x1C50FFF],
    "data": [0x1C52000, 0x1D8E67F],
    "bss": [0x1E94000, 0x1F0AFFF],
    "brk": [0x1F0B000, 0x1F23FFF],
    "percpu_static": 104276,
    "percpu_reserved": 0,
    "percpu_dynamic": 30892,
    "real_mode": 16384,
}


def booted(mib: int, cmdline: str = "", until: str | None = "mem_init_print_info", **more: Any) -> Kernel:
    kernel = Kernel(load_spec({
        "arch": "i386",
        "kernel": "i386-pae-6.1",
        "cmdline": cmdline,
        "cpus": {"flags": ["pse", "pae", "nx"]},
        "e820": [[0, 0x9FBFF, "usable"], [MIB, mib * MIB - 1, "usable"]],
        "image": PAE_IMAGE,
        **more,
    }))  # fmt: skip
    start_kernel(kernel, until)
    return kernel


def split(kernel: Kernel) -> tuple[int, int]:
    """Page frames: the first that is not low, and the first that is nothing."""
    return kernel.boot.max_low_pfn, kernel.boot.max_pfn


def spare(mib: int) -> int:
    """MAXMEM, and what is counted from there, lacks two pages to the next MiB; sizes of memory are whole MiB."""
    return 0 if mib in (384, 512, 1024, 2048) else 254


@pytest.mark.parametrize(
    ("mib", "cmdline", "low", "end", "words"),
    [
        (512, "", 512, 512, ""),
        (2048, "", 879, 2048, ""),
        (2048, "highmem=64M", 879, 943, ""),  # the rest of memory is not used at all
        (2048, "highmem=1G highmem=0", 879, 879, ""),
        (512, "highmem=128M", 384, 512, ""),
        (512, "highmem=500M", 512, 512, "highmem size (500MB) results in <64MB lowmem, ignoring it!"),
        (512, "highmem=2G", 512, 512, "highmem size (2048MB) is bigger than pages available (512MB)!"),
        (1024, "highmem=2G", 879, 1024, "only 144MB highmem pages available, ignoring highmem size of 2048MB!"),
        (2048, "vmalloc=400M", 1007 - 408, 2048, ""),
        (2048, "vmalloc=64M", 1007 - 72, 2048, ""),
        (2048, "vmalloc", 879, 2048, "Malformed early option 'vmalloc'"),
    ],
)
def test_the_border(mib: int, cmdline: str, low: int, end: int, words: str) -> None:
    kernel = booted(mib, cmdline)
    said = kernel.printk_lines
    border = low * 256 + spare(low)
    assert split(kernel) == (border, end * 256 + spare(end))
    assert not words or words in said
    assert f"{low}MB LOWMEM available." in said
    assert f"{(split(kernel)[1] - border) // 256}MB HIGHMEM available." in said
    managed = [zone.managed_pages for zone in kernel.mm.zones()]
    assert managed[2] == kernel.mm.totalhigh_pages == split(kernel)[1] - border
    assert managed[3] == 0


def test_the_kernel_must_lie_in_lowmem() -> None:
    assert booted(512, "vmalloc=960M").boot.max_low_pfn == (1007 - 968) * 256 + 254
    with pytest.raises(KernelPanic, match="kernel itself"):
        booted(512, "vmalloc=1000M")


def test_without_pae_memory_ends_at_4_gib() -> None:
    flat = [[0, 0x9FBFF, "usable"], [MIB, 0xFFFFFFFF - MIB, "usable"], [1 << 32, (1 << 33) - 1, "usable"]]
    kernel = booted(0, kernel="i386-6.1", e820=flat)
    assert split(kernel) == (875 * 256 + 254, (1 << 20) - 256)
    assert not any("software IO TLB" in line or "only 4GB" in line for line in kernel.printk_lines)
    assert booted(0, e820=flat).boot.max_pfn == 1 << 21


def test_these_parameters_are_not_for_64_bits() -> None:
    spec = {"cmdline": "vmalloc=300M highmem=64M", "e820": [[0, 0x9FBFF, "usable"], [MIB, 256 * MIB - 1, "usable"]]}
    start_kernel(kernel := Kernel(load_spec(spec)), "print_unknown_bootoptions")
    assert kernel.boot.max_low_pfn == kernel.boot.max_pfn
    told = 'Unknown kernel command line parameters "vmalloc=300M highmem=64M", will be passed to user space.'
    assert told in kernel.printk_lines
    assert not any("Unknown kernel" in line for line in booted(256, "vmalloc=130M highmem=64M").printk_lines)
