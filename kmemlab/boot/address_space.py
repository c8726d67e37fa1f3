"""Who owns which addresses: programs below, the kernel above; and the arithmetic of the direct map.

0 ──────────── TASK_SIZE                                PAGE_OFFSET ───────────────────────── the last byte
│  a program   │  nobody: not canonical (64 bit only)   │  the kernel, the same for all programs │
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import PAGE_SIZE

START_KERNEL_MAP = 0xFFFFFFFF80000000
"""Where a 64-bit kernel has its own image: `START_KERNEL_MAP + physical address`, once more besides the direct map."""


@kernel("arch/x86/include/asm/page_64_types.h", "TASK_SIZE_MAX", left_out="programs of 32 bits", traced=False)
def task_size(boot: Boot) -> int:
    """The first address that no program can have.

    One page is left out at the top of 64-bit addresses: an instruction that ends there would be followed by an address
    that is not canonical, and some CPUs get that wrong. On i386 programs end where the kernel begins.
    """
    layout = boot.swapper_pg_dir.layout
    return boot.config.page_offset if layout.virt_bits == 32 else (1 << layout.virt_bits - 1) - PAGE_SIZE


@kernel(
    "arch/x86/include/asm/page.h", "__pa", left_out="the random bases of KASLR: no description tells them", traced=False
)
def pa(boot: Boot, address: int) -> int:
    """The physical address behind an address of the direct map, or of the kernel's image (64 bit).

    C subtracts and believes; here an address that is neither raises `BadRequest`.
    """
    if boot.swapper_pg_dir.layout.virt_bits > 32 and address >= START_KERNEL_MAP:
        return address - START_KERNEL_MAP
    paddr = address - va(boot, 0)
    if not 0 <= paddr < boot.max_pfn_mapped * PAGE_SIZE:
        raise BadRequest(
            f"{address:#x} is no address of the direct map",
            where="__pa",
            remedy="walk the page tables: __pa knows nothing but an offset",
        )
    return paddr
