"""Reclaim on a whole machine: what is freed, who waits, that nothing is lost, and that all comes to an end."""

from __future__ import annotations

import lzma
import random
import re

import pytest

from kmemlab.alloc.filemap import drop_pagecache
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.machine.machine import Machine
from kmemlab.mm.address_space import filemap_get_folio, shadow_at
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.compaction_suitable import CompactResult, compaction_suitable
from kmemlab.mm.context import HZ, PF_KSWAPD, PF_KTHREAD, interrupt
from kmemlab.mm.kswapd_wake import MAX_RECLAIM_RETRIES, pgdat_balanced, wakeup_kswapd
from kmemlab.mm.lru import lru_add_drain
from kmemlab.mm.lruvec import (
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    NR_ZONE_LRU_BASE,
)
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.page_cache import remove_mapping_inner
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, set_page_flag
from kmemlab.mm.pcp import drain_all_pages
from kmemlab.mm.rmap_table import FOLIO_REFERENCED
from kmemlab.mm.vm_event import (
    ALLOCSTALL,
    PAGEOUTRUN,
    PGDEACTIVATE,
    PGSCAN_ANON,
    PGSCAN_DIRECT,
    PGSCAN_DIRECT_THROTTLE,
    PGSCAN_FILE,
    PGSCAN_KSWAPD,
    PGSTEAL_ANON,
    PGSTEAL_DIRECT,
    PGSTEAL_FILE,
    PGSTEAL_KSWAPD,
    SLABS_SCANNED,
)
from kmemlab.mm.vmstat import NODE_STAT_NAMES
from kmemlab.mm.wait import cond_resched
from kmemlab.mm.workingset import lru_note_cost, pack_shadow, unpack_shadow
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_LOW, WMARK_MIN
from kmemlab.mm.zone_watermark_ok import wmark_pages
from kmemlab.reclaim.direct import compaction_ready, try_to_free_pages
from kmemlab.reclaim.isolate import isolate_lru_folios, move_folios_to_lru
from kmemlab.reclaim.kswapd import balance_pgdat, running_as
from kmemlab.reclaim.scan_control import ScanControl
from kmemlab.reclaim.scan_count import get_scan_count
from kmemlab.reclaim.shrink_list import Fate, FolioReferences, fate_of_dirty, folio_check_references
from kmemlab.reclaim.shrink_node import in_reclaim_compaction, shrink_list
from kmemlab.reclaim.shrinker import SHRINKERS, Shrinker, do_shrink_slab, registered_shrinker
from kmemlab.reclaim.throttle import Throttle, reclaim_throttle, reclaim_waits
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError, OutOfMemory
from kmemlab.types.gfp import (
    __GFP_DIRECT_RECLAIM,
    __GFP_MEMALLOC,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOIO,
)
from kmemlab.types.pageflags import PG_active, PG_dirty, PG_referenced, PG_swapbacked
from kmemlab.types.units import PAGE_SIZE
from kmemlab.types.vm_flags import VM_EXEC, VM_LOCKED
from tests.machine.traces import TRACES


@pytest.fixture
def machine():
    return Machine.boot("tiny-128m")


def stat(machine, name):
    return machine.kernel.mm.node_data[0].vm_stat[NODE_STAT_NAMES.index(name)]


def stream(machine, name, pages, step=64):
    for start in range(0, pages, step):
        machine.read_file(name, start * PAGE_SIZE, step * PAGE_SIZE)


def add_up(machine):
    event = machine.kernel.mm.vm_event
    assert event[PGSCAN_KSWAPD] + event[PGSCAN_DIRECT] == event[PGSCAN_ANON] + event[PGSCAN_FILE]
    assert event[PGSTEAL_KSWAPD] + event[PGSTEAL_DIRECT] == event[PGSTEAL_ANON] + event[PGSTEAL_FILE]
    assert event[PGSTEAL_FILE] <= event[PGSCAN_FILE]
    assert stat(machine, "workingset_activate_file") <= stat(machine, "workingset_refault_file")
    assert stat(machine, "workingset_restore_file") <= stat(machine, "workingset_activate_file")


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def with_lists(machine, counts):
    pgdat = machine.kernel.mm.node_data[0]
    zone = machine.zones[-1]
    for lru, count in counts.items():
        pgdat.vm_stat[lru] = zone.vm_stat[NR_ZONE_LRU_BASE + lru] = count
    return pgdat


