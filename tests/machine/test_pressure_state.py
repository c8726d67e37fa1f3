"""What a replay under pressure infers of the state in which its trace began: names, list order, requests in bulk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.pressure_bulk import WaitingPages, taken_in_bulk
from kmemlab.machine.pressure_names import SavedNames, saved_names
from kmemlab.machine.pressure_nodes import LEFT, SLAB_NODES, SwapNodes
from kmemlab.machine.replay import Trace
from kmemlab.machine.replay_memory import free_page_map, memory_of_saved
from kmemlab.machine.replay_model import put_in_state
from kmemlab.machine.replay_start import first_types, pageblock_types, turns_of_blocks, waiting_in_pcp
from kmemlab.machine.saved_state import read_saved_state
from kmemlab.machine.trace_reader import SkippedLines, TraceEvent, read_events
from kmemlab.mm.zone import NR_FREE_PAGES, free_blocks
from kmemlab.reclaim.shrinker import SHRINKERS, do_shrink_slab
from kmemlab.types.gfp import GFP_KERNEL, GFP_NOFS
from tests.machine.traces import TRACES

FILES = TRACES / "files-128m-until-002"
OOM = TRACES / "oom-192m"


def line(event: str, fields: str, flags: str = ".....") -> str:
    return f"{'cat-7':>20} [000] {flags} {1.0:12.6f}: {event}: {fields}"


def page(event: str, pfn: int, flags: str = ".....", migratetype: int = 0, order: int = 0) -> str:
    more = {"mm_page_alloc": "gfp_flags=GFP_KERNEL", "mm_page_alloc_zone_locked": "percpu_refill=1"}.get(event, "")
    kind = "" if event in ("mm_page_free", "mm_page_free_batched") else f" migratetype={migratetype} {more}"
    return line(event, f"page=ffffea{pfn * 64:010x} pfn=0x{pfn:x} order={order}{kind}".rstrip(), flags)


def events(*lines: str) -> list[TraceEvent]:
    bad = SkippedLines()
    found = list(read_events(lines, bad))
    assert not bad.count
    return found


# -- names of sysfs ----------------------------------------------------------------------------------------------------


def test_as_many_names_as_linux_counted() -> None:
    # cache items of the first mm_shrink_slab_start of super_cache_scan in oom-192m's trace
    assert len(saved_names(OOM).used_again) == pytest.approx(4301, abs=5)


def test_kswapds_first_runs_free_as_many_names_as_linux_did() -> None:
    mm = Machine.boot("tiny-128m").kernel.mm
    told: list[int] = []
    with saved_names(OOM).in_force(mm, lambda freed, kept: told.append(freed)):
        passes = []
        for priority in (12, 11, 10):
            before = sum(told)
            do_shrink_slab(mm, GFP_KERNEL, 0, len(SHRINKERS) - 1, priority)
            passes.append(sum(told) - before)
    # mm_shrink_slab_end, last shrinker return val: 397, 966, 992
    assert passes == pytest.approx([397, 966, 992], abs=5)


def test_what_was_looked_at_before_the_trace_is_done_first() -> None:
    mm = Machine.boot("tiny-128m").kernel.mm
    names = saved_names(FILES)
    with names.in_force(mm, lambda freed, kept: None):
        # cache items of the first mm_shrink_slab_start of super_cache_scan in files-128m
        assert len(names.used_again) == pytest.approx(2934, abs=10)


def test_who_works_in_a_file_system_frees_no_names() -> None:
    mm = Machine.boot("tiny-128m").kernel.mm
    names = SavedNames([False] * 4000)
    with names.in_force(mm, lambda freed, kept: None):
        do_shrink_slab(mm, GFP_NOFS, 0, len(SHRINKERS) - 1, 12)
    assert len(names.used_again) == 4000


def test_a_name_that_was_used_again_stays_once() -> None:
    names = SavedNames([True, False, True])
    assert names.look_at(3) == 1
    assert names.look_at(2) == 2


def test_without_tables_there_are_no_names() -> None:
    assert not saved_names(TRACES / "no such trace").used_again


# -- the order of lists ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", [FILES, OOM])
def test_what_linux_takes_first_stands_in_front(trace: Path) -> None:
    source = Trace(trace)
    found = [event for inside, event in source.window(SkippedLines()) if inside]
    state = read_saved_state(source.folder / "before")
    types = pageblock_types(state, first_types(found, state.pageblock_order))
    waiting = waiting_in_pcp(found, free_page_map(memory_of_saved(state, types)), state, state.pageblock_order)
    mm = Machine.boot(source.folder / "hardware.json").kernel.mm
    put_in_state(mm, state, types, waiting, turns_of_blocks(found))
    free = sum(end - start for start, end in state.free_ranges())
    assert sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.populated_zones()) == free
    turn = turns_of_blocks(found)
    for zone in mm.populated_zones():
        for order in range(10):
            for migratetype in range(3):
                turns = [turn(pfn, order) for pfn in free_blocks(zone, order, migratetype)]
                assert turns == sorted(turns)


def test_a_block_is_taken_when_its_first_page_is() -> None:
    turn = turns_of_blocks(events(page("mm_page_free", 9), page("mm_page_alloc", 5), page("mm_page_alloc", 4)))
    assert (turn(4, 1), turn(8, 3), turn(0, 2)) == (1, 0, float("inf"))


# -- requests in bulk --------------------------------------------------------------------------------------------------


def taken(*lines: str) -> set[int]:
    state = read_saved_state(FILES / "before")
    return taken_in_bulk(events(*lines), dict.fromkeys(range(64), 0) | {0x22: 1}, state)


FREED = page("mm_page_free", 0x4401)  # of a movable block
ROUND = (page("mm_page_pcpu_drain", 0x4402, migratetype=1), page("mm_page_pcpu_drain", 0x4600, migratetype=2))


def test_a_page_that_is_not_among_those_of_an_emptied_list_was_taken() -> None:
    assert taken(FREED, *ROUND) == {0}


def test_a_page_that_is_given_back_later_was_taken_before() -> None:
    assert taken(FREED, *ROUND, FREED) == {0}


@pytest.mark.parametrize("event", ["mm_page_alloc", "mm_page_pcpu_drain", "mm_page_alloc_zone_locked"])
def test_a_page_that_turns_up_free_was_not_taken(event: str) -> None:
    assert taken(FREED, *ROUND, page(event, 0x4401)) == set()
    assert taken(FREED, page(event, 0x4401, migratetype=1), *ROUND) <= {1}


def test_lists_that_the_round_has_not_left_tell_nothing() -> None:
    assert taken(FREED, ROUND[0]) == set()
    assert taken(FREED, ROUND[0], page("mm_page_free_batched", 0x4700), ROUND[1]) == set()


def test_what_an_interrupt_frees_may_go_past_the_lists() -> None:
    assert taken(page("mm_page_free", 0x4401, "..s1."), *ROUND) == set()


def test_the_one_page_that_was_taken_in_bulk_at_the_start_of_a_trace() -> None:
    source = Trace(FILES)
    found = [event for inside, event in source.window(SkippedLines()) if inside]
    state = read_saved_state(source.folder / "before")
    pages = WaitingPages(pageblock_types(state, first_types(found, state.pageblock_order)), state)
    for at, event in enumerate(found):
        pages.follow(at, event)
    early = [found[at].fields[0] for at in pages.taken if found[at].time < 7.6]
    assert early == [0x2948]


# -- nodes of the swap cache -------------------------------------------------------------------------------------------


def test_each_fourteenth_node_asks_for_two_pages() -> None:
    mm = Machine.boot("tiny-128m").kernel.mm
    nodes = SwapNodes(mm)
    before = sum(zone.nr_owned for zone in mm.populated_zones())
    for _ in range(LEFT + 3 * SLAB_NODES):
        nodes.take()
    assert sum(zone.nr_owned for zone in mm.populated_zones()) - before == 3 * 2
