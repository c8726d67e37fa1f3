"""The CPU entry area: what a CPU needs at the same address before it has switched to the kernel's page tables.

| IDT | CPU 0: GDT, entry stack, TSS, exception stacks … | CPU 1: … |     59 pages a CPU, below one entry of the PGD
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_alloc_or_panic
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import PAGE_SIZE

PTRS_PER_PTE = 512


@kernel("arch/x86/mm/cpu_entry_area.c", "setup_cpu_entry_areas", left_out="what is mapped there: only its tables")
def setup_cpu_entry_areas(boot: Boot) -> None:
    """Take a PUD page, a PMD page, and a page of PTEs for every 512 pages of the area."""
    pages = 1 + num_possible_cpus(boot.spec) * (boot.config.cpu_entry_area // PAGE_SIZE)
    for _ in range(2 + -(-pages // PTRS_PER_PTE)):
        spp_getpage(boot)


@kernel("arch/x86/mm/init_64.c", "spp_getpage", left_out="after boot")
def spp_getpage(boot: Boot) -> int:
    """A page for a page table; its address."""
    return memblock_alloc_or_panic(boot.memblock, PAGE_SIZE, PAGE_SIZE, "spp_getpage")
