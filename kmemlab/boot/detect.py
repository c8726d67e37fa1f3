"""Memory detection in real mode, by the setup code, before the kernel proper runs: three ways to ask the BIOS.

All three are asked, always, and all answers go into the zero page; the kernel chooses later.
"""

from __future__ import annotations

from kmemlab.boot.boot_params import BOOT_E820_ENTRY, BootParams
from kmemlab.hardware.bios import Bios, Registers
from kmemlab.hardware.spec import SMAP
from kmemlab.sim.kernel import kernel
from kmemlab.types.config import E820_MAX_ENTRIES_ZEROPAGE


@kernel("arch/x86/boot/memory.c", "detect_memory")
def detect_memory(bios: Bios, boot_params: BootParams) -> None:
    """Ask the BIOS how much memory there is, by all three calls that BIOSes came to know over the years."""
    detect_memory_e820(bios, boot_params)
    detect_memory_e801(bios, boot_params)
    detect_memory_88(bios, boot_params)


@kernel("arch/x86/boot/memory.c", "detect_memory_e820")
def detect_memory_e820(bios: Bios, boot_params: BootParams) -> None:
    """Ask for the memory map, one range a call, until the last one, or an error, or 128 of them."""
    count = 0
    following = 0
    buffer = bytes(BOOT_E820_ENTRY.size)  # one for all calls: a BIOS may rewrite only what changed
    while True:
        regs = bios.int15(Registers(eax=0xE820, ebx=following, ecx=len(buffer), edx=SMAP, es_di=buffer))
        following, buffer = regs.ebx, regs.es_di[: BOOT_E820_ENTRY.size]
        # Some BIOSes mark the end by an error; the entry of the call that failed does not count.
        if regs.carry:
            break
        # A BIOS that forgets the signature is one that garbles the rest as well: believe nothing that it said.
        if regs.eax != SMAP:
            count = 0
            break
        boot_params.set_e820_entry(count, buffer)
        count += 1
        if following == 0 or count == E820_MAX_ENTRIES_ZEROPAGE:
            break
    boot_params.e820_entries = count


@kernel("arch/x86/boot/memory.c", "detect_memory_e801")
def detect_memory_e801(bios: Bios, boot_params: BootParams) -> None:
    """Ask for memory below and above 16 MiB; what lies above counts only if there is no hole at 16 MiB."""
    regs = bios.int15(Registers(eax=0xE801))
    if regs.carry:
        return
    below_kib, above_64kib = regs.ax, regs.bx
    if regs.cx or regs.dx:  # some BIOSes answer in one pair of registers, some in the other, some in both
        below_kib, above_64kib = regs.cx, regs.dx
    if below_kib > 15 * 1024:
        return  # more than there is room for between 1 and 16 MiB
    boot_params.alt_mem_k = below_kib if below_kib < 15 * 1024 else (above_64kib << 6) + below_kib


@kernel("arch/x86/boot/memory.c", "detect_memory_88")
def detect_memory_88(bios: Bios, boot_params: BootParams) -> None:
    """Ask the oldest way: KiB above 1 MiB in 16 bits, so never more than 64 MiB."""
    regs = bios.int15(Registers(eax=0x8800))
    boot_params.ext_mem_k = regs.ax
