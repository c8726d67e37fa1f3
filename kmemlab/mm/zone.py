"""struct zone: a stretch of page frames that are good for the same uses, and the lists of its free blocks."""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.mm.free_run import MOST_RUNS, FreeRuns, run_of, thread_next, unthreaded
from kmemlab.mm.mem_map import FLIP, MAX_ORDER, MAX_ORDER_NR_PAGES, PAGEBLOCK_ORDER, MemMap, set_page_links
from kmemlab.mm.per_cpu_pages import BOOT_PAGESET_BATCH, NR_PCP_LISTS, PerCpuPages
from kmemlab.mm.vm_event import NR_VM_NUMA_EVENT_ITEMS
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head, list_add, list_add_tail, list_del, list_for_each
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.migratetype import MIGRATE_TYPES
from kmemlab.types.zone_type import MAX_NR_ZONES

TOP_ORDER = MAX_ORDER - 1
LISTS_PER_ZONE = MAX_ORDER * MIGRATE_TYPES

# enum zone_flags: the bits of zone.flags.
ZONE_BOOSTED_WATERMARK = 1 << 0  # fragmentation: kswapd is to be woken soon
ZONE_RECLAIM_ACTIVE = 1 << 1  # kswapd may be at work on the zone

# enum zone_stat_item: the index of a counter in zone.vm_stat.
NR_FREE_PAGES = 0
NR_ZONE_STATS = 16

WMARK_MIN, WMARK_LOW, WMARK_HIGH, WMARK_PROMO = range(4)


@kernel("include/linux/mmzone.h", "struct zone", left_out="memory hotplug fields")
class Zone(Struct):
    """The zone `index` of node `node`: a span of page frames, some of them holes, and its free blocks listed by order.

    `nr_free[order]` counts the free blocks of an order (C keeps it in `free_area[order].nr_free`), and
    `free_list[order][migratetype]` is the number of the list's head in `page.lru`.
    """

    zone_start_pfn = Cell()
    spanned_pages = Cell()
    present_pages = Cell()
    managed_pages = Cell()
    watermark_boost = Cell()
    pageset_high = Cell()  # limits of the per-CPU lists, in pages
    pageset_batch = Cell()
    stat_threshold = Cell()  # how far a CPU's own counts may be off before they are added up
    nr_reserved_highatomic = Cell()  # pages of the blocks kept for urgent requests of more than one page
    flags = Cell()  # ZONE_…
    # compaction: where its scanners begin, and whether it is worth while at all
    compact_cached_free_pfn = Cell()
    compact_init_migrate_pfn = Cell()  # where the scanners began when the skip bits were last cleared
    compact_init_free_pfn = Cell()
    compact_considered = Cell()  # attempts since it failed last
    compact_defer_shift = Cell()  # 1 << this many attempts are passed over
    compact_order_failed = Cell()  # the smallest order that it failed for
    compact_blockskip_flush = Cell()  # the scanners have met: kswapd is to clear the skip bits
    capture_order = Cell()  # a direct compactor waits for a block of this order (C: current->capture_control); 0: none
    captured_pfn = Cell()  # 1 + the block that it got; 0: none yet
    nr_owned = Cell()  # ours: pages that some allocation still holds, for the law of conservation

    nr_free: Column
    vm_stat: Column
    vm_numa_event: Column
    lowmem_reserve: Column
    watermark: Column
    compact_cached_migrate_pfn: Column

    def __init__(
        self, page: MemMap, node: int, index: int, name: str, slot: int, pcp_heads: int = 0, nr_cpus: int = 1
    ) -> None:
        """`slot` (0, 1, …) numbers the zones of the machine: each has list heads of its own behind the pages.

        The heads of the lists of its `nr_cpus` CPUs follow those of all zones, from node `pcp_heads` on.
        """
        self.page = page
        self.node = node
        self.index = index
        self.name = name
        self.slot = 1 + slot  # as in MemMap.section_slot
        head = page.max_pfn + slot * LISTS_PER_ZONE
        self.free_list = tuple(
            tuple(head + order * MIGRATE_TYPES + migratetype for migratetype in range(MIGRATE_TYPES))
            for order in range(MAX_ORDER)
        )
        self.nr_free = column("q", MAX_ORDER)
        self.runs = FreeRuns()
        first_pcp_head = (pcp_heads or page.max_pfn + LISTS_PER_ZONE) + slot * nr_cpus * NR_PCP_LISTS
        self.per_cpu_pageset = PerCpuPages(first_pcp_head, nr_cpus, page.pageblock_order)
        self.vm_stat = column("q", NR_ZONE_STATS)
        self.vm_numa_event = column("q", NR_VM_NUMA_EVENT_ITEMS)
        self.lowmem_reserve = column("q", MAX_NR_ZONES)
        self.watermark = column("q", 4)
        self.compact_cached_migrate_pfn = column("q", 2)  # for asynchronous compaction, and for the others


