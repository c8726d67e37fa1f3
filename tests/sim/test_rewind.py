"""Rewind is tested by resuming: go back, run the rest again, and end where a straight run ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.sim.journal import Command
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
