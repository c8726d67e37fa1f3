"""Policy replay: given Linux's requests and frees alone, the model decides nearly always as Linux did."""

from __future__ import annotations

import json
import lzma
import random
from pathlib import Path

import pytest

from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.alloc.page_alloc import gfp_migratetype
from kmemlab.alloc.slab_common import kmem_cache_free
from kmemlab.cli import main
from kmemlab.machine.machine import Machine
from kmemlab.machine.policy_report import PolicyReport, replay_policy
from kmemlab.machine.replay_counters import FreePageCounts
from kmemlab.machine.replay_memory import ReplayMemory
from kmemlab.machine.replay_policy import batched_frees
from kmemlab.machine.replay_reclaim import TracedKswapd, kswapd_runs
from kmemlab.machine.replay_start import first_types, waiting_in_pcp
from kmemlab.machine.saved_state import KPF_LRU, SavedState
from kmemlab.machine.trace_reader import SkippedLines, TraceEvent, read_events
from kmemlab.mm.fallback import find_suitable_fallback, rmqueue_fallback, steal_suitable_fallback
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import ZONE_RECLAIM_ACTIVE, Zone
from kmemlab.mm.zone_watermark_ok import zone_watermark_fast
from kmemlab.sim.livepatch import livepatch
from tests.machine.traces import TRACES, copy_of, line, page, write_trace


@pytest.fixture(scope="module")
def reports() -> dict[str, PolicyReport]:
    return {name: replay_policy(TRACES / name) for name in ("forkstorm-256m", "oom-192m")}


@pytest.mark.parametrize("name", ["forkstorm-256m", "oom-192m"])
def test_the_model_chooses_as_linux_did(name: str, reports: dict[str, PolicyReport]) -> None:
    facts = reports[name].facts
    assert facts["requests"] > 10_000
    assert facts["zone_agree"] >= 99
    assert facts["migratetype_agree"] >= 95
    assert abs(facts["fallbacks"] - facts["fallbacks_real"]) <= max(3, 0.2 * facts["fallbacks_real"])


def test_free_pages_are_followed_on_the_way(reports: dict[str, PolicyReport]) -> None:
    rows = {at.mark: at for at in reports["oom-192m"].over_time}
    assert rows["samples/001 begin"].free == (("0/DMA", 3808, 3808), ("0/DMA32", 534, 534))
    assert len(rows) >= 8
    requests = [at.requests for at in reports["oom-192m"].over_time]
    assert requests == sorted(requests)


def test_the_same_objects_take_as_many_slabs(reports: dict[str, PolicyReport]) -> None:
    facts = reports["forkstorm-256m"].facts
    assert facts["slabs_change_real"] == 60
    assert abs(facts["slabs_change"] - 60) <= 6


def loses_every_tenth(cache: KmemCache, address: int, caller: int = 0) -> None:
    if address // cache.size % 10:
        kmem_cache_free.original(cache, address, caller)  # type: ignore[attr-defined]


def test_a_slub_that_loses_objects_is_found_out() -> None:
    with livepatch(kmem_cache_free, loses_every_tenth):
        facts = replay_policy(TRACES / "forkstorm-256m").facts
    assert facts["slabs_change"] > 66


def always_enough(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, gfp: int) -> bool:
    return True


def all_unmovable(mm: Mm, gfp: int) -> int:
    return 0


def never_largest_first(mm: Mm, zone: Zone, order: int, start_migratetype: int, alloc_flags: int) -> bool:
    for current_order in range(order, MAX_ORDER):
        fallback = find_suitable_fallback(zone, current_order, start_migratetype)
        if fallback is not None:
            pfn = zone.page.lru.next[zone.free_list[current_order][fallback]]
            steal_suitable_fallback(mm, zone, pfn, alloc_flags, start_migratetype, False)
            return True
    return False


def test_a_model_that_ignores_watermarks_is_found_out() -> None:
    with livepatch(zone_watermark_fast, always_enough):
        assert replay_policy(TRACES / "oom-192m").facts["zone_agree"] < 99


def test_a_model_that_mixes_types_is_found_out() -> None:
    with livepatch(gfp_migratetype, all_unmovable):
        assert replay_policy(TRACES / "forkstorm-256m").facts["migratetype_agree"] < 95


