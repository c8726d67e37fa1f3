"""Large pages in vmalloc's area: one entry of level pmd (2 MiB) or pud (1 GiB) where all is aligned and alike."""

from __future__ import annotations

from kmemlab.alloc.vmap_tables import pmd_alloc_track, pud_alloc_track
from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.mtrr import mtrr_type_lookup
from kmemlab.boot.pgtable import PageTables, entry_leaf, get_entry, set_entry
from kmemlab.boot.tlbflush import flush_tlb_kernel_range
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_free import free_pages_inner
from kmemlab.sim.kernel import kernel
from kmemlab.types.mtrr_type import MTRR_TYPE_INVALID, MTRR_TYPE_WRBACK
from kmemlab.types.pgtable import PAGE_PAT, PAGE_PAT_LARGE, PAGE_PRESENT, PAGE_PSE, PMD, PUD
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE


@kernel("mm/vmalloc.c", "vmap_try_huge_pmd", formerly=("vmap_try_huge_pud",))
def vmap_try_huge(mm: Mm, level: int, address: int, end: int, phys_addr: int, prot: int, max_page_shift: int) -> bool:
    """Map one large page if all is aligned, the CPU has such pages, and the MTRRs don't cut it in two."""
    size = mm.boot.swapper_pg_dir.layout.levels[level].size
    if 1 << max_page_shift < size or end - address != size or address % size or phys_addr % size:
        return False
    if not vmap_supported(mm, level):
        return False
    entryp = pud_alloc_track(mm, address) if level == PUD else pmd_alloc_track(mm, address)
    tables = mm.boot.swapper_pg_dir
    if get_entry(tables, entryp) & PAGE_PRESENT and not entry_leaf(tables, level, entryp):
        free_table_below(mm, level, entryp, address)
    return set_huge(mm, level, entryp, phys_addr, prot)


@kernel(
    "arch/x86/include/asm/vmalloc.h", "arch_vmap_pmd_supported", formerly=("arch_vmap_pud_supported",), traced=False
)
def vmap_supported(mm: Mm, level: int) -> bool:
    """Whether this kernel maps pages of this level in vmalloc's area; two-level kernels don't."""
    layout = mm.boot.swapper_pg_dir.layout
    if layout.entry_size == 4 or layout.levels[level].folded:
        return False
    return boot_cpu_has(mm.boot, "pdpe1gb" if level == PUD else "pse")


@kernel("arch/x86/mm/pgtable.c", "pmd_set_huge", formerly=("pud_set_huge",))
def set_huge(mm: Mm, level: int, entryp: int, phys_addr: int, prot: int) -> bool:
    """Let an entry map a large page; not where it would be cached in several ways, by the MTRRs."""
    size = mm.boot.swapper_pg_dir.layout.levels[level].size
    found, uniform = mtrr_type_lookup(mm.boot.mtrr, phys_addr, phys_addr + size)
    if not uniform and found not in (MTRR_TYPE_INVALID, MTRR_TYPE_WRBACK):
        if level == PMD and not mm.vmalloc.warned_of_mtrr:
            mm.vmalloc.warned_of_mtrr = 1
            mm.boot.printk.info(
                f"pmd_set_huge: Cannot satisfy [mem {phys_addr:#010x}-{phys_addr + size:#010x}] "
                "with a huge-page mapping due to MTRR override."
            )
        return False
    set_entry(mm.boot.swapper_pg_dir, entryp, phys_addr | prot_large(prot) | PAGE_PSE)
    return True


@kernel("arch/x86/include/asm/pgtable_types.h", "protval_4k_2_large", traced=False)
def prot_large(prot: int) -> int:
    """The same protection for a large page: there the bit PAT stands elsewhere, as its place says that it is large."""
    return prot & ~PAGE_PAT | (PAGE_PAT_LARGE if prot & PAGE_PAT else 0)


@kernel("arch/x86/mm/pgtable.c", "pmd_free_pte_page", formerly=("pud_free_pmd_page",))
def free_table_below(mm: Mm, level: int, entryp: int, address: int) -> None:
    """Give back the table that an entry names, and those below: a large page is to stand there. All are empty."""
    tables = mm.boot.swapper_pg_dir
    table = get_entry(tables, entryp) & tables.layout.address_mask
    set_entry(tables, entryp, 0)
    flush_tlb_kernel_range(mm.boot.mmu, address, address + PAGE_SIZE)
    if level == PUD:
        for below in range(table, table + PAGE_SIZE, tables.layout.entry_size):
            entry = get_entry(tables, below)
            if entry & PAGE_PRESENT:
                set_entry(tables, below, 0)
                free_pages_inner(mm, (entry & tables.layout.address_mask) >> PAGE_SHIFT, 0)
    free_pages_inner(mm, table >> PAGE_SHIFT, 0)


@kernel("arch/x86/mm/pgtable.c", "pmd_clear_huge", formerly=("pud_clear_huge", "p4d_clear_huge"), traced=False)
def clear_huge(tables: PageTables, level: int, entryp: int, entry: int) -> bool:
    """Clear the entry at a physical address if it maps a large page; whether it did. `entry` is what stands there."""
    if not (entry & PAGE_PRESENT and tables.layout.is_leaf(level, entry)):
        return False
    set_entry(tables, entryp, 0)
    return True