# zone.cells[…]: each request or each free asks for these.
NR_OWNED, ZONE_FLAGS = Zone.nr_owned.index, Zone.flags.index
CAPTURE_ORDER = Zone.capture_order.index
WATERMARK_BOOST, NR_RESERVED_HIGHATOMIC = Zone.watermark_boost.index, Zone.nr_reserved_highatomic.index


@kernel("mm/page_alloc.c", "zone_init_free_lists")
def zone_init_free_lists(zone: Zone) -> None:
    """Make every free list of the zone empty."""
    for heads in zone.free_list:
        for head in heads:
            init_list_head(zone.page.lru, head)


@kernel(
    "mm/page_alloc.c",
    "zone_pcp_init",
    formerly=("setup_pageset",),
    left_out="boot_pageset, which all zones share until setup_zone_pageset: nothing ever stays on it",
)
def zone_pcp_init(zone: Zone) -> None:
    """Make the per-CPU lists of the zone empty, with limits under which they stay so."""
    pcp = zone.per_cpu_pageset
    for head in range(pcp.head, pcp.head + pcp.nr_cpus * NR_PCP_LISTS):
        init_list_head(zone.page.lru, head)
    zone.pageset_batch = BOOT_PAGESET_BATCH
    for cpu in range(pcp.nr_cpus):
        pcp.batch[cpu] = BOOT_PAGESET_BATCH


@kernel("include/linux/mmzone.h", "zone_end_pfn", traced=False)
def zone_end_pfn(zone: Zone) -> int:
    """The first page frame behind the zone."""
    return zone.zone_start_pfn + zone.spanned_pages


@kernel("include/linux/mmzone.h", "zone_spans_pfn", traced=False)
def zone_spans_pfn(zone: Zone, pfn: int) -> bool:
    """Whether the page frame lies within the zone's span (holes included)."""
    return zone.zone_start_pfn <= pfn < zone.zone_start_pfn + zone.spanned_pages


@kernel("include/linux/mmzone.h", "populated_zone", traced=False)
def populated_zone(zone: Zone) -> bool:
    """Whether the zone has any memory at all."""
    return zone.present_pages > 0


