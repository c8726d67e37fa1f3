"""Real machines: what they gave, what Linux made of it, and the first steps of boot in their order."""

from __future__ import annotations

import json
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
NAMES = sorted(path.name for path in MACHINES.iterdir())

assert e820_params


@cache
def expected(name: str) -> Any:
    """What Linux printed on a machine."""
    return json.loads((MACHINES / name / "expected.json").read_text())


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