def test_scan_counts_by_cost(machine):
    mm = machine.kernel.mm
    pgdat = with_lists(
        machine, {LRU_INACTIVE_FILE: 409600, LRU_ACTIVE_FILE: 102400, LRU_INACTIVE_ANON: 204800, LRU_ACTIVE_ANON: 0}
    )
    sc = ScanControl(GFP_KERNEL, reclaim_idx=3)
    assert get_scan_count(mm, pgdat, sc) == [0, 0, 100, 25]  # without swap, files only
    mm.nr_swap_pages = 1000
    assert get_scan_count(mm, pgdat, sc) == [15, 0, 70, 17]
    sc.anon_cost, sc.file_cost = 30, 10
    assert get_scan_count(mm, pgdat, sc)[0] == 50 * 102 // 434
    sc.cache_trim_mode = True
    assert get_scan_count(mm, pgdat, sc) == [0, 0, 100, 25]
    sc.file_is_tiny = True
    assert get_scan_count(mm, pgdat, sc) == [50, 0, 0, 0]
    sc.priority = 0
    assert get_scan_count(mm, pgdat, sc) == [204800, 0, 409600, 102400]
    sc.reclaim_idx = 0
    assert get_scan_count(mm, pgdat, sc) == [0, 0, 0, 0]


def test_costs_are_halved_when_they_pass_a_quarter_of_the_lists(machine):
    pgdat = with_lists(machine, {LRU_INACTIVE_FILE: 400})
    lru_note_cost(pgdat, True, 60)
    lru_note_cost(pgdat, False, 40)
    assert (pgdat.lruvec.anon_cost, pgdat.lruvec.file_cost) == (40, 60)
    lru_note_cost(pgdat, False, 2)
    assert (pgdat.lruvec.anon_cost, pgdat.lruvec.file_cost) == (21, 30)


@pytest.mark.parametrize(
    ("ptes", "vm_flags", "referenced", "anon", "fate"),
    [
        (0, 0, False, False, FolioReferences.RECLAIM),
        (0, 0, True, False, FolioReferences.RECLAIM_CLEAN),
        (0, 0, True, True, FolioReferences.RECLAIM),
        (1, 0, False, False, FolioReferences.KEEP),
        (1, 0, True, False, FolioReferences.ACTIVATE),
        (2, 0, False, True, FolioReferences.ACTIVATE),
        (1, VM_EXEC, False, False, FolioReferences.ACTIVATE),
        (1, VM_EXEC, False, True, FolioReferences.KEEP),
        (0, VM_LOCKED, False, False, FolioReferences.ACTIVATE),
    ],
)
def test_who_has_used_a_page_decides(machine, monkeypatch, ptes, vm_flags, referenced, anon, fate):
    mm = machine.kernel.mm
    pfn = alloc_pages_inner(mm, GFP_HIGHUSER_MOVABLE, 0, 0)
    monkeypatch.setattr("kmemlab.mm.rmap_table.FOLIO_REFERENCED", [lambda mm, pfn: (ptes, vm_flags)])
    mm.page.mapcount[pfn] = 1
    if referenced:
        set_page_flag(mm.page, pfn, PG_referenced)
    if anon:
        set_page_flag(mm.page, pfn, PG_swapbacked)
    assert folio_check_references(mm, pfn) is fate
    assert page_has_flag(mm.page, pfn, PG_referenced) == bool(ptes and not vm_flags & VM_LOCKED)
    assert FOLIO_REFERENCED is not None


def test_a_shadow_remembers(machine):
    mm = machine.kernel.mm
    assert unpack_shadow(mm, pack_shadow(mm, 0, 123456, True)) == (0, 123456, True)
    assert "workingset: timestamp_bits=36 max_order=15 bucket_order=0" in machine.dmesg()


