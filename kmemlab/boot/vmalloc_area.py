"""Where the kernel has its addresses for vmalloc, by the mode of its page tables."""

from __future__ import annotations

from kmemlab.boot.globals import Boot, kaslr_base
from kmemlab.boot.layout_32 import vmalloc_end, vmalloc_start
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import GIB, TIB

# Where the area for vmalloc starts, its size, and what one entry of the top-level page table covers; by levels.
VMALLOC_AREA = {4: (0xFFFFC90000000000, 32 * TIB, 512 * GIB), 5: (0xFFA0000000000000, 12800 * TIB, 256 * TIB)}


@kernel("arch/x86/include/asm/pgtable_64_types.h", "VMALLOC_START", traced=False)
def vmalloc_range(boot: Boot) -> tuple[int, int]:
    """VMALLOC_START and VMALLOC_END; on 64 bit the end is the last byte, on i386 the one behind it.

    >>> from kmemlab.hardware.spec import load_spec
    >>> [hex(addr) for addr in vmalloc_range(Boot(load_spec("tiny-128m")))]
    ['0xffffc90000000000', '0xffffe8ffffffffff']
    """
    if boot.config.highmem:
        return vmalloc_start(boot), vmalloc_end(boot)
    start, size, _ = VMALLOC_AREA[boot.page_table_levels]
    start = kaslr_base(boot.spec, "vmalloc_base") or start
    return start, start + size - 1


@kernel("include/linux/vmalloc.h", "VMALLOC_TOTAL", traced=False)
def vmalloc_total(boot: Boot) -> int:
    """The bytes of addresses that vmalloc has; on 64 bit C's sum is one too small."""
    start, end = vmalloc_range(boot)
    return end - start
