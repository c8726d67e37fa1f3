"""mm_inline.h: on and off the LRU lists, with the counters of the node and of the zone in step."""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.lruvec import LRU_UNEVICTABLE, NR_ZONE_LRU_BASE, Lruvec, folio_lru_list
from kmemlab.mm.mem_map import MemMap, page_zone_id
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.zone import Zone
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import list_add, list_add_tail, list_del
from kmemlab.types.pageflags import PG_active, PG_lru, PG_unevictable


@kernel("include/linux/mm.h", "folio_zone", traced=False)
def folio_zone(mm: Mm, pfn: int) -> Zone:
    """The zone of a page of memory."""
    zone = mm.zone_table[page_zone_id(mm.page, pfn)]
    assert zone is not None, f"pfn {pfn} is no memory"
    return zone


@kernel("include/linux/mm.h", "folio_pgdat", formerly=("page_pgdat",), traced=False)
def folio_pgdat(mm: Mm, pfn: int) -> PglistData:
    """The node of a page."""
    return mm.node_data[folio_zone(mm, pfn).node]


@kernel("include/linux/memcontrol.h", "folio_lruvec", formerly=("mem_cgroup_page_lruvec",), traced=False)
def folio_lruvec(mm: Mm, pfn: int) -> Lruvec:
    """The lists of the page's node."""
    return folio_pgdat(mm, pfn).lruvec


@kernel("include/linux/mm_inline.h", "update_lru_size", lock="lruvec->lru_lock", traced=False)
def update_lru_size(mm: Mm, pfn: int, lru: int, nr_pages: int) -> None:
    """Count pages into a list, or with a negative number out of it: for the page's node and for its zone."""
    zone = folio_zone(mm, pfn)
    zone.vm_stat[NR_ZONE_LRU_BASE + lru] += nr_pages
    mm.node_data[zone.node].vm_stat[lru] += nr_pages


@kernel("include/linux/mm_inline.h", "lruvec_add_folio", formerly=("add_page_to_lru_list",), lock="lruvec->lru_lock")
def lruvec_add_folio(mm: Mm, pfn: int) -> None:
    """Put a page at the head of the list that its flags say: reclaim comes to it last."""
    lru = folio_lru_list(mm.page, pfn)
    update_lru_size(mm, pfn, lru, 1)
    if lru != LRU_UNEVICTABLE:
        list_add(mm.page.lru, pfn, folio_lruvec(mm, pfn).head + lru)


@kernel("include/linux/mm_inline.h", "lruvec_add_folio_tail", lock="lruvec->lru_lock")
def lruvec_add_folio_tail(mm: Mm, pfn: int) -> None:
    """Put a page at the tail of its list: reclaim comes to it first."""
    lru = folio_lru_list(mm.page, pfn)
    update_lru_size(mm, pfn, lru, 1)
    list_add_tail(mm.page.lru, pfn, folio_lruvec(mm, pfn).head + lru)


@kernel("include/linux/mm_inline.h", "lruvec_del_folio", formerly=("del_page_from_lru_list",), lock="lruvec->lru_lock")
def lruvec_del_folio(mm: Mm, pfn: int) -> None:
    """Take a page off its list. Its flags must still be those with which it came there."""
    lru = folio_lru_list(mm.page, pfn)
    if lru != LRU_UNEVICTABLE:
        list_del(mm.page.lru, pfn)
    update_lru_size(mm, pfn, lru, -1)


@kernel("include/linux/mm_inline.h", "__folio_clear_lru_flags", traced=False)
def folio_clear_lru_flags(page: MemMap, pfn: int) -> None:
    """A page that goes for good is on no list any more, and not active nor unevictable."""
    page.flags[pfn] &= ~(1 << PG_lru | 1 << PG_active | 1 << PG_unevictable)


@kernel("mm/swap.c", "__page_cache_release", lock="lruvec->lru_lock")
def page_cache_release(mm: Mm, pfn: int) -> None:
    """Take a page that nobody refers to any more off its list, if it is on one."""
    if page_has_flag(mm.page, pfn, PG_lru):
        lruvec_del_folio(mm, pfn)
        folio_clear_lru_flags(mm.page, pfn)


@kernel("mm/vmscan.c", "lruvec_lru_size", traced=False)
def lruvec_lru_size(pgdat: PglistData, lru: int, zone_idx: int) -> int:
    """How many pages of a list lie in zones up to an index."""
    return sum(zone.vm_stat[NR_ZONE_LRU_BASE + lru] for zone in pgdat.node_zones[: zone_idx + 1] if zone.managed_pages)