def test_a_cache_is_asked_in_batches_and_the_rest_is_put_off(machine):
    mm, asked, number = machine.kernel.mm, [], len(SHRINKERS)

    def scan(mm, sc):
        asked.append(sc.nr_to_scan)
        return sc.nr_to_scan

    with registered_shrinker(Shrinker("objects", lambda mm, sc: 10000, scan)):
        assert do_shrink_slab(mm, GFP_KERNEL, 0, number, 6) == 256
        assert (asked, mm.nr_deferred[number], mm.vm_event[SLABS_SCANNED]) == ([128, 128], 56, 256)
        asked.clear()
        assert do_shrink_slab(mm, GFP_KERNEL, 0, number, 12) == 0  # (56 >> 12) + 4 makes no batch
        assert (asked, mm.nr_deferred[number]) == ([], 60)


# -- a whole machine ---------------------------------------------------------------------------------------------------


def test_a_stream_larger_than_memory_is_kept_up_with_by_kswapd(machine):
    machine.create_file("big", 40000)
    stream(machine, "big", 40000)
    mm = machine.kernel.mm
    assert mm.vm_event[PAGEOUTRUN] > 10
    assert mm.vm_event[PGSTEAL_KSWAPD] > 10000
    assert stat(machine, "workingset_refault_file") == 0
    machine.tick(HZ)
    pgdat = mm.node_data[0]
    assert not pgdat.kswapd_awake
    assert not pgdat.kswapd_sleep_until
    assert any(zone.vm_stat[NR_FREE_PAGES] > wmark_pages(zone, WMARK_LOW) for zone in machine.zones)
    add_up(machine)
    machine.check()


def test_between_commands_kswapd_keeps_up_so_that_no_request_has_to_wait(machine):
    """Woken at low, it runs when the command is over, and sleeps above high; the clock stands still meanwhile."""
    machine.create_file("big", 30000)
    machine.read_file("big", 0, 26000 * PAGE_SIZE)
    mm, pgdat = machine.kernel.mm, machine.kernel.mm.node_data[0]
    before, runs = mm.current.jiffies, mm.vm_event[PAGEOUTRUN]
    held, low_seen = [], 0
    for _ in range(6000):
        held.append(machine.alloc_pages(GFP_KERNEL))
        free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones)
        low_seen += mm.vm_event[PAGEOUTRUN] > runs
        runs = mm.vm_event[PAGEOUTRUN]
        assert free >= sum(wmark_pages(zone, WMARK_LOW) for zone in machine.zones) // 2
        assert not pgdat.kswapd_awake
    assert mm.current.jiffies == before
    assert low_seen > 5
    assert sum(mm.vm_event[ALLOCSTALL : ALLOCSTALL + 5]) == 0
    add_up(machine)
    machine.check()


def test_reading_a_large_file_in_one_command_kswapd_has_its_turns_between_pages(machine):
    machine.create_file("big", 60000)
    machine.read_file("big")
    mm = machine.kernel.mm
    assert mm.vm_event[PAGEOUTRUN] > 5
    assert mm.vm_event[PGSTEAL_KSWAPD] > 30000
    assert sum(mm.vm_event[ALLOCSTALL : ALLOCSTALL + 5]) == 0


def test_kswapd_runs_before_the_reader_who_woke_it_asks_for_another_page(machine):
    """A real machine's trace (two files of 32 MiB, 128 MiB, one CPU): so it was in 343 of 345 wake-ups."""
    told = []

    def asks(mm, gfp, order, nid):
        told.append("asks")
        return alloc_pages_inner.original(mm, gfp, order, nid)

    def wakes(mm, zone, gfp, order, highest_zoneidx):
        pgdat = mm.node_data[zone.node]
        before = pgdat.kswapd_awake
        wakeup_kswapd.original(mm, zone, gfp, order, highest_zoneidx)
        if pgdat.kswapd_awake and not before:
            told.append("wakes")

    def runs(mm, pgdat, order, highest_zoneidx):
        told.append("runs")
        return balance_pgdat.original(mm, pgdat, order, highest_zoneidx)

    machine.create_file("big", 30000)
    with livepatch(alloc_pages_inner, asks), livepatch(wakeup_kswapd, wakes), livepatch(balance_pgdat, runs):
        machine.read_file("big")
    woken = [at for at, what in enumerate(told) if what == "wakes"]
    at_once = sum("asks" not in told[at : told.index("runs", at)] for at in woken)
    assert len(woken) > 50
    assert at_once >= len(woken) * 343 / 345


