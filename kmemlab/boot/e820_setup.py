"""The kernel's side of the e820 map: take over what the BIOS said, let the command line change it, tell memblock."""

from __future__ import annotations

from kmemlab.boot.boot_params import BootParams
from kmemlab.boot.e820 import (
    E820Entry,
    E820Table,
    e820__mapped_all,
    e820__print_table,
    e820__range_add,
    e820__range_remove,
    e820__range_update,
    e820__update_table,
)
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import (
    memblock_add,
    memblock_allow_resize,
    memblock_dump_all,
    memblock_reserve,
    memblock_trim_memory,
)
from kmemlab.boot.x86_init import x86_init_call, x86_init_function
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import E820_MAX_ENTRIES_ZEROPAGE
from kmemlab.types.e820_type import (
    E820_TYPE_RAM,
    E820_TYPE_RESERVED,
    E820_TYPE_RESERVED_KERN,
    E820_TYPE_SOFT_RESERVED,
)
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import KIB, PAGE_SIZE, U64_MAX

LOWMEMSIZE = 0x9F000  # below it is conventional memory on every PC; above may be the BIOS's own data
HIGH_MEMORY = 0x100000
BIOS_BEGIN, BIOS_END = 0xA0000, 0x100000


@kernel("arch/x86/kernel/e820.c", "e820__memory_setup", formerly=("setup_memory_map",))
def e820__memory_setup(boot: Boot) -> None:
    """Take over the platform's map, keep two copies of it as it is now, and print it."""
    who = x86_init_call(boot.x86_init, "resources.memory_setup", boot.boot_params, boot.e820_table)
    boot.e820_table_kexec.write(boot.e820_table.entries())  # for a kernel that this one may start
    boot.e820_table_firmware.write(boot.e820_table.entries())  # for /sys/firmware/memmap: what the firmware said
    boot.printk.info("BIOS-provided physical RAM map:")
    e820__print_table(boot.e820_table, who)


@x86_init_function
@kernel("arch/x86/kernel/e820.c", "e820__memory_setup_default", formerly=("default_machine_specific_memory_setup",))
def e820__memory_setup_default(boot_params: BootParams, table: E820Table) -> str:
    """Fill the table: by E820h if that makes sense, else two ranges by E801h or 88h. Returns whom to quote."""
    who = "BIOS-e820"
    if append_e820_table(table, boot_params) < 0:
        mem_kib, who = boot_params.alt_mem_k, "BIOS-e801"
        if mem_kib < boot_params.ext_mem_k:
            mem_kib, who = boot_params.ext_mem_k, "BIOS-88"
        table.nr_entries = 0
        e820__range_add(table, 0, LOWMEMSIZE, E820_TYPE_RAM)
        e820__range_add(table, HIGH_MEMORY, mem_kib * KIB, E820_TYPE_RAM)
    e820__update_table(table)
    return who


@kernel("arch/x86/kernel/e820.c", "append_e820_table", formerly=("append_e820_map",))
def append_e820_table(table: E820Table, boot_params: BootParams) -> int:
    """Append the zero page's entries; -1 if there are fewer than two, or one that wraps around: then believe none.

    A machine has at least two ranges, below and above the hole at 640 KiB; less is a BIOS that doesn't know.
    """
    count = min(boot_params.e820_entries, E820_MAX_ENTRIES_ZEROPAGE)
    if count < 2:
        return -1
    return append_e820_table_inner(table, [boot_params.e820_entry(index) for index in range(count)])


@kernel("arch/x86/kernel/e820.c", "__append_e820_table", formerly=("__append_e820_map",))
def append_e820_table_inner(table: E820Table, entries: list[E820Entry]) -> int:
    """Append entries up to the first that wraps around; -1 if there is such a one."""
    for entry in entries:
        if wraps(entry):
            return -1
        e820__range_add(table, entry.addr, entry.size, entry.type)
    return 0


@invented("C: start > end, in 64 bits", traced=False)
def wraps(entry: E820Entry) -> bool:
    """Whether the last byte of the entry would lie behind the end of the address space."""
    return entry.size > 0 and entry.addr + entry.size - 1 > U64_MAX


@kernel("arch/x86/kernel/e820.c", "e820__finish_early_params", formerly=("finish_e820_parsing",))
def e820__finish_early_params(boot: Boot) -> None:
    """If the command line changed the map, put it in order and print it anew."""
    if boot.userdef:
        if e820__update_table(boot.e820_table) < 0:
            raise KernelPanic(
                "Invalid user supplied memory map",
                where="e820__finish_early_params",
                remedy="leave two ranges at least: look at memmap= on the command line",
            )
        boot.printk.info("user-defined physical RAM map:")
        e820__print_table(boot.e820_table, "user")


@kernel("arch/x86/kernel/setup.c", "e820_add_kernel_range")
def e820_add_kernel_range(boot: Boot) -> None:
    """The kernel runs, so where it lies is RAM, whatever the map says."""
    start = boot.spec.image.code[0]
    size = boot.spec.image.brk[1] + 1 - start
    if e820__mapped_all(boot.e820_table, start, start + size, E820_TYPE_RAM):
        return
    boot.printk.info(".text .data .bss are not marked as E820_TYPE_RAM!")
    e820__range_remove(boot.e820_table, start, size, E820_TYPE_RAM, False)
    e820__range_add(boot.e820_table, start, size, E820_TYPE_RAM)


@kernel("arch/x86/kernel/setup.c", "trim_bios_range")
def trim_bios_range(boot: Boot) -> None:
    """Never use page 0, nor the hole from 640 KiB to 1 MiB: BIOSes write there, or their maps forget devices in it."""
    e820__range_update(boot.e820_table, 0, PAGE_SIZE, E820_TYPE_RAM, E820_TYPE_RESERVED)
    e820__range_remove(boot.e820_table, BIOS_BEGIN, BIOS_END - BIOS_BEGIN, E820_TYPE_RAM, True)
    e820__update_table(boot.e820_table)


@kernel("arch/x86/kernel/e820.c", "e820__memblock_setup", formerly=("memblock_x86_fill",))
def e820__memblock_setup(boot: Boot) -> None:
    """Tell memblock what is memory. From here on it can allocate."""
    memblock = boot.memblock
    memblock_allow_resize(memblock)
    for entry in boot.e820_table.entries():
        if entry.end & U64_MAX > boot.config.phys_addr_max:  # i386 without PAE: out of reach
            continue
        if entry.type == E820_TYPE_SOFT_RESERVED:
            memblock_reserve(memblock, entry.addr, entry.size, caller="e820__memblock_setup")
        if entry.type in (E820_TYPE_RAM, E820_TYPE_RESERVED_KERN):
            memblock_add(memblock, entry.addr, entry.size, caller="e820__memblock_setup")
    # Nobody can use a part of a page.
    memblock_trim_memory(memblock, PAGE_SIZE)
    memblock_dump_all(memblock)
