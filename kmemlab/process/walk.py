"""Looking at a process's page tables without touching anything: no accessed bit is set, nothing faults."""

from __future__ import annotations

from kmemlab.boot.pgtable import get_entry
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import pte_offset_map
from kmemlab.process.task_struct import Processes, living
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import PAGE_SHIFT


@kernel("mm/gup.c", "follow_page", left_out="all but looking: nobody holds the page", traced=False)
def user_pfn(processes: Processes, pid: int, address: int) -> int | None:
    """The page frame that a process has at an address; None if it has none there now. Raises `BadRequest`."""
    _, mm = living(processes, pid)
    if not 0 <= address < mm.task_size:
        return None
    ptep = pte_offset_map(mm.tables, address)
    entry = get_entry(mm.tables, ptep) if ptep is not None else 0
    return (entry & mm.tables.layout.address_mask) >> PAGE_SHIFT if pte_present(entry) else None
