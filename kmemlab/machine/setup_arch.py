"""setup_arch: from what the firmware says to nodes, zones and a memory map (arch/x86/kernel/setup.c).

Read it as a table of contents: one call a line, in the order of Linux 6.1, and in the margin what it is for.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.boot.cmdline import next_arg, parameq, parse_early_param
from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.crash_reserve import reserve_crashkernel
from kmemlab.boot.direct_map import init_mem_mapping
from kmemlab.boot.e820 import e820__end_of_low_ram_pfn, e820__end_of_ram_pfn
from kmemlab.boot.e820_resources import (
    e820__register_nosave_regions,
    e820__reserve_resources,
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
    find_smp_config,
    reserve_brk,
    reserve_initrd,
    reserve_real_mode,
)
from kmemlab.boot.efi import efi_init, efi_memblock_x86_reserve_range, efi_reserve_boot_services
from kmemlab.boot.globals import Boot
from kmemlab.boot.kernel_physical_mapping import early_alloc_pgt_buf
from kmemlab.boot.kernel_physical_mapping_32 import print_initial_mapping
from kmemlab.boot.log_buf import setup_log_buf
from kmemlab.boot.lowmem import find_low_pfn_range, initmem_init
from kmemlab.boot.memblock import (
    for_each_free_mem_range,
    for_each_mem_pfn_range,
    memblock_alloc,
    memblock_set_current_limit,
)
from kmemlab.boot.memory_hotplug import allocate_near_the_kernel
from kmemlab.boot.mtrr import mtrr_bp_init
from kmemlab.boot.mtrr_trim import mtrr_trim_uncached_memory
from kmemlab.boot.numa_init import init_cpu_to_node, numa_setup, x86_numa_init
from kmemlab.boot.pat import init_cache_modes
from kmemlab.boot.probe_roms import resources_probe_roms, resources_reserve_resources
from kmemlab.boot.setup_data import e820__reserve_setup_data, parse_setup_data
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.memory_hotplug import setup_memhp_default_state
from kmemlab.machine.paging_init import PAGING_INIT, pagetable_init
from kmemlab.machine.stage import Stage, run_column
from kmemlab.mm.globals import Mm
from kmemlab.mm.watermark import setup_transparent_hugepage
from kmemlab.mm.zone_movable import cmdline_parse_kernelcore, cmdline_parse_movablecore
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadParameter
from kmemlab.types.units import MIB, PAGE_SHIFT, pfn_down, pfn_up
from kmemlab.types.zone_type import MAX_DMA_PFN

HPET_RESOURCE_NAME_SIZE, IOAPIC_RESOURCE_NAME_SIZE = 9, 11


@kernel("arch/x86/kernel/setup.c", "setup_arch", left_out="what has nothing to do with memory; MTRRs")
def setup_arch(kernel: Kernel, until: str | None = None) -> bool:
    """Find out what memory there is, and set up what the page allocator needs. True if stopped at `until`."""
    return run_column(kernel, SETUP_ARCH, until)


@invented("setup_arch's first line")
def print_command_line(boot: Boot) -> None:
    """Say what the boot loader handed over."""
    boot.printk.info(f"Command line: {boot.spec.cmdline}")


@invented("C gathers early parameters of all files in one table; those that need nodes and zones are heard here")
def parse_early_param_mm(kernel: Kernel) -> None:
    """numa=, kernelcore=, movablecore=, transparent_hugepage=."""
    mm = kernel.mm
    known: dict[str, Callable[[str], None]] = {
        "numa": lambda value: numa_setup(kernel.boot, kernel.numa, value),
        "kernelcore": lambda value: cmdline_parse_kernelcore(mm, value),
        "movablecore": lambda value: cmdline_parse_movablecore(mm, value),
        "transparent_hugepage": lambda value: setup_transparent_hugepage(mm, value),
        "memhp_default_state": lambda value: setup_memhp_default_state(mm, value),
    }
    for name, value in next_arg(kernel.boot.spec.cmdline):
        if name == "--":
            break
        for option, function in known.items():
            if parameq(name, option):
                try:
                    function(value or "")
                except BadParameter:
                    kernel.boot.printk.info(f"Malformed early option '{name}'")


@kernel("arch/x86/kernel/setup.c", "x86_report_nx")
def x86_report_nx(boot: Boot) -> None:
    """Say whether pages can be marked as not executable."""
    if not boot_cpu_has(boot, "nx"):
        boot.printk.info("Notice: NX (Execute Disable) protection missing in CPU!")
    elif boot.swapper_pg_dir.layout.entry_size == 4:  # entries of 32 bits have no room for the bit
        boot.printk.info("Notice: NX (Execute Disable) protection cannot be enabled: non-PAE kernel!")
    else:
        boot.printk.info("NX (Execute Disable) protection: active")


@invented("max_pfn = e820__end_of_ram_pfn(), a line of setup_arch")
def set_max_pfn(boot: Boot) -> None:
    """Where memory ends."""
    boot.max_pfn = e820__end_of_ram_pfn(boot.e820_table, boot.max_arch_pfn)
    boot.max_possible_pfn = boot.max_pfn


@invented("a few lines of setup_arch")
def update_e820_for_mtrr(boot: Boot) -> None:
    """Give up RAM that can't be cached; memory may end earlier then."""
    if mtrr_trim_uncached_memory(boot, boot.max_pfn):
        set_max_pfn(boot)


