"""How the kernel tells the CPU that its page tables changed: one page, a range, or everything."""

from __future__ import annotations

from kmemlab.boot.pgtable import PageTables
from kmemlab.hardware.mmu import CR4_PGE, Mmu
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

TLB_SINGLE_PAGE_FLUSH_CEILING = 33
"""Above so many pages, forgetting all is cheaper than one `invlpg` a page (tlb_single_page_flush_ceiling)."""


@kernel("arch/x86/include/asm/processor.h", "load_cr3")
def load_cr3(mmu: Mmu, tables: PageTables) -> None:
    """Use these tables from now on; what the CPU remembers of the old ones goes, except global pages."""
    mmu.write_cr3(tables.pgd)


@kernel("arch/x86/mm/tlb.c", "native_flush_tlb_local", left_out="PTI's second half", formerly=("__native_flush_tlb",))
def native_flush_tlb_local(mmu: Mmu) -> None:
    """Write CR3 with what it has: all but global pages goes."""
    mmu.write_cr3(mmu.cr3)


@kernel("arch/x86/mm/tlb.c", "native_flush_tlb_global", left_out="INVPCID", formerly=("__native_flush_tlb_global",))
def native_flush_tlb_global(mmu: Mmu) -> None:
    """Switch global pages off and on again: everything goes."""
    mmu.write_cr4(mmu.cr4 ^ CR4_PGE)
    mmu.write_cr4(mmu.cr4 ^ CR4_PGE)


@kernel("arch/x86/mm/tlb.c", "__flush_tlb_all")
def flush_tlb_all(mmu: Mmu) -> None:
    """Forget everything on this CPU, by the way that reaches global pages if there are any."""
    if mmu.cr4 & CR4_PGE:
        native_flush_tlb_global(mmu)
    else:
        native_flush_tlb_local(mmu)


@kernel("arch/x86/mm/tlb.c", "flush_tlb_one_kernel", left_out="PTI", formerly=("__flush_tlb_one",))
def flush_tlb_one_kernel(mmu: Mmu, addr: int) -> None:
    """Forget one page of the kernel, global or not."""
    mmu.invlpg(addr)


@kernel("arch/x86/mm/tlb.c", "flush_tlb_kernel_range", left_out="the other CPUs: each is sent an interrupt")
def flush_tlb_kernel_range(mmu: Mmu, start: int, end: int) -> None:
    """Forget the kernel's pages in [start, end), or everything if they are more than the ceiling."""
    if end - start > TLB_SINGLE_PAGE_FLUSH_CEILING << PAGE_SHIFT:
        flush_tlb_all(mmu)
        return
    for addr in range(start, end, PAGE_SIZE):
        flush_tlb_one_kernel(mmu, addr)