def test_nobody_is_stopped_where_he_must_not_sleep(machine):
    machine.create_file("big", 30000)
    stream(machine, "big", 24000)
    mm, pgdat = machine.kernel.mm, machine.kernel.mm.node_data[0]
    with interrupt(mm.current):
        while not pgdat.kswapd_awake:
            alloc_pages_inner(mm, GFP_ATOMIC, 0, 0)
        assert mm.current.need_resched
        runs = mm.vm_event[PAGEOUTRUN]
        cond_resched(mm)
        assert mm.vm_event[PAGEOUTRUN] == runs
    cond_resched(mm)
    assert mm.vm_event[PAGEOUTRUN] == runs + 1
    assert not mm.current.need_resched


def test_who_takes_half_of_the_last_reserve_waits_for_kswapd_and_that_is_counted(machine):
    """Pages that only those may have who free memory are used up: direct reclaim waits, and kswapd gets to work."""
    machine.create_file("big", 30000)
    stream(machine, "big", 30000)
    mm = machine.kernel.mm
    reserve = sum(zone.watermark[WMARK_MIN] for zone in machine.zones)
    with interrupt(mm.current):
        while sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones) > reserve // 2:
            assert alloc_pages_inner(mm, GFP_KERNEL & ~__GFP_DIRECT_RECLAIM | __GFP_MEMALLOC, 0, 0) is not None
    before = mm.current.jiffies
    assert try_to_free_pages(mm, GFP_KERNEL, 0, 0) >= 32
    assert mm.vm_event[PGSCAN_DIRECT_THROTTLE] == 1
    assert reclaim_waits(mm)["PFMEMALLOC"] == (1, mm.current.jiffies - before)
    assert 0 < mm.current.jiffies - before < HZ
    assert mm.vm_event[PGSTEAL_KSWAPD] > 0
    machine.check()


def test_nobody_waits_where_waiting_is_in_vain(machine):
    """Nothing can be freed, and nothing is being written: the request goes on to fail, at once."""
    mm = machine.kernel.mm
    while alloc_pages_inner(mm, GFP_KERNEL, 0, 0) is not None:
        pass
    assert reclaim_waits(mm)["NOPROGRESS"] == (0, 0)


def test_where_all_waits_for_the_disk_a_task_waits_too(machine):
    mm, pgdat = machine.kernel.mm, machine.kernel.mm.node_data[0]
    machine.sysctl("vm.dirty_ratio", 100)
    machine.sysctl("vm.dirty_background_ratio", 99)
    machine.create_file("data", 8000)  # twice as many as reclaim sees, that is with the free pages of an empty zone
    machine.write_file("data", 0, b"x" * 8000 * PAGE_SIZE)
    before = mm.current.jiffies
    reclaim_throttle(mm, pgdat, Throttle.NOPROGRESS)
    assert mm.current.jiffies == before + 1
    assert reclaim_waits(mm)["NOPROGRESS"] == (1, 1)
    with running_as(mm, "worker", PF_KTHREAD):
        reclaim_throttle(mm, pgdat, Throttle.WRITEBACK)
    assert mm.current.jiffies == before + 1
    with running_as(mm, "kswapd0", PF_KTHREAD | PF_KSWAPD):
        reclaim_throttle(mm, pgdat, Throttle.WRITEBACK)
    assert reclaim_waits(mm)["WRITEBACK"] == (1, HZ // 10)
    assert stat(machine, "nr_throttled_written") == 0
    mm.wb_start_all = 1
    with running_as(mm, "kswapd0", PF_KTHREAD | PF_KSWAPD):
        reclaim_throttle(mm, pgdat, Throttle.WRITEBACK)
    assert 32 < stat(machine, "nr_throttled_written") <= stat(machine, "nr_written")
    assert reclaim_waits(mm)["WRITEBACK"][1] < 2 * (HZ // 10)  # 32 pages were written: time to look again


def test_kswapd_stops_as_soon_as_a_zone_is_above_its_high_mark(machine):
    machine.create_file("big", 30000)
    stream(machine, "big", 24000)
    mm, pgdat = machine.kernel.mm, machine.kernel.mm.node_data[0]
    while pgdat_balanced(pgdat, 0, 3):
        if alloc_pages_inner(mm, GFP_KERNEL & ~0x400, 0, 0) is None:
            break
    before = sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones)
    balance_pgdat(mm, pgdat, 0, 3)
    after = sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones)
    high = sum(wmark_pages(zone, WMARK_HIGH) for zone in machine.zones)
    assert pgdat_balanced(pgdat, 0, 3)
    assert before < after <= before + 2 * high + 64
    machine.check()


