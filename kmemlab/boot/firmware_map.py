"""/sys/firmware/memmap: what the firmware said of memory, kept for a kernel that is started from this one.

e820_table_firmware ──▶ firmware_map_add_early      in boot's memory; numbered when sysfs is there, late in boot
a DIMM              ──▶ firmware_map_add_hotplug    numbered at once: before the entries of boot
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_alloc
from kmemlab.sim.kernel import kernel
from kmemlab.types.e820_type import E820_TYPE_RAM, e820_type_resource
from kmemlab.types.units import SMP_CACHE_BYTES, U64_MAX


@kernel("drivers/firmware/memmap.c", "firmware_map_add_entry", traced=False)
def firmware_map_add_entry(boot: Boot, start: int, end: int, type: int) -> None:
    """Append [start, end) to the list."""
    entries = boot.firmware_map
    at = entries.nr_entries
    entries.start[at], entries.end[at], entries.type[at] = start, (end - 1) & U64_MAX, type
    entries.nr_entries = at + 1


@kernel("drivers/firmware/memmap.c", "firmware_map_add_early")
def firmware_map_add_early(boot: Boot, start: int, end: int, type: int) -> None:
    """Keep an entry of the firmware's map, in memory of memblock."""
    memblock_alloc(
        boot.memblock, boot.config.sizeof_firmware_map_entry, SMP_CACHE_BYTES, caller="firmware_map_add_early"
    )
    firmware_map_add_entry(boot, start, end, type)
    boot.firmware_map.nr_early += 1


@kernel("drivers/firmware/memmap.c", "firmware_map_add_hotplug", left_out="its struct, taken from kmalloc")
def firmware_map_add_hotplug(boot: Boot, start: int, end: int) -> None:
    """Keep memory that was plugged in; it is in sysfs at once."""
    firmware_map_add_entry(boot, start, end, E820_TYPE_RAM)


@kernel("drivers/firmware/memmap.c", "firmware_memmap_init", left_out="the folders of sysfs")
def firmware_memmap_rows(boot: Boot) -> list[tuple[int, int, str]]:
    """The entries as (start, end, type) in the order of their numbers; `end` is inclusive."""
    entries = boot.firmware_map
    order = [*range(entries.nr_early, entries.nr_entries), *range(entries.nr_early)]
    return [(entries.start[at], entries.end[at], e820_type_resource(entries.type[at])) for at in order]
