"""What reclaim asks about pages that programs have mapped, and who answers: whoever keeps page tables enters here.

folio_referenced ─▶ which page tables have used the page lately     try_to_unmap ─▶ none maps it any more
folio_mkclean ─▶ no page table may write into it unnoticed

Page tables of programs lie on a floor above reclaim. With nobody entered no mapped page was used, and none can go.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import kernel

# Filled when modules are loaded, like the kernel's initcalls; not part of any machine's state.
FOLIO_REFERENCED: list[Callable[[Mm, int], tuple[int, int]]] = []
"""(mm, pfn) → how many page tables have used the page (their accessed bits are cleared), and vm_flags of those."""
TRY_TO_UNMAP: list[Callable[[Mm, int], None]] = []
"""(mm, pfn): take the page out of all page tables; those that can't be changed keep it."""

FOLIO_MKCLEAN: list[Callable[[Mm, int], int]] = []
"""(mm, pfn) → how many shared entries could write into the page, or had; they are read-only and clean now."""


@kernel("mm/rmap.c", "folio_referenced", formerly=("page_referenced",), left_out="who does it: see FOLIO_REFERENCED")
def folio_referenced(mm: Mm, pfn: int) -> tuple[int, int]:
    """(page tables that have used the page since this was asked last, vm_flags of the areas that they belong to)."""
    if not mm.page.mapcount[pfn]:
        return 0, 0
    answers = [ask(mm, pfn) for ask in FOLIO_REFERENCED]
    vm_flags = 0
    for _, flags in answers:
        vm_flags |= flags
    return sum(used for used, _ in answers), vm_flags


@kernel("mm/rmap.c", "try_to_unmap", left_out="who does it: see TRY_TO_UNMAP")
def try_to_unmap(mm: Mm, pfn: int) -> bool:
    """Take the page out of all page tables; whether none maps it any more."""
    for unmap in TRY_TO_UNMAP:
        unmap(mm, pfn)
    return not mm.page.mapcount[pfn]


@kernel("mm/rmap.c", "folio_mkclean", formerly=("page_mkclean",), left_out="who does it: see FOLIO_MKCLEAN")
def folio_mkclean(mm: Mm, pfn: int) -> bool:
    """Make all shared entries of a locked page read-only and clean; whether one of them had been written through."""
    if not mm.page.mapcount[pfn]:
        return False
    return sum(clean(mm, pfn) for clean in FOLIO_MKCLEAN) > 0
