"""UEFI: the map comes through the loader, and what the firmware's boot services used is kept for a while.

EFI memory map   Conventional │ Boot Data │ Loader Code │ Boot Code │ Runtime Data │ ACPI NVS
e820                          usable                                │   reserved   │ ACPI NVS     by the EFI stub
memblock                      reserved                  reserved         until efi_free_boot_services
"""

from __future__ import annotations

from kmemlab.boot.boot_params import pack_boot_e820_entry
from kmemlab.boot.cmdline import cmdline_find_option
from kmemlab.boot.detect import detect_memory
from kmemlab.boot.e820 import e820__mapped_all
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_is_region_reserved, memblock_reserve
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import E820_MAX_ENTRIES_ZEROPAGE
from kmemlab.types.e820_type import E820_TYPE_RAM
from kmemlab.types.errors import BadSpec
from kmemlab.types.units import GIB, MIB, PAGE_MASK, PAGE_SIZE, round_up

BOOT_SERVICES = ("Boot Code", "Boot Data")
EFI_MEMORY_MAP_OWNER = "efi_memblock_x86_reserve_range"


@invented("the setup code or the EFI stub, whichever starts the kernel")
def fill_boot_params(boot: Boot) -> None:
    """Find out what memory there is, by the firmware that this machine has."""
    if efi_enabled(boot):
        setup_e820(boot)
    else:
        detect_memory(boot.bios, boot.boot_params)


@kernel("include/linux/efi.h", "efi_enabled", traced=False)
def efi_enabled(boot: Boot) -> bool:
    """Whether the kernel was started by UEFI firmware."""
    return boot.spec.firmware == "UEFI"


@kernel(
    "drivers/firmware/efi/libstub/x86-stub.c",
    "setup_e820",
    left_out="making the entries from the EFI map: the machine's description has them",
)
def setup_e820(boot: Boot) -> None:
    """Write the memory map into the zero page, as real-mode code would; what does not fit goes behind it, elsewhere."""
    packed = [pack_boot_e820_entry(entry.start, entry.size, entry.type) for entry in boot.spec.e820]
    params, fitting = boot.boot_params, packed[:E820_MAX_ENTRIES_ZEROPAGE]
    for index, entry in enumerate(fitting):
        params.set_e820_entry(index, entry)
    if len(packed) > len(fitting):
        add_e820ext(boot, packed[len(fitting) :])
    params.e820_entries = len(fitting)


@kernel("drivers/firmware/efi/libstub/x86-stub.c", "add_e820ext", left_out="appending to a list of nodes")
def add_e820ext(boot: Boot, packed: list[bytes]) -> None:
    """Write the entries that did not fit, and say in the zero page where they are."""
    boot.setup_data.write(packed)
    boot.boot_params.setup_data = allocate_pool(boot, boot.setup_data.size)


@invented("the firmware's AllocatePool: it takes what it likes")
def allocate_pool(boot: Boot, size: int) -> int:
    """Where the stub gets memory for the loader's data: where the EFI map has such, else at the end of usable memory.

    Raises `BadSpec` for a machine without room for it below 4 GiB.
    """
    for entry in boot.spec.efi_memory_map:
        if entry.name == "Loader Data" and entry.end + 1 - entry.start >= size:
            return entry.start
    whole_pages = round_up(size, PAGE_SIZE)
    usable = [(ram.end, ram.start) for ram in boot.spec.e820 if ram.type == E820_TYPE_RAM and ram.end < 4 * GIB]
    for end, lowest in sorted(usable, reverse=True):
        start = (end + 1 & PAGE_MASK) - whole_pages
        if start >= max(lowest, MIB):
            return start
    raise BadSpec(
        f"no room for {size} bytes of memory map below 4 GiB",
        where=f"machine {boot.spec.name!r}, e820",
        remedy=f"give more usable memory there, or at most {E820_MAX_ENTRIES_ZEROPAGE} entries",
    )


@kernel("arch/x86/platform/efi/efi.c", "efi_memblock_x86_reserve_range")
def efi_memblock_x86_reserve_range(boot: Boot) -> None:
    """Keep the EFI memory map itself."""
    if efi_enabled(boot):
        reserve_for(boot, of_the_map=True)


@kernel("arch/x86/platform/efi/efi.c", "efi_init", left_out="all but the tables that it keeps; ESRT and MOK variables")
def efi_init(boot: Boot) -> None:
    """Keep the configuration tables that the kernel reads later."""
    if efi_enabled(boot):
        reserve_for(boot, of_the_map=False)


@invented("the machine's description says where these lie, and who keeps them")
def reserve_for(boot: Boot, of_the_map: bool) -> None:
    """Reserve what the description lists: the map, or all else, in its order."""
    for table in boot.spec.efi_reserved:
        if (table.name == EFI_MEMORY_MAP_OWNER) == of_the_map:
            memblock_reserve(boot.memblock, table.start, table.end + 1 - table.start, caller=table.name)


@kernel("arch/x86/platform/efi/quirks.c", "efi_reserve_boot_services")
def efi_reserve_boot_services(boot: Boot) -> None:
    """Keep what boot services used: some firmwares go on using it until the kernel has told them its addresses.

    What nobody else keeps, and is RAM beside the kernel, is the kernel's to free later.
    """
    if not efi_enabled(boot):
        return
    for nth, entry in enumerate(boot.spec.efi_memory_map):
        size = entry.end + 1 - entry.start
        if entry.name in BOOT_SERVICES and not memblock_is_region_reserved(boot.memblock, entry.start, size):
            memblock_reserve(boot.memblock, entry.start, size, caller="efi_reserve_boot_services")
            boot.efi_boot_services[nth] = can_free_region(boot, entry.start, size)


@kernel("arch/x86/platform/efi/quirks.c", "can_free_region", traced=False)
def can_free_region(boot: Boot, start: int, size: int) -> bool:
    """Whether a range is all RAM, and not below the kernel image."""
    image = boot.spec.image
    if start + size > image.code[0] and start <= image.brk[1] + 1:
        return False
    return e820__mapped_all(boot.e820_table, start, start + size, E820_TYPE_RAM)


@kernel("arch/x86/platform/efi/quirks.c", "efi_unmap_boot_services", left_out="unmapping; the trampoline's last resort")
def boot_services_to_free(boot: Boot) -> list[tuple[int, int]]:
    """The ranges [start, end) to free now: none with efi=debug, which shows them, and nothing below 1 MiB."""
    if "debug" in (cmdline_find_option(boot.spec.cmdline, "efi") or "").split(","):
        return []
    owned = [entry for nth, entry in enumerate(boot.spec.efi_memory_map) if boot.efi_boot_services[nth]]
    return [(max(entry.start, MIB), entry.end + 1) for entry in owned if entry.end + 1 > MIB]
