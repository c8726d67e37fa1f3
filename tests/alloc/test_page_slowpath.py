"""The slow path, stage by stage: who is woken, who frees pages, who gives up, who is killed, and what is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.page_slowpath import gfp_pfmemalloc_flags, gfp_to_alloc_flags
from kmemlab.machine.machine import Machine
from kmemlab.mm.context import PF_DUMPCORE, PF_MEMALLOC, interrupt
from kmemlab.mm.globals import Mm
from kmemlab.mm.kswapd_wake import pgdat_balanced, wakeup_kswapd
from kmemlab.mm.reclaim_table import OUT_OF_MEMORY, TRY_TO_FREE_PAGES, registered
from kmemlab.mm.vm_event import ALLOCSTALL
from kmemlab.mm.wait import DAEMONS
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_MIN
from kmemlab.mm.zone_watermark_ok import (
    ALLOC_CPUSET,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_MIN,
)
from kmemlab.mm.zonelist import first_zones_zonelist
from kmemlab.types.errors import MustWait
from kmemlab.types.gfp import (
    __GFP_COMP,
    __GFP_DMA,
    __GFP_MEMALLOC,
    __GFP_NOFAIL,
    __GFP_NOMEMALLOC,
    __GFP_NORETRY,
    __GFP_NOWARN,
    __GFP_RETRY_MAYFAIL,
    __GFP_THISNODE,
    __GFP_ZERO,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOWAIT,
    gfp_text,
)
from kmemlab.types.zone_type import MAX_NR_ZONES

QUIET = GFP_KERNEL | __GFP_NOWARN


class Below:
    """Stands for what frees pages and kills: counts how often it is asked, and frees what the test gives it."""

    def __init__(self, machine: Machine, reclaim: list[int] | None = None, kill: list[int] | None = None) -> None:
        self.machine, self.reclaim, self.kill = machine, reclaim or [], kill or []
        self.reclaims: list[int] = []
        self.kills = 0
        self.flags = 0

    def try_to_free(self, mm: Mm, gfp: int, order: int, nid: int) -> int:
        self.reclaims.append(gfp)
        self.flags = mm.current.flags
        if not self.reclaim:
            return 0
        free_pages_inner(mm, self.reclaim.pop(), 0)
        return 1

    def out_of_memory(self, mm: Mm, gfp: int, order: int, nid: int) -> int:
        self.kills += 1
        victim, self.kill = self.kill, []
        for pfn in victim:
            free_pages_inner(mm, pfn, 0)
        return bool(victim)

    def __enter__(self) -> Below:
        self.stack = ExitStack()
        self.stack.enter_context(registered(TRY_TO_FREE_PAGES, self.try_to_free))
        self.stack.enter_context(registered(OUT_OF_MEMORY, self.out_of_memory))
        return self

    def __exit__(self, *_error: object) -> None:
        self.stack.close()


@pytest.fixture
def machine() -> Machine:
    return Machine.boot("tiny-128m")


@pytest.fixture(autouse=True)
def nobody_frees_pages() -> Iterator[None]:
    """Here the slow path is looked at alone: only what a test enters frees pages, and no daemon runs."""
    reclaimers, daemons = list(TRY_TO_FREE_PAGES), dict(DAEMONS)
    TRY_TO_FREE_PAGES.clear()
    DAEMONS.clear()
    yield
    TRY_TO_FREE_PAGES[:] = reclaimers
    DAEMONS.update(daemons)


def use_up(machine: Machine, gfp: int = QUIET | __GFP_NORETRY) -> list[int]:
    """Take single pages until an ordinary request gets none."""
    held = []
    while (pfn := alloc_pages_inner(machine.kernel.mm, gfp, 0, 0)) is not None:
        held.append(pfn)
    return held


@pytest.mark.parametrize(
    ("gfp", "order", "flags"),
    [
        (GFP_KERNEL, 0, ALLOC_WMARK_MIN | ALLOC_CPUSET | ALLOC_KSWAPD),
        (GFP_ATOMIC, 0, ALLOC_WMARK_MIN | ALLOC_KSWAPD | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK),
        (GFP_ATOMIC, 2, ALLOC_WMARK_MIN | ALLOC_KSWAPD | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_HIGHATOMIC),
        (GFP_NOWAIT, 1, ALLOC_WMARK_MIN | ALLOC_KSWAPD | ALLOC_CPUSET | ALLOC_NON_BLOCK),
        (GFP_ATOMIC | __GFP_NOMEMALLOC, 2, ALLOC_WMARK_MIN | ALLOC_KSWAPD | ALLOC_MIN_RESERVE),
    ],
)
def test_how_deep_a_request_may_go(gfp: int, order: int, flags: int) -> None:
    assert gfp_to_alloc_flags(gfp, order) == flags


def test_who_may_use_the_last_pages(machine: Machine) -> None:
    current = machine.kernel.mm.current
    assert gfp_pfmemalloc_flags(current, GFP_KERNEL) == 0
    assert gfp_pfmemalloc_flags(current, GFP_KERNEL | __GFP_MEMALLOC) == ALLOC_NO_WATERMARKS
    current.oom_victim = 1
    assert gfp_pfmemalloc_flags(current, GFP_KERNEL) == ALLOC_OOM
    current.flags = PF_MEMALLOC
    assert gfp_pfmemalloc_flags(current, GFP_KERNEL) == ALLOC_NO_WATERMARKS
    assert gfp_pfmemalloc_flags(current, GFP_KERNEL | __GFP_MEMALLOC | __GFP_NOMEMALLOC) == 0
    with interrupt(current):
        assert gfp_pfmemalloc_flags(current, GFP_KERNEL) == 0


def test_ordinary_requests_stop_at_min_and_urgent_ones_go_deeper(machine: Machine) -> None:
    mm, zones = machine.kernel.mm, machine.zones

    def lowest() -> list[bool]:
        marks = [zone.watermark[WMARK_MIN] + zone.watermark_boost + zone.lowmem_reserve[2] for zone in zones]
        return [zone.vm_stat[NR_FREE_PAGES] <= mark for zone, mark in zip(zones, marks, strict=True)]

    held = use_up(machine)
    assert lowest() == [True, True]
    urgent = use_up(machine, GFP_ATOMIC | __GFP_NOWARN)
    assert urgent
    assert alloc_pages_inner(mm, GFP_ATOMIC | __GFP_NOWARN, 0, 0) is None
    mm.current.flags = PF_MEMALLOC
    last = use_up(machine, GFP_ATOMIC | __GFP_NOWARN)
    assert sum(zone.vm_stat[NR_FREE_PAGES] for zone in zones) == 0
    mm.current.flags = 0
    for pfn in held + urgent + last:
        free_pages_inner(mm, pfn, 0)
    machine.check()


def test_kswapd_is_told_what_is_wanted(machine: Machine) -> None:
    mm = machine.kernel.mm
    pgdat = mm.node_data[0]
    pgdat.kswapd_awake, pgdat.kswapd_order, pgdat.kswapd_highest_zoneidx = 0, 0, MAX_NR_ZONES
    zone = machine.zone("DMA32")
    zone.watermark_boost = machine.zone("DMA").watermark_boost = 0
    assert pgdat_balanced(pgdat, 0, 1)
    wakeup_kswapd(mm, zone, GFP_KERNEL, 2, 1)
    assert (pgdat.kswapd_awake, pgdat.kswapd_order, pgdat.kswapd_highest_zoneidx) == (0, 2, 1)  # nothing to do
    use_up(machine, GFP_NOWAIT | __GFP_NOWARN)
    assert not pgdat_balanced(pgdat, 0, 2)
    assert (pgdat.kswapd_awake, pgdat.kswapd_order, pgdat.kswapd_highest_zoneidx) == (1, 2, 2)
    pgdat.kswapd_awake, pgdat.kswapd_failures = 0, 16
    assert alloc_pages_inner(mm, GFP_NOWAIT | __GFP_NOWARN, 0, 0) is None
    assert pgdat.kswapd_awake == 0  # hopeless


def test_direct_reclaim_helps(machine: Machine) -> None:
    held, mm = use_up(machine), machine.kernel.mm
    batch = held[-200:]
    with Below(machine, reclaim=batch) as below:
        assert alloc_pages_inner(mm, QUIET, 0, 0) is not None
    assert below.reclaims
    assert below.flags & PF_MEMALLOC  # who frees may use the last pages
    assert not mm.current.flags & PF_MEMALLOC
    assert mm.vm_event[ALLOCSTALL + 2] >= len(below.reclaims)
    assert below.kills == 0


def test_sixteen_rounds_in_vain_then_somebody_is_killed(machine: Machine) -> None:
    held, mm = use_up(machine), machine.kernel.mm
    with Below(machine, kill=held[-600:]) as below:
        assert alloc_pages_inner(mm, QUIET, 0, 0) is not None
    assert below.kills == 1
    # A round goes on only if freeing all that can be freed would be enough: with no LRU pages at all, once.
    assert 1 <= len(below.reclaims) <= 17


def test_whoever_makes_progress_is_asked_again(machine: Machine) -> None:
    held, mm = use_up(machine), machine.kernel.mm
    with Below(machine, reclaim=held[-64:]) as below:
        got = [alloc_pages_inner(mm, QUIET | __GFP_NORETRY, 0, 0) for _ in range(8)]
    assert len(below.reclaims) >= 8 - sum(pfn is not None for pfn in got)


@pytest.mark.parametrize(
    ("gfp", "order", "reclaims", "kills"),
    [
        (GFP_NOWAIT, 0, 0, 0),  # can't wait
        (GFP_KERNEL | __GFP_NORETRY, 0, 1, 0),
        (GFP_KERNEL | __GFP_NORETRY, 4, 0, 0),  # costly: compaction would come first, and is skipped
        (GFP_KERNEL, 4, 1, 0),  # costly
        (GFP_KERNEL | __GFP_RETRY_MAYFAIL, 0, None, 0),
        (GFP_KERNEL | __GFP_THISNODE, 0, None, 0),
        (GFP_KERNEL | __GFP_DMA, 0, None, 0),  # killing does not free the lowest zone
        (GFP_KERNEL, 0, None, 1),
    ],
)
def test_who_gives_up_when(machine: Machine, gfp: int, order: int, reclaims: int | None, kills: int) -> None:
    use_up(machine)
    use_up(machine, GFP_NOWAIT | __GFP_DMA | __GFP_NOWARN)
    with Below(machine) as below:
        assert alloc_pages_inner(machine.kernel.mm, gfp | __GFP_NOWARN, order, 0) is None
    assert (reclaims is None and below.reclaims) or len(below.reclaims) == reclaims
    assert below.kills == kills


def test_who_frees_memory_or_dumps_core_kills_nobody(machine: Machine) -> None:
    use_up(machine)
    mm = machine.kernel.mm
    mm.current.flags = PF_DUMPCORE
    with Below(machine) as below:
        assert alloc_pages_inner(mm, QUIET, 0, 0) is None
        assert below.kills == 0
        mm.current.flags = PF_MEMALLOC
        asked = len(below.reclaims)
        while alloc_pages_inner(mm, QUIET, 0, 0) is not None:
            pass
        assert len(below.reclaims) == asked  # no reclaim within reclaim


def test_a_request_that_must_not_fail_says_so_instead_of_looping(machine: Machine) -> None:
    use_up(machine)
    mm = machine.kernel.mm
    while sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones):  # it may use even the last page
        assert alloc_pages_inner(mm, QUIET | __GFP_NOFAIL, 0, 0) is not None
    use_up(machine, GFP_ATOMIC | __GFP_NOWARN)  # what was left on per-CPU lists
    with pytest.raises(MustWait, match="may not fail"):
        alloc_pages_inner(mm, QUIET | __GFP_NOFAIL, 0, 0)
    assert sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones) == 0


def test_failure_is_reported_once_in_ten_seconds(machine: Machine) -> None:
    use_up(machine)
    mm = machine.kernel.mm
    before = len(machine.kernel.printk_lines)
    assert alloc_pages_inner(mm, QUIET | __GFP_NORETRY, 0, 0) is None
    assert len(machine.kernel.printk_lines) == before  # asked for silence
    assert alloc_pages_inner(mm, GFP_KERNEL | __GFP_NORETRY, 0, 0) is None
    said = machine.kernel.printk_lines[before:]
    assert said[0] == (
        "swapper/0: page allocation failure: order:0, mode:0x10cc0(GFP_KERNEL|__GFP_NORETRY), nodemask=(null),"
        "cpuset=/,mems_allowed=0"
    )
    assert said[2] == "Mem-Info:"
    count = len(machine.kernel.printk_lines)
    assert alloc_pages_inner(mm, GFP_KERNEL | __GFP_NORETRY, 0, 0) is None
    assert len(machine.kernel.printk_lines) == count
    mm.current.jiffies += 10 * 250 + 1
    assert alloc_pages_inner(mm, GFP_KERNEL | __GFP_NORETRY, 0, 0) is None
    assert len(machine.kernel.printk_lines) > count


def test_flags_as_linux_prints_them() -> None:
    assert gfp_text(0x140DCA) == "GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO"  # from a real report
    assert gfp_text(GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_ZERO) == gfp_text(0x140DCA)
    assert gfp_text(GFP_ATOMIC) == "GFP_ATOMIC"
    assert gfp_text(0xD20C0) == "__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC"  # in traces


def test_where_no_zone_may_serve_nobody_is_asked_to_free_anything(machine: Machine) -> None:
    mm = machine.kernel.mm
    own = mm.node_data[0].node_zonelists[1]  # of requests for this node alone
    own.count = own.zone_idx[0] = 0  # a node without memory
    gfp = GFP_KERNEL | __GFP_THISNODE | __GFP_NOWARN
    assert first_zones_zonelist(mm, own, 3) is None
    with Below(machine) as below:
        assert alloc_pages_inner(mm, gfp, 0, 0) is None
    assert (len(below.reclaims), below.kills) == (0, 0)
    assert not mm.node_data[0].kswapd_awake
