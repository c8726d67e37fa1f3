"""Rewind is tested by resuming: go back, run the rest again, and end where a straight run ends."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.mm.buddy import buddy_merge_likely, rmqueue_smallest
from kmemlab.mm.zone import Zone
from kmemlab.sim.hook import Function
from kmemlab.sim.journal import Command
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRewind

from .bare import Bench, state, work


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def replay(bench: Bench, commands: list[Command]) -> None:
    for command in commands:
        bench.do(command.name, *command.args)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), back=st.integers(0, 60))
def test_rewound_then_resumed_ends_like_a_straight_run(seed: int, back: int) -> None:
    bench = Bench()
    try:
        work(bench, 60, seed)
        end, commands = state(bench.zone), list(bench.timeline.commands)
        bench.timeline.rewind(back)
        replay(bench, commands[back:])
        assert state(bench.zone) == end
        assert list(bench.timeline.commands) == commands
    finally:
        bench.close()


def test_every_place_of_a_run_is_found_again_in_both_directions(bench: Bench) -> None:
    start = state(bench.zone)
    work(bench, 20, seed=1)
    end = state(bench.zone)
    bench.timeline.rewind(0)
    assert state(bench.zone) == start
    seen = [start]
    while bench.timeline.write():
        seen.append(state(bench.zone))
    assert seen[-1] == end
    while seen:
        assert state(bench.zone) == seen.pop()
        bench.timeline.unwrite()


@pytest.mark.parametrize("cap", [4_000, 20_000, 60_000])
def test_a_capped_journal_still_rewinds_to_any_command(cap: int) -> None:
    straight, bench = Bench(cap=1 << 30), Bench(cap=cap, keyframe_every=200)
    try:
        states = []
        for other in (straight, bench):
            work(other, 300, seed=7)
        assert sum(s.bytes for s in bench.journal.segments) < sum(s.bytes for s in straight.journal.segments)
        assert any(s.net is not None for s in bench.journal.segments)
        for command in range(301):
            straight.timeline.rewind(command)
            states.append(state(straight.zone))
        for command in [300, 0, 299, 150, 3, 151, 2, 300, 77]:
            bench.timeline.rewind(command)
            assert state(bench.zone) == states[command], command
        bench.timeline.rewind(120)
        replay(bench, list(straight.timeline.commands)[120:])
        assert state(bench.zone) == states[300]
    finally:
        straight.close()
        bench.close()


def test_a_capped_journal_stays_near_its_cap() -> None:
    bench = Bench(cap=30_000, keyframe_every=200)
    try:
        work(bench, 2_000, seed=3)
        cells = sum(len(column) for column in bench.journal.columns)
        assert sum(s.bytes for s in bench.journal.segments) <= max(30_000, 16 * cells) + 8 * 1_000
    finally:
        bench.close()


def test_a_small_cap_is_kept_without_being_told_how_often_to_cut() -> None:
    bench = Bench(cap=40_000)
    try:
        work(bench, 3_000, seed=5)
        cells = sum(len(column) for column in bench.journal.columns)
        assert sum(s.bytes for s in bench.journal.segments) <= max(40_000, 16 * cells) + 8 * 1_000
    finally:
        bench.close()


def test_a_new_command_drops_the_future(bench: Bench) -> None:
    work(bench, 10, seed=2)
    bench.timeline.rewind(4)
    kept = bench.timeline.commands[:4]
    bench.do("take", 0)
    assert bench.timeline.commands == (*kept, Command("take", (0,)))
    bench.timeline.rewind(4)
    bench.timeline.to_end()
    assert bench.timeline.place() == (5, 0)


def test_a_command_from_the_middle_of_another_is_refused(bench: Bench) -> None:
    bench.do("take", 0)
    bench.timeline.rewind(0)
    bench.timeline.step()
    with pytest.raises(BadRewind, match="inside a command"):
        bench.do("take", 0)
    bench.timeline.to_end()
    bench.do("take", 0)


def test_a_command_that_was_never_recorded(bench: Bench) -> None:
    with pytest.raises(BadRewind, match="there is no command 3"):
        bench.timeline.rewind(3)


def shrunk(*patch: Function) -> tuple[Bench, list[list[int]], list[list[int]]]:
    """A run whose first commands are shrunk, with its state before command 40 and at the end."""
    bench = Bench(cap=4_000, keyframe_every=200)
    with livepatch(*patch) if patch else nullcontext():
        work(bench, 40, seed=11)
        at_40 = state(bench.zone)
        work(bench, 160, seed=12)
    assert bench.journal.segments[0].net is not None
    assert bench.journal.segments[0].commands > 41
    return bench, at_40, state(bench.zone)


def test_a_patch_of_now_does_not_change_the_past() -> None:
    bench, at_40, end = shrunk()
    try:
        with livepatch(buddy_merge_likely, lambda zone, pfn, order: True):
            bench.timeline.rewind(40)
            assert state(bench.zone) == at_40
            assert buddy_merge_likely(bench.zone, 0, 0) is True
            bench.timeline.to_end()
        assert state(bench.zone) == end
    finally:
        bench.close()


def test_a_function_that_does_not_do_the_same_again_is_told() -> None:
    calls = count()
    bench, _, end = shrunk(buddy_merge_likely, lambda zone, pfn, order: next(calls) < 60)
    try:
        with pytest.raises(BadRewind, match="run again, did something else"):
            bench.timeline.rewind(40)
        assert bench.timeline.place() == (0, 0)
        bench.timeline.to_end()
        assert state(bench.zone) == end
    finally:
        bench.close()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_commands_are_run_again(error: type[BaseException]) -> None:
    """An exception that a command ended with comes again and ends it alike; Ctrl-C leaves all as it was."""

    def falls(zone: Zone, order: int, migratetype: int) -> int | None:
        raise error

    bench = Bench(cap=4_000, keyframe_every=200)
    try:
        with livepatch(rmqueue_smallest, falls), pytest.raises(error):
            bench.do("take", 0)
        work(bench, 200, seed=12)
        end = state(bench.zone)
        with pytest.raises(error) if error is KeyboardInterrupt else nullcontext():
            bench.timeline.rewind(20)
        bench.timeline.to_end()
        assert state(bench.zone) == end
    finally:
        bench.close()
