"""folio_mkclean: before a page of a file is written to the disk, no program may write into it unnoticed.

entry RW dirty ── write-back begins ─▶ entry R clean ── the next write faults ─▶ do_wp_page: the page is dirty anew
"""

from __future__ import annotations

from kmemlab.boot.pgtable import set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.rmap_table import FOLIO_MKCLEAN
from kmemlab.process.rmap_walk import mapped_entries
from kmemlab.process.try_to_unmap import ptep_clear_flush
from kmemlab.sim.kernel import kernel
from kmemlab.types.pgtable import PAGE_DIRTY, PAGE_RW
from kmemlab.types.vm_flags import VM_SHARED


@kernel("mm/rmap.c", "page_vma_mkclean_one", left_out="huge pages", formerly=("page_mkclean_one",))
def clean_entries(mm: Mm, pfn: int) -> int:
    """Take the right to write and the dirty bit from each shared entry of a page; how many had one of them."""
    cleaned = 0
    vm_flags = mm.processes.common.vmas.vm_flags
    for space, vma, address, ptep in mapped_entries(mm, pfn):
        if not vm_flags[vma] & VM_SHARED:
            continue  # a private VMA has no page of the file that it could write into
        entry = ptep_clear_flush(space, address, ptep)
        set_entry(space.tables, ptep, entry & ~(PAGE_RW | PAGE_DIRTY))
        cleaned += bool(entry & (PAGE_RW | PAGE_DIRTY))
    return cleaned


FOLIO_MKCLEAN.append(clean_entries)