def test_what_is_used_twice_stays_when_a_stream_passes_by(machine):
    machine.create_file("hot", 2000)
    machine.create_file("big", 40000)
    for _ in range(2):
        stream(machine, "hot", 2000)
    stream(machine, "big", 40000)
    mm = machine.kernel.mm
    hot = sum(filemap_get_folio(mm.mappings, mm.files.mapping[1], n) is not None for n in range(2000))
    assert hot > 1900
    add_up(machine)


def test_what_comes_back_too_soon_is_made_active(machine):
    machine.create_file("big", 30000)
    stream(machine, "big", 30000)
    mm = machine.kernel.mm
    assert shadow_at(mm.mappings, mm.files.mapping[1], 0) is not None
    stream(machine, "big", 30000)
    assert stat(machine, "workingset_refault_file") > 1000
    machine.create_file("hot", 4000)
    for _ in range(2):
        stream(machine, "hot", 4000)
    stream(machine, "big", 30000)
    for _ in range(3):
        stream(machine, "hot", 4000)
    add_up(machine)
    machine.check()


def test_a_request_that_finds_nothing_frees_pages_itself(machine):
    machine.create_file("big", 30000)
    stream(machine, "big", 30000)
    mm = machine.kernel.mm
    held = [alloc_pages_inner(mm, GFP_KERNEL, 0, 0) for _ in range(8000)]  # nobody else has a turn meanwhile
    assert sum(mm.vm_event[ALLOCSTALL : ALLOCSTALL + 5]) > 0
    assert mm.vm_event[PGSTEAL_DIRECT] > 0
    add_up(machine)
    machine.check()
    for pfn in held:
        machine.free_pages(pfn)
    machine.check()


def test_with_nothing_left_to_free_requests_fail_and_kswapd_gives_up(machine):
    while alloc_pages_inner(machine.kernel.mm, GFP_KERNEL, 0, 0) is not None:
        pass
    with pytest.raises(OutOfMemory):
        machine.alloc_pages(GFP_KERNEL)
    machine.tick(10 * HZ)
    assert machine.kernel.mm.node_data[0].kswapd_failures <= MAX_RECLAIM_RETRIES + 1
    machine.check()


