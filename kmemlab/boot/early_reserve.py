"""What is taken before anybody can ask for memory: the kernel itself, the initrd, what the firmware left behind.

0 ── 64K ──── 9f000 ── 1M ──── 16M ──────── kernel ─ brk ──── … ──── initrd ── ACPI tables
firmware      BIOS, ROMs        code … bss                           boot loader
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_phys_alloc_range, memblock_phys_free, memblock_reserve
from kmemlab.boot.page_tables import pfn_range_is_mapped
from kmemlab.boot.setup_data import memblock_x86_reserve_range_setup_data
from kmemlab.boot.x86_init import x86_init_call, x86_init_function
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import KIB, MIB, PAGE_SHIFT, PAGE_SIZE, round_up

BIOS_START_MIN, BIOS_START_MAX = 0x20000, 0x9F000


@kernel("arch/x86/kernel/setup.c", "early_reserve_memory", left_out="iBFT, graphics quirks")
def early_reserve_memory(boot: Boot) -> None:
    """Reserve what must not be given out on any account; memblock=debug is not heard yet, so this is silent."""
    image = boot.spec.image
    memblock_reserve(boot.memblock, image.code[0], image.bss[1] + 1 - image.code[0], caller="setup_arch")
    # Many BIOSes write into the first 64 KiB when they wake from sleep.
    memblock_reserve(boot.memblock, 0, 64 * KIB, caller="setup_arch")
    early_reserve_initrd(boot)
    memblock_x86_reserve_range_setup_data(boot)
    reserve_bios_regions(boot)


@kernel("arch/x86/kernel/setup.c", "early_reserve_initrd")
def early_reserve_initrd(boot: Boot) -> None:
    """Keep the pages that the boot loader put the initrd into, the last one whole."""
    if boot.spec.initrd:
        start, end = boot.spec.initrd[0], round_up(boot.spec.initrd[1] + 1, PAGE_SIZE)
        memblock_reserve(boot.memblock, start, end - start, caller="setup_arch")


@kernel("arch/x86/kernel/ebda.c", "reserve_bios_regions", left_out="reading the BIOS data area at 0x40e and 0x413")
def reserve_bios_regions(boot: Boot) -> None:
    """Keep the BIOS's own memory below 1 MiB.

    C believes what the BIOS data area says between BIOS_START_MIN and BIOS_START_MAX. A machine's description does not
    tell it, and what it says for usual BIOSes (639 KiB) is cut down to the maximum anyway.
    """
    memblock_reserve(boot.memblock, BIOS_START_MAX, MIB - BIOS_START_MAX, caller="reserve_bios_regions")


@kernel(
    "arch/x86/kernel/mpparse.c", "smp_scan_config", left_out="searching: the machine's description says where it is"
)
def smp_scan_config(boot: Boot) -> None:
    """Keep the tables of the multiprocessor specification: the pointer first, then the table."""
    for nth, (start, end) in enumerate(boot.spec.smp_table):
        if nth == 0:
            boot.printk.info(f"found SMP MP-table at [mem {start:#010x}-{end:#010x}]")
        memblock_reserve(boot.memblock, start, end + 1 - start, caller="smp_scan_config")


@x86_init_function
@kernel("arch/x86/kernel/mpparse.c", "default_find_smp_config", left_out="searching", traced=False)
def default_find_smp_config(boot: Boot) -> None:
    """Look where a PC's BIOS may have put the tables: in the BIOS's own memory below 1 MiB."""
    smp_scan_config(boot)


@kernel("arch/x86/include/asm/mpspec.h", "find_smp_config", traced=False)
def find_smp_config(boot: Boot) -> None:
    """Let the platform find the tables of the multiprocessor specification."""
    x86_init_call(boot.x86_init, "mpparse.find_smp_config", boot)


@kernel("arch/x86/kernel/setup.c", "reserve_brk")
def reserve_brk(boot: Boot) -> None:
    """Keep the piece behind .bss that the kernel grew into while it had no allocator at all."""
    start, end = boot.spec.image.brk
    if end > start:
        memblock_reserve(boot.memblock, start, end + 1 - start, caller="setup_arch")


@kernel("arch/x86/realmode/init.c", "reserve_real_mode")
def reserve_real_mode(boot: Boot) -> None:
    """Take low memory for the code that wakes other CPUs in real mode, then keep off all of the first MiB."""
    size = boot.spec.image.real_mode
    if size and not memblock_phys_alloc_range(boot.memblock, size, PAGE_SIZE, 0, MIB, caller="reserve_real_mode"):
        boot.printk.info("No sub-1M memory is available for the trampoline")
    memblock_reserve(boot.memblock, 0, MIB, caller="setup_arch")


@kernel("arch/x86/kernel/setup.c", "reserve_initrd")
def reserve_initrd(boot: Boot) -> None:
    """Use the initrd where it is, or move it to where the direct map reaches."""
    if not boot.spec.initrd:
        return
    start, end = boot.spec.initrd[0], round_up(boot.spec.initrd[1] + 1, PAGE_SIZE)
    boot.printk.info(f"RAMDISK: [mem {start:#010x}-{end - 1:#010x}]")
    if pfn_range_is_mapped(boot.direct_map, start >> PAGE_SHIFT, end >> PAGE_SHIFT):
        boot.initrd_start, boot.initrd_end = start, end
        return
    relocate_initrd(boot, start, end)
    memblock_phys_free(boot.memblock, start, end - start, caller="setup_arch")


@kernel("arch/x86/kernel/setup.c", "relocate_initrd")
def relocate_initrd(boot: Boot, start: int, end: int) -> None:
    """Copy the initrd to the top of mapped memory. Panics if there is no room."""
    size = boot.spec.initrd[1] + 1 - start if boot.spec.initrd else 0
    area = round_up(size, PAGE_SIZE)
    limit = boot.max_pfn_mapped << PAGE_SHIFT
    place = memblock_phys_alloc_range(boot.memblock, area, PAGE_SIZE, 0, limit, caller="setup_arch")
    if not place:
        raise KernelPanic(
            f"Cannot find place for new RAMDISK of size {size}",
            where="relocate_initrd",
            remedy="leave more memory: look at mem= and memmap= on the command line",
        )
    boot.initrd_start, boot.initrd_end = place, place + area
    boot.printk.info(f"Allocated new RAMDISK: [mem {place:#010x}-{place + size - 1:#010x}]")
    old, new = f"[mem {start:#010x}-{start + size - 1:#010x}]", f"[mem {place:#010x}-{place + size - 1:#010x}]"
    boot.printk.info(f"Move RAMDISK from {old} to {new}")


@kernel(
    "drivers/acpi/tables.c",
    "acpi_reserve_initial_tables",
    left_out="reading the tables; the machine's description says them",
)
def acpi_reserve_initial_tables(boot: Boot) -> None:
    """Keep the ACPI tables, one by one, in the order in which the root table lists them."""
    for table in boot.spec.acpi_tables:
        boot.printk.info(f"ACPI: Reserving {table.name} table memory at [mem {table.start:#x}-{table.end:#x}]")
        size = table.end + 1 - table.start
        memblock_reserve(boot.memblock, table.start, size, caller="acpi_reserve_initial_tables")
