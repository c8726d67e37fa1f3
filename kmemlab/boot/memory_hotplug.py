"""Memory that comes after boot: its claim on physical addresses, and the size of the pieces that it comes in."""

from __future__ import annotations

from kmemlab.boot.cmdline import early_param
from kmemlab.boot.globals import Boot
from kmemlab.boot.resource import ROOT, new_resource, request_resource
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import GIB, MIB, PAGE_SHIFT

MIN_MEMORY_BLOCK_SIZE, MAX_BLOCK_SIZE = 128 * MIB, 2 * GIB
MEM_SIZE_FOR_LARGE_BLOCK = 64 * GIB


@early_param("movable_node")
@kernel("mm/memory_hotplug.c", "cmdline_parse_movable_node")
def cmdline_parse_movable_node(boot: Boot, value: str) -> None:
    """movable_node: what can be unplugged as a whole shall hold nothing that can't be moved."""
    boot.memblock.movable_node = int(boot.config.numa)


@invented("a few lines of setup_arch")
def allocate_near_the_kernel(boot: Boot) -> None:
    """Until the SRAT tells what can be unplugged, take memory upwards: what lies near the kernel can't be."""
    boot.memblock.bottom_up = boot.memblock.movable_node


@kernel("mm/memory_hotplug.c", "register_memory_resource")
def register_memory_resource(boot: Boot, start: int, size: int) -> bool:
    """Claim the addresses of plugged-in memory; False if mem= forbids it or somebody else claims them."""
    if not mhp_range_allowed(boot, start, size):
        return False
    if boot.max_mem_size and start + size > boot.max_mem_size:
        return False
    new = new_resource(boot.iomem_resource, start, start + size - 1, "System RAM")
    if request_resource(boot.iomem_resource, ROOT, new) is not None:
        boot.printk.info(f"Unable to reserve System RAM region: {start:016x}->{start + size:016x}")
        return False
    return True


@kernel("mm/memory_hotplug.c", "mhp_range_allowed", left_out="memory that shall not be mapped")
def mhp_range_allowed(boot: Boot, start: int, size: int) -> bool:
    """Whether the page tables reach plugged-in memory; if not, say so."""
    end = start + size - 1
    highest = (1 << boot.config.max_physmem_bits(boot.page_table_levels)) - 1
    if start < end <= highest:
        return True
    limits = f"[{0:#x}-{highest:#x}]"
    boot.printk.info(f"Hotplug memory [{start:#x}-{end:#x}] exceeds maximum addressable range {limits}")
    return False


@kernel("arch/x86/mm/init_64.c", "probe_memory_block_size", left_out="a size that the platform sets (UV)")
def probe_memory_block_size(boot: Boot) -> int:
    """How much memory goes on and off line at a time: a section, on large machines up to 2 GiB, in bytes.

    A virtual machine's memory may end anywhere: there the largest size is taken that its end is a multiple of.
    """
    boot_mem_end = boot.max_pfn << PAGE_SHIFT
    if boot_mem_end < MEM_SIZE_FOR_LARGE_BLOCK:
        return MIN_MEMORY_BLOCK_SIZE
    size = MAX_BLOCK_SIZE
    if "hypervisor" in boot.spec.cpus.flags:
        while size > MIN_MEMORY_BLOCK_SIZE and boot_mem_end % size:
            size >>= 1
    return size
