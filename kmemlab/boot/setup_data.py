"""What the boot loader has to say beyond the zero page: memory maps of more than 128 entries.

zero page   e820_entries = 128     setup_data ──▶  next = 0 │ SETUP_E820_EXT │ len │ entry 128 │ entry 129 │ …
"""

from __future__ import annotations

from kmemlab.boot.boot_params import SETUP_E820_EXT
from kmemlab.boot.e820 import e820__print_table, e820__range_update, e820__update_table
from kmemlab.boot.e820_setup import append_e820_table_inner
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_reserve
from kmemlab.sim.kernel import kernel
from kmemlab.types.e820_type import E820_TYPE_RAM, E820_TYPE_RESERVED_KERN


@kernel("arch/x86/kernel/setup.c", "memblock_x86_reserve_range_setup_data", left_out="indirect nodes")
def memblock_x86_reserve_range_setup_data(boot: Boot) -> None:
    """Nobody may take the memory that the node stands in."""
    if boot.boot_params.setup_data:
        memblock_reserve(boot.memblock, boot.boot_params.setup_data, boot.setup_data.size, caller="setup_arch")


@kernel("arch/x86/kernel/setup.c", "parse_setup_data", left_out="device trees, EFI, IMA and random seeds of kexec")
def parse_setup_data(boot: Boot) -> None:
    """Read what the boot loader left behind the zero page."""
    if boot.boot_params.setup_data and boot.setup_data.type == SETUP_E820_EXT:
        e820__memory_setup_extended(boot)


@kernel("arch/x86/kernel/e820.c", "e820__memory_setup_extended", formerly=("parse_e820_ext",))
def e820__memory_setup_extended(boot: Boot) -> None:
    """Append the entries that did not fit the zero page, put all in order, and print the map once more."""
    append_e820_table_inner(boot.e820_table, boot.setup_data.entries())
    e820__update_table(boot.e820_table)
    boot.e820_table_kexec.write(boot.e820_table.entries())
    boot.e820_table_firmware.write(boot.e820_table.entries())
    boot.printk.info("extended physical RAM map:")
    e820__print_table(boot.e820_table, "extended")


@kernel(
    "arch/x86/kernel/e820.c",
    "e820__reserve_setup_data",
    left_out="indirect nodes",
    formerly=("e820_reserve_setup_data",),
)
def e820__reserve_setup_data(boot: Boot) -> None:
    """Mark the node's memory in the map as RAM that the boot loader put something into, and print it again."""
    start = boot.boot_params.setup_data
    if not start:
        return
    for table in (boot.e820_table, boot.e820_table_kexec):
        e820__range_update(table, start, boot.setup_data.size, E820_TYPE_RAM, E820_TYPE_RESERVED_KERN)
    for table in (boot.e820_table, boot.e820_table_kexec):
        e820__update_table(table)
    boot.printk.info("extended physical RAM map:")
    e820__print_table(boot.e820_table, "reserve setup_data")
