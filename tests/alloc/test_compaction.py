"""Compaction: both scanners against a model on sets, what is whole afterwards, skip bits, deferral, the daemon."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kmemlab.alloc.compaction import (
    compact_zone,
    compact_zone_order,
    free_compact_control,
    is_block_free,
    try_to_compact_pages,
)
from kmemlab.alloc.direct_compact import CompactAttempts, should_compact_retry
from kmemlab.alloc.fast_find_migrateblock import move_freelist_head, move_freelist_tail
from kmemlab.alloc.isolate_migratepages import isolate_migratepages_block
from kmemlab.machine.procfs_lists import vmstat
from kmemlab.mm.compact_control import MIGRATE_SYNC_LIGHT, CompactPriority, init_compact_control
from kmemlab.mm.compaction_defer import compaction_defer_reset, compaction_deferred, defer_compaction
from kmemlab.mm.compaction_suitable import CompactResult, compaction_suitable
from kmemlab.mm.kcompactd_wake import fragmentation_score_node, fragmentation_score_zone, wakeup_kcompactd
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.pageblock_skip import get_pageblock_skip, reset_isolation_suitable
from kmemlab.mm.vm_event import KCOMPACTD_WAKE
from kmemlab.mm.vmstat import NR_ISOLATED
from kmemlab.mm.zone import free_blocks, get_pageblock_migratetype, zone_end_pfn
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import (
    __GFP_COMP,
    __GFP_DIRECT_RECLAIM,
    __GFP_NORETRY,
    __GFP_NOWARN,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
)
from kmemlab.types.migratetype import MIGRATE_MOVABLE, MIGRATE_TYPES
from kmemlab.types.pageflags import PG_lru
from tests.alloc.compaction_cases import PAGES, event, frames, scattered, sparse

BLOCK = 512
HUGE = GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOWARN
NOWAIT = HUGE & ~__GFP_DIRECT_RECLAIM


def dma32(machine):
    return machine.zone("DMA32")


def free_of(zone):
    """{first page: order} of all free blocks."""
    return {
        pfn: order
        for order in range(11)
        for migratetype in range(MIGRATE_TYPES)
        for pfn in free_blocks(zone, order, migratetype)
    }


def lru_of(zone):
    return {pfn for pfn in range(zone.zone_start_pfn, zone_end_pfn(zone)) if page_has_flag(zone.page, pfn, PG_lru)}


# -- the scanners against a model that knows page frames and nothing else ----------------------------------------------


class Model:
    """vm.compact_memory for one zone, worked out on sets."""

    def __init__(self, zone):
        self.start, self.end = zone.zone_start_pfn, zone_end_pfn(zone)
        self.lru, self.free = lru_of(zone), free_of(zone)
        blocks = range(0, self.end, BLOCK)
        self.movable = {at for at in blocks if get_pageblock_migratetype(zone.page, at) == MIGRATE_MOVABLE}
        self.low, self.high = self.start, (self.end - 1) // BLOCK * BLOCK
        self.spare: list[int] = []
        self.moves: dict[int, int] = {}

    def run(self):
        last = 0
        while self.low // BLOCK < self.high // BLOCK:
            begun, batch = self.low, self.take_up(self.low // BLOCK == last // BLOCK)
            if batch:
                last = begun
            for page in reversed(batch):
                if not self.spare:
                    self.fill(len(batch))
                if not self.spare:
                    return self.moves
                self.moves[page] = self.spare.pop(0)
        return self.moves

    def take_up(self, all_of_it):
        stop, batch = (self.low // BLOCK + 1) * BLOCK, []
        while self.low < stop and (all_of_it or len(batch) < 32):
            if self.low in self.lru:
                batch.append(self.low)
            self.low += 1 << self.free.get(self.low, 0)
        self.low = min(self.low, stop)
        return batch

    def fill(self, wanted):
        lowest = (self.low // BLOCK + bool(self.low % BLOCK)) * BLOCK + (0 if self.low % BLOCK else BLOCK)
        while self.high // BLOCK * BLOCK >= lowest:
            block, at = self.high // BLOCK * BLOCK, self.high
            stop = min(block + BLOCK, self.end)
            if block in self.movable and self.free.get(block, 0) < 9:
                while at < stop and len(self.spare) < wanted:
                    order = self.free.pop(at, None)
                    if order is not None:
                        self.spare = [*range(at + (1 << order) - 1, at - 1, -1), *self.spare]
                    at += 1 << (order or 0)
                if len(self.spare) >= wanted:
                    self.high = at if at < stop else block - BLOCK
                    return
            self.high = block - BLOCK


def test_every_page_goes_where_a_model_on_sets_says():
    machine, pid, address = scattered()
    zone = dma32(machine)
    expected = Model(zone).run()
    before = frames(machine, pid, address)
    machine.sysctl("vm.compact_memory", 1)
    after = frames(machine, pid, address)
    assert len(expected) > PAGES // 4
    assert {old: new for old, new in zip(before, after, strict=True) if old != new} == expected
    assert event(machine, "pgmigrate_success") == len(expected)
    assert event(machine, "pgmigrate_fail") <= 1  # the page for which no free page was left, as the scanners had met


def test_pageblocks_without_a_pinned_page_are_whole_below_where_the_scanners_met():
    machine = sparse()
    zone = dma32(machine)
    free = {at for pfn, order in free_of(zone).items() for at in range(pfn, pfn + (1 << order))}
    pinned = set(range(zone.zone_start_pfn, zone_end_pfn(zone))) - free - lru_of(zone)
    last = max(Model(zone).run())
    could_be = [
        block
        for block in range(zone.zone_start_pfn, last // BLOCK * BLOCK, BLOCK)
        if not pinned.intersection(range(block, block + BLOCK))
    ]
    whole_before = [block for block in could_be if set(range(block, block + BLOCK)) <= free]
    machine.sysctl("vm.compact_memory", 1)
    machine.drain_all_pages()
    free = {at for pfn, order in free_of(zone).items() for at in range(pfn, pfn + (1 << order))}
    assert len(could_be) > len(whole_before)
    assert [block for block in could_be if not set(range(block, block + BLOCK)) <= free] == []


# -- requests ----------------------------------------------------------------------------------------------------------


def take_all(machine, gfp, order):
    taken = []
    while True:
        try:
            taken.append(machine.alloc_pages(gfp, order))
        except OutOfMemory:
            return taken


def test_a_request_for_a_huge_page_compacts_until_it_has_one():
    machine, pid, address = scattered()
    other = machine.fork()

    def nothing(mm, gfp, order, alloc_flags, nid, priority):
        return CompactResult.SKIPPED, None

    with livepatch(try_to_compact_pages, nothing):
        without = take_all(other, HUGE | __GFP_NORETRY, 9)
    taken = take_all(machine, HUGE | __GFP_NORETRY, 9)
    assert len(taken) > len(without)
    assert event(machine, "compact_success") > 0
    assert event(machine, "compact_stall") == event(machine, "compact_success") + event(machine, "compact_fail")
    assert event(machine, "compact_isolated") >= event(machine, "pgmigrate_success") > 0
    assert not {at for pfn in taken for at in range(pfn, pfn + BLOCK)} & set(frames(machine, pid, address))
    machine.check()
    for pfn in taken:
        machine.free_pages(pfn, 9)
    machine.check()


def test_the_block_is_captured_as_it_comes_about():
    machine, _, _ = scattered()
    zone, mm = dma32(machine), machine.kernel.mm
    take_all(machine, NOWAIT, 10)
    take_all(machine, NOWAIT, 9)
    result, pfn = compact_zone_order(mm, zone, 9, HUGE, CompactPriority.ASYNC, 0, 1)
    assert result is CompactResult.SUCCESS
    assert pfn is not None
    assert pfn % BLOCK == 0
    assert not any(zone.page.buddy[pfn : pfn + BLOCK])
    assert not is_block_free(mm, zone, 9, MIGRATE_MOVABLE)  # on no list, so nobody else can take it
    assert (zone.capture_order, zone.captured_pfn) == (0, 0)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_unmovable_blocks_are_got_by_compaction_before_reclaim(order):
    machine, _, _ = scattered()
    taken = take_all(machine, GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, order)
    assert taken
    machine.check()
    for pfn in taken:
        machine.free_pages(pfn, order)
    machine.check()


def test_whether_to_try_again():
    attempts = CompactAttempts()
    assert not should_compact_retry(0, attempts, True)
    assert should_compact_retry(2, attempts, True)  # SKIPPED: reclaim may help
    assert not should_compact_retry(2, attempts, False)
    attempts.result = CompactResult.PARTIAL_SKIPPED
    assert should_compact_retry(2, attempts, False)
    assert attempts.priority == CompactPriority.SYNC_FULL
    assert not should_compact_retry(2, attempts, False)
    costly = CompactAttempts(result=CompactResult.COMPLETE)
    assert not should_compact_retry(4, costly, True)
    for order, most in ((3, 16), (4, 4)):
        lucky = CompactAttempts(result=CompactResult.SUCCESS, priority=1)
        tries = 0
        while lucky.priority == 1 and should_compact_retry(order, lucky, False):
            tries += 1
        assert tries == most + (order < 4)  # a small request then tries its hardest


def test_who_must_not_wait_for_the_disk_does_not_compact():
    machine, _, _ = scattered()
    zone = dma32(machine)
    result, pfn = try_to_compact_pages(machine.kernel.mm, __GFP_DIRECT_RECLAIM, 9, 0, 0, 0)
    assert (result, pfn) == (CompactResult.SKIPPED, None)
    assert zone.compact_considered == 0


# -- what is remembered ------------------------------------------------------------------------------------------------


def test_after_each_failure_twice_as_many_attempts_are_passed_over():
    machine, _, _ = scattered()
    zone = dma32(machine)
    zone.compact_order_failed = 5
    passed = []
    for _ in range(8):
        defer_compaction(zone, 4)
        count = 0
        while compaction_deferred(zone, 4):
            count += 1
        passed.append(count)
    assert passed == [1, 3, 7, 15, 31, 63, 63, 63]
    assert not compaction_deferred(zone, 3)
    compaction_defer_reset(zone, 4, alloc_success=False)
    assert (zone.compact_order_failed, zone.compact_defer_shift) == (5, 6)
    compaction_defer_reset(zone, 6, alloc_success=True)
    assert (zone.compact_order_failed, zone.compact_defer_shift, zone.compact_considered) == (7, 0, 0)


def skips(zone):
    blocks = range(zone.zone_start_pfn // BLOCK * BLOCK, zone_end_pfn(zone), BLOCK)
    return [block for block in blocks if get_pageblock_skip(zone.page, block)]


def test_skip_bits_are_set_where_nothing_was_found_and_cleared_when_kswapd_goes_to_sleep():
    machine, _, _ = scattered()
    zone, mm = dma32(machine), machine.kernel.mm
    for order in (10, 9):
        while is_block_free(mm, zone, order, MIGRATE_MOVABLE):
            machine.alloc_pages(HUGE, order)
    lru = lru_of(zone)
    cc = init_compact_control(
        free_compact_control(mm), order=10, search_order=10, mode=MIGRATE_SYNC_LIGHT, gfp_mask=HUGE,
        direct_compaction=1, highest_zoneidx=1, ignore_block_suitable=1,
    )  # fmt: skip
    result = compact_zone(mm, cc, zone)
    assert result in (CompactResult.COMPLETE, CompactResult.PARTIAL_SKIPPED, CompactResult.SUCCESS)
    marked = skips(zone)
    assert marked
    met = cc.migrate_pfn // BLOCK * BLOCK
    bare = [block for block in marked if block < met and not lru.intersection(range(block, block + BLOCK))]
    assert bare  # pageblocks below the scanner that had nothing to move
    if result is not CompactResult.SUCCESS:
        assert zone.compact_blockskip_flush == 1
        assert list(zone.compact_cached_migrate_pfn) == [zone.zone_start_pfn] * 2
        assert zone.compact_cached_free_pfn == (zone_end_pfn(zone) - 1) // BLOCK * BLOCK
    zone.compact_blockskip_flush = 1
    reset_isolation_suitable(mm.node_data[0])
    free = {at for pfn, order in free_of(zone).items() for at in range(pfn, pfn + (1 << order))}
    still = skips(zone)
    assert set(still) < set(marked)
    for block in set(marked) - set(still):
        sample = range(block, block + BLOCK, 8)
        assert free.intersection(sample) or lru_of(zone).intersection(sample)
    assert zone.compact_blockskip_flush == 0
    machine.check_laws()


def test_turning_a_free_list():
    machine, _, _ = scattered()
    zone = dma32(machine)
    head = zone.free_list[0][MIGRATE_MOVABLE]
    ring = list(list_for_each(zone.page.lru, head))
    assert len(ring) > 10
    move_freelist_head(zone, head, ring[5])
    assert list(list_for_each(zone.page.lru, head)) == ring[5:] + ring[:5]
    move_freelist_tail(zone, head, ring[3])
    assert list(list_for_each(zone.page.lru, head)) == ring[4:] + ring[:4]
    for turn in (move_freelist_head, move_freelist_tail):
        turn(zone, head, head)  # no block was looked at
    assert list(list_for_each(zone.page.lru, head)) == ring[4:] + ring[:4]
    move_freelist_head(zone, head, ring[4])  # it begins so already
    move_freelist_tail(zone, head, ring[3])  # it ends so already
    assert list(list_for_each(zone.page.lru, head)) == ring[4:] + ring[:4]
    move_freelist_head(zone, head, ring[3])  # the last block comes to the front
    assert list(list_for_each(zone.page.lru, head)) == ring[3:] + ring[:3]
    move_freelist_tail(zone, head, ring[3])  # and the first one to the end
    assert list(list_for_each(zone.page.lru, head)) == ring[4:] + ring[:4]
    machine.check()


def test_what_is_suitable():
    machine, _, _ = scattered()
    zone = dma32(machine)
    assert compaction_suitable(zone, -1, 0) is CompactResult.CONTINUE
    assert compaction_suitable(zone, 3, 1) is CompactResult.SUCCESS
    take_all(machine, NOWAIT, 10)
    take_all(machine, NOWAIT, 9)
    assert compaction_suitable(zone, 9, 1) is CompactResult.CONTINUE
    assert compaction_suitable(zone, 9, 1, threshold=1000) is CompactResult.SKIPPED


# -- the daemon --------------------------------------------------------------------------------------------------------


def test_kcompactd_makes_a_block_before_anybody_must_wait_for_it():
    machine = sparse()
    mm = machine.kernel.mm
    held = [*take_all(machine, NOWAIT, 10), *take_all(machine, NOWAIT, 9)]
    wakeup_kcompactd(mm, mm.node_data[0], 9, 1)
    assert mm.node_data[0].kcompactd_awake == 1
    machine.tick(2)
    assert event(machine, "compact_daemon_wake") == 1
    assert 0 < event(machine, "compact_daemon_migrate_scanned") == event(machine, "compact_migrate_scanned")
    assert machine.alloc_pages(NOWAIT, 9) not in held
    assert event(machine, "compact_stall") == 0
    assert (mm.node_data[0].kcompactd_awake, mm.node_data[0].kcompactd_max_order) == (0, 0)
    machine.check()


def test_kswapd_leaves_the_joining_to_kcompactd():
    machine, _, _ = scattered()
    take_all(machine, NOWAIT, 10)
    machine.create_file("data", 1600)
    machine.read_file("data")
    take_all(machine, NOWAIT, 9)
    machine.tick(300)
    assert event(machine, "pgsteal_kswapd") > 1000
    assert event(machine, "compact_daemon_wake") > 0
    machine.check()


def test_kcompactd_acts_by_itself_where_it_is_told_to_care():
    machine, _, _ = scattered()
    pgdat = machine.kernel.mm.node_data[0]
    take_all(machine, NOWAIT, 10)
    before = fragmentation_score_node(pgdat)
    assert before > 20
    machine.sysctl("vm.compaction_proactiveness", 95)
    machine.tick(200)
    assert fragmentation_score_node(pgdat) < before
    assert event(machine, "pgmigrate_success") > 0
    assert 0 <= fragmentation_score_zone(dma32(machine)) <= 100
    machine.sysctl("vm.compaction_proactiveness", 0)
    moved = event(machine, "pgmigrate_success")
    machine.tick(2000)
    assert event(machine, "pgmigrate_success") == moved
    machine.check()


def test_the_tunables():
    machine, _, _ = scattered()
    assert machine.sysctl("vm.extfrag_threshold") == "500"
    assert machine.sysctl("vm.compaction_proactiveness") == "20"
    assert machine.sysctl("vm.compact_unevictable_allowed") == "1"
    with pytest.raises(BadRequest, match="only be written"):
        machine.sysctl("vm.compact_memory")
    with pytest.raises(BadRequest, match="can't be 101"):
        machine.sysctl("vm.compaction_proactiveness", 101)
    machine.sysctl("vm.compact_memory", 1)
    shown = vmstat(machine.kernel)
    assert f"compact_migrate_scanned {event(machine, 'compact_migrate_scanned')}\n" in shown
    assert f"pgmigrate_success {event(machine, 'pgmigrate_success')}\n" in shown


def test_the_daemon_gives_up_where_somebody_holds_too_many_pages():
    machine = sparse()
    mm = machine.kernel.mm
    pgdat = mm.node_data[0]
    take_all(machine, NOWAIT, 10)
    take_all(machine, NOWAIT, 9)
    pgdat.vm_stat[NR_ISOLATED[0]] += 10_000  # as direct reclaim that waits for the disk
    wakeup_kcompactd(mm, pgdat, 9, 1)
    machine.tick(2)
    assert event(machine, "compact_daemon_wake") == 1
    assert event(machine, "pgmigrate_success") == 0
    pgdat.vm_stat[NR_ISOLATED[0]] -= 10_000
    machine.check()


# -- as a real kernel shows it -----------------------------------------------------------------------------------------


def test_the_migrate_scanner_goes_as_a_recorded_one():
    """ftrace of a real 6.1 with 256 MiB, the first direct compaction of order 9, asynchronous:

    mm_compaction_begin: zone_start=0x1000 migrate_pfn=0x1000 free_pfn=0xfe00 zone_end=0xffdd, mode=async
    mm_compaction_isolate_migratepages: range=(0x1000 ~ 0x1200) nr_scanned=1 nr_taken=0
    mm_compaction_isolate_migratepages: range=(0x1200 ~ 0x1400) nr_scanned=1 nr_taken=0   and so on; later
    mm_compaction_migratepages: nr_migrated=32 nr_failed=0   and from the same pageblock
    mm_compaction_isolate_migratepages: range=(0x4620 ~ 0x4800) nr_scanned=296 nr_taken=107

    All of its 189 ranges lie within a pageblock. One look at the kernel's own pages is enough to pass over a pageblock;
    32 pages of one are taken at first, then all the others.
    """
    machine, _, _ = scattered()
    take_all(machine, NOWAIT, 10)
    take_all(machine, NOWAIT, 9)
    seen = []

    def watch(mm, cc, zone, low_pfn, end_pfn, mode):
        scanned, taken = cc.total_migrate_scanned, cc.nr_migratepages
        done = isolate_migratepages_block.original(mm, cc, zone, low_pfn, end_pfn, mode)
        seen.append(
            (low_pfn, cc.migrate_pfn, cc.total_migrate_scanned - scanned, cc.nr_migratepages - taken, cc.free_pfn)
        )
        return done

    with livepatch(isolate_migratepages_block, watch):
        machine.alloc_pages(HUGE, 9)
    assert [row[:4] for row in seen[:8]] == [(at, at + BLOCK, 1, 0) for at in range(0x1000, 0x2000, BLOCK)]
    assert seen[0][4] == (zone_end_pfn(dma32(machine)) - 1) // BLOCK * BLOCK
    for low, end, scanned, taken, _ in seen:
        assert low // BLOCK == (end - 1) // BLOCK
        assert taken <= scanned <= end - low
    assert any(
        first[3] == 32 < second[3] and (second[0], second[1]) == (first[1], first[0] // BLOCK * BLOCK + BLOCK)
        for first, second in pairwise(seen)
    )


def test_kcompactd_that_is_told_not_to_care_sleeps_until_it_is_woken():
    machine, _, _ = scattered()
    mm = machine.kernel.mm
    pgdat = mm.node_data[0]
    machine.sysctl("vm.compaction_proactiveness", 0)
    pgdat.kcompactd_max_order, pgdat.kcompactd_awake = 3, 0  # noted, and nobody has woken it
    woken = mm.vm_event[KCOMPACTD_WAKE]
    machine.tick(1000)
    assert (mm.vm_event[KCOMPACTD_WAKE], pgdat.kcompactd_max_order) == (woken, 3)
    machine.sysctl("vm.compaction_proactiveness", 20)
    machine.tick(1000)
    assert pgdat.kcompactd_max_order == 0
