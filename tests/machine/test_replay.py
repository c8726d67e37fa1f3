"""Exact replay: real traces end page for page, rules one by one on small ones, and a spoiled model is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kmemlab.cli import main
from kmemlab.machine.replay import replay
from kmemlab.machine.replay_memory import blocks_taken
from kmemlab.mm.buddy import buddy_merge_likely, expand, find_buddy_pfn, free_one_page, page_is_buddy, rmqueue_smallest
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    Zone,
    add_to_free_list,
    add_to_free_list_tail,
    bare_zone,
    del_page_from_free_list,
)
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadCapture
from tests.machine.traces import TRACES, copy_of, line, page, replayed, write_trace

# -- real traces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["forkstorm-256m", "oom-192m"])
def test_the_model_ends_with_the_free_pages_of_linux(name: str) -> None:
    report = replayed(name)
    assert report.mismatched_pages == 0
    assert [zone.model for zone in report.zones] == [zone.linux for zone in report.zones]
    assert report.skipped_lines == 0
    assert report.facts["contradictions"] == {}
    assert report.facts["heads_known"] == report.facts["heads_agree"] > 100
    assert report.seconds * 200_000 / report.events < 5


def test_free_pages_agree_on_the_way() -> None:
    times = {at.mark: (at.model, at.linux) for at in replayed("oom-192m").over_time}
    assert times["samples/001 begin"] == (4342, 4342)
    assert times["samples/002 begin"] == (719, 719)
    assert times["after begin"] == (21333, 21333)


def test_lines_that_are_no_events_are_told_and_change_nothing(tmp_path: Path) -> None:
    import lzma

    trace = copy_of("oom-192m", tmp_path)
    path = trace / "events.txt.xz"
    lines = lzma.decompress(path.read_bytes()).decode().split("\n")
    lines[30_000:30_000] = ["what is this?", line("mm_page_free", "page=ffffea0000197300 pfn=0x65")]
    lines.insert(40_000, line("mm_page_free", page(0xFFFFFF, 0)))
    path.unlink()
    (trace / "events.txt").write_text("\n".join(lines))
    report = replay(trace / "events.txt")
    assert [bad.line for bad in report.skipped] == [30_001, 30_002, 40_001]
    assert report.skipped_lines == 3
    assert report.mismatched_pages == 0


# -- a model with a defect ---------------------------------------------------------------------------------------------


def never_joins(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    zone.vm_stat[NR_FREE_PAGES] += 1 << order
    add_to_free_list(zone, pfn, order, migratetype)


def stops_a_step_early(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    zone.vm_stat[NR_FREE_PAGES] += 1 << order
    while order < 9 and page_is_buddy(zone, find_buddy_pfn(pfn, order), order):
        del_page_from_free_list(zone, find_buddy_pfn(pfn, order), order)
        pfn &= find_buddy_pfn(pfn, order)
        order += 1
    add_to_free_list(zone, pfn, order, migratetype)


def loses_odd_blocks(zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    if pfn % 64 != 5:
        free_one_page.original(zone, pfn, order, migratetype, fpi_flags)  # type: ignore[attr-defined]


def never_likely(zone: Zone, pfn: int, order: int) -> bool:
    return False


def always_likely(zone: Zone, pfn: int, order: int) -> bool:
    return True


def tail_is_head(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    add_to_free_list(zone, pfn, order, migratetype)


def joins_strangers(zone: Zone, buddy_pfn: int, order: int) -> bool:
    return bool(zone.page.buddy[buddy_pfn])


def takes_the_last(zone: Zone, order: int, migratetype: int) -> int | None:
    for current_order in range(order, 11):
        head = zone.free_list[current_order][migratetype]
        last = zone.page.lru.prev[head]
        if last != head:
            del_page_from_free_list(zone, last, current_order)
            expand(zone, last, order, current_order, migratetype)
            return last
    return None


def loses_halves(zone: Zone, pfn: int, low: int, high: int, migratetype: int) -> None:
    pass


@pytest.mark.parametrize(
    ("function", "defect"),
    [
        (free_one_page, never_joins),
        (free_one_page, stops_a_step_early),
        (free_one_page, loses_odd_blocks),
        (buddy_merge_likely, never_likely),
        (buddy_merge_likely, always_likely),
        (add_to_free_list_tail, tail_is_head),
        (page_is_buddy, joins_strangers),
        (rmqueue_smallest, takes_the_last),
        (expand, loses_halves),
    ],
    ids=lambda function: function.__name__,
)
def test_a_defect_of_the_buddy_shows(function: Callable[..., object], defect: Callable[..., object]) -> None:
    with livepatch(function, defect):
        report = replay(TRACES / "oom-192m")
    assert report.mismatched_pages > 0


# -- the rules, one by one ---------------------------------------------------------------------------------------------

LOCKED, ALLOC = "mm_page_alloc_zone_locked", "mm_page_alloc"
FREE, BATCHED, DRAIN, STEAL = "mm_page_free", "mm_page_free_batched", "mm_page_pcpu_drain", "mm_page_alloc_extfrag"
REFILL, KERNEL = " migratetype=1 percpu_refill=1", " migratetype=1 gfp_flags=GFP_KERNEL"


def off(folder: Path, lines: list[str], before: list[tuple[int, int]], after: list[tuple[int, int]]) -> int:
    return replay(write_trace(folder / "trace", lines, before, after)).mismatched_pages


def test_a_page_goes_from_the_buddy_through_the_cpu_to_its_user_and_back(tmp_path: Path) -> None:
    there = [line(LOCKED, page(16, 0, REFILL)), line(ALLOC, page(16, 0, KERNEL))]
    assert off(tmp_path / "1", there, [(16, 32)], [(17, 32)]) == 0
    freed = [*there, line(FREE, page(16, 0)), line(BATCHED, page(16, 0))]
    assert off(tmp_path / "2", freed, [(16, 32)], [(17, 32)]) == 0
    drained = [*freed, line(DRAIN, page(16, 0, " migratetype=1"))]
    assert off(tmp_path / "3", drained, [(16, 32)], [(16, 32)]) == 0


def test_large_blocks_pass_the_cpu_by_and_huge_pages_do_not(tmp_path: Path) -> None:
    freed = [line(FREE, page(64, 4))]
    assert off(tmp_path / "1", freed, [], [(64, 80)]) == 0
    assert off(tmp_path / "2", [line(FREE, page(512, 9))], [], []) == 0
    assert off(tmp_path / "3", [line(FREE, page(512, 10))], [], []) == 0  # not aligned: told, and passed over
    assert off(tmp_path / "4", [line(FREE, page(1024, 10))], [], [(1024, 2048)]) == 0


@pytest.mark.parametrize(
    ("last", "flags", "direct"),
    [
        (BATCHED, "..s2.", True),
        (DRAIN, "d.h3.", True),
        (BATCHED, "..s1.", False),
        (BATCHED, "...2.", False),
        (FREE, "..s2.", False),
    ],
)
def test_an_interrupt_that_finds_the_lists_locked_frees_to_the_buddy(
    last: str, flags: str, direct: bool, tmp_path: Path
) -> None:
    more = " migratetype=1" if last == DRAIN else ""
    lines = [line(last, page(100, 0, more)), line(FREE, page(8, 0), flags=flags)]
    drained = [(100, 101)] if last == DRAIN else []
    assert off(tmp_path, lines, [], [(8, 9), *drained] if direct else drained) == 0


def test_events_outside_the_window_change_nothing(tmp_path: Path) -> None:
    folder = write_trace(tmp_path / "trace", [], [(0, 64)], [(0, 64)])
    path = folder / "events.txt"
    outside = line(LOCKED, page(0, 0, REFILL)) + "\n"
    path.write_text(outside + path.read_text() + outside)
    assert replay(folder).mismatched_pages == 0


def test_compaction_takes_whole_blocks_in_ascending_order(tmp_path: Path) -> None:
    lines = [line("mm_compaction_isolate_freepages", "range=(0x10 ~ 0x30) nr_scanned=32 nr_taken=8")]
    assert off(tmp_path, lines, [(4, 8), (20, 24), (40, 44), (50, 51)], [(4, 8), (50, 51)]) == 0


def steal(pfn: int, order: int, change: int) -> str:
    block = f"page=ffffea0000000000 pfn=0x{pfn:x} alloc_order=0 fallback_order={order} pageblock_order=9"
    return line(STEAL, f"{block} alloc_migratetype=0 fallback_migratetype=1 fragmenting=1 change_ownership={change}")


def test_a_steal_is_followed_by_its_block_until_6_10_and_is_the_block_from_then_on(tmp_path: Path) -> None:
    lines = [steal(32, 5, 1), line(LOCKED, page(32, 0, " migratetype=0 percpu_refill=1"))]
    assert off(tmp_path / "6.1", lines, [(32, 64)], [(33, 64)]) == 0
    later = write_trace(tmp_path / "6.12", lines[:1], [(32, 64)], [(33, 64)])
    (later / "version.txt").write_text("Linux version 6.12.117+deb12-amd64")
    assert replay(later).mismatched_pages == 0
    both = write_trace(tmp_path / "both", lines[::-1], [(32, 64)], [(33, 64)])
    (both / "version.txt").write_text("Linux version 6.12.117+deb12-amd64")
    assert replay(both).mismatched_pages == 0


def test_a_page_that_comes_to_an_lru_list_was_taken_with_its_whole_block(tmp_path: Path) -> None:
    inserted = line("mm_lru_insertion", "folio=ffffea0000000880 pfn=0x22 lru=2 flags= f  d ")
    assert off(tmp_path / "taken", [inserted], [(32, 40)], []) == 0
    unused = [line(FREE, page(pfn, 0)) for pfn in (0x26, 0x27)] + [line(DRAIN, page(0x26, 1, " migratetype=1"))]
    assert off(tmp_path / "some_back", [inserted, *unused], [(32, 40)], [(0x26, 0x28)]) == 0


@pytest.mark.parametrize(
    ("scanned", "taken", "blocks"),
    [
        (128, 4, [(10, 0), (17, 0), (20, 1)]),  # every page: single pages, too
        (9 + 3, 4, [(32, 2)]),  # every 16th of 144 pages: of the blocks only the one that begins at such a page
        (0, 0, []),
    ],
)
def test_the_free_scanner_takes_what_lies_on_its_way(scanned: int, taken: int, blocks: list[tuple[int, int]]) -> None:
    zone = bare_zone(1024)
    free = [(10, 0), (17, 0), (20, 1)] + ([(32, 2)] if taken and scanned < 100 else [])
    for pfn, order in free:
        free_one_page(zone, pfn, order, 1)
    assert blocks_taken(zone, 0, 144 if scanned < 100 else 128, scanned, taken) == blocks


def test_a_request_that_failed_takes_nothing(tmp_path: Path) -> None:
    failed = f"page=0000000000000000 pfn=0x0 order=3{KERNEL}"
    report = replay(write_trace(tmp_path / "trace", [line(ALLOC, failed)], [(0, 8)], [(0, 8)]))
    assert (report.mismatched_pages, report.skipped_lines) == (0, 0)


def test_an_event_that_the_lists_contradict_wins(tmp_path: Path) -> None:
    lines = [line(LOCKED, page(0, 1, REFILL)), line(FREE, page(4, 0)), line(DRAIN, page(8, 2, " migratetype=1"))]
    report = replay(write_trace(tmp_path / "trace", lines, [(1, 2), (4, 12)], [(5, 12)]))
    assert report.mismatched_pages == 0
    assert sum(report.facts["contradictions"].values()) == 3
    assert report.facts["first_contradiction"].startswith("line 4: mm_page_alloc_zone_locked of 0x0")


def test_pages_that_differ_are_counted_on_both_sides(tmp_path: Path) -> None:
    report = replay(write_trace(tmp_path / "trace", [], [(0, 8), (64, 65)], [(0, 4), (100, 103)]))
    [zone] = report.zones
    assert (zone.free_in_model_only, zone.free_in_linux_only, report.mismatched_pages) == (5, 3, 8)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(TRACES / "oom-192m")]) == 0
    out, err = capsys.readouterr()
    assert "all 21,333 pages that Linux had free at the end are free in the model, and no other" in out
    assert "samples/002 begin" in out
    assert err == ""


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--json", str(TRACES / "oom-192m")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["events"] == 157_948
    assert (report["mismatched_pages"], report["skipped_lines"], report["skipped"]) == (0, 0, [])
    assert 0 < report["seconds"] < 60
    assert [zone["buddyinfo"] for zone in report["zones"]] == [zone["buddyinfo_real"] for zone in report["zones"]]


def test_the_summary_tells_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["what is this?", line(LOCKED, page(0, 1, REFILL))]
    folder = write_trace(tmp_path / "trace", lines, [(1, 2), (4, 12)], [(5, 12)])
    assert main(["replay", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "1 pages differ: 1 are free in the model only, 0 in Linux only" in out
    assert "the first: line 5: mm_page_alloc_zone_locked of 0x0, order 1: it was not all free" in out
    assert "line 4: no line of a trace" in out


@pytest.mark.parametrize("spoil", ["after", "before end", "after end", "events", "gz", "everything"])
def test_a_trace_that_can_not_be_used_is_an_error_of_ours(
    spoil: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gzip
    import shutil

    folder = write_trace(tmp_path / "trace", [line(FREE, page(8, 0))], [], [])
    path = folder / "events.txt"
    if spoil == "after":
        shutil.rmtree(folder / "after")
    elif spoil == "events":
        path.write_text("hello\n")
    elif spoil == "gz":
        (folder / "events.txt.gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    elif spoil == "everything":
        shutil.rmtree(folder)
    else:
        path.write_text("\n".join(row for row in path.read_text().split("\n") if spoil not in row))
    assert main(["replay", "--json", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kmemlab: ")
    assert "remedy:" in err


def test_without_before_and_machine_nothing_tells_what_was_free(tmp_path: Path) -> None:
    import shutil

    folder = write_trace(tmp_path / "trace", [line(FREE, page(8, 0))], [], [])
    shutil.rmtree(folder / "before")
    with pytest.raises(BadCapture, match=r"hardware\.json"):
        replay(folder)
