"""The migrate scanner: up through the zone, pageblock by pageblock, it takes pages that could move off the LRU lists.

pfn     0x1000                                            …                                     0x11ff
        [free 8    ][slab][lru][lru][free 2][pgtable][lru]  …
          skipped     no    ✓    ✓   skipped    no     ✓         stops at 32 pages, or at the end of the pageblock
A direct compactor that must not wait passes over a piece as large as its order as soon as a page in it can't move.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.alloc.fast_find_migrateblock import fast_find_migrateblock
from kmemlab.alloc.migrate import count_isolated, place_in_cache, putback_movable_pages
from kmemlab.alloc.prep_page import compound_order
from kmemlab.mm.address_space import mapping_ops
from kmemlab.mm.compact_control import COMPACT_CLUSTER_MAX, MIGRATE_ASYNC, MIGRATE_SYNC, CompactControl
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import lruvec_del_folio
from kmemlab.mm.lruvec import EVICTABLE_LRUS
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_mapping import folio_mapping
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, page_ref_inc
from kmemlab.mm.pageblock_skip import (
    buddy_order,
    get_pageblock_skip,
    pageblock_end_pfn,
    pageblock_in_zone,
    pageblock_skip_persistent,
    pageblock_start_pfn,
    set_pageblock_skip,
)
from kmemlab.mm.vm_event import COMPACTISOLATED
from kmemlab.mm.vmstat import NR_ISOLATED
from kmemlab.mm.zone import Zone, get_pageblock_migratetype
from kmemlab.reclaim.throttle import Throttle, reclaim_throttle
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add
from kmemlab.types.gfp import __GFP_FS
from kmemlab.types.pageflags import PG_dirty, PG_locked, PG_lru, PG_unevictable, PG_writeback

ISOLATE_ASYNC_MIGRATE = 0x4  # only pages that move without waiting
ISOLATE_UNEVICTABLE = 0x8  # pages that reclaim may not take, too

ISOLATE_ABORT, ISOLATE_NONE, ISOLATE_SUCCESS = range(3)


@kernel("mm/compaction.c", "too_many_isolated", traced=False)
def too_many_isolated(pgdat: PglistData) -> bool:
    """Whether a third of what is on the LRU lists and off them is in somebody's hands."""
    return sum(pgdat.vm_stat[item] for item in NR_ISOLATED) > sum(pgdat.vm_stat[lru] for lru in EVICTABLE_LRUS) // 2


@kernel("mm/compaction.c", "isolation_suitable", traced=False)
def isolation_suitable(cc: CompactControl, zone: Zone, pfn: int) -> bool:
    """Whether a pageblock is worth a look: compaction did find something there lately."""
    return bool(cc.ignore_skip_hint) or not get_pageblock_skip(zone.page, pfn)


@kernel("mm/compaction.c", "test_and_set_skip", traced=False)
def test_and_set_skip(cc: CompactControl, zone: Zone, pfn: int) -> bool:
    """Who takes the first page of a pageblock has it to himself from then on; whether somebody was there before."""
    if cc.ignore_skip_hint or pfn != pageblock_start_pfn(zone.page, pfn):
        return False
    skip = get_pageblock_skip(zone.page, pfn)
    if not skip:
        set_pageblock_skip(zone.page, pfn)
    return skip


@kernel("mm/compaction.c", "update_cached_migrate", traced=False)
def update_cached_migrate(cc: CompactControl, zone: Zone, pfn: int) -> None:
    """Let the next run begin behind the pageblock; one that may wait begins where such a run has come to."""
    pfn = pageblock_end_pfn(zone.page, pfn)
    cached = zone.compact_cached_migrate_pfn
    if pfn > cached[0]:
        cached[0] = pfn
    if cc.mode != MIGRATE_ASYNC and pfn > cached[1]:
        cached[1] = pfn


# -- one page ----------------------------------------------------------------------------------------------------------


