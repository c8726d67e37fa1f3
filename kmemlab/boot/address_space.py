"""Who owns which addresses: programs below, the kernel above; and the arithmetic of the direct map.

0 ──────────── TASK_SIZE                                PAGE_OFFSET ───────────────────────── the last byte
│  a program   │  nobody: not canonical (64 bit only)   │  the kernel, the same for all programs │
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot, kaslr_base
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import MIB, PAGE_SIZE

START_KERNEL_MAP = 0xFFFFFFFF80000000
"""Where a 64-bit kernel has its own image, besides the direct map; if loaded where it was linked for, at
`START_KERNEL_MAP + physical address`."""
LOAD_PHYSICAL_ADDR = 16 * MIB  # where the image expects to be loaded; it runs at this offset unless KASLR moves it


@kernel("arch/x86/include/asm/page_64_types.h", "TASK_SIZE_MAX", left_out="programs of 32 bits", traced=False)
def task_size(boot: Boot) -> int:
    """The first address that no program can have.

    One page is left out at the top of 64-bit addresses: an instruction that ends there would be followed by an address
    that is not canonical, and some CPUs get that wrong. On i386 programs end where the kernel begins.
    """
    layout = boot.swapper_pg_dir.layout
    return boot.config.page_offset if layout.virt_bits == 32 else (1 << layout.virt_bits - 1) - PAGE_SIZE


@kernel("arch/x86/kernel/head64.c", "phys_base", traced=False)
def phys_base(boot: Boot) -> int:
    """How far above its usual place the image was loaded, minus how far KASLR moved its addresses.

    UEFI loaders put the image where there is room; KASLR chooses the place in RAM and the address by two lots.
    """
    text = kaslr_base(boot.spec, "text") or START_KERNEL_MAP + LOAD_PHYSICAL_ADDR
    return boot.spec.image.code[0] - (text - START_KERNEL_MAP)


@kernel("arch/x86/include/asm/page.h", "__pa", traced=False)
def pa(boot: Boot, address: int) -> int:
    """The physical address behind an address of the direct map, or of the kernel's image (64 bit).

    C subtracts and believes; here an address that is neither raises `BadRequest`.
    """
    if boot.swapper_pg_dir.layout.virt_bits > 32 and address >= START_KERNEL_MAP:
        return address - START_KERNEL_MAP + phys_base(boot)
    paddr = address - va(boot, 0)
    if not 0 <= paddr < boot.max_pfn_mapped * PAGE_SIZE:
        raise BadRequest(
            f"{address:#x} is no address of the direct map",
            where="__pa",
            remedy="walk the page tables: __pa knows nothing but an offset",
        )
    return paddr
