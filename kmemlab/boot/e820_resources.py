"""What the e820 map leaves behind for later: resources (/proc/iomem), hibernation's holes, room for PCI devices."""

from __future__ import annotations

from kmemlab.boot.firmware_map import firmware_map_add_early
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_alloc
from kmemlab.boot.resource import (
    insert_resource,
    insert_resource_expand_to_fit,
    new_resource,
    reserve_region_with_split,
)
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.e820_type import (
    E820_TYPE_PMEM,
    E820_TYPE_PRAM,
    E820_TYPE_RAM,
    E820_TYPE_RESERVED,
    E820_TYPE_RESERVED_KERN,
    E820_TYPE_SOFT_RESERVED,
    e820_type_resource,
)
from kmemlab.types.units import GIB, KIB, MIB, PAGE_SHIFT, SMP_CACHE_BYTES, U64_MAX, pfn_down, pfn_up, round_up

MAX_GAP_END = 4 * GIB
MIN_GAP = 4 * MIB


@invented("the piece of setup_arch that claims the kernel image")
def insert_kernel_resources(boot: Boot) -> None:
    """Claim the addresses of the kernel's own sections."""
    image = boot.spec.image
    for name in ("code", "rodata", "data", "bss"):
        start, end = getattr(image, name)
        insert_resource(boot.iomem_resource, new_resource(boot.iomem_resource, start, end, f"Kernel {name}"))


@kernel("arch/x86/kernel/e820.c", "do_mark_busy", traced=False)
def do_mark_busy(type: int, start: int) -> bool:
    """Whether the range is claimed at once. The others wait until drivers have found their devices in them."""
    if start < MIB:
        return True
    return type not in (E820_TYPE_RESERVED, E820_TYPE_SOFT_RESERVED, E820_TYPE_PRAM, E820_TYPE_PMEM)


@kernel("arch/x86/kernel/e820.c", "e820__reserve_resources", formerly=("e820_reserve_resources",))
def e820__reserve_resources(boot: Boot) -> None:
    """Make a resource of each entry; claim RAM at once, and tell /sys/firmware/memmap what the firmware said."""
    tree, entries = boot.iomem_resource, boot.e820_table.entries()
    memblock_alloc(
        boot.memblock, boot.config.sizeof_resource * len(entries), SMP_CACHE_BYTES, caller="e820__reserve_resources"
    )
    boot.nr_e820_resources = len(entries)
    for nth, entry in enumerate(entries):
        end = (entry.end - 1) & U64_MAX
        resource = new_resource(tree, entry.addr, end, e820_type_resource(entry.type))
        if nth == 0:
            boot.e820_resources = resource
        if do_mark_busy(entry.type, entry.addr) and end <= boot.config.phys_addr_max:
            insert_resource(tree, resource)
    for entry in boot.e820_table_firmware.entries():
        firmware_map_add_early(boot, entry.addr, entry.end, entry.type)


@kernel(
    "arch/x86/kernel/e820.c",
    "e820__reserve_resources_late",
    left_out="what devices claimed before, such as the window of a PCI bridge right behind RAM",
    formerly=("e820_reserve_resources_late",),
)
def e820__reserve_resources_late(boot: Boot) -> None:
    """Claim the other entries, around the devices found meanwhile, and keep new devices off the ends of RAM.

    A BIOS often forgets a little at the end of RAM that it uses itself, so devices get no addresses right behind it.
    """
    tree, entries = boot.iomem_resource, boot.e820_table.entries()
    for nth, entry in enumerate(entries):
        if not do_mark_busy(entry.type, entry.addr) and entry.end - 1 <= boot.config.phys_addr_max:
            insert_resource_expand_to_fit(tree, boot.e820_resources + nth)
    for entry in entries:
        if entry.type != E820_TYPE_RAM:
            continue
        start, end = entry.end, round_up(entry.end, ram_alignment(entry.end)) - 1
        end = min(end, boot.config.phys_addr_max)
        if start < end:
            boot.printk.info(f"e820: reserve RAM buffer [mem {start:#010x}-{end:#010x}]")
            reserve_region_with_split(tree, start, end, "RAM buffer")


@kernel("arch/x86/kernel/e820.c", "ram_alignment", traced=False)
def ram_alignment(address: int) -> int:
    """How far apart from RAM that ends at `address` devices are kept: the larger the address, the larger the chips.

    >>> [ram_alignment(end) // 1024 for end in (0x9FC00, 15 << 20, 1 << 31)]
    [64, 1024, 65536]
    """
    mib = address >> 20
    if not mib:
        return 64 * KIB
    return MIB if mib < 16 else 64 * MIB


@kernel("arch/x86/kernel/e820.c", "e820__register_nosave_regions", formerly=("e820_mark_nosave_regions",))
def e820__register_nosave_regions(boot: Boot, limit_pfn: int) -> None:
    """Tell hibernation which page frames between RAM it must not save."""
    pfn = 0
    for entry in boot.e820_table.entries():
        if entry.type in (E820_TYPE_RAM, E820_TYPE_RESERVED_KERN):
            if pfn < pfn_up(entry.addr):
                register_nosave_region(boot, pfn, pfn_up(entry.addr))
            pfn = pfn_down(entry.end)
    if pfn < limit_pfn:
        register_nosave_region(boot, pfn, limit_pfn)


@kernel("kernel/power/snapshot.c", "register_nosave_region", left_out="the list itself: hibernation is not modelled")
def register_nosave_region(boot: Boot, start_pfn: int, end_pfn: int) -> None:
    """Note page frames [start_pfn, end_pfn); a region that goes on where the last one ended takes no memory."""
    if boot.nr_nosave_regions == 0 or boot.nosave_end_pfn != start_pfn:
        memblock_alloc(
            boot.memblock, boot.config.sizeof_nosave_region, SMP_CACHE_BYTES, caller="register_nosave_region"
        )
        boot.nr_nosave_regions += 1
    boot.nosave_end_pfn = end_pfn
    start, end = start_pfn << PAGE_SHIFT, (end_pfn << PAGE_SHIFT) - 1
    boot.printk.info(f"PM: hibernation: Registered nosave memory: [mem {start:#010x}-{end:#010x}]")


@kernel("arch/x86/kernel/e820.c", "e820__setup_pci_gap", formerly=("e820_setup_gap",))
def e820__setup_pci_gap(boot: Boot) -> None:
    """Find the largest gap below 4 GiB: PCI devices without an address get one there."""
    start, size = e820_search_gap(boot)
    if not size and boot.config.highmem:
        start, size = 256 * MIB, MIN_GAP
    elif not size:
        boot.printk.info("Cannot find an available gap in the 32-bit address range")
        boot.printk.info("PCI devices with unassigned 32-bit BARs may not work!")
        start, size = (boot.max_pfn << PAGE_SHIFT) + MIB, MIN_GAP
    boot.pci_mem_start = start
    boot.printk.info(f"[mem {start:#010x}-{start + size - 1:#010x}] available for PCI devices")


@kernel("arch/x86/kernel/e820.c", "e820_search_gap")
def e820_search_gap(boot: Boot) -> tuple[int, int]:
    """The largest gap between entries below 4 GiB: (start, size), the lowest of equal ones; size 0 if none."""
    found: int | None = None
    size = MIN_GAP
    last = MAX_GAP_END
    for entry in reversed(boot.e820_table.entries()):
        if last > entry.end and last - entry.end >= size:
            found, size = entry.end, last - entry.end
        last = min(last, entry.addr)
    return (0, 0) if found is None else (found, size)