@kernel("mm/page_alloc.c", "add_to_free_list")
def add_to_free_list(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    """Put the block at `pfn` at the front of its free list: it will be the next one taken."""
    page = zone.page
    page.buddy[pfn] = 1 + order
    list_add(page.lru, pfn, zone.free_list[order][migratetype])
    zone.nr_free[order] += 1


@kernel("mm/page_alloc.c", "add_to_free_list_tail")
def add_to_free_list_tail(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    """Put the block at `pfn` at the end of its free list: it will be taken last."""
    page = zone.page
    page.buddy[pfn] = 1 + order
    list_add_tail(page.lru, pfn, zone.free_list[order][migratetype])
    zone.nr_free[order] += 1


@kernel("mm/page_alloc.c", "move_to_free_list")
def move_to_free_list(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    """Move a free block to the end of another type's list of the same order."""
    lru = zone.page.lru
    if order == TOP_ORDER:
        thread_next(zone.runs, lru, zone.page.buddy, pfn)
    list_del(lru, pfn)
    list_add_tail(lru, pfn, zone.free_list[order][migratetype])


@kernel("mm/page_alloc.c", "del_page_from_free_list")
def del_page_from_free_list(zone: Zone, pfn: int, order: int) -> None:
    """Take the free block at `pfn` off the list that it is on, whatever its type."""
    page = zone.page
    if order == TOP_ORDER:
        thread_next(zone.runs, page.lru, page.buddy, pfn)
    list_del(page.lru, pfn)
    page.buddy[pfn] = 0
    zone.nr_free[order] -= 1


@invented("lazy hand-over")
def add_free_run(zone: Zone, pfn: int, end_pfn: int, migratetype: int) -> bool:
    """Put the largest blocks of [`pfn`, `end_pfn`) at the end of their list, as one entry; whether that could be."""
    runs = zone.runs
    if runs.count == MOST_RUNS:
        return False
    runs.start[runs.count] = pfn
    runs.end[runs.count] = end_pfn
    runs.count += 1
    add_to_free_list_tail(zone, pfn, TOP_ORDER, migratetype)
    zone.nr_free[TOP_ORDER] += (end_pfn - pfn) // MAX_ORDER_NR_PAGES - 1
    zone.vm_stat[NR_FREE_PAGES] += end_pfn - pfn
    return True


@invented("whoever looks at a free list sees every block of it, threaded or not", traced=False)
def free_blocks(zone: Zone, order: int, migratetype: int) -> Iterator[int]:
    """The free blocks of an order and type, the next to be taken first."""
    for pfn in list_for_each(zone.page.lru, zone.free_list[order][migratetype]):
        yield pfn
        if order == TOP_ORDER:
            yield from unthreaded(zone.runs, pfn)


@invented("C only asks a page whether it is the first of a free block", traced=False)
def free_block_around(zone: Zone, pfn: int) -> tuple[int, int] | None:
    """The free block (first page frame, order) that holds a page frame, or None."""
    if run_of(zone.runs, pfn) is not None:
        return pfn & -MAX_ORDER_NR_PAGES, TOP_ORDER
    return block_around(zone.page.buddy, pfn)


@invented("a column that holds 1 + order at each block's first page tells which block a page is in", traced=False)
def block_around(heads: Column, pfn: int) -> tuple[int, int] | None:
    """The block (first page frame, order) around `pfn`, by such a column; None where there is none."""
    for order in range(MAX_ORDER):
        head = pfn & -(1 << order)
        if heads[head] and pfn < head + (1 << heads[head] - 1):
            return head, heads[head] - 1
    return None


@kernel(
    "mm/page_alloc.c",
    "get_pfnblock_flags_mask",
    left_out="the skip bit (a column of its own); with FLATMEM, a map for each zone of a pageblock that two share",
    traced=False,
)
def get_pageblock_migratetype(page: MemMap, pfn: int) -> int:
    """The mobility type of the pageblock that holds `pfn`."""
    return page.pageblock[pfn >> PAGEBLOCK_ORDER] ^ FLIP


@kernel("mm/page_alloc.c", "set_pageblock_migratetype", traced=False)
def set_pageblock_migratetype(page: MemMap, pfn: int, migratetype: int) -> None:
    """Give the pageblock that holds `pfn` a mobility type."""
    first = pfn >> page.pageblock_order << page.pageblock_order - PAGEBLOCK_ORDER
    for cell in range(first, first + (page.pageblock_nr_pages >> PAGEBLOCK_ORDER)):
        page.pageblock[cell] = migratetype ^ FLIP


@invented("set_pageblock_migratetype for many", traced=False)
def set_pageblocks(page: MemMap, start_pfn: int, end_pfn: int, migratetype: int) -> None:
    """Give all pageblocks whose first page lies in [start_pfn, end_pfn) a mobility type."""
    first, last = -(-start_pfn // (1 << PAGEBLOCK_ORDER)), -(-end_pfn // (1 << PAGEBLOCK_ORDER))
    if first < last:
        page.pageblock[first:last] = bytes([migratetype ^ FLIP]) * (last - first)


@invented("a zone without a machine around it, for examples, exercises and benchmarks")
def bare_zone(pages: int) -> Zone:
    """A zone of page frames 0 … `pages` - 1, all present and movable, with nothing free yet."""
    page = MemMap(pages, LISTS_PER_ZONE + NR_PCP_LISTS)
    zone = Zone(page, 0, 0, "Normal", 0)
    zone.spanned_pages = zone.present_pages = pages
    zone_init_free_lists(zone)
    zone_pcp_init(zone)
    set_page_links(page, 0, page.max_pfn, zone.slot)
    return zone
