"""How i386 splits its memory: low (in the direct map) and high (without addresses of its own).

0                  max_low_pfn                 max_pfn
|      lowmem           |         HighMem         |      lowmem ends at MAXMEM, or earlier with highmem= or vmalloc=
"""

from __future__ import annotations

from kmemlab.boot.cmdline import early_param
from kmemlab.boot.globals import Boot
from kmemlab.boot.layout_32 import VMALLOC_OFFSET, maxmem
from kmemlab.boot.memblock import memblock_set_node
from kmemlab.boot.numa import NumaInfo
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadParameter, KernelPanic
from kmemlab.types.units import GIB, MIB, PAGE_SHIFT, memparse, pfn_up

LEAST_LOWMEM_PFN = 64 * MIB >> PAGE_SHIFT
MAX_NONPAE_PFN = 4 * GIB >> PAGE_SHIFT


@early_param("highmem")
@kernel("arch/x86/mm/init_32.c", "parse_highmem")
def parse_highmem(boot: Boot, value: str) -> None:
    """highmem=SIZE: so much memory is high, even if it would fit into the direct map."""
    if boot.config.highmem:
        boot.highmem_pages = size_of("highmem", value) >> PAGE_SHIFT
        boot.highmem_given = 1


@early_param("vmalloc")
@kernel("arch/x86/mm/pgtable_32.c", "parse_vmalloc")
def parse_vmalloc(boot: Boot, value: str) -> None:
    """vmalloc=SIZE: so many addresses are for vmalloc; lowmem has what is left."""
    if boot.config.highmem:
        boot.vmalloc_reserve = size_of("vmalloc", value) + VMALLOC_OFFSET


@invented("C returns -EINVAL for a parameter without a value", traced=False)
def size_of(name: str, value: str) -> int:
    """The bytes that a parameter names; raises `BadParameter` for none."""
    if not value:
        raise BadParameter(f"{name} names no size", where="the kernel's command line", remedy=f"write {name}=128M")
    return memparse(value)[0]


@invented("pages_to_mb, a macro", traced=False)
def mib(pages: int) -> int:
    """Whole MiB."""
    return pages >> 20 - PAGE_SHIFT


@kernel("arch/x86/mm/init_32.c", "find_low_pfn_range")
def find_low_pfn_range(boot: Boot) -> None:
    """Decide where lowmem ends. What the kernel has no room to manage is left unused."""
    maxmem_pfn = maxmem(boot) >> PAGE_SHIFT
    if maxmem_pfn <= pfn_up(boot.spec.image.brk[1]):
        # C does not look: the kernel would lose the memory that it runs in, and stop without a word.
        raise KernelPanic(
            "the direct map does not hold the kernel itself",
            where=f"vmalloc= takes {boot.vmalloc_reserve >> 20} MiB of its addresses",
            remedy="ask for less with vmalloc=",
        )
    if boot.max_pfn <= maxmem_pfn:
        lowmem_pfn_init(boot)
    else:
        highmem_pfn_init(boot, maxmem_pfn)


@kernel("arch/x86/mm/init_32.c", "lowmem_pfn_init")
def lowmem_pfn_init(boot: Boot) -> None:
    """All memory fits into the direct map: only highmem= makes a part of it high."""
    boot.max_low_pfn = boot.max_pfn
    highmem = boot.highmem_pages
    if highmem >= boot.max_pfn:
        boot.printk.info(f"highmem size ({mib(highmem)}MB) is bigger than pages available ({mib(boot.max_pfn)}MB)!")
        highmem = 0
    if highmem and boot.max_low_pfn - highmem < LEAST_LOWMEM_PFN:
        boot.printk.info(f"highmem size ({mib(highmem)}MB) results in <64MB lowmem, ignoring it!")
        highmem = 0
    boot.max_low_pfn -= highmem
    boot.highmem_pages = highmem


@kernel("arch/x86/mm/init_32.c", "highmem_pfn_init")
def highmem_pfn_init(boot: Boot, maxmem_pfn: int) -> None:
    """The direct map is full; the rest is high, or as much of it as highmem= allows."""
    boot.max_low_pfn = maxmem_pfn
    if not boot.highmem_given:
        boot.highmem_pages = boot.max_pfn - maxmem_pfn
    if boot.highmem_pages + maxmem_pfn < boot.max_pfn:
        boot.max_pfn = maxmem_pfn + boot.highmem_pages
    if boot.highmem_pages + maxmem_pfn > boot.max_pfn:
        boot.printk.info(
            f"only {mib(boot.max_pfn - maxmem_pfn)}MB highmem pages available, "
            f"ignoring highmem size of {mib(boot.highmem_pages)}MB!"
        )
        boot.highmem_pages = 0
    if boot.config.phys_addr_bits == 32 and boot.max_pfn > MAX_NONPAE_PFN:
        boot.max_pfn = MAX_NONPAE_PFN
        boot.printk.info("Warning: only 4GB will be used. Use a HIGHMEM64G enabled kernel!")


@kernel("arch/x86/mm/init_32.c", "initmem_init")
def initmem_init(boot: Boot, numa: NumaInfo) -> None:
    """All memory is of node 0; say what is high and what is low."""
    numa.node_possible[0] = numa.node_online[0] = 1
    boot.printk.info(f"{mib(boot.max_pfn - boot.max_low_pfn)}MB HIGHMEM available.")
    memblock_set_node(boot.memblock, 0, boot.config.phys_addr_max, boot.memblock.memory, 0)
    boot.printk.info(f"{mib(boot.max_low_pfn)}MB LOWMEM available.")
    boot.printk.info(f"  mapped low ram: 0 - {boot.max_pfn_mapped << PAGE_SHIFT:08x}")
    boot.printk.info(f"  low ram: 0 - {boot.max_low_pfn << PAGE_SHIFT:08x}")