@invented("the tests that isolate_migratepages_block makes of a page on an LRU list", traced=False)
def can_be_isolated(mm: Mm, cc: CompactControl, pfn: int, mode: int) -> bool:
    """Whether a page may be taken: it is on an LRU list, nobody holds it fast, and it can move as the run wants it."""
    page = mm.page
    flags = page.flags[pfn]
    if not flags >> PG_lru & 1 or not page.refcount[pfn]:
        return False
    cached, mapping = place_in_cache(mm, pfn), folio_mapping(page, pfn)
    if not cached and page.refcount[pfn] > page.mapcount[pfn]:
        return False
    if cached and not cc.gfp_mask & __GFP_FS:
        return False
    if not mode & ISOLATE_UNEVICTABLE and flags >> PG_unevictable & 1:
        return False
    if not mode & ISOLATE_ASYNC_MIGRATE:
        return True
    if flags >> PG_writeback & 1:
        return False
    if not flags >> PG_dirty & 1:
        return True
    if flags >> PG_locked & 1:
        return False
    return not mapping or mapping_ops(mm.mappings, mapping).migrate_folio is not None


@invented("the lines of isolate_migratepages_block that take a page", traced=False)
def isolate_page(mm: Mm, cc: CompactControl, pfn: int) -> None:
    """Take a page off its LRU list, with a reference, onto the list of pages that are to move."""
    page_ref_inc(mm.page, pfn)
    lruvec_del_folio(mm, pfn)
    clear_page_flag(mm.page, pfn, PG_lru)
    count_isolated(mm, pfn, 1)
    list_add(mm.page.lru, pfn, cc.migratepages)
    cc.nr_migratepages += 1


# -- one pageblock -----------------------------------------------------------------------------------------------------


@invented("the local variables of isolate_migratepages_block", traced=False)
@dataclass
class BlockWalk:
    """How far the scanner has come in a pageblock."""

    low_pfn: int
    end_pfn: int
    skip_on_failure: bool
    next_skip_pfn: int = 0  # the end of the piece that is to become a block of the order wanted
    nr_scanned: int = 0
    nr_isolated: int = 0
    valid_page: int | None = None  # the first page of the pageblock, if it was looked at
    skip_updated: bool = False


@kernel("mm/compaction.c", "isolate_migratepages_block", left_out="hugetlb, pages of drivers; signals, contended locks")
def isolate_migratepages_block(mm: Mm, cc: CompactControl, zone: Zone, low_pfn: int, end_pfn: int, mode: int) -> bool:
    """Take the pages of [low_pfn, end_pfn), a part of a pageblock, that can move; `cc.migrate_pfn` is where it stopped.

    False if it was given up since too many pages are isolated already.
    """
    cc.migrate_pfn = low_pfn
    pgdat = mm.node_data[zone.node]
    while too_many_isolated(pgdat):
        # Who holds the pages may be the task in whose place a daemon runs now: it can't go on before the daemon stops.
        if cc.nr_migratepages or cc.mode == MIGRATE_ASYNC or mm.in_worker:
            return False
        reclaim_throttle(mm, pgdat, Throttle.ISOLATED)
    walk = BlockWalk(low_pfn, end_pfn, bool(cc.direct_compaction) and cc.mode == MIGRATE_ASYNC)
    if walk.skip_on_failure:
        walk.next_skip_pfn = block_end_pfn(low_pfn, cc.order)
    while walk.low_pfn < end_pfn and scan_page(mm, cc, zone, walk, mode):
        walk.low_pfn += 1
    walk.low_pfn = min(walk.low_pfn, end_pfn)
    if walk.low_pfn == end_pfn and (not walk.nr_isolated or cc.rescan):
        if walk.valid_page is not None and not walk.skip_updated:
            set_pageblock_skip(zone.page, walk.valid_page)
        update_cached_migrate(cc, zone, walk.low_pfn)
    cc.total_migrate_scanned += walk.nr_scanned
    mm.vm_event[COMPACTISOLATED] += walk.nr_isolated
    cc.migrate_pfn = walk.low_pfn
    return True


@kernel("mm/compaction.c", "block_end_pfn", traced=False)
def block_end_pfn(pfn: int, order: int) -> int:
    """The page behind the block of an order that holds a page.

    >>> block_end_pfn(5, 2), block_end_pfn(8, 2)
    (8, 12)
    """
    return (pfn | (1 << order) - 1) + 1


