"""The bits of a mapping: what the system call asks (PROT_…, MAP_…), what the VMA keeps of it, what an entry gets.

PROT_READ | PROT_WRITE, MAP_PRIVATE ──▶ VM_READ | VM_WRITE | VM_MAY… ──▶ P US A NX, and no RW: the first write faults
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.hardware.mmu import EFER_NX
from kmemlab.sim.kernel import kernel
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_GLOBAL, PAGE_NX, PAGE_PRESENT, PAGE_RW, PAGE_USER
from kmemlab.types.vm_flags import VM_ACCESS_FLAGS, VM_EXEC, VM_MAYWRITE, VM_SHARED, VM_WRITE

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4

MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_GROWSDOWN = 0x100
MAP_NORESERVE = 0x4000
MAP_FIXED_NOREPLACE = 0x100000

MS_ASYNC, MS_INVALIDATE, MS_SYNC = 1, 2, 4

PAGE_PROTNONE = PAGE_GLOBAL
"""In an entry that is not present this bit says: a page is here all the same, but nobody may touch it."""

_USER_PAGE = PAGE_PRESENT | PAGE_USER | PAGE_ACCESSED


@kernel("include/linux/mman.h", "calc_vm_prot_bits", left_out="protection keys", traced=False)
def calc_vm_prot_bits(prot: int) -> int:
    """VM_READ, VM_WRITE, VM_EXEC for PROT_…: the same bits.

    >>> calc_vm_prot_bits(PROT_READ | PROT_EXEC)
    5
    """
    return prot & VM_ACCESS_FLAGS


@kernel("arch/x86/mm/pgprot.c", "vm_get_page_prot", left_out="protection keys, memory encryption", traced=False)
def vm_get_page_prot(boot: Boot, vm_flags: int) -> int:
    """The bits of a new entry in a VMA with these flags.

    A private page that may be written is not given RW: nobody knows yet whether it is this process's alone.
    """
    if not vm_flags & VM_ACCESS_FLAGS:
        return PAGE_PROTNONE | PAGE_ACCESSED
    prot = _USER_PAGE
    if vm_flags & VM_WRITE and vm_flags & VM_SHARED:
        prot |= PAGE_RW
    if not vm_flags & VM_EXEC and boot.mmu.efer & EFER_NX:
        prot |= PAGE_NX
    return prot


@kernel("mm/mmap.c", "vma_set_page_prot", formerly=("vma_wants_writenotify",), left_out="keeping it in the VMA")
def vma_page_prot(boot: Boot, vm_flags: int) -> int:
    """The bits of a new entry where the kernel wants to hear of the first write: no RW in a shared VMA either.

    All that can be shared here are pages of files, and they become dirty by that fault.
    """
    return vm_get_page_prot(boot, vm_flags & ~VM_SHARED)


@kernel("mm/internal.h", "is_cow_mapping", traced=False)
def is_cow_mapping(vm_flags: int) -> bool:
    """Whether a write in a VMA makes a copy: it is private, and could be written."""
    return vm_flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE


@kernel("arch/x86/include/asm/pgtable.h", "pte_present", traced=False)
def pte_present(entry: int) -> bool:
    """Whether an entry holds a page, even one that nobody may touch."""
    return bool(entry & (PAGE_PRESENT | PAGE_PROTNONE))
