"""The end of an address space: every page, every table, every VMA goes back to where it came from.

mmput ─▶ exit_mmap ─▶ zap_pte_range, free_pgd_range, VMAs ─▶ __mmdrop ─▶ pgd_free, the mm_struct's object
"""

from __future__ import annotations

from kmemlab.mm.lru import lru_add_drain
from kmemlab.process.anon_vma import unlink_anon_vmas
from kmemlab.process.i_mmap import unlink_file_vma
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.overcommit import accounted_pages, vm_unacct_memory
from kmemlab.process.pgtable import free_pgd_range, pgd_free
from kmemlab.process.proc_caches import free_object
from kmemlab.process.vma import vm_area_free
from kmemlab.process.zap import NO_CEILING, zap_pte_range
from kmemlab.sim.kernel import kernel


@kernel("kernel/fork.c", "mmput", left_out="AIO, khugepaged, uprobes")
def mmput(mm: MmStruct) -> None:
    """One user less of an address space; the last one takes it down."""
    mm.mm_users -= 1
    if not mm.mm_users:
        exit_mmap(mm)
        mmdrop(mm)


@kernel(
    "mm/mmap.c", "exit_mmap", left_out="gathering the pages of all areas to free them at once", lock="mm->mmap_lock"
)
def exit_mmap(mm: MmStruct) -> None:
    """Give back all that a program had mapped."""
    vmas = mm.common.vmas
    lru_add_drain(mm.common.mm)
    for vma in mm.vmas():
        zap_pte_range(mm, vmas.vm_start[vma], vmas.vm_end[vma], vmas.vm_flags[vma])
    if mm.map_count:
        first, last = mm.vma[0], mm.vma[mm.map_count - 1]
        free_pgd_range(mm, vmas.vm_start[first], vmas.vm_end[last], 0, NO_CEILING)
    vm_unacct_memory(mm.common.mm, sum(accounted_pages(mm, vma) for vma in mm.vmas()))
    for at in range(mm.map_count):
        unlink_anon_vmas(mm.common, mm.vma[at])
        unlink_file_vma(mm.common, mm.vma[at])
        vm_area_free(mm, mm.vma[at])
        mm.vma[at] = 0


@kernel("kernel/fork.c", "__mmdrop", formerly=("mmdrop",), left_out="the count of kernel threads that borrow it")
def mmdrop(mm: MmStruct) -> None:
    """Give back the top table and the mm_struct."""
    pgd_free(mm)
    free_object(mm.common, mm.common.mm_cachep, mm.address)
    for cell in range(len(mm.cells)):
        mm.cells[cell] = 0
    for member in range(len(mm.rss_stat)):
        mm.rss_stat[member] = 0
