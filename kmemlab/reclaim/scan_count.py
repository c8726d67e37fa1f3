"""get_scan_count: how many pages of each list to look at, and how the pressure is shared between anon and file.

no swap ─▶ files only     priority 0 ─▶ all alike     hardly any file ─▶ anon only     files in plenty ─▶ files only
else by cost:   share of anon  ∝ swappiness · T / anon_cost       share of file  ∝ (200 - swappiness) · T / file_cost
"""

from __future__ import annotations

from enum import Enum
from math import isqrt

from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import lruvec_lru_size
from kmemlab.mm.lruvec import (
    ANON,
    EVICTABLE_LRUS,
    FILE,
    LRU_ACTIVE,
    LRU_ACTIVE_FILE,
    LRU_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
)
from kmemlab.mm.node import PglistData
from kmemlab.mm.workingset import WORKINGSET_ACTIVATE_BASE
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH
from kmemlab.mm.zone_watermark_ok import wmark_pages
from kmemlab.reclaim.scan_control import DEACTIVATE_ANON, DEACTIVATE_FILE, ScanControl, can_reclaim_anon_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SHIFT


@kernel("mm/vmscan.c", "enum scan_balance")
class ScanBalance(Enum):
    """How the pressure is shared."""

    EQUAL = "each list by its size"
    FRACT = "by cost"
    ANON = "anonymous memory only"
    FILE = "files only"


@kernel("mm/vmscan.c", "inactive_is_low", formerly=("inactive_list_is_low",))
def inactive_is_low(pgdat: PglistData, inactive_lru: int) -> bool:
    """Whether so few pages are inactive that active ones should follow: the more memory, the fewer are enough."""
    inactive, active = pgdat.vm_stat[inactive_lru], pgdat.vm_stat[inactive_lru + LRU_ACTIVE]
    return inactive * inactive_ratio(inactive + active) < active


@invented("a part of inactive_is_low", traced=False)
def inactive_ratio(nr_pages: int) -> int:
    """How many active pages there may be for each inactive one, by the size of both lists together.

    >>> [inactive_ratio(gib << 18) for gib in (0, 1, 10, 100, 1024, 10240)]
    [1, 3, 10, 31, 101, 320]
    """
    gb = nr_pages >> 30 - PAGE_SHIFT
    return isqrt(10 * gb) if gb else 1


@kernel("mm/vmscan.c", "prepare_scan_count", left_out="memcg, generations")
def prepare_scan_count(mm: Mm, pgdat: PglistData, sc: ScanControl) -> None:
    """Look at the node as a whole: which active lists may be shortened, and whether one kind alone is to be scanned."""
    lruvec = pgdat.lruvec
    sc.anon_cost, sc.file_cost = lruvec.anon_cost, lruvec.file_cost
    sc.may_deactivate = DEACTIVATE_ANON | DEACTIVATE_FILE if sc.force_deactivate else lists_to_age(pgdat)
    file_may_age = bool(sc.may_deactivate & DEACTIVATE_FILE)
    sc.cache_trim_mode = bool(pgdat.vm_stat[LRU_INACTIVE_FILE] >> sc.priority) and not file_may_age
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in pgdat.node_zones)
    file = pgdat.vm_stat[LRU_ACTIVE_FILE] + pgdat.vm_stat[LRU_INACTIVE_FILE]
    total_high_wmark = sum(wmark_pages(zone, WMARK_HIGH) for zone in pgdat.node_zones if zone.managed_pages)
    sc.file_is_tiny = (
        file + free <= total_high_wmark
        and not sc.may_deactivate & DEACTIVATE_ANON
        and bool(pgdat.vm_stat[LRU_INACTIVE_ANON] >> sc.priority)
    )


@invented("a part of prepare_scan_count", traced=False)
def lists_to_age(pgdat: PglistData) -> int:
    """Active lists from which pages should go: inactive ones are few, or pages that came back were activated lately."""
    may_deactivate = 0
    for kind, bit, inactive in (
        (ANON, DEACTIVATE_ANON, LRU_INACTIVE_ANON),
        (FILE, DEACTIVATE_FILE, LRU_INACTIVE_FILE),
    ):
        refaults = pgdat.vm_stat[WORKINGSET_ACTIVATE_BASE + kind]
        if refaults != pgdat.lruvec.refaults[kind] or inactive_is_low(pgdat, inactive):
            may_deactivate |= bit
    return may_deactivate


@kernel("mm/vmscan.c", "snapshot_refaults", traced=False)
def snapshot_refaults(pgdat: PglistData) -> None:
    """Remember how many pages that came back were activated until now."""
    for kind in (ANON, FILE):
        pgdat.lruvec.refaults[kind] = pgdat.vm_stat[WORKINGSET_ACTIVATE_BASE + kind]


@invented("the first part of get_scan_count", traced=False)
def choose_balance(mm: Mm, sc: ScanControl) -> ScanBalance:
    """How the pressure is to be shared."""
    if not sc.may_swap or not can_reclaim_anon_pages(mm):
        return ScanBalance.FILE
    if not sc.priority and mm.vm_swappiness:
        return ScanBalance.EQUAL
    if sc.file_is_tiny:
        return ScanBalance.ANON
    return ScanBalance.FILE if sc.cache_trim_mode else ScanBalance.FRACT


@invented("the second part of get_scan_count", traced=False)
def fractions(swappiness: int, anon_cost: int, file_cost: int) -> tuple[int, int]:
    """The shares of anonymous memory and of files: the less trouble, the more; neither gets less than a third of it.

    >>> fractions(60, 0, 0), fractions(60, 30, 10)
    ((60, 140), (102, 332))
    """
    total = anon_cost + file_cost
    anon_cost, file_cost = total + anon_cost, total + file_cost
    total = anon_cost + file_cost
    return swappiness * (total + 1) // (anon_cost + 1), (200 - swappiness) * (total + 1) // (file_cost + 1)


@kernel("mm/vmscan.c", "get_scan_count", left_out="memcg and its protection")
def get_scan_count(mm: Mm, pgdat: PglistData, sc: ScanControl) -> list[int]:
    """How many pages to scan of inactive anon, active anon, inactive file, active file."""
    balance = choose_balance(mm, sc)
    share = fractions(mm.vm_swappiness, sc.anon_cost, sc.file_cost)
    counts = []
    for lru in EVICTABLE_LRUS:
        file = lru >= LRU_FILE
        scan = lruvec_lru_size(pgdat, lru, sc.reclaim_idx) >> sc.priority
        if balance is ScanBalance.FRACT:
            scan = scan * share[file] // sum(share)
        elif balance is not ScanBalance.EQUAL and (balance is ScanBalance.FILE) != file:
            scan = 0
        counts.append(scan)
    return counts
