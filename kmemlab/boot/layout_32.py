"""i386's 1 GiB of kernel addresses: what is left of it for the direct map decides how much memory is *low*.

c0000000                     high_memory +8M          VMALLOC_END                          fffff000
|      direct map (lowmem)        |gap|     vmalloc      |gap| pkmap | LDT | CPU entry area | fixmap |
|◀───────── MAXMEM at most ─────────▶|◀─ __VMALLOC_RESERVE ─▶|

From the top down each area starts on a whole large page. Memory above lowmem has no address of its own: HighMem.
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import MIB, PAGE_SHIFT, PAGE_SIZE, round_down

FIXADDR_TOP = 0xFFFFF000
# Slots of the fixmap, counted downwards from its top: 16 for each CPU's kmap_local_page, those of early_ioremap, all.
FIX_KMAP_BEGIN, FIX_KMAP_END = 68, 579
FIX_BTMAP_BEGIN = 1535
END_OF_FIXED_ADDRESSES = 1537
VMALLOC_RESERVE = 128 * MIB
VMALLOC_OFFSET = 8 * MIB  # a hole: who runs over the end of the direct map hits nothing


@kernel("include/asm-generic/fixmap.h", "__fix_to_virt", traced=False)
def fix_to_virt(slot: int) -> int:
    """The address of a slot of the fixmap.

    >>> hex(fix_to_virt(FIX_KMAP_BEGIN))
    '0xfffbb000'
    """
    return FIXADDR_TOP - (slot << PAGE_SHIFT)


@kernel("arch/x86/include/asm/pgtable_areas.h", "CPU_ENTRY_AREA_MAP_SIZE", traced=False)
def cpu_entry_area_map_size(boot: Boot) -> int:
    """What the entry areas of all CPUs take, and the page of the IDT before them."""
    return boot.config.nr_cpus * boot.config.cpu_entry_area + PAGE_SIZE


@kernel("arch/x86/include/asm/pgtable_32_areas.h", "CPU_ENTRY_AREA_BASE", traced=False)
def cpu_entry_area_base(boot: Boot) -> int:
    """Where the CPU entry areas start: right below the fixmap."""
    return round_down(fix_to_virt(END_OF_FIXED_ADDRESSES) - cpu_entry_area_map_size(boot), boot.direct_map.pmd_size)


@kernel("arch/x86/include/asm/pgtable_32_areas.h", "LDT_BASE_ADDR", traced=False)
def ldt_base(boot: Boot) -> int:
    """Where a process's LDT is seen with page-table isolation: below the CPU entry areas."""
    return round_down(cpu_entry_area_base(boot) - PAGE_SIZE, boot.direct_map.pmd_size)


@kernel("arch/x86/include/asm/pgtable_32_areas.h", "PKMAP_BASE", traced=False)
def pkmap_base(boot: Boot) -> int:
    """Where kmap() shows pages of HighMem: below the place of the LDT."""
    return round_down(ldt_base(boot) - PAGE_SIZE, boot.direct_map.pmd_size)


@kernel("arch/x86/include/asm/pgtable_32_areas.h", "VMALLOC_END", traced=False)
def vmalloc_end(boot: Boot) -> int:
    """The first address behind vmalloc's area."""
    return pkmap_base(boot) - 2 * PAGE_SIZE


@kernel("arch/x86/include/asm/pgtable_32_areas.h", "VMALLOC_START", traced=False)
def vmalloc_start(boot: Boot) -> int:
    """The first address of vmalloc's area, once it is known where lowmem ends."""
    return boot.config.page_offset + (boot.max_low_pfn << PAGE_SHIFT) + VMALLOC_OFFSET


@kernel("arch/x86/include/asm/pgtable_32_areas.h", "MAXMEM", traced=False)
def maxmem(boot: Boot) -> int:
    """The most bytes that the direct map can hold."""
    return vmalloc_end(boot) - boot.config.page_offset - (boot.vmalloc_reserve or VMALLOC_RESERVE)
