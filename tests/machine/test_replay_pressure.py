"""Replay under pressure: given what programs did, the model reclaims when and as much as Linux did."""

from __future__ import annotations

import json
import lzma
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from kmemlab.cli import main
from kmemlab.machine.machine import Machine
from kmemlab.machine.pressure_replay import PressureReplay, WakeUp
from kmemlab.machine.pressure_report import (
    PressureReport,
    booted,
    free_pages_of_linux,
    linux_wakeups,
    matched,
    put_in_place,
    readable,
    replay_pressure,
)
from kmemlab.machine.pressure_sched import EXITING
from kmemlab.machine.pressure_tasks import MOST_TASKS, TraceTasks
from kmemlab.machine.pressure_threads import EXIT_BATCH, EXIT_ROUND, EXIT_TIME, UNMAP_TIME
from kmemlab.machine.pressure_work import Act, Content, Kind, Step, WorkReader, victim_of
from kmemlab.machine.replay import Trace
from kmemlab.machine.replay_exact import ExactReplay
from kmemlab.machine.replay_memory import ReplayMemory, free_page_map, memory_of_saved
from kmemlab.machine.saved_state import KPF_SLAB, read_saved_state
from kmemlab.machine.trace_reader import SkippedLines, TraceEvent, read_events
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import lru_add_drain
from kmemlab.mm.lruvec import LRU_INACTIVE_FILE
from kmemlab.mm.node import PglistData
from kmemlab.mm.zone import Zone
from kmemlab.mm.zone_watermark_ok import zone_watermark_ok
from kmemlab.process.oom_badness import oom_badness
from kmemlab.process.task_struct import TaskStruct
from kmemlab.reclaim.kswapd import balance_pgdat
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadCapture
from kmemlab.types.gfp import __GFP_MOVABLE as GFP_MOVABLE
from kmemlab.types.gfp import __GFP_NOFAIL as GFP_NOFAIL
from kmemlab.types.gfp import GFP_NOFS
from tests.machine.traces import TRACES, copy_of

NOFAIL = GFP_NOFS | GFP_NOFAIL | GFP_MOVABLE
KEYS = (
    "mean_abs_error_pages", "managed_pages", "reclaimed", "reclaimed_real", "wakeups_matched", "wakeups_real",
    "wakeups_extra", "oom_victim", "oom_victim_real",
)  # fmt: skip


@pytest.fixture(scope="module")
def oom() -> PressureReport:
    return replay_pressure(TRACES / "oom-192m")


@pytest.fixture(scope="module")
def again() -> PressureReport:
    return replay_pressure(TRACES / "oom-192m-again-until-002")


@pytest.fixture(scope="module")
def files() -> PressureReport:
    return replay_pressure(TRACES / "files-128m-until-002")


# -- real machines -----------------------------------------------------------------------------------------------------


def test_a_machine_that_runs_out_of_memory(oom: PressureReport) -> None:
    assert oom.mean_abs_error_pages <= 0.02 * oom.managed_pages
    assert abs(oom.facts["reclaimed"] - 6145) <= 0.15 * 6145
    assert oom.facts["reclaimed_real"] == 6145  # pgsteal_kswapd + pgsteal_direct of after/vmstat.txt
    assert oom.wakeups_matched >= 0.9 * 22
    assert oom.wakeups_extra <= 0.25 * 22
    assert len(oom.wakeups_linux) == 22
    assert oom.facts["oom_victim"] == oom.facts["oom_victim_real"] == 113


def test_a_trace_that_nothing_was_fitted_to(again: PressureReport) -> None:
    assert again.misses == ()
    assert again.facts["reclaimed_real"] == 6145
    assert again.facts["oom_victim"] == 113


def test_a_victim_takes_its_time_to_give_back(again: PressureReport) -> None:
    """0.8 ms after the kill Linux had 488 free pages; a second later it has more than 20,000."""
    mark, _, model, linux = again.samples[2]
    assert (mark, linux) == ("samples/002 begin", 488)
    assert model == pytest.approx(488, abs=64)
    assert again.curve[-1].free > 20000


def test_a_victim_gives_pages_back_in_rounds() -> None:
    """Linux frees none before it has taken so many out of the page tables that an mmu_gather is full."""
    killed, freed = False, []
    for _, event in Trace(TRACES / "oom-192m").window(SkippedLines()):
        killed |= event.name == "mark_victim"
        if killed and event.name == "mm_page_free" and event.pid == 113:
            freed.append(event.time)
    rounds = [at for at in range(1, len(freed)) if freed[at] - freed[at - 1] > 0.0015]
    assert [then - first for first, then in pairwise(rounds)] == [EXIT_ROUND]


