"""Free pages along a trace's events: at its samples they are what the machine itself had written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmemlab.course.your_machine import CAPTURES
from kmemlab.machine.linux_free import linux_free_over_time
from kmemlab.types.errors import BadCapture
from tests.boot.captures import MACHINES

TRACES = MACHINES.parent / "traces"
TRACE = CAPTURES / "trace-oom-192m"
# Seconds at which the machine began to save /proc/zoneinfo, and the free pages that it saved.
SAMPLES = {5.867805: 14191, 6.182962: 4342, 6.390742: 719, 7.560582: 3781 + 17552}


def test_the_curve_goes_through_what_the_machine_saved() -> None:
    points = linux_free_over_time(TRACE, every=1)
    for seconds, saved in SAMPLES.items():
        free = [pages for at, pages in points if at <= seconds][-1]
        assert abs(free - saved) <= 100, "the counters of a CPU lag behind by so many pages"
    assert min(pages for _, pages in points) > 0


def test_fewer_points_are_points_of_the_same_curve() -> None:
    every, few = linux_free_over_time(TRACE, every=1), linux_free_over_time(TRACE, every=100)
    assert few == every[::100]


def test_the_course_ships_the_events_as_they_were_traced() -> None:
    assert (TRACE / "events.txt.xz").read_bytes() == (TRACES / "oom-192m" / "events.txt.xz").read_bytes()


def test_a_trace_without_a_state_before_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.txt").write_text("# tracer: nop\n")
    with pytest.raises(BadCapture, match="nothing tells how many pages"):
        linux_free_over_time(tmp_path)
