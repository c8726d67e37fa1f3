"""The time limit of an answer: it ends what runs too long, and leaves no trace in what comes after."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from kmemlab.course import deadline as limits
from kmemlab.course.deadline import MemoryIsUp, TimeIsUp, deadline, held_memory


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_it_ends_a_loop_and_nothing_after_it() -> None:
    with pytest.raises(TimeIsUp), deadline(0.02):
        busy(30)
    busy(0.05)


def test_it_never_lands_behind_the_body() -> None:
    for nth in range(150):
        try:
            with deadline(0.002):
                busy(0.0005 + 0.00002 * nth)
        except TimeIsUp:
            pass
        busy(0.0015)


def test_no_watcher_is_left_behind() -> None:
    for nth in range(300):
        with suppress(TimeIsUp), deadline(0.00002 * (nth % 50)):
            busy(0.0005)
    ends = time.perf_counter() + 5
    while watchers() and time.perf_counter() < ends:
        time.sleep(0.01)
    assert not watchers()


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "deadline"]


def stubborn(seconds: float, times: int) -> None:
    for _ in range(times):
        try:
            busy(seconds)
        except TimeIsUp:
            continue
    busy(seconds)


def test_an_answer_that_catches_it_is_ended_all_the_same() -> None:
    with pytest.raises(TimeIsUp), deadline(0.02):
        stubborn(30, times=2)


def grow(seconds: float) -> None:
    held, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        held.append(b"x" * (1 << 16))  # zeros would take no memory


@pytest.mark.skipif(held_memory() == 0, reason="no /proc/self/status on this system")
def test_it_ends_what_takes_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_MEMORY", 64 << 20)
    before = held_memory()
    with pytest.raises(MemoryIsUp), deadline(60):
        grow(30)
    assert held_memory() - before < 32 << 20, "what it held is given back"
    with deadline(60):
        busy(0.3)


def test_a_profiler_goes_on_behind_it() -> None:
    # In Python 3.11 a thread whose asynchronous exception was taken back hangs under a profiler.
    program = """
import cProfile
from kmemlab.course.deadline import deadline
profile = cProfile.Profile()
profile.enable()
with deadline(5):
    pass
sum(n for n in range(1000))
profile.disable()
print("done")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "done\n"
