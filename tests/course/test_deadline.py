"""The time limit of an answer: it ends what runs too long, and leaves no trace in what comes after."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from kmemlab.course.deadline import TimeIsUp, deadline


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
