"""prep_new_page: what is done to a block before its new owner has it. And what makes a block one page: compound pages.

With __GFP_COMP a block is one large page: whoever has a part of it finds its head, and with the head its order.
Without, it is 2**order pages of which only the first is counted for all, until split_page counts each.
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MemMap
from kmemlab.mm.page_poison import post_alloc_hook
from kmemlab.mm.page_state import page_has_flag, set_page_flag
from kmemlab.mm.zone import NR_OWNED, Zone, block_around
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import __GFP_COMP
from kmemlab.types.pageflags import PG_head


@kernel("mm/page_alloc.c", "prep_new_page", left_out="pages from the last reserves are marked (pfmemalloc)")
def prep_new_page(mm: Mm, zone: Zone, pfn: int, order: int, gfp: int) -> None:
    """Hand a block to its new owner with one reference on its first page, and contents as they are wanted."""
    page = zone.page
    page.refcount[pfn] = 1
    page.owned[pfn] = 1 + order
    zone.cells[NR_OWNED] += 1 << order
    post_alloc_hook(mm, pfn, order, gfp)
    if order and gfp & __GFP_COMP:
        prep_compound_page(page, pfn)


@kernel(
    "mm/page_alloc.c", "prep_compound_page", left_out="the tail pages: where a block begins is found by who owns what"
)
def prep_compound_page(page: MemMap, pfn: int) -> None:
    """Make a block one large page."""
    set_page_flag(page, pfn, PG_head)


@kernel("include/linux/page-flags.h", "compound_head", traced=False)
def compound_head(page: MemMap, pfn: int) -> int:
    """The first page of the large page that holds `pfn`; any other page is its own head."""
    block = block_around(page.owned, pfn)
    return block[0] if block is not None and page_has_flag(page, block[0], PG_head) else pfn


@kernel("include/linux/mm.h", "compound_order", traced=False)
def compound_order(page: MemMap, pfn: int) -> int:
    """The order of the large page that begins at `pfn`; 0 for any other page."""
    return page.owned[pfn] - 1 if page_has_flag(page, pfn, PG_head) else 0


@kernel("mm/page_alloc.c", "split_page")
def split_page(page: MemMap, pfn: int, order: int) -> None:
    """Turn a block that is no large page into single pages, each with a reference, each to be freed by itself."""
    assert page.owned[pfn] == 1 + order, "the block is not held with this order"
    assert not page_has_flag(page, pfn, PG_head), "a large page can't be split so"
    page.owned[pfn] = 1
    for tail in range(pfn + 1, pfn + (1 << order)):
        page.refcount[tail] = page.owned[tail] = 1