@invented("the body of the loop of isolate_migratepages_block", traced=False)
def scan_page(mm: Mm, cc: CompactControl, zone: Zone, walk: BlockWalk, mode: int) -> bool:
    """Look at page `walk.low_pfn`, and set that to the last page which is thereby done.

    False to stop; then `walk.low_pfn` is the page to go on with.
    """
    page, pfn = zone.page, walk.low_pfn
    if walk.skip_on_failure and pfn >= walk.next_skip_pfn:
        if walk.nr_isolated:
            return False
        walk.next_skip_pfn = block_end_pfn(pfn, cc.order)
    walk.nr_scanned += 1
    if walk.valid_page is None and pfn == pageblock_start_pfn(page, pfn):
        if not isolation_suitable(cc, zone, pfn):
            walk.low_pfn = walk.end_pfn
            return False
        walk.valid_page = pfn
    order = buddy_order(zone, pfn)
    if order is not None:
        walk.low_pfn += (1 << order) - 1
        return True
    if page_has_flag(page, pfn, PG_lru) and can_be_isolated(mm, cc, pfn, mode):
        if not walk.skip_updated:
            walk.skip_updated = True
            if test_and_set_skip(cc, zone, pfn):
                return False
        isolate_page(mm, cc, pfn)
        walk.nr_isolated += 1
        if cc.nr_migratepages < COMPACT_CLUSTER_MAX or cc.rescan:
            return True
        walk.low_pfn += 1
        return False
    walk.low_pfn += (1 << compound_order(page, pfn)) - 1
    if walk.skip_on_failure:
        skip_piece(mm, cc, walk)
    return True


@invented("the label isolate_fail of isolate_migratepages_block", traced=False)
def skip_piece(mm: Mm, cc: CompactControl, walk: BlockWalk) -> None:
    """A page can't move, so its piece won't become a block: put back what was taken of it, and go on behind it."""
    if walk.nr_isolated:
        putback_movable_pages(mm, cc.migratepages)
        cc.nr_migratepages = walk.nr_isolated = 0
    if walk.low_pfn < walk.next_skip_pfn:
        walk.low_pfn = walk.next_skip_pfn - 1
        walk.next_skip_pfn += 1 << cc.order


# -- the zone ----------------------------------------------------------------------------------------------------------


@kernel("mm/compaction.c", "suitable_migration_source", traced=False)
def suitable_migration_source(cc: CompactControl, zone: Zone, pfn: int) -> bool:
    """Whether pages of a pageblock are to move: a request that must not wait cleans only pageblocks of its own type."""
    if pageblock_skip_persistent(zone.page, pfn):
        return False
    if cc.mode != MIGRATE_ASYNC or not cc.direct_compaction:
        return True
    return get_pageblock_migratetype(zone.page, pfn) == cc.migratetype


@kernel("mm/compaction.c", "isolate_migratepages")
def isolate_migratepages(mm: Mm, cc: CompactControl, zone: Zone) -> int:
    """Take pages that can move from the next pageblock in which that is worth while, as long as the free scanner is
    above it: ISOLATE_SUCCESS. ISOLATE_NONE if there were none, ISOLATE_ABORT if it was given up."""
    page = zone.page
    mode = ISOLATE_UNEVICTABLE if mm.sysctl_compact_unevictable_allowed else 0
    if cc.mode != MIGRATE_SYNC:
        mode |= ISOLATE_ASYNC_MIGRATE
    low_pfn = fast_find_migrateblock(mm, cc, zone)
    fast_find_block = low_pfn != cc.migrate_pfn and not cc.fast_search_fail
    start_pfn = max(pageblock_start_pfn(page, low_pfn), zone.zone_start_pfn)
    end_pfn = pageblock_end_pfn(page, low_pfn)
    while end_pfn <= cc.free_pfn:
        if pageblock_in_zone(zone, start_pfn, end_pfn) and (
            low_pfn != pageblock_start_pfn(page, low_pfn) or fast_find_block or isolation_suitable(cc, zone, start_pfn)
        ):
            if suitable_migration_source(cc, zone, start_pfn):
                if not isolate_migratepages_block(mm, cc, zone, low_pfn, end_pfn, mode):
                    return ISOLATE_ABORT
                break
            update_cached_migrate(cc, zone, end_pfn)
        fast_find_block = False
        cc.migrate_pfn = low_pfn = start_pfn = end_pfn
        end_pfn += page.pageblock_nr_pages
    return ISOLATE_SUCCESS if cc.nr_migratepages else ISOLATE_NONE
