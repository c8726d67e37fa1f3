"""What all ways through a page fault need: the words in which they speak, new pages, the right to write.

flags      FAULT_FLAG_…   what the program tried, and whether the fault may begin anew after a wait for the disk
result     VM_FAULT_…     what came of it
"""

from __future__ import annotations

from kmemlab.alloc.page_api import alloc_page
from kmemlab.boot.pgtable import set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_state import set_page_flag
from kmemlab.process.anon_vma import anon_vma_prepare
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.pgtable import flush_tlb_mm_range
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import __GFP_COMP, GFP_HIGHUSER_MOVABLE
from kmemlab.types.pageflags import PG_uptodate
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE
from kmemlab.types.vm_flags import VM_WRITE

FAULT_FLAG_WRITE = 0x01
FAULT_FLAG_ALLOW_RETRY = 0x04
FAULT_FLAG_KILLABLE = 0x10
FAULT_FLAG_TRIED = 0x20  # it is the second time
FAULT_FLAG_USER = 0x40
FAULT_FLAG_INSTRUCTION = 0x100
FAULT_FLAG_INTERRUPTIBLE = 0x200
FAULT_FLAG_DEFAULT = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE | FAULT_FLAG_INTERRUPTIBLE

VM_FAULT_OOM = 0x1
VM_FAULT_SIGBUS = 0x2
VM_FAULT_MAJOR = 0x4  # the disk was asked
VM_FAULT_WRITE = 0x8  # a page was copied or reused
VM_FAULT_SIGSEGV = 0x40
VM_FAULT_NOPAGE = 0x100  # the entry is there already; nothing is left to do
VM_FAULT_LOCKED = 0x200  # the page comes locked
VM_FAULT_RETRY = 0x400  # mmap_lock was let go of: begin anew
VM_FAULT_COMPLETED = 0x4000  # it was let go of, but all is done
VM_FAULT_ERROR = VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV
VM_FAULT_GIVE_UP = VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY  # there is no page to go on with


@kernel("include/linux/highmem.h", "alloc_zeroed_user_highpage_movable", left_out="control groups")
def new_anonymous_page(mm: MmStruct, vma: int, gfp: int) -> int | None:
    """A page for a program, movable and from HighMem if there is any; None if there is no memory, or no anon_vma."""
    if not anon_vma_prepare(mm, vma):
        return None
    pfn = alloc_page(mm.common.mm, GFP_HIGHUSER_MOVABLE | __GFP_COMP | gfp)
    if pfn is not None:
        set_page_flag(mm.common.mm.page, pfn, PG_uptodate)
    return pfn


@kernel("include/linux/mm.h", "maybe_mkwrite", traced=False)
def maybe_mkwrite(entry: int, vm_flags: int) -> int:
    """The entry with RW, if the VMA may be written."""
    return entry | PAGE_RW if vm_flags & VM_WRITE else entry


@kernel("mm/memory.c", "wp_page_reuse")
def wp_page_reuse(mm: MmStruct, vma: int, address: int, ptep: int, entry: int) -> None:
    """Let the process write into the page that it has."""
    vm_flags = mm.common.vmas.vm_flags[vma]
    set_entry(mm.tables, ptep, maybe_mkwrite(entry | PAGE_ACCESSED | PAGE_DIRTY, vm_flags))
    flush_tlb_mm_range(mm, address, address + PAGE_SIZE)
    mm.common.pgreuse += 1


@kernel("include/linux/highmem.h", "copy_user_highpage", left_out="kmap_local: we copy by physical addresses")
def copy_user_highpage(mm: Mm, to: int, source: int) -> None:
    """Copy a page."""
    ram = mm.boot.ram
    if ram.place[source]:
        ram.write_bytes(to << PAGE_SHIFT, ram.read_bytes(source << PAGE_SHIFT, PAGE_SIZE))
    else:
        ram.fill_pages(to, 1, ram.filled[source])
