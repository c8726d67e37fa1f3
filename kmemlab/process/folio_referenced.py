"""folio_referenced: has any program used a page since reclaim asked last? The CPU has noted it in the entries.

program ─▶ MMU sets the accessed bit ······ reclaim: which entries have it? and clears them ······ program ─▶ …
"""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.mm.globals import Mm
from kmemlab.mm.mlock import mlock_folio
from kmemlab.mm.rmap_table import FOLIO_REFERENCED
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.rmap_walk import mapped_entries
from kmemlab.sim.kernel import kernel
from kmemlab.types.pgtable import PAGE_ACCESSED
from kmemlab.types.vm_flags import VM_LOCKED


@kernel("mm/rmap.c", "folio_referenced_one", left_out="huge pages; generations; idle page tracking")
def count_references(mm: Mm, pfn: int) -> tuple[int, int]:
    """(entries whose accessed bit was set: it is cleared, vm_flags of their VMAs)."""
    referenced = found = 0
    vm_flags = mm.processes.common.vmas.vm_flags
    for space, vma, _, ptep in mapped_entries(mm, pfn):
        if vm_flags[vma] & VM_LOCKED:
            mlock_folio(mm, pfn)  # it was on no list when it was locked
            return referenced, found | VM_LOCKED
        if ptep_test_and_clear_young(space, ptep):
            referenced += 1
            found |= vm_flags[vma]
    return referenced, found


@kernel("arch/x86/mm/pgtable.c", "ptep_clear_flush_young", formerly=("ptep_test_and_clear_young",), traced=False)
def ptep_test_and_clear_young(mm: MmStruct, ptep: int) -> bool:
    """Clear the accessed bit of an entry; whether it was set.

    x86 flushes nothing: while the CPU remembers the entry it won't set the bit again, so that a page that is in use
    all the time may look unused for once. That costs less than the flushes would.
    """
    entry = get_entry(mm.tables, ptep)
    if entry & PAGE_ACCESSED:
        set_entry(mm.tables, ptep, entry & ~PAGE_ACCESSED)
    return bool(entry & PAGE_ACCESSED)


FOLIO_REFERENCED.append(count_references)