def test_of_a_round_nothing_is_free_before_all_is_unmapped() -> None:
    threads, left, freed = asleep_at_the_start().threads, 20_000, []

    def give_back(pages: int) -> int:
        nonlocal left
        left -= min(pages, left)
        return left

    threads.exit_further = give_back
    threads.cpu.wake(EXITING)
    seconds = 0.0
    while EXITING in threads.cpu.runnable:
        before, took = left, threads.exit_batch()
        seconds += took
        freed.append(before - left)
    first = next(at for at, pages in enumerate(freed) if pages)
    assert first == -(-EXIT_ROUND // EXIT_BATCH)  # rounded up
    assert sum(freed) == 20_000
    assert seconds == pytest.approx(20_000 * (UNMAP_TIME + EXIT_TIME), rel=0.1)


def test_half_of_a_victims_pages_are_back_when_linuxs_were(oom: PressureReport) -> None:
    linux = next(time for time, free in free_pages_of_linux(TRACES / "oom-192m", 256) if time > 6.4 and free > 10000)
    model = next(at.time for at in oom.curve if at.time > 6.4 and at.free > 10000)
    assert model == pytest.approx(linux, abs=0.010)  # of 67 ms that Linux took for all


def test_pages_from_before_the_trace_stand_in_the_order_in_which_they_were_read() -> None:
    """A file was read from its start to its end. Linux tells each page's place in it when the page goes."""
    place = {}
    for _, event in Trace(TRACES / "oom-192m").window(SkippedLines()):
        found = re.match(r"dev 254:0 ino \w+ pfn=0x(\w+) ofs=(\d+)", str(event.fields[0]) if event.fields else "")
        if event.name == "mm_filemap_delete_from_page_cache" and found:
            place.setdefault(int(found[1], 16), int(found[2]) >> 12)
    lruvec = asleep_at_the_start().mm.node_data[0].lruvec
    oldest_last = [pfn for pfn in list_for_each(lruvec.page.lru, lruvec.head + LRU_INACTIVE_FILE) if pfn in place]
    oldest_first = oldest_last[::-1]
    assert len(oldest_first) > 6000
    apart = [abs(place[pfn] - at) for at, pfn in enumerate(oldest_first)]
    assert sum(apart) / len(apart) < 200  # in any order it would be a third of 6,145


def test_blocks_of_a_mounted_file_system_stay(oom: PressureReport) -> None:
    # 6,151 pages of files were on the lists; Linux freed all but the six whose buffers ext4 held.
    assert oom.facts["reclaimed"] == pytest.approx(6145, abs=3)


def test_a_machine_that_reads_more_than_it_has_room_for(files: PressureReport) -> None:
    assert files.mean_abs_error_pages <= 0.02 * files.managed_pages
    assert abs(files.facts["reclaimed"] - files.facts["reclaimed_real"]) <= 0.15 * files.facts["reclaimed_real"]
    assert files.wakeups_matched >= 0.98 * len(files.wakeups_linux)
    assert files.wakeups_extra <= 0.25 * len(files.wakeups_linux)
    assert [mark for mark, _, _, _ in files.samples] == [f"samples/00{at} begin" for at in range(3)]


def test_kswapd_is_woken_by_the_very_request(files: PressureReport) -> None:
    model = [at.requests for at in files.wakeups]
    linux = [at.requests for at in files.wakeups_linux]
    assert model[:7] == pytest.approx(linux[:7], abs=1)
    assert sum(min(abs(mine - theirs) for mine in model) <= 8 for theirs in linux) >= 0.95 * len(linux)


def test_free_pages_are_linuxs_frame_by_frame() -> None:
    source, skipped = Trace(TRACES / "files-128m-until-002"), SkippedLines()
    found = [event for inside, event in source.window(skipped) if inside]
    run = put_in_place(booted(source), source, found)
    lists = memory_of_saved(read_saved_state(source.folder / "before"))
    model = ReplayMemory(run.mm.page, tuple(run.mm.populated_zones()))
    linux, followed = ExactReplay(lists, skipped, False), iter(found)
    compared: list[int] = []

    def request(step: Step) -> None:
        run.model.request(step)
        if step.time > 7.3 and len(compared) < 60 and not run.asked % 100:
            for event in followed:
                linux.follow(event)
                if event.line == step.line:
                    break
            pairs = zip(free_page_map(model), free_page_map(lists), strict=True)
            compared.append(sum(bool(mine) != bool(theirs) for mine, theirs in pairs))

    run.acts[Act.REQUEST] = request
    run.run()
    # Of some 4,000 free pages, until kswapd has freed its first: then in which moment it does counts, too.
    assert compared[:50] == [0] * 50


def does_nothing(mm: Mm, pgdat: PglistData, order: int, highest_zoneidx: int) -> int:
    return order


@pytest.mark.parametrize(
    ("name", "missed"),
    [
        ("oom-192m", {"wakeups_matched"}),  # free pages stay at the low mark, whoever frees them
        ("files-128m-until-002", {"mean_abs_error_pages", "wakeups_matched"}),
    ],
)
def test_without_kswapd_it_fails(name: str, missed: set[str]) -> None:
    with livepatch(balance_pgdat, does_nothing):
        misses = replay_pressure(TRACES / name).misses
    assert missed <= set(misses)


def never_high(zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int) -> bool:
    return bool(zone_watermark_ok.original(zone, order, 2 * mark, highest_zoneidx, alloc_flags))  # type: ignore[attr-defined]


def test_with_a_kswapd_that_frees_too_much_it_fails() -> None:
    with livepatch(zone_watermark_ok, never_high):
        assert replay_pressure(TRACES / "files-128m-until-002").misses


def test_the_same_trace_gives_the_same_run(files: PressureReport) -> None:
    again = replay_pressure(TRACES / "files-128m-until-002")
    assert again.curve == files.curve
    assert again.wakeups == files.wakeups


def test_the_curve_goes_on_in_time_and_ends_where_the_facts_say(oom: PressureReport) -> None:
    assert all(
        first.time <= then.time and first.reclaimed <= then.reclaimed and first.wakeups <= then.wakeups
        for first, then in pairwise(oom.curve)
    )
    assert oom.curve[-1].reclaimed <= oom.facts["reclaimed"]
    low, middle, high = oom.watermarks
    assert 0 < low < middle < high


def test_linux_free_pages_are_those_of_the_samples() -> None:
    curve = free_pages_of_linux(TRACES / "oom-192m", every=1)
    at_the_mark = [free for time, free in curve if time <= 6.182962]
    assert at_the_mark[-1] == 3808 + 534  # samples/001/zoneinfo.txt


@pytest.mark.parametrize(
    "last", ["", "Node 0, zone ", "Node 0, zone    DMA32\n", "  pages free     53", "  pages free     534\n"]
)
def test_a_sample_that_was_cut_off_does_not_count(tmp_path: Path, last: str) -> None:
    """Whoever saved the state was killed in the middle of it."""
    folder = copy_of("oom-192m", tmp_path)
    zoneinfo = folder / "samples" / "001" / "zoneinfo.txt"
    text = zoneinfo.read_text()
    second = text.index("Node 0, zone    DMA32")
    zoneinfo.write_text(text[: text.index(last, second) + len(last)] if last else "")
    assert Trace(folder).linux_free("samples/001 begin") == -1


def test_the_command_prints_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    trace = str(TRACES / "files-128m-until-002")
    assert main(["replay", trace, "--pressure", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= set(told)
    assert told["oom_victim"] is None
    assert main(["replay", trace, "--pressure"]) == 0
    text = capsys.readouterr().out
    assert "pages reclaimed; Linux: 7,436" in text
    assert "nobody" in text


def test_a_trace_of_another_kernel_is_refused() -> None:
    with pytest.raises(BadCapture):
        replay_pressure(TRACES.parent / "machines")


# -- traces with holes -------------------------------------------------------------------------------------------------


def with_hole(folder: Path, first: int, behind: int, *more: str) -> Path:
    """The trace oom-192m without some lines; in their place stand others."""
    trace = copy_of("oom-192m", folder)
    packed = trace / "events.txt.xz"
    lines = lzma.decompress(packed.read_bytes()).decode().splitlines(keepends=True)
    packed.unlink()
    (trace / "events.txt").write_text("".join([*lines[:first], *(row + "\n" for row in more), *lines[behind:]]))
    return trace


@pytest.mark.parametrize(("first", "behind"), [(3000, 157500), (55573, 155573), (31240, 33240)])
def test_a_trace_that_has_lost_events_is_replayed(tmp_path: Path, first: int, behind: int) -> None:
    report = replay_pressure(with_hole(tmp_path, first, behind))
    assert report.events < 157948
    assert 0 <= report.facts["reclaimed"] <= 6145


def test_a_block_that_was_none_before_the_trace_is_told(tmp_path: Path) -> None:
    flags = read_saved_state(TRACES / "oom-192m" / "before").flags
    used = {pfn for start, pages, bits in flags if bits >> KPF_SLAB & 1 for pfn in range(start, start + pages)}
    first = next(pfn for pfn in sorted(used) if not pfn % 4 and {pfn + 1, pfn + 2, pfn + 3} <= used)
    part = line("mm_page_free", freed(first + 1), task="kworker-7")
    whole = line("mm_page_free", freed(first).replace("order=0", "order=2"), task="kworker-7")
    report = replay_pressure(with_hole(tmp_path, 3000, 157500, part, whole))
    assert [(told.line, "events before this one are missing" in told.what) for told in report.skipped] == [(3002, True)]


def test_a_clock_that_jumps_by_days_ends_all_the_same(tmp_path: Path) -> None:
    late = line("mm_page_alloc", page(0x5000)).replace("1.000000", "500000.000000")
    report = replay_pressure(with_hole(tmp_path, 3000, 157500, late))
    assert report.curve[-1].time <= 500000
    assert report.facts["requests"] > 0


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("oom_score_adj_update", f"pid=7 comm=cat oom_score_adj={'9' * 5000}"),
        ("mm_filemap_add_to_page_cache", f"dev 8:0 ino 1 pfn=0x7 ofs={'9' * 5000}"),
        ("mm_lru_activate", "page=ffffea0000000000 pfn=0xg"),
        ("mark_victim", f"pid={'9' * 304}"),
    ],
)
def test_fields_that_only_this_replay_reads_may_be_spoilt(event: str, fields: str) -> None:
    skipped = SkippedLines()
    assert readable(events(line(event, fields)), skipped) == []
    assert [(told.line, event in told.what) for told in skipped.told] == [(1, True)]


# -- what the work did -------------------------------------------------------------------------------------------------


def line(event: str, fields: str, task: str = "cat-7", flags: str = ".....") -> str:
    return f"{task:>20} [000] {flags} {1.0:12.6f}: {event}: {fields}"


def page(pfn: int, gfp: str = "GFP_KERNEL") -> str:
    return f"page=ffffea{pfn * 64:010x} pfn=0x{pfn:x} order=0 migratetype=0 gfp_flags={gfp}"


def freed(pfn: int) -> str:
    return f"page=ffffea{pfn * 64:010x} pfn=0x{pfn:x} order=0"


def events(*lines: str) -> list[TraceEvent]:
    bad = SkippedLines()
    found = list(read_events(lines, bad))
    assert not bad.count
    return found


def steps(*lines: str, used: tuple[int, ...] = ()) -> list[Step]:
    pages = bytearray(64)
    for pfn in used:
        pages[pfn] = 1
    return WorkReader(events(*lines), pages).steps()


def acts(found: list[Step]) -> list[Act]:
    return [step.act for step in found if step.act is not Act.EXIT]


def test_requests_and_frees_of_programs_are_work() -> None:
    found = steps(line("mm_page_alloc", page(5)), line("mm_page_free", freed(5)))
    assert acts(found) == [Act.REQUEST, Act.FREE]
    assert found[0].content is found[1].content
    assert found[0].content is not None
    assert found[0].content.kind is Kind.KERNEL


def test_what_kswapd_frees_is_dropped_but_not_what_interrupts_free_meanwhile() -> None:
    alloc = line("mm_page_alloc", page(5))
    assert acts(steps(alloc, line("mm_page_free", freed(5), "kswapd0-37"))) == [Act.REQUEST]
    assert acts(steps(alloc, line("mm_page_free", freed(5), "kswapd0-37", "..s1."))) == [Act.REQUEST, Act.FREE]


def test_what_a_task_frees_in_direct_reclaim_is_dropped() -> None:
    found = steps(
        line("mm_page_alloc", page(5)),
        line("mm_page_alloc", page(6)),
        line("mm_vmscan_direct_reclaim_begin", "order=0 gfp_flags=GFP_KERNEL"),
        line("mm_page_free", freed(5)),
        line("mm_page_free", freed(6), "dog-8"),
        line("mm_vmscan_direct_reclaim_end", "nr_reclaimed=1"),
        line("mm_page_alloc", page(5)),
        line("mm_page_free", freed(5)),
    )
    assert acts(found) == [Act.REQUEST, Act.REQUEST, Act.FREE, Act.REQUEST, Act.FREE]


def test_of_a_victim_only_the_request_that_was_under_way_counts() -> None:
    found = steps(
        line("mm_page_alloc", page(5)),
        line("mark_victim", "pid=7 comm=cat total-vm=1kB anon-rss=1kB"),
        line("mm_page_alloc", page(6)),
        line("mm_page_alloc", page(9, "GFP_NOWAIT")),
        line("mm_page_free", freed(5)),
    )
    assert acts(found) == [Act.REQUEST, Act.REQUEST]
    assert victim_of(events(line("mark_victim", "pid=7 comm=cat"))) == 7
    assert victim_of([]) is None


def test_later_events_tell_what_a_page_was_for() -> None:
    found = steps(
        line("mm_page_alloc", page(5)),
        line("mm_filemap_add_to_page_cache", "dev 254:0 ino c pfn=0x5 ofs=8192 order=0"),
        line("mm_page_alloc", page(6)),
        line("mm_lru_insertion", "folio=ffffea0000000180 pfn=0x6 lru=0 flags=Ma bd "),
        line("mm_page_alloc", page(7)),
    )
    kinds = [
        (step.content.kind, step.content.file, step.content.index)
        for step in found
        if step.content and step.act is Act.REQUEST
    ]
    assert acts(found) == [Act.REQUEST, Act.ADD, Act.REQUEST, Act.REQUEST]
    assert kinds == [(Kind.FILE, "254:0 c", 2), (Kind.ANON, "", 0), (Kind.KERNEL, "", 0)]


def test_who_mapped_some_pages_of_a_file_mapped_all_that_it_read() -> None:
    def read_of(pfn: int, task: str) -> list[str]:
        return [
            line("mm_page_alloc", page(pfn), task),
            line("mm_filemap_add_to_page_cache", f"dev 254:0 ino c pfn=0x{pfn:x} ofs={pfn << 12} order=0", task),
        ]

    inserted = line("mm_lru_insertion", "folio=ffffea0000000180 pfn=0x5 lru=2 flags=Mf  d ", "cat-7")
    found = steps(*read_of(5, "cat-7"), *read_of(6, "cat-7"), *read_of(7, "dog-8"), inserted)
    assert [step.content.mapped for step in found if step.content and step.act is Act.ADD] == [True, True, False]


def test_pages_from_before_the_trace_are_the_same_in_the_model_until_they_are_used_anew() -> None:
    found = steps(
        line("mm_page_free", freed(3)), line("mm_page_free", freed(4)), line("mm_page_free", freed(3)), used=(3,)
    )
    assert [(step.act, step.content.page) for step in found if step.content] == [(Act.FREE, 3)]


def test_a_task_that_is_last_heard_of_giving_back_has_ended() -> None:
    found = steps(line("mm_page_alloc", page(5)), line("mm_page_free", freed(5)), line("mm_page_alloc", page(6), "a-9"))
    assert [(step.act, step.pid) for step in found if step.act is Act.EXIT] == [(Act.EXIT, 7)]


def test_a_full_table_of_tasks_loses_the_smallest() -> None:
    kernel = Machine.boot("tiny-128m").kernel
    gone: list[int] = []
    tasks = TraceTasks(kernel.processes, gone.append, lambda task: None)
    for pid in range(100, 100 + MOST_TASKS):
        tasks.address_space(pid, "cat")
        tasks.count(pid, pid)
    tasks.address_space(7, "dog")
    assert 100 not in tasks.rows
    assert tasks.rows[7].name == "dog"
    tasks.set_score(7, -1000)
    assert oom_badness(kernel.processes, tasks.rows[7], 1000) < 0
    assert oom_badness(kernel.processes, tasks.rows[150], 1000) == 150
    tasks.end(tasks.rows[150])
    assert gone == [150]
    assert 150 not in tasks.rows


def test_who_was_killed_keeps_its_row_until_all_is_given_back() -> None:
    kernel = Machine.boot("tiny-128m").kernel
    gone: list[int] = []
    dying: list[TaskStruct] = []
    tasks = TraceTasks(kernel.processes, gone.append, dying.append)
    tasks.address_space(7, "dog")
    tasks.rows[7].sigkill = 1
    tasks.end_killed()
    tasks.end_killed()
    assert (gone, [task.pid for task in dying], tasks.killed) == ([], [7], [7])
    assert tasks.is_dead(7)
    assert 7 in tasks.rows
    tasks.bury(dying[0])
    assert 7 not in tasks.rows


def asleep_at_the_start() -> PressureReplay:
    source = Trace(TRACES / "oom-192m")
    run = put_in_place(booted(source), source, [event for inside, event in source.window(SkippedLines()) if inside])
    run.threads.inside = True
    return run


def test_of_a_file_systems_own_blocks_the_last_sixteen_stay() -> None:
    run = asleep_at_the_start()
    model, page = run.model, run.mm.page
    blocks = [Content(kind=Kind.FILE, file="0:3 fe00000", index=at, gfp=NOFAIL) for at in range(17)]
    for at, block in enumerate(blocks):
        model.request(Step(0.0, Act.REQUEST, 0, 100, "ext4lazyinit", block))
        frame = block.page
        assert frame is not None
        model.add(Step(0.0, Act.ADD, 0, 100, "ext4lazyinit", block))
        blocks[at].page = frame
    lru_add_drain(run.mm)
    assert [page.refcount[block.page or 0] for block in blocks] == [1] + [2] * 16
    model.drop_file(blocks[16])
    assert not page.owned[blocks[16].page or 0]


def test_a_throttled_task_wakes_kswapd_and_time_goes_on() -> None:
    run = asleep_at_the_start()
    run.mm.node_data[0].kswapd_awake = 1  # as allow_direct_reclaim does
    jiffies = run.mm.current.jiffies
    with run.kswapd_is_no_daemon():
        run.threads.sleep_until(run.cpu.clock + 0.1)
        run.threads.end()
    assert run.threads.rounds == 1
    assert not run.mm.node_data[0].kswapd_awake
    assert run.mm.current.jiffies >= jiffies


def test_a_pause_lasts_as_many_jiffies_as_it_is_long() -> None:
    run = asleep_at_the_start()
    jiffies = run.mm.current.jiffies
    with run.kswapd_is_no_daemon():
        run.threads.sleep_until(run.cpu.clock + 0.1)
    assert run.mm.current.jiffies - jiffies in (25, 26)  # 0.1 s at HZ=250


# -- comparing ---------------------------------------------------------------------------------------------------------


def largest_pairing(model: list[WakeUp], linux: list[WakeUp]) -> int:
    """Kuhn's algorithm: no pairing has more pairs."""
    near = [
        [at for at, mine in enumerate(model)
         if abs(mine.time - theirs.time) <= 0.02 or abs(mine.requests - theirs.requests) <= 64]
        for theirs in linux
    ]  # fmt: skip
    partner: dict[int, int] = {}

    def place(theirs: int, tried: set[int]) -> bool:
        for mine in near[theirs]:
            if mine not in tried:
                tried.add(mine)
                if mine not in partner or place(partner[mine], tried):
                    partner[mine] = theirs
                    return True
        return False

    return sum(place(theirs, set()) for theirs in range(len(linux)))


@pytest.mark.parametrize("seed", range(40))
def test_wakeups_are_paired_as_well_as_can_be(seed: int) -> None:
    rng = random.Random(seed)

    def some() -> list[WakeUp]:
        times = sorted(rng.uniform(0, 0.5) for _ in range(rng.randrange(0, 25)))
        return [WakeUp(at, int(at * 3000)) for at in times]

    model, linux = some(), some()
    assert matched(model, linux) == largest_pairing(model, linux)


def test_requests_of_reclaim_itself_are_not_counted() -> None:
    woken = line("mm_vmscan_wakeup_kswapd", "nid=0 order=0 gfp_flags=none").replace("1.000000", "2.000000")
    found = events(
        line("mm_page_alloc", page(5)),
        line("mm_page_alloc", page(6)),
        line("mm_page_alloc", page(7), "kswapd0-37"),
        woken,
    )
    assert linux_wakeups(found, WorkReader(found, bytearray(64)).steps()) == (WakeUp(2.0, 2),)
