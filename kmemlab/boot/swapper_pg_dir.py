"""swapper_pg_dir: the kernel's own page tables, entry by entry, as they stand in RAM for the MMU to walk.

__va(paddr) = page_offset_base + paddr

swapper_pg_dir ──▶ 273: 0x4401067 ──▶ 0: 0x4402067 ──▶ 1: 0x80000000002001e3     2 MiB at 0x200000: P RW A D PSE G NX
"""

from __future__ import annotations

from array import array

from kmemlab.boot.globals import Boot
from kmemlab.boot.pgtable import entry_of, populate, set_entry
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pgtable import PAGE_GLOBAL, PAGE_KERNEL, PAGE_NX, PAGE_PSE, PTE
from kmemlab.types.units import PAGE_MASK


@invented("the linker does it, and the machine's description does not tell where")
def place_swapper_pg_dir(boot: Boot) -> None:
    """The top table lies in the kernel image; here, in the first page of its data."""
    boot.swapper_pg_dir.pgd = boot.spec.image.data[0] & PAGE_MASK


@kernel("arch/x86/include/asm/page.h", "__va", traced=False)
def va(boot: Boot, paddr: int) -> int:
    """The address at which the direct map shows a physical address.

    Under KASLR the base is the one that the machine's description tells; if it tells none, that without KASLR.
    """
    return boot.page_offset_base + paddr


@kernel("arch/x86/mm/init.c", "__default_kernel_pte_mask", traced=False)
def page_kernel(boot: Boot) -> int:
    """PAGE_KERNEL, without the bits that this CPU does not have or that nobody wants."""
    flags = boot.spec.cpus.flags
    prot = PAGE_KERNEL
    if "nx" not in flags or boot.swapper_pg_dir.layout.entry_size == 4:
        prot &= ~PAGE_NX
    # Where user space must not see the kernel's tables (page-table isolation), they must not stay in the TLB either.
    if "pge" not in flags or "pti" in flags:
        prot &= ~PAGE_GLOBAL
    return prot


@invented("C's pgd_populate … pmd_populate_kernel of init_64.c")
def enter_table(boot: Boot, level: int, paddr: int, pfn: int) -> None:
    """Let the entry at `level` for a physical address name the table in a page frame."""
    populate(boot.swapper_pg_dir, entry_of(boot.swapper_pg_dir, level, va(boot, paddr)), pfn)


@invented("C's set_pte_init, once for each entry")
def enter_pages(boot: Boot, level: int, first: int, last: int) -> None:
    """Fill the entries for pages number `first` … `last` - 1, counted in pages of this level; all in one table."""
    tables, size = boot.swapper_pg_dir, boot.swapper_pg_dir.layout.levels[level].size
    prot = page_kernel(boot) | (PAGE_PSE if level != PTE else 0)
    entryp = entry_of(tables, level, va(boot, first * size))
    values = range(first * size + prot, last * size + prot, size)
    if tables.layout.entry_size == 8:
        boot.ram.fill(entryp, array("Q", values))
        return
    for nth, value in enumerate(values):
        set_entry(tables, entryp + 4 * nth, value)
