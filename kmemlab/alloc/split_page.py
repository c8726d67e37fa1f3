"""split_page: a block becomes so many pages that are freed one by one."""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import kernel


@kernel("mm/page_alloc.c", "split_page", left_out="memcg and page_owner")
def split_page(mm: Mm, pfn: int, order: int) -> None:
    """Make each page of a block one that somebody holds by itself, with one reference."""
    page = mm.page
    for each in range(pfn, pfn + (1 << order)):
        page.refcount[each] = 1
        page.owned[each] = 1
