"""The laws of swapping, seen from the page tables: each swap entry is counted, by its process and by its slot."""

from __future__ import annotations

from collections import Counter

from kmemlab.boot.pgtable import get_entry
from kmemlab.mm.check_swap import check_swap_areas
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.swapops import is_swap_pte, non_swap_entry, pte_swp_exclusive, pte_to_swp_entry
from kmemlab.process.mm_struct import MM_SWAPENTS
from kmemlab.process.pgtable import present_ptes
from kmemlab.process.task_struct import Processes
from kmemlab.sim.kernel import invented


@invented("a law is code beside the structure it speaks of", traced=False)
def check_swap(processes: Processes) -> None:
    """The sum of all page tables is what the slots say, and all that `check_swap_areas` says. Raises `BrokenLaw`."""
    held: Counter[int] = Counter()
    exclusive: set[int] = set()
    for mm in processes.mms:
        if not mm.address:
            continue
        mine = 0
        for address, entryp in present_ptes(mm.tables, 0, mm.task_size):
            pte = get_entry(mm.tables, entryp)
            if not is_swap_pte(pte):
                continue
            entry = pte_to_swp_entry(mm.tables.layout, pte)
            if non_swap_entry(entry):
                raise BrokenLaw(
                    f"the entry at {address:#x} of address space {mm.number} names no slot",
                    where="swap",
                )
            held[entry] += 1
            mine += 1
            if pte_swp_exclusive(mm.tables.layout, pte):
                exclusive.add(entry)
        if mine != mm.rss_stat[MM_SWAPENTS]:
            raise BrokenLaw(
                f"address space {mm.number} holds {mine} swap entries, but counts {mm.rss_stat[MM_SWAPENTS]}",
                where="swap",
            )
    check_swap_areas(processes.common.mm, held, exclusive)
