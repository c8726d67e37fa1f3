"""mprotect: other rights for a range, which cuts VMAs where it begins and ends, or joins them.

|        rw         |   mprotect(middle, PROT_READ)   |  rw  |  r-  |  rw  |   and back: |        rw         |
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.page_mapping import page_anon
from kmemlab.process.mm_struct import MAX_MAP_COUNT, MmStruct
from kmemlab.process.mman import calc_vm_prot_bits, pte_present, vma_page_prot
from kmemlab.process.mmap import no_object, too_many_vmas
from kmemlab.process.overcommit import charge, vm_unacct_memory
from kmemlab.process.pgtable import flush_tlb_mm_range, present_ptes
from kmemlab.process.rmap import page_anon_exclusive
from kmemlab.process.vma import find_vma, find_vma_prev, vm_stat_account
from kmemlab.process.vma_merge import split_vma, vma_merge
from kmemlab.process.zap import vm_normal_page
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest, KmemlabError, OutOfMemory
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW, PAGE_SPECIAL
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, round_up
from kmemlab.types.vm_flags import VM_ACCESS_FLAGS, VM_ACCOUNT, VM_NORESERVE, VM_SHARED, VM_WRITE

PTE_KEPT = PAGE_ACCESSED | PAGE_DIRTY | PAGE_SPECIAL
"""What change_protection leaves in an entry, besides the frame (_PAGE_CHG_MASK)."""


@kernel("mm/mprotect.c", "do_mprotect_pkey", left_out="protection keys, PROT_GROWSDOWN", lock="mm->mmap_lock")
def do_mprotect(mm: MmStruct, start: int, length: int, prot: int) -> None:
    """Give [start, start + length) the rights PROT_….

    Raises `OutOfMemory` from where on something is not mapped (what is below has the new rights then), `BadRequest`.
    """
    end = start + round_up(length, PAGE_SIZE)
    if start % PAGE_SIZE or length < 0 or end > mm.task_size or prot & ~7:
        raise BadRequest(f"EINVAL: {start:#x}, {length} bytes, prot {prot:#x}", where="mprotect",
                         remedy="align the address, and stay below TASK_SIZE")  # fmt: skip
    vmas = mm.common.vmas
    while start < end:
        vma, prev = find_vma_prev(mm, start)
        if not vma or vmas.vm_start[vma] > start:
            raise OutOfMemory(f"ENOMEM: nothing is mapped at {start:#x}", where="mprotect", remedy="map it first")
        stop = min(vmas.vm_end[vma], end)
        newflags = calc_vm_prot_bits(prot) | vmas.vm_flags[vma] & ~VM_ACCESS_FLAGS
        mprotect_fixup(mm, vma, vma if vmas.vm_start[vma] < start else prev, start, stop, newflags)
        start = stop


@kernel("mm/mprotect.c", "mprotect_fixup", left_out="locked memory")
def mprotect_fixup(mm: MmStruct, vma: int, prev: int, start: int, end: int, newflags: int) -> None:
    """Give a part of a VMA other flags: it joins a neighbour, or is cut out. Raises `OutOfMemory`."""
    vmas = mm.common.vmas
    oldflags = vmas.vm_flags[vma]
    if newflags == oldflags:
        return
    charged = 0
    if newflags & VM_WRITE and not oldflags & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE):
        charged = end - start >> PAGE_SHIFT
        charge(mm, charged, "mprotect")
        newflags |= VM_ACCOUNT
    pgoff = vmas.vm_pgoff[vma] + (start - vmas.vm_start[vma] >> PAGE_SHIFT)
    try:
        merged = vma_merge(mm, prev, start, end, newflags, vmas.anon_vma[vma], pgoff, vmas.vm_file[vma])
        if not merged:
            cut_out(mm, vma, start, end)
    except KmemlabError:
        vm_unacct_memory(mm.common.mm, charged)
        raise
    vma = find_vma(mm, start)
    vmas.vm_flags[vma] = newflags
    change_protection(mm, start, end, newflags)
    vm_stat_account(mm, oldflags, start - end >> PAGE_SHIFT)
    vm_stat_account(mm, newflags, end - start >> PAGE_SHIFT)


@kernel("mm/mmap.c", "split_vma", traced=False)
def cut_out(mm: MmStruct, vma: int, start: int, end: int) -> None:
    """Cut a VMA so that [start, end) is one of its own. Raises `OutOfMemory`."""
    vmas = mm.common.vmas
    for addr, new_below in ((start, True), (end, False)):
        if vmas.vm_start[vma] < addr < vmas.vm_end[vma]:
            if mm.map_count >= MAX_MAP_COUNT:
                raise too_many_vmas()
            if not split_vma(mm, vma, addr, new_below):
                raise no_object()


@kernel("mm/mprotect.c", "change_protection", left_out="NUMA hints, huge pages, userfaultfd")
def change_protection(mm: MmStruct, start: int, end: int, vm_flags: int) -> None:
    """Let the entries of [start, end) have the rights of the VMA; a page of this process alone gets RW at once.

    Swap entries have no rights: a page that comes back gets those of the VMA.
    """
    prot = vma_page_prot(mm.common.mm.boot, vm_flags)
    for _, entryp in present_ptes(mm.tables, start, end):
        old = get_entry(mm.tables, entryp)
        if not pte_present(old):
            continue
        entry = old & (mm.tables.layout.address_mask | PTE_KEPT) | prot
        if vm_flags & VM_WRITE and can_change_pte_writable(mm, entry, vm_flags):
            entry |= PAGE_RW
        set_entry(mm.tables, entryp, entry)
    flush_tlb_mm_range(mm, start, end)


@kernel("mm/mprotect.c", "can_change_pte_writable", left_out="soft-dirty, userfaultfd", traced=False)
def can_change_pte_writable(mm: MmStruct, entry: int, vm_flags: int) -> bool:
    """Whether a page may be written without a fault: that has made it the process's own, or the file's page dirty."""
    if not entry & PAGE_DIRTY or vm_flags & VM_SHARED:
        return bool(entry & PAGE_DIRTY)
    pfn = vm_normal_page(mm.tables, entry)
    page = mm.common.mm.page
    return pfn is not None and page_anon(page, pfn) and page_anon_exclusive(page, pfn)
