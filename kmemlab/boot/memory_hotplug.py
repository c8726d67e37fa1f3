"""Memory that ACPI announces after boot: the DIMMs that the firmware's map leaves out."""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.resource import ROOT, new_resource, request_resource
from kmemlab.sim.kernel import kernel


@kernel(
    "drivers/acpi/acpi_memhotplug.c",
    "acpi_memory_enable_device",
    left_out="struct pages, zones and the direct map of the new memory: it stays offline",
)
def acpi_memory_enable_device(boot: Boot) -> None:
    """Add each DIMM as memory that is there, but that nobody uses yet."""
    for start, end in boot.spec.dimms:
        register_memory_resource(boot, start, end + 1 - start)


@kernel("mm/memory_hotplug.c", "register_memory_resource")
def register_memory_resource(boot: Boot, start: int, size: int) -> bool:
    """Claim the addresses of plugged-in memory; False if mem= forbids it or somebody else claims them."""
    if boot.max_mem_size and start + size > boot.max_mem_size:
        return False
    new = new_resource(boot.iomem_resource, start, start + size - 1, "System RAM")
    if request_resource(boot.iomem_resource, ROOT, new) is not None:
        boot.printk.info(f"Unable to reserve System RAM region: {start:016x}->{start + size:016x}")
        return False
    return True