def test_dirty_data_is_written_before_its_page_is_freed(machine):
    pages = 30000
    machine.create_file("out", pages)
    for start in range(0, pages, 50):
        machine.write_file("out", start * PAGE_SIZE, bytes((start // 50 % 250 + 1,)) * PAGE_SIZE * 50)
    machine.tick(100)
    machine.check()
    assert len([1 for n in range(pages) if shadow_at(machine.kernel.mm.mappings, 1, n) is not None]) > 1000
    drop_pagecache(machine.kernel.mm)
    for start in range(0, pages, 50):
        assert machine.read_file("out", start * PAGE_SIZE, PAGE_SIZE) == bytes((start // 50 % 250 + 1,)) * PAGE_SIZE


def pressure(machine, rng, steps, most_held=15000):
    model, held = {}, []
    for number, pages in enumerate((500, 20000)):
        machine.create_file(f"f{number}", pages)
        model[f"f{number}"] = {}
    for _ in range(steps):
        act, name = rng.randrange(6), rng.choice(sorted(model))
        pages = machine.kernel.mm.files.nr_pages[1 + int(name[1])]
        start, count = rng.randrange(pages), rng.choice([1, 30, 2500])
        count = min(count, pages - start)
        if act < 2:
            got = machine.read_file(name, start * PAGE_SIZE, count * PAGE_SIZE)
            want = (model[name].get(n, n % 251 + 1) for n in range(start, start + count))
            assert got[::PAGE_SIZE] == bytes(want)
        elif act < 4:
            byte = rng.randrange(256)
            machine.write_file(name, start * PAGE_SIZE, bytes((byte,)) * PAGE_SIZE * count)
            model[name].update(dict.fromkeys(range(start, start + count), byte))
        elif act == 4 and len(held) < most_held:
            for _ in range(5000):
                pfn = alloc_pages_inner(machine.kernel.mm, GFP_HIGHUSER_MOVABLE, 0, 0)
                if pfn is None:
                    break
                held.append(pfn)
        else:
            for _ in range(min(len(held), 3000)):
                put_page(machine.kernel.mm, held.pop())
            machine.tick(rng.randrange(40))
    machine.check()
    add_up(machine)
    assert machine.kernel.mm.vm_event[PGSTEAL_FILE] > 100
    return model


@pytest.mark.parametrize("seed", range(3))
def test_under_random_pressure_nothing_is_lost(machine, seed):
    model = pressure(machine, random.Random(seed), 60)
    machine.sync()
    for name, changed in model.items():
        for n, byte in list(changed.items())[::37]:
            assert machine.read_file(name, n * PAGE_SIZE, 1) == bytes((byte,))


def test_a_run_under_pressure_rewinds(machine):
    machine.create_file("big", 30000)
    stream(machine, "big", 24000)
    mm = machine.kernel.mm
    with machine.recording() as timeline:
        for start in range(24000, 27000, 64):
            machine.read_file("big", start * PAGE_SIZE, 64 * PAGE_SIZE)
        end = list(mm.vm_event), list(mm.page.lru.next), mm.current.jiffies
        timeline.rewind(30)
        timeline.rewind(0)
        machine.check()
        timeline.to_end()
        assert (list(mm.vm_event), list(mm.page.lru.next), mm.current.jiffies) == end
    machine.check()


# -- seeded defects ----------------------------------------------------------------------------------------------------


def loses_what_it_took(mm, pgdat, nr_to_scan, lru, sc):
    taken, scanned = isolate_lru_folios.original(mm, pgdat, nr_to_scan, lru, sc)
    return taken[1:], scanned


def gives_back_half(mm, pgdat, folios):
    return move_folios_to_lru.original(mm, pgdat, folios[::2])


def marks_after_listing(mm, pgdat, folios):
    moved = move_folios_to_lru.original(mm, pgdat, folios)
    for pfn in folios[:1]:
        mm.page.flags[pfn] ^= 1 << PG_active
    return moved


def frees_dirty_pages(mm, pgdat, pfn, references, sc, stat):
    clear_page_flag(mm.page, pfn, PG_dirty)
    gone = remove_mapping_inner(mm, mm.page.mapping[pfn], pfn, reclaimed=True)
    return Fate.FREE if gone else Fate.KEEP_LOCKED


def forgets_who_it_belonged_to(mm, mapping, pfn, reclaimed):
    done = remove_mapping_inner.original(mm, mapping, pfn, reclaimed)
    mm.mappings.nrpages[mapping] += done
    return done


def batches_freed_backwards(lines):
    """Of kswapd's batches of at least two pages of files: how many were freed in reverse order, and how many in all."""
    taken, freed, backwards, batches = [], [], 0, 0
    for line in lines:
        pfn = re.search(r"pfn=0x(\w+)", line)
        if "mm_filemap_delete_from_page_cache:" in line:
            if freed:
                batches += len(taken) > 1
                backwards += len(taken) > 1 and freed == taken[::-1]
                taken, freed = [], []
            taken.append(pfn[1])
        elif "mm_page_free:" in line:
            freed.append(pfn[1])
    return backwards, batches


def test_what_is_reclaimed_together_is_freed_last_one_first(machine):
    """As on a real machine: the page that was used longest ago is freed last, so it is the next to be handed out."""
    trace = lzma.decompress((TRACES / "oom-192m" / "events.txt.xz").read_bytes()).decode().splitlines()
    assert batches_freed_backwards(line for line in trace if "kswapd0-" in line) == (422, 424)

    mm, zone = machine.kernel.mm, machine.zones[-1]
    machine.create_file("data", 400)
    stream(machine, "data", 400)
    lru_add_drain(mm)
    drain_all_pages(mm)
    head = mm.node_data[0].lruvec.head + LRU_INACTIVE_FILE
    oldest = [mm.page.lru.prev[head]]
    while len(oldest) < 32:
        oldest.append(mm.page.lru.prev[oldest[-1]])
    sc = ScanControl(GFP_KERNEL, reclaim_idx=3)
    assert shrink_list(mm, mm.node_data[0], LRU_INACTIVE_FILE, 32, sc) == 32
    waiting = zone.per_cpu_pageset.count[0]
    assert 0 < waiting <= 32  # the rest went on to the buddy, those that had waited longest first
    assert [machine.alloc_pages(GFP_HIGHUSER_MOVABLE) for _ in range(waiting)] == oldest[:waiting]


def test_dropping_caches_makes_what_it_can_not_drop_cold_and_forgets_shadows(machine):
    mm = machine.kernel.mm
    machine.create_file("data", 200)
    stream(machine, "data", 200, step=40)
    stream(machine, "data", 200, step=40)  # used again: active
    machine.write_file("data", 0, b"changed" * 10_000)
    lru_add_drain(mm)
    try_to_free_pages(mm, GFP_KERNEL, 0, 0)
    both = 1 << PG_active | 1 << PG_dirty
    warm = [pfn for pfn in range(mm.page.max_pfn) if mm.page.flags[pfn] & both == both]
    dirty, deactivated = stat(machine, "nr_dirty"), mm.vm_event[PGDEACTIVATE]
    assert len(warm) >= 18
    drop_pagecache(mm)
    assert mm.vm_event[PGDEACTIVATE] - deactivated == len(warm)
    assert not any(page_has_flag(mm.page, pfn, PG_active) for pfn in warm)
    assert stat(machine, "nr_file_pages") == stat(machine, "nr_dirty") == dirty
    machine.read_file("data")
    assert stat(machine, "workingset_refault_file") == 0


def test_a_large_block_is_left_to_compaction_only_where_it_has_pages_to_spare(machine):
    zone = machine.zones[-1]
    sc, no_io = ScanControl(GFP_KERNEL, 9, reclaim_idx=3), ScanControl(GFP_NOIO, 9, reclaim_idx=3)
    assert [in_reclaim_compaction(sc), in_reclaim_compaction(no_io)] == [True, False]
    assert [compaction_ready(zone, sc), compaction_ready(zone, no_io)] == [True, False]  # there is a block
    while any(zone.nr_free[9:]):
        machine.alloc_pages(GFP_KERNEL, next(order for order in range(MAX_ORDER - 1, 8, -1) if zone.nr_free[order]))
    gap = 2 << 9
    for free, ready in ((wmark_pages(zone, WMARK_HIGH) + gap, False), (wmark_pages(zone, WMARK_HIGH) + gap + 1, True)):
        kept, zone.vm_stat[NR_FREE_PAGES] = zone.vm_stat[NR_FREE_PAGES], free
        assert compaction_suitable(zone, 9, 3) is CompactResult.CONTINUE
        assert compaction_ready(zone, sc) is ready
        zone.vm_stat[NR_FREE_PAGES] = kept


DEFECTS = (
    (isolate_lru_folios, loses_what_it_took),
    (move_folios_to_lru, gives_back_half),
    (move_folios_to_lru, marks_after_listing),
    (fate_of_dirty, frees_dirty_pages),
    (remove_mapping_inner, forgets_who_it_belonged_to),
)


def one_run(machine):
    """Clean and dirty pages, a run of reclaim over all of them, and what must hold then: the laws, and the contents."""
    machine.create_file("data", 600)
    for start in range(0, 600, 100):
        machine.read_file("data", start * PAGE_SIZE, 50 * PAGE_SIZE)
        machine.write_file("data", start * PAGE_SIZE, b"z" * PAGE_SIZE * 20)
    mm = machine.kernel.mm
    for _ in range(12):
        try_to_free_pages(mm, GFP_KERNEL, 0, 0)
    machine.check()
    machine.sync()
    machine.check()
    for start in range(0, 600, 100):
        assert machine.read_file("data", start * PAGE_SIZE, 20 * PAGE_SIZE) == b"z" * PAGE_SIZE * 20


def test_a_run_over_clean_and_dirty_pages(machine):
    one_run(machine)
    assert machine.kernel.mm.vm_event[PGSTEAL_DIRECT] >= 64


@pytest.mark.parametrize(("right", "wrong"), DEFECTS, ids=[wrong.__name__ for _, wrong in DEFECTS])
def test_the_laws_catch(machine, right, wrong):
    with livepatch(right, wrong), pytest.raises((BrokenLaw, AssertionError, KmemlabError)):
        one_run(machine)
