"""What the LRU lists hold now, frozen for a view: the ends where reclaim looks, and each zone against its marks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kmemlab.machine.kernel import Kernel
from kmemlab.machine.snapshot import FROZEN
from kmemlab.machine.time_series import ZoneMoment, zone_moment
from kmemlab.mm.files import NAME_LEN
from kmemlab.mm.globals import Mm
from kmemlab.mm.lruvec import EVICTABLE_LRUS, LRU_UNEVICTABLE
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.vmstat import NR_ISOLATED
from kmemlab.sim.kernel import invented
from kmemlab.types.pageflags import PG_dirty, PG_referenced, PG_writeback

LIST_NAMES = ("inactive anon", "active anon", "inactive file", "active file")


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class LruPage:
    """A page on a list: the file that it is page `index` of ("" for memory of programs), and what is said of it."""

    pfn: int
    file: str
    index: int
    referenced: bool
    dirty: bool
    writeback: bool

    @property
    def label(self) -> str:
        """A few characters for it: the file's first letter and the page's place; of programs' memory the address.

        >>> LruPage(77, "data", 12, False, False, False).label
        'd12'
        """
        return f"{self.file[0]}{self.index}" if self.file else f"{self.index & 0xFFF:03x}"


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class LruList:
    """A list: how long it is, and its first pages from the tail, where reclaim looks next."""

    name: str
    count: int
    tail: tuple[LruPage, ...]


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class LruSnapshot:
    """One node: four lists, how many pages are in the hands of reclaim, how many are unevictable, and the zones."""

    node: int
    lists: tuple[LruList, ...]
    isolated: int
    unevictable: int
    zones: tuple[ZoneMoment, ...]


@invented(FROZEN)
def lru_snapshot(kernel: Kernel, node: int = 0, window: int = 24) -> LruSnapshot:
    """The lists of a node as they are now, `window` pages of each. Pages in a CPU's batches are on none yet."""
    mm = kernel.mm
    pgdat = mm.node_data[node]
    return LruSnapshot(
        node,
        tuple(
            LruList(LIST_NAMES[lru], pgdat.vm_stat[lru], tuple(_from_tail(mm, pgdat, lru, window)))
            for lru in EVICTABLE_LRUS
        ),
        sum(pgdat.vm_stat[item] for item in NR_ISOLATED),
        pgdat.vm_stat[LRU_UNEVICTABLE],
        tuple(zone_moment(zone) for zone in pgdat.node_zones if zone.managed_pages),
    )


def _from_tail(mm: Mm, pgdat: PglistData, lru: int, window: int) -> Iterator[LruPage]:
    prev, head = mm.page.lru.prev, pgdat.lruvec.head + lru
    pfn = prev[head]
    while pfn != head and window:
        yield _page(mm, pfn)
        pfn, window = prev[pfn], window - 1


def _page(mm: Mm, pfn: int) -> LruPage:
    page = mm.page
    file = "" if page_anon(page, pfn) else _file_name(mm, page.mapping[pfn])
    said = (bool(page.flags[pfn] >> bit & 1) for bit in (PG_referenced, PG_dirty, PG_writeback))
    return LruPage(pfn, file, page.index[pfn], *said)


def _file_name(mm: Mm, mapping: int) -> str:
    """The name of a file; the disk itself, whose pages hold the table of inodes, is a file as well."""
    ino = mm.mappings.host[mapping]
    name = bytes(mm.files.name[ino * NAME_LEN : (ino + 1) * NAME_LEN]).rstrip(b"\0").decode("utf-8", "replace")
    return name if ino and name else "disk"
