"""struct lruvec: a node's lists of pages that could be given up, by kind and by how lately they were used.

list               0 inactive anon   1 active anon   2 inactive file   3 active file
head of the list   newest page …                                                    … and where reclaim looks: the tail
unevictable        pages that may never go are counted as a fifth kind and are on no list

The lists are threaded through page.lru. Their heads lie behind those of the zones' and the CPUs' free lists.
"""

from __future__ import annotations

from kmemlab.mm.mem_map import MemMap
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import kernel
from kmemlab.sim.list_head import init_list_head
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.pageflags import PG_active, PG_swapbacked, PG_unevictable

# enum lru_list; the counters nr_inactive_anon … of a node have the same numbers.
LRU_ACTIVE, LRU_FILE = 1, 2
LRU_INACTIVE_ANON, LRU_ACTIVE_ANON, LRU_INACTIVE_FILE, LRU_ACTIVE_FILE, LRU_UNEVICTABLE = range(5)
NR_LRU_LISTS = 5
EVICTABLE_LRUS = range(LRU_UNEVICTABLE)
NR_ZONE_LRU_BASE = 1  # nr_zone_inactive_anon, the first of a zone's five

ANON, FILE = 0, 1  # index of Lruvec.refaults, and of all pairs that count anonymous memory and files apart
LRUVEC_CONGESTED = 1 << 0  # lruvec.flags: all dirty pages that were met wait for the disk already
_EVICTABLE_BITS = 1 << PG_unevictable


@kernel("include/linux/mmzone.h", "struct lruvec", left_out="generations (MGLRU is off in Debian), memcg, the lock")
class Lruvec(Struct):
    """The lists of one node, and what the balance between anonymous memory and files is judged by.

    List `lru` has its head at node `head + lru` of `page.lru`. How long a list is stands in the node's counters.
    """

    anon_cost = Cell()  # pages of trouble that reclaiming each kind has made lately
    file_cost = Cell()
    nonresident_age = Cell()  # the clock by which pages that are gone age: evictions and activations so far
    flags = Cell()

    refaults: Column  # activated refaults of each kind when reclaim last looked

    def __init__(self, page: MemMap, head: int) -> None:
        self.page = page
        self.head = head
        self.refaults = column("q", 2)


@kernel("mm/mmzone.c", "lruvec_init", left_out="the list of unevictable pages, which C poisons: nothing may be on it")
def lruvec_init(lruvec: Lruvec) -> None:
    """Make the lists empty."""
    for lru in EVICTABLE_LRUS:
        init_list_head(lruvec.page.lru, lruvec.head + lru)


@kernel("include/linux/mm_inline.h", "folio_is_file_lru", formerly=("page_is_file_lru",), traced=False)
def folio_is_file_lru(page: MemMap, pfn: int) -> bool:
    """Whether what stands in the page can be had from a file again; else only swap could keep it."""
    return not page.flags[pfn] >> PG_swapbacked & 1


@kernel("include/linux/mm_inline.h", "folio_lru_list", formerly=("page_lru",), traced=False)
def folio_lru_list(page: MemMap, pfn: int) -> int:
    """The list that the page's flags say it belongs on."""
    flags = page.flags[pfn]
    if flags & _EVICTABLE_BITS:
        return LRU_UNEVICTABLE
    return (0 if flags >> PG_swapbacked & 1 else LRU_FILE) + (flags >> PG_active & 1)