@invented("a few lines of setup_arch")
def set_max_low_pfn(boot: Boot) -> None:
    """Where memory below 4 GiB ends."""
    if boot.max_pfn > 1 << (32 - PAGE_SHIFT):
        boot.max_low_pfn = e820__end_of_low_ram_pfn(boot.e820_table, boot.max_arch_pfn)
    else:
        boot.max_low_pfn = boot.max_pfn


@invented("memblock_set_current_limit(ISA_END_ADDRESS), a line of setup_arch")
def limit_memblock_to_1m(boot: Boot) -> None:
    """Until memory is mapped, only the first MiB can be touched."""
    memblock_set_current_limit(boot.memblock, MIB)


@invented("memblock_set_current_limit(get_max_mapped()), a line of setup_arch")
def limit_memblock_to_mapped(boot: Boot) -> None:
    """From now on memblock may give out all that is mapped."""
    memblock_set_current_limit(boot.memblock, boot.max_pfn_mapped << PAGE_SHIFT)


@invented("setup_log_buf(1), a line of setup_arch")
def setup_log_buf_early(boot: Boot) -> None:
    """Take memory for the log that log_buf_len= asks for."""
    setup_log_buf(boot, 1)


@kernel("arch/x86/mm/init.c", "memblock_find_dma_reserve")
def memblock_find_dma_reserve(mm: Mm) -> None:
    """Count the pages below 16 MiB that are taken: ZONE_DMA will not have them to give."""
    memblock = mm.boot.memblock
    nr_pages = sum(
        max(0, min(end, MAX_DMA_PFN) - min(start, MAX_DMA_PFN)) for start, end, _ in for_each_mem_pfn_range(memblock)
    )
    nr_free_pages = 0
    for start, end, _ in for_each_free_mem_range(memblock):
        first, last = min(pfn_up(start), MAX_DMA_PFN), min(pfn_down(end), MAX_DMA_PFN)
        nr_free_pages += max(0, last - first)
    mm.dma_reserve = nr_pages - nr_free_pages


@kernel("arch/x86/kernel/acpi/boot.c", "acpi_boot_init", left_out="all but the memory it takes")
def acpi_boot_init(boot: Boot) -> None:
    """Make resources of the HPET and of each I/O APIC: a struct and a name."""
    if boot.spec.hpet:
        memblock_alloc(boot.memblock, boot.config.sizeof_resource + HPET_RESOURCE_NAME_SIZE, caller="acpi_parse_hpet")
    for _ in range(boot.spec.ioapics):
        memblock_alloc(
            boot.memblock, boot.config.sizeof_resource + IOAPIC_RESOURCE_NAME_SIZE, caller="io_apic_init_mappings"
        )


@invented("setup_arch passes max_pfn")
def register_nosave_regions(boot: Boot) -> None:
    """Tell hibernation what it must not save."""
    e820__register_nosave_regions(boot, boot.max_pfn)