def test_a_model_that_borrows_small_blocks_is_found_out() -> None:
    with livepatch(rmqueue_fallback, never_largest_first):
        facts = replay_policy(TRACES / "oom-192m").facts
    assert facts["fallbacks"] > facts["fallbacks_real"] + 3


# -- what is read out of a trace's first events ------------------------------------------------------------------------


def events(*lines: str) -> list[TraceEvent]:
    skipped = SkippedLines()
    read = list(read_events(lines, skipped))
    assert skipped.count == 0
    return read


def test_a_pageblock_has_the_type_that_its_first_event_names() -> None:
    read = events(
        line("mm_page_free", page(5, 0)),
        line("mm_page_alloc_zone_locked", page(8, 0, " migratetype=2 percpu_refill=1")),
        line("mm_page_pcpu_drain", page(9, 0, " migratetype=1")),
        line("mm_page_pcpu_drain", page(600, 0, " migratetype=1")),
        line(
            "mm_page_alloc_extfrag",
            "page=ffffea0000000000 pfn=0x400 alloc_order=0 fallback_order=10 pageblock_order=9 "
            "alloc_migratetype=1 fallback_migratetype=0 fragmenting=0 change_ownership=1",
        ),
    )
    assert first_types(read, 9) == {0: 2, 1: 1, 2: 0, 3: 0}


def test_what_is_handed_out_without_having_been_free_waited_in_a_list() -> None:
    alloc, drain = " migratetype=1 gfp_flags=GFP_KERNEL", " migratetype=1"
    read = events(
        line("mm_page_alloc", page(5, 0, alloc)),
        line("mm_page_free", page(6, 0)),
        line("mm_page_alloc", page(7, 0, alloc)),
        line("mm_page_pcpu_drain", page(20, 0, drain)),
        line("mm_page_pcpu_drain", page(22, 0, drain)),
        line("mm_page_alloc", page(9, 0, alloc)),
        line("mm_page_alloc", page(6, 0, alloc)),
        line("mm_page_alloc", page(32, 4, alloc)),
    )
    free = bytearray(64)
    free[9] = 1
    nothing_known = SavedState((), {}, ())
    assert [event.fields[0] for event in waiting_in_pcp(read, free, nothing_known, 9)] == [5, 7, 22, 20]
    # A page on an LRU list was in use, also where the trace has lost that it was given back.
    listed = SavedState((), {}, ((7, 1, 1 << KPF_LRU), (20, 2, 1 << KPF_LRU)))
    assert [event.fields[0] for event in waiting_in_pcp(read, free, listed, 9)] == [5, 22]


def test_the_pages_of_a_list_reach_the_cpu_later() -> None:
    read = events(
        line("mm_page_free", page(5, 0)),
        line("mm_page_free", page(6, 0)),
        line("mm_page_free_batched", page(5, 0)),
        line("mm_page_free", page(5, 0)),
    )
    assert batched_frees(read) == {0}


def test_kswapd_runs_from_its_wake_to_its_last_event() -> None:
    def kswapd(event: str, fields: str) -> str:
        return line(event, fields).replace("            task-7 ", "         kswapd0-37")

    read = events(
        line("mm_vmscan_wakeup_kswapd", "nid=0 order=0 gfp_flags=GFP_KERNEL"),
        kswapd("mm_vmscan_kswapd_wake", "nid=0 order=0"),
        line("mm_page_free", page(6, 0)),
        kswapd("mm_page_free", page(7, 0)),
        line("mm_page_free", page(8, 0)),
        kswapd("mm_vmscan_kswapd_wake", "nid=0 order=0"),
        kswapd("mm_vmscan_lru_isolate", "isolate_mode=0 classzone=1 order=0"),
        kswapd("mm_vmscan_kswapd_sleep", "nid=0"),
    )
    names = ("DMA", "DMA32", "Normal", "Movable", "Device")
    runs = [(run.start, run.end, run.highest) for run in kswapd_runs(read, names, {})]
    assert runs == [(1, 3, 2), (5, 6, 1)]


