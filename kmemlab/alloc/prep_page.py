"""prep_new_page: what is done to a block before its new owner has it."""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.zone import NR_OWNED, Zone
from kmemlab.sim.kernel import kernel


@kernel("mm/page_alloc.c", "prep_new_page", left_out="zeroing, poisoning, compound pages")
def prep_new_page(mm: Mm, zone: Zone, pfn: int, order: int, gfp: int) -> None:
    """Hand a block to its new owner with one reference on its first page."""
    page = zone.page
    page.refcount[pfn] = 1
    page.owned[pfn] = 1 + order
    zone.cells[NR_OWNED] += 1 << order
