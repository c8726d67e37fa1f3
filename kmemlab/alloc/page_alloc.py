"""__alloc_pages: from a request to a block.

alloc_pages ──▶ __alloc_pages ──▶ get_page_from_freelist     some zone is above its low watermark (alloc/freelist.py)
                  └────────────▶ __alloc_pages_slowpath     none is (alloc/page_slowpath.py)
"""

from __future__ import annotations

from kmemlab.alloc.freelist import get_page_from_freelist, gfp_migratetype, gfp_zone, node_zonelist
from kmemlab.alloc.page_slowpath import alloc_pages_slowpath
from kmemlab.mm.context import (
    PF_MEMALLOC_NOFS,
    PF_MEMALLOC_NOIO,
    PF_MEMALLOC_PIN,
    TASK_FLAGS,
    Context,
    may_sleep,
    might_sleep,
)
from kmemlab.mm.globals import GFP_ALLOWED_MASK, Mm
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.page_free import free_pages_inner, page_zone
from kmemlab.mm.zone import Zone
from kmemlab.mm.zone_watermark_ok import ALLOC_NOFRAGMENT, ALLOC_WMARK_LOW
from kmemlab.mm.zonelist import first_zones_zonelist
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import (
    __GFP_DIRECT_RECLAIM,
    __GFP_FS,
    __GFP_IO,
    __GFP_KSWAPD_RECLAIM,
    __GFP_MOVABLE,
)
from kmemlab.types.zone_type import ZONE_DMA32, ZONE_NORMAL

__all__ = ["alloc_pages_inner", "free_pages_inner", "gfp_migratetype", "gfp_zone", "page_zone"]


@kernel("include/linux/sched/mm.h", "current_gfp_context", traced=False)
def current_gfp_context(current: Context, gfp: int) -> int:
    """A request without what the running task has forbidden itself for a while: I/O, or entering a file system."""
    flags = current.cells[TASK_FLAGS] & (PF_MEMALLOC_NOIO | PF_MEMALLOC_NOFS | PF_MEMALLOC_PIN)
    if not flags:
        return gfp
    if flags & PF_MEMALLOC_NOIO:
        gfp &= ~(__GFP_IO | __GFP_FS)
    elif flags & PF_MEMALLOC_NOFS:
        gfp &= ~__GFP_FS
    if flags & PF_MEMALLOC_PIN:
        gfp &= ~__GFP_MOVABLE
    return gfp


@kernel("mm/page_alloc.c", "alloc_flags_nofragment", traced=False)
def alloc_flags_nofragment(mm: Mm, preferred_zone: Zone | None, gfp: int) -> int:
    """Where there is a DMA32 zone below Normal, that is used up before types are mixed in Normal."""
    alloc_flags = gfp & __GFP_KSWAPD_RECLAIM  # the same bit as ALLOC_KSWAPD
    if preferred_zone is None or preferred_zone.index != ZONE_NORMAL or not mm.has_dma32:
        return alloc_flags
    # With one node DMA32 has memory wherever Normal has.
    if len(mm.node_data) > 1 and sum(mm.numa.node_online) > 1:
        dma32 = mm.node_data[preferred_zone.node].node_zones[ZONE_DMA32]
        return alloc_flags | ALLOC_NOFRAGMENT if dma32.present_pages else alloc_flags
    return alloc_flags | ALLOC_NOFRAGMENT


@kernel("include/linux/sched/mm.h", "might_alloc", left_out="lockdep", traced=False)
def might_alloc(current: Context, gfp: int) -> None:
    """A request that may wait is reported where nobody may sleep, even if there are pages enough this time."""
    if gfp & __GFP_DIRECT_RECLAIM and not may_sleep(current):
        might_sleep(current, "include/linux/sched/mm.h:274")


@invented("C warns once and returns NULL", traced=False)
def check_order(gfp: int, order: int) -> None:
    """Raise `BadRequest` for an order that the buddy system does not have."""
    if not 0 <= order < MAX_ORDER:
        raise BadRequest(
            f"order {order} can't be allocated",
            where=f"alloc_pages(gfp={gfp:#x}, order={order})",
            remedy=f"choose an order from 0 (one page) to {MAX_ORDER - 1} ({1 << MAX_ORDER - 1} pages, 4 MiB)",
        )


@kernel("mm/page_alloc.c", "__alloc_pages", left_out="memory policies, memcg charging")
def alloc_pages_inner(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
    """A block of 2**order pages as near to node `nid` as it can be had, or None.

    Raises `BadRequest` for an order that the buddy system does not have.
    """
    if not 0 <= order < MAX_ORDER:
        check_order(gfp, order)
    gfp = current_gfp_context(mm.current, gfp & mm.cells[GFP_ALLOWED_MASK])
    might_alloc(mm.current, gfp)
    preferred_zone = first_zones_zonelist(mm, node_zonelist(mm, nid, gfp), gfp_zone(mm, gfp))
    alloc_flags = ALLOC_WMARK_LOW | alloc_flags_nofragment(mm, preferred_zone, gfp)
    pfn = get_page_from_freelist(mm, gfp, order, alloc_flags, nid)
    return alloc_pages_slowpath(mm, gfp, order, nid) if pfn is None else pfn