def test_a_list_that_is_cut_early_shows_that_kswapd_runs(empty_kswapd: TracedKswapd) -> None:
    [zone] = [zone for zone in empty_kswapd.zones if zone.name == "DMA32"]
    batch, high = zone.per_cpu_pageset.batch[0], zone.per_cpu_pageset.high[0]
    empty_kswapd.list_was_cut(zone, 0, high)
    assert not zone.flags & ZONE_RECLAIM_ACTIVE
    empty_kswapd.list_was_cut(zone, 0, 4 * batch)
    assert zone.flags & ZONE_RECLAIM_ACTIVE
    empty_kswapd.before(0)  # kswapd is woken: it had waited
    assert not zone.flags & ZONE_RECLAIM_ACTIVE


@pytest.fixture
def empty_kswapd() -> TracedKswapd:
    mm = Machine.boot("laptop-8g").kernel.mm
    real = ReplayMemory(mm.page, tuple(mm.populated_zones()))
    return TracedKswapd(mm, real, events(line("mm_vmscan_wakeup_kswapd", "nid=0 order=0 gfp_flags=GFP_KERNEL")))


def test_a_cpu_keeps_small_changes_of_the_free_pages_to_itself_for_a_second() -> None:
    mm = Machine.boot("laptop-8g").kernel.mm
    counts, zone = FreePageCounts(mm), mm.populated_zones()[0]
    threshold = zone.stat_threshold
    counts.passes(0, 7.9)
    for _ in range(threshold):
        counts.change(zone, 1)
    assert counts.kept[zone.slot][0] == threshold
    counts.change(zone, 1)
    assert counts.kept[zone.slot][0] == 0
    counts.change(zone, -1)
    counts.passes(0, 7.95)
    assert counts.kept[zone.slot][0] == -1
    counts.passes(0, 8.01)
    assert counts.kept[zone.slot][0] == 0


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_shares_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--policy", str(TRACES / "forkstorm-256m")]) == 0
    out = capsys.readouterr().out
    assert "100.00 % from the zone that Linux chose" in out
    assert "8 of 8" in out


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--policy", "--json", str(TRACES / "oom-192m")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 99 <= report["zone_agree"] <= 100
    assert 95 <= report["migratetype_agree"] <= 100
    assert {"fallbacks", "fallbacks_real"} <= report.keys()
    assert report["slabs_change"] is report["slabs_change_real"] is None


DAMAGE: tuple[tuple[str, str], ...] = (
    ("order=0", "order=10"),
    ("pfn=0x", "pfn=0x7"),
    ("[000]", "[003]"),
    ("mm_page_alloc:", "mm_page_free:"),
    ("GFP_HIGHUSER", "GFP_DMA|GFP_DMA32"),
    ("migratetype=1", "migratetype=4"),
)


@pytest.mark.parametrize("mode", [[], ["--policy"]])
def test_a_damaged_trace_is_replayed_to_its_end(
    mode: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(1)
    trace = copy_of("oom-192m", tmp_path)
    lines = lzma.decompress((trace / "events.txt.xz").read_bytes()).decode().split("\n")
    for at in generator.sample(range(1000, 150_000), 2000):
        if "tracing_mark" not in lines[at]:
            lines[at] = lines[at].replace(*generator.choice(DAMAGE))
    (trace / "events.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode(), preset=0))
    assert main(["replay", "--json", *mode, str(trace)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["skipped_lines"] > 100
    assert all(0 < bad["line"] <= len(lines) and bad["what"] for bad in report["skipped"])


@pytest.mark.parametrize("spoil", ["before", "hardware.json", "version.txt"])
def test_a_trace_that_the_model_can_not_decide_for_is_an_error_of_ours(
    spoil: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = copy_of("forkstorm-256m", tmp_path)
    if spoil == "before":
        (trace / spoil).rename(trace / "elsewhere")
    elif spoil == "version.txt":
        (trace / spoil).write_text("Linux version 6.12.117+deb12-amd64")
    else:
        (trace / spoil).unlink()
    assert main(["replay", "--policy", str(trace)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "remedy:" in err


def test_the_hardware_must_be_that_of_the_trace(tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "trace", [line("mm_page_free", page(8, 0))], [], [])
    (trace / "hardware.json").write_bytes((TRACES / "oom-192m" / "hardware.json").read_bytes())
    assert main(["replay", "--policy", str(trace)]) == 2
