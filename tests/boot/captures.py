"""Real machines: what they gave, what Linux made of it, and the first steps of boot in their order."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from kmemlab.boot import e820_params  # its import registers mem= and memmap=
from kmemlab.boot.cmdline import parse_early_param
from kmemlab.boot.crash_reserve import reserve_crashkernel
from kmemlab.boot.detect import detect_memory
from kmemlab.boot.direct_map import init_mem_mapping
from kmemlab.boot.e820 import e820__end_of_low_ram_pfn, e820__end_of_ram_pfn
from kmemlab.boot.e820_resources import (
    e820__register_nosave_regions,
    e820__reserve_resources,
    e820__reserve_resources_late,
    e820__setup_pci_gap,
    insert_kernel_resources,
)
from kmemlab.boot.e820_setup import (
    e820__finish_early_params,
    e820__memblock_setup,
    e820__memory_setup,
    e820_add_kernel_range,
    trim_bios_range,
)
from kmemlab.boot.early_reserve import (
    acpi_reserve_initial_tables,
    early_reserve_memory,
    reserve_brk,
    reserve_initrd,
    reserve_real_mode,
    smp_scan_config,
)
from kmemlab.boot.globals import Boot
from kmemlab.boot.kernel_physical_mapping import early_alloc_pgt_buf
from kmemlab.boot.memblock import memblock_init, memblock_set_current_limit
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import highest_pfn

MACHINES = Path(__file__).parent.parent / "data" / "machines"
ALL = sorted(path.name for path in MACHINES.iterdir())

assert e820_params

STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s?")
OFFSET = re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+$")
LINES = re.compile(
    r"BIOS-|user-defined physical RAM map:|user: |e820: |extended physical RAM map:|reserve setup_data: "
    r"|last_pfn = |Using GB pages|RAMDISK: |Allocated new RAMDISK|Move RAMDISK|found SMP MP-table"
    r"|No NUMA configuration|NUMA turned off|Faking |NODE_DATA\(|(ACPI: )?SRAT: |NUMA: |Fallback order|ACPI: Reserving"
    r"|MEMBLOCK configuration:| memory size = | memory\.cnt| memory\[0x| reserved\.cnt| reserved\[0x"
    r"|memblock_(add|reserve|remove|phys_free): |PM: hibernation: Registered nosave|Reserving \d+MB|.*available for PCI"
    r"|Zone ranges:|  (DMA|DMA32|Normal|HighMem|Device|Movable) +(\[mem|empty)|Movable zone start|  Node \d+: 0x"
    r"|Early memory node|  node +\d+: \[mem|Initmem setup node|Initializing node|On node \d+"
    r"|mminit::|Built \d+ zonelists|Policy zone"
    r"|percpu: Embedded|pcpu-alloc: |Memory: \d+K|(Dentry |Inode-)cache hash table|software IO TLB"
    r"|SLUB: |x86/PAT: |Disabled$|mtrr: "
)
IOMEM = re.compile(
    r"^\s*[0-9a-f]+-[0-9a-f]+ : (System RAM|Reserved|ACPI .*|Kernel \w+|Crash kernel|Unusable .*|Persistent .*)$"
)


def is_plain(name: str) -> bool:
    """Whether a machine is an x86-64 one with BIOS and no memory plugged in after boot."""
    if "dimm-online-movable" in name:
        return False
    hardware = json.loads((MACHINES / name / "hardware.json").read_text())
    return (hardware["firmware"], hardware["kernel"]) == ("BIOS", "amd64-6.1")


NAMES = [name for name in ALL if is_plain(name)]
I386 = [name for name in ALL if name.startswith("i386-")]


def saved(name: str, file: str) -> str:
    """A text saved from a machine."""
    path = MACHINES / name / file
    return (
        path.read_text() if path.exists() else gzip.decompress((MACHINES / name / f"{file}.gz").read_bytes()).decode()
    )


@cache
def expected(name: str) -> Any:
    """What Linux made of a machine.

    dmesg   the lines that tell about memory, in order, without time stamps and without code offsets
    zones   {"node/zone": {"spanned": …, "present": …, "managed": …, "start_pfn": …}} of /proc/zoneinfo
    iomem   the rows of /proc/iomem that memory set-up made
    """
    dmesg = [OFFSET.sub("", STAMP.sub("", line).rstrip()) for line in saved(name, "dmesg.txt").splitlines()]
    return {
        "dmesg": [line for line in dmesg if LINES.match(line)],
        "zones": zones_of(saved(name, "zoneinfo.txt")),
        "iomem": [line.strip() for line in saved(name, "iomem.txt").splitlines() if IOMEM.match(line)],
    }


def zones_of(zoneinfo: str) -> dict[str, dict[str, int]]:
    """The sizes of each zone in /proc/zoneinfo."""
    found: dict[str, dict[str, int]] = {}
    for line in zoneinfo.splitlines():
        head = re.match(r"^Node (\d+), zone +(\S+)", line)
        if head:
            zone = found.setdefault(f"{head[1]}/{head[2]}", {})
        size = re.match(r"^\s+(spanned|present|managed|start_pfn):? +(\d+)$", line)
        if size:
            zone[size[1]] = int(size[2])
    return found


def memory_map(source: Any, max_pfn: int = 0) -> Boot:
    """A machine whose memory map is in order: up to `last_pfn`."""
    boot = Boot(load_spec(source), max_pfn=max_pfn)
    detect_memory(boot.bios, boot.boot_params)
    memblock_init(boot.memblock)
    early_reserve_memory(boot)
    e820__memory_setup(boot)
    parse_early_param(boot)
    e820__finish_early_params(boot)
    insert_kernel_resources(boot)
    e820_add_kernel_range(boot)
    trim_bios_range(boot)
    boot.max_pfn = e820__end_of_ram_pfn(boot.e820_table, boot.max_arch_pfn)
    boot.max_low_pfn = boot.max_pfn
    if boot.max_pfn > 1 << 20:
        boot.max_low_pfn = e820__end_of_low_ram_pfn(boot.e820_table, boot.max_arch_pfn)
    return boot


def early_memory(source: Any) -> Boot:
    """A machine whose memblock knows all that is taken before nodes are set up."""
    boot = memory_map(source, highest_pfn(load_spec(source)))
    smp_scan_config(boot)
    early_alloc_pgt_buf(boot)
    reserve_brk(boot)
    memblock_set_current_limit(boot.memblock, 1 << 20)
    e820__memblock_setup(boot)
    reserve_real_mode(boot)
    init_mem_mapping(boot)
    memblock_set_current_limit(boot.memblock, boot.max_pfn_mapped << 12)
    reserve_initrd(boot)
    acpi_reserve_initial_tables(boot)
    return boot


def resources(source: Any) -> Boot:
    """A machine whose resource tree is whole."""
    boot = early_memory(source)
    reserve_crashkernel(boot)
    e820__reserve_resources(boot)
    e820__register_nosave_regions(boot, boot.max_pfn)
    e820__setup_pci_gap(boot)
    e820__reserve_resources_late(boot)
    return boot
