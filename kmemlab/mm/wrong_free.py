"""What is wrong with a free that can't be: the kernel prints `BUG: Bad page state`, ours says which mistake it was."""

from __future__ import annotations

from kmemlab.mm.mem_map import MemMap
from kmemlab.mm.zone import Zone, block_around, free_block_around
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, DoubleFree


@invented("errors that teach")
def wrong_free(page: MemMap, zone: Zone | None, pfn: int, order: int) -> BadRequest:
    """The error for a free of a block that nobody holds with this order."""
    where = f"free_pages(pfn={pfn}, order={order})"
    if zone is None:
        return BadRequest(
            f"pfn {pfn} is no page frame of this machine", where=where, remedy="free what alloc_pages returned"
        )
    free = free_block_around(zone, pfn)
    if free is not None:
        return DoubleFree(
            f"pfn {pfn} is free already: it lies in the free block at pfn {free[0]}, order {free[1]}",
            where=where,
            remedy="free each block once; with machine.record() before the run its timeline tells who freed it first",
        )
    held = block_around(page.owned, pfn)
    if held is not None and held[0] == pfn:
        return BadRequest(
            f"the block at pfn {pfn} was allocated with order {held[1]}, not {order}",
            where=where,
            remedy=f"free it with order {held[1]}",
        )
    if held is not None:
        return BadRequest(
            f"pfn {pfn} lies inside the block at pfn {held[0]}, order {held[1]}",
            where=where,
            remedy=f"free the block by its first page: free_pages({held[0]}, {held[1]})",
        )
    return BadRequest(
        f"pfn {pfn} was never allocated: boot reserved it, or it is a hole in zone {zone.name}",
        where=where,
        remedy="free what alloc_pages returned",
    )
