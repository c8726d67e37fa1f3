"""The software IO TLB: memory below 4 GiB through which devices that reach no higher get their data.

swiotlb=65536,8,force      slots of 2 KiB, areas, used for all devices        swiotlb=noforce, iommu=off: none at all
"""

from __future__ import annotations

import re

from kmemlab.boot.cmdline import U32_MAX, early_param
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_alloc, memblock_alloc_try_nid
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import GIB, MIB, PAGE_SHIFT, PAGE_SIZE, round_up, simple_strtoull

IO_TLB_SHIFT, IO_TLB_SEGSIZE = 11, 128
IO_TLB_DEFAULT_SLABS, IO_TLB_MIN_SLABS = 64 * MIB >> IO_TLB_SHIFT, MIB >> IO_TLB_SHIFT
ARCH_LOW_ADDRESS_LIMIT = 4 * GIB - 1
FORCE, NOFORCE = 1, 2


@early_param("iommu")
@kernel("arch/x86/kernel/pci-dma.c", "iommu_setup", left_out="what concerns IOMMU hardware")
def iommu_setup(boot: Boot, value: str) -> None:
    """iommu=off: no bounce buffer for lack of address lines; iommu=soft: one in any case."""
    for option in value.split(","):
        if option.startswith("off"):
            boot.no_iommu = 1
        if option.startswith("soft"):
            boot.x86_swiotlb_enable = 1


@early_param("swiotlb")
@kernel("kernel/dma/swiotlb.c", "setup_io_tlb_npages")
def setup_io_tlb_npages(boot: Boot, value: str) -> None:
    """swiotlb=SLOTS,AREAS,force|noforce: all of them optional."""
    if not boot.config.swiotlb:
        return
    found = re.match(r"(\d*),?(\d*),?(.*)", value)
    slots, areas, force = found.groups() if found else ("", "", "")
    if slots:
        boot.default_nslabs = round_up(simple_strtoull(slots)[0] & U32_MAX, IO_TLB_SEGSIZE)
    if areas:
        swiotlb_adjust_nareas(boot, simple_strtoull(areas)[0] & U32_MAX)
    boot.swiotlb_force = {"force": FORCE, "noforce": NOFORCE}.get(force, boot.swiotlb_force)


@kernel("kernel/dma/swiotlb.c", "swiotlb_size_or_default", traced=False)
def swiotlb_size_or_default(boot: Boot) -> int:
    """The bytes of the buffer."""
    return (boot.default_nslabs or IO_TLB_DEFAULT_SLABS) << IO_TLB_SHIFT


@kernel("kernel/dma/swiotlb.c", "swiotlb_adjust_nareas")
def swiotlb_adjust_nareas(boot: Boot, nareas: int) -> None:
    """Cut the buffer into areas with a lock each, a power of two; each has a segment of slots at least."""
    boot.default_nareas = 1 << max(0, nareas - 1).bit_length()
    boot.printk.info(f"software IO TLB: area num {boot.default_nareas}.")
    slots = boot.default_nslabs or IO_TLB_DEFAULT_SLABS
    wanted = max(slots, IO_TLB_SEGSIZE * boot.default_nareas)
    boot.default_nslabs = 1 << (wanted - 1).bit_length()
    if boot.default_nslabs != slots:
        mib = boot.default_nslabs << IO_TLB_SHIFT >> 20
        boot.printk.info(f"software IO TLB: SWIOTLB bounce buffer size roundup to {mib}MB")


@kernel("arch/x86/kernel/pci-dma.c", "pci_iommu_alloc", left_out="IOMMU hardware; encrypted memory")
def pci_iommu_alloc(boot: Boot) -> None:
    """With memory above 4 GiB, or where it may come, keep a bounce buffer below."""
    if not boot.config.swiotlb:
        return
    if not boot.no_iommu and max(boot.max_possible_pfn, boot.max_pfn) > 4 * GIB >> PAGE_SHIFT:
        boot.x86_swiotlb_enable = 1
    swiotlb_init_remap(boot, bool(boot.x86_swiotlb_enable))


@kernel("kernel/dma/swiotlb.c", "swiotlb_init_remap", formerly=("swiotlb_init",), left_out="filling the slots")
def swiotlb_init_remap(boot: Boot, addressing_limit: bool) -> None:
    """Take the buffer, half as large as often as needed, and its two tables."""
    if boot.swiotlb_force == NOFORCE or not (addressing_limit or boot.swiotlb_force == FORCE):
        return
    if not boot.default_nareas:
        swiotlb_adjust_nareas(boot, num_possible_cpus(boot.spec))
    nslabs = boot.default_nslabs
    while not swiotlb_memblock_alloc(boot, nslabs):
        if nslabs <= IO_TLB_MIN_SLABS:
            return
        nslabs = round_up(nslabs >> 1, IO_TLB_SEGSIZE)
    if nslabs != boot.default_nslabs:
        old, boot.default_nslabs = boot.default_nslabs, nslabs
        boot.printk.info(f"software IO TLB: SWIOTLB bounce buffer size adjusted {old} -> {nslabs} slabs")
    slots = round_up(boot.config.sizeof_io_tlb_slot * nslabs, PAGE_SIZE)
    memblock_alloc(boot.memblock, slots, PAGE_SIZE, "swiotlb_init_remap")
    memblock_alloc(boot.memblock, boot.config.sizeof_io_tlb_area * boot.default_nareas, 64, "swiotlb_init_remap")


@kernel("kernel/dma/swiotlb.c", "swiotlb_memblock_alloc")
def swiotlb_memblock_alloc(boot: Boot, nslabs: int) -> bool:
    """Take the buffer itself, below 4 GiB; False if there is no room."""
    size = round_up(nslabs << IO_TLB_SHIFT, PAGE_SIZE)
    taken = memblock_alloc_try_nid(
        boot.memblock, size, PAGE_SIZE, 0, ARCH_LOW_ADDRESS_LIMIT, caller="swiotlb_init_remap"
    )
    if not taken:
        boot.printk.info(f"software IO TLB: swiotlb_memblock_alloc: Failed to allocate {size} bytes tlb structure")
    return bool(taken)
