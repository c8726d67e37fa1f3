"""A short cut for the migrate scanner: a pageblock low in the zone that is partly free already needs less moving.

free_list[order][movable], order = wanted - 1 … 3       the first block that lies low enough tells a pageblock
"""

from __future__ import annotations

from kmemlab.mm.compact_control import COMPACT_CLUSTER_MAX, CompactControl
from kmemlab.mm.globals import Mm
from kmemlab.mm.pageblock_skip import get_pageblock_skip, pageblock_start_pfn, set_pageblock_skip
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.mm.zone import Zone
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add, list_add_tail, list_del
from kmemlab.types.migratetype import MIGRATE_MOVABLE
from kmemlab.types.units import U64_MAX

ULONG_MAX = U64_MAX
BITS_PER_LONG = 64


@kernel("mm/compaction.c", "freelist_scan_limit", traced=False)
def freelist_scan_limit(cc: CompactControl) -> int:
    """How many entries of free lists a fast search looks at: half as many after each failure."""
    return (COMPACT_CLUSTER_MAX >> min(BITS_PER_LONG - 1, cc.fast_search_fail)) + 1


@kernel("mm/compaction.c", "move_freelist_head", traced=False)
def move_freelist_head(zone: Zone, head: int, pfn: int) -> None:
    """Turn a free list so that it begins with a block: what was not looked at yet, from the tail on, is next.

    The list is a ring, so moving its head turns it: head → a → b → pfn → c becomes head → pfn → c → a → b.
    """
    lru = zone.page.lru
    if pfn != head:
        list_del(lru, head)
        list_add_tail(lru, head, pfn)


@kernel("mm/compaction.c", "move_freelist_tail", traced=False)
def move_freelist_tail(zone: Zone, head: int, pfn: int) -> None:
    """Turn a free list so that it ends with a block: what was not looked at yet, from the front on, is next."""
    lru = zone.page.lru
    if pfn != head:
        list_del(lru, head)
        list_add(lru, head, pfn)


@kernel("mm/compaction.c", "update_fast_start_pfn", traced=False)
def update_fast_start_pfn(cc: CompactControl, pfn: int) -> None:
    """Remember the lowest page that a fast search has found: there the linear scan is to begin."""
    if cc.fast_start_pfn != ULONG_MAX:
        cc.fast_start_pfn = min(cc.fast_start_pfn or pfn, pfn)


@kernel("mm/compaction.c", "reinit_migrate_pfn", traced=False)
def reinit_migrate_pfn(cc: CompactControl) -> int:
    """Where the linear scan begins after fast searches; they are not made again."""
    if cc.fast_start_pfn not in (0, ULONG_MAX):
        cc.migrate_pfn, cc.fast_start_pfn = cc.fast_start_pfn, ULONG_MAX
    return cc.migrate_pfn


@invented("the tests at the beginning of fast_find_migrateblock", traced=False)
def may_search(cc: CompactControl, zone: Zone) -> bool:
    """Whether it may jump: at the start of a pageblock, for a large block, and not for one that can't move later."""
    pfn = cc.migrate_pfn
    if cc.ignore_skip_hint or (pfn != zone.zone_start_pfn and pfn != pageblock_start_pfn(zone.page, pfn)):
        return False
    if cc.order <= PAGE_ALLOC_COSTLY_ORDER:
        return False
    return not cc.direct_compaction or cc.migratetype == MIGRATE_MOVABLE


@kernel("mm/compaction.c", "fast_find_migrateblock", lock="zone->lock")
def fast_find_migrateblock(mm: Mm, cc: CompactControl, zone: Zone) -> int:
    """Where the migrate scanner goes on: in a pageblock that a look at the free lists has found, or where it stands.

    A pageblock so found is marked to be skipped, as if it were done. (In 6.1 that makes the scanner pass over it.)
    """
    if not may_search(cc, zone):
        return cc.migrate_pfn
    limit, nr_scanned = freelist_scan_limit(cc), 0
    distance = cc.free_pfn - cc.migrate_pfn >> 1
    if cc.migrate_pfn != zone.zone_start_pfn:
        distance >>= 2
    high_pfn = pageblock_start_pfn(zone.page, cc.migrate_pfn + distance)
    found: int | None = None
    for order in range(cc.order - 1, PAGE_ALLOC_COSTLY_ORDER - 1, -1):
        if found is not None or nr_scanned >= limit:
            break
        if zone.nr_free[order]:
            found, looked_at = search_low(cc, zone, order, high_pfn, limit - nr_scanned)
            nr_scanned += looked_at
    cc.total_migrate_scanned += nr_scanned
    if found is None:
        cc.fast_search_fail += 1
        return reinit_migrate_pfn(cc)
    return max(pageblock_start_pfn(zone.page, found), zone.zone_start_pfn)


@invented("the loop over one free list in fast_find_migrateblock", traced=False)
def search_low(cc: CompactControl, zone: Zone, order: int, high_pfn: int, limit: int) -> tuple[int | None, int]:
    """The first block of a free list that lies below `high_pfn` in a pageblock worth a look, and how many were seen."""
    lru, head = zone.page.lru, zone.free_list[order][MIGRATE_MOVABLE]
    nr_scanned, pfn = 0, lru.next[head]
    while pfn != head:
        nr_scanned += 1
        if nr_scanned > limit:
            move_freelist_tail(zone, head, pfn)
            break
        if pfn < high_pfn and not get_pageblock_skip(zone.page, pfn):
            move_freelist_tail(zone, head, pfn)
            update_fast_start_pfn(cc, pfn)
            cc.fast_search_fail = 0
            set_pageblock_skip(zone.page, pfn)
            return pfn, nr_scanned
        pfn = lru.next[pfn]
    return None, nr_scanned
