"""Every captured machine boots to the same lines and the same zones as the real one."""

from __future__ import annotations

import re

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from tests.boot.captures import I386, MACHINES, NAMES, expected

E820 = re.compile(r"BIOS-|user-defined physical RAM map:|user: |e820: ")
NODES = re.compile(r"(ACPI: )?SRAT: |NUMA: (Node|Initialized)|Faking |No NUMA|NUMA turned off|Fallback order")
ZONES = re.compile(
    r"Zone ranges:|  (DMA|DMA32|Normal|HighMem|Device) +(\[mem|empty)|Movable zone start|  Node \d+: 0x|Early memory"
    r"|  node +\d+: \[mem|Initmem setup node|Initializing node|On node \d+|mminit::|Built \d+ zonelists|Policy zone"
)
INIT = re.compile(r"SLUB: |x86/PAT: ")
HUGE = 512 << 18  # machines larger than 512 GiB are not booted to the end here


def booted(name: str) -> Kernel:
    kernel = Kernel(load_spec(MACHINES / name / "hardware.json"))
    start_kernel(kernel, "build_all_zonelists" if kernel.mm.page.max_pfn > HUGE else None)
    return kernel


@pytest.mark.parametrize("name", NAMES + I386)
def test_a_captured_machine_prints_and_counts_what_linux_did(name: str) -> None:
    kernel = booted(name)
    said = [re.sub(r"\s+$", "", line) for line in kernel.printk_lines]
    for pattern in (E820, NODES, ZONES, INIT):
        real = [line.rstrip() for line in expected(name)["dmesg"] if pattern.match(line)]
        if kernel.mm.page.max_pfn > HUGE:
            real = [line for line in real if "RAM buffer" not in line and "SLUB" not in line]
        assert [line for line in said if pattern.match(line)] == real
    sizes = {
        f"{zone.node}/{zone.name}": (zone.spanned_pages, zone.present_pages, zone.zone_start_pfn)
        for zone in kernel.mm.zones()
    }
    real_sizes = {
        where: (size["spanned"], size["present"], size.get("start_pfn", 0))
        for where, size in expected(name)["zones"].items()
    }
    assert sizes == real_sizes
