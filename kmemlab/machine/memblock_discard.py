"""The end of memblock: what it took for itself goes to the page allocator as well.

Its lists have room for 128 ranges in the image. For more, as with a hundred CPUs, it takes a larger array.
"""

from __future__ import annotations

from kmemlab.boot.memblock import memblock_dbg
from kmemlab.boot.numa_init import early_pfn_to_nid
from kmemlab.machine.deferred_init import free_pages_core, zone_of
from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import PAGE_SIZE, pfn_down, pfn_up, round_up


@kernel("mm/memblock.c", "memblock_discard", left_out="forgetting the lists: they can still be looked at")
def memblock_discard(mm: Mm) -> None:
    """Free the arrays that memblock took for lists too long for those in the image: nobody asks it any more."""
    memblock = mm.boot.memblock
    for type in (memblock.reserved, memblock.memory):
        if type.array:
            size = round_up(type.max * memblock.config.sizeof_memblock_region, PAGE_SIZE)
            memblock_free_late(mm, type.array, size, caller="memblock_discard")


@kernel("mm/memblock.c", "memblock_free_late")
def memblock_free_late(mm: Mm, base: int, size: int, caller: str) -> None:
    """Give the whole pages of [base, base + size) to the page allocator, one by one."""
    memblock_dbg(mm.boot.memblock, "memblock_free_late", base, size, caller)
    for pfn in range(pfn_up(base), pfn_down(base + size)):
        free_pages_core(mm, zone_of(mm, early_pfn_to_nid(mm.boot, pfn), pfn), pfn, 0)
        mm.totalram_pages += 1