# fmt: off
SETUP_ARCH = (
    Stage(print_command_line,          "boot",   "what the boot loader handed over", only="x86_64"),
    Stage(early_reserve_memory,        "boot",   "kernel, initrd and the BIOS's data are taken"),
    Stage(e820__memory_setup,          "boot",   "the firmware's memory map, put in order"),
    Stage(parse_setup_data,            "boot",   "a map of more entries than the zero page holds"),
    Stage(parse_early_param,           "boot",   "mem= and memmap= change the map"),
    Stage(parse_early_param_mm,        "kernel", "numa=, kernelcore= and movablecore= are kept for later"),
    Stage(efi_memblock_x86_reserve_range, "boot", "UEFI's memory map stays"),
    Stage(allocate_near_the_kernel,    "boot",   "movable_node: keep off memory that may be unplugged", only="x86_64"),
    Stage(x86_report_nx,               "boot",   "can pages be marked as not executable?"),
    Stage(e820__reserve_setup_data,    "boot",   "what the boot loader wrote beyond the zero page stays"),
    Stage(e820__finish_early_params,   "boot",   "if the map was changed: put it in order again, print it"),
    Stage(efi_init,                    "boot",   "UEFI's tables stay"),
    Stage(resources_probe_roms,        "boot",   "the BIOS's ROM in the resource tree"),
    Stage(insert_kernel_resources,     "boot",   "the kernel's own sections in the resource tree"),
    Stage(e820_add_kernel_range,       "boot",   "the kernel lies in RAM, whatever the map says"),
    Stage(trim_bios_range,             "boot",   "page 0 and 640 KiB … 1 MiB are never RAM"),
    Stage(set_max_pfn,                 "boot",   "where memory ends"),
    Stage(mtrr_bp_init,                "boot",   "how may memory be cached?"),
    Stage(update_e820_for_mtrr,        "boot",   "RAM that may not be is of no use"),
    Stage(init_cache_modes,            "boot",   "the types that page-table entries can choose from"),
    Stage(set_max_low_pfn,             "boot",   "where memory below 4 GiB ends", only="x86_64"),
    Stage(find_low_pfn_range,          "boot",   "where lowmem ends: what is above has no address", only="i386"),
    Stage(find_smp_config,             "boot",   "the multiprocessor tables are taken"),
    Stage(early_alloc_pgt_buf,         "boot",   "its last pages will be the first page tables"),
    Stage(reserve_brk,                 "boot",   "so is what the kernel grew into so far"),
    Stage(limit_memblock_to_1m,        "boot",   "nothing else is mapped for sure"),
    Stage(e820__memblock_setup,        "boot",   "memblock learns what is memory: the first allocator works"),
    Stage(efi_reserve_boot_services,   "boot",   "what UEFI's boot services used is kept for now"),
    Stage(print_initial_mapping,       "boot",   "how far the first page tables reach", only="i386"),
    Stage(reserve_real_mode,           "boot",   "memory for CPUs that wake in real mode; the first MiB is closed"),
    Stage(init_mem_mapping,            "boot",   "all memory into the direct map"),
    Stage(limit_memblock_to_mapped,    "boot",   "memblock may give out all of it"),
    Stage(setup_log_buf_early,         "boot",   "a larger log, if log_buf_len= asks for it"),
    Stage(reserve_initrd,              "boot",   "the initrd stays, or moves to where it can be reached"),
    Stage(acpi_reserve_initial_tables, "boot",   "ACPI's tables stay"),
    Stage(x86_numa_init,               "boot, numa", "which memory is of which node", only="x86_64"),
    Stage(initmem_init,                "boot, numa", "all memory is of node 0; how much of it is high?", only="i386"),
    Stage(reserve_crashkernel,         "boot",   "room for a second kernel, if crashkernel= asks for it"),
    Stage(memblock_find_dma_reserve,   "mm",     "what is taken of ZONE_DMA already", only="x86_64"),
    Stage(pagetable_init,              "kernel", "the memory map, and zones", PAGING_INIT),
    Stage(acpi_boot_init,              "boot",   "HPET and I/O APICs get resources"),
    Stage(init_cpu_to_node,            "boot, numa", "CPUs know their nodes", only="x86_64"),
    Stage(e820__reserve_resources,     "boot",   "the map becomes /proc/iomem"),
    Stage(register_nosave_regions,     "boot",   "holes that hibernation must not save"),
    Stage(resources_reserve_resources, "boot",   "what every PC has"),
    Stage(e820__setup_pci_gap,         "boot",   "a place for PCI devices without addresses"),
)
# fmt: on
