"""Limits for code that may never end or take all memory; no signals, which belong to whoever runs the notebook."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_MEMORY = 1 << 30  # bytes more than before; a check of a right answer takes 73 MiB at most
_LOOK = 0.1  # seconds from one look at the clock and the memory to the next
_PATIENCE = 1.0  # seconds until it is thrown again: the first one may be undoing a livepatch
_STATUS = Path("/proc/self/status")


class TimeIsUp(BaseException):
    """Raised inside code that ran too long: no `Exception`, so `except Exception` in an answer doesn't catch it."""


class MemoryIsUp(TimeIsUp):
    """Raised instead inside code that took too much memory."""


def held_memory() -> int:
    """The bytes of this process, in RAM and swapped out; 0 where the system doesn't say so in /proc (only Linux does).

    >>> held_memory() >= 0
    True
    """
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("VmRSS:", "VmSwap:")))


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `TimeIsUp` in the body once it has run for `seconds`; again each second, if an answer caught it.

    `MemoryIsUp` once it holds `MOST_MEMORY` more than before, on Linux. Both work between two steps of Python, so one
    long step in C isn't cut short. Without threads (a browser) there is no limit.

    >>> try:
    ...     with deadline(0.05):
    ...         while True:
    ...             pass
    ... except TimeIsUp:
    ...     print("stopped")
    stopped
    """
    thread = threading.get_ident()
    # Plain locks, each released once: what is thrown may land amid the Python of an Event, and leave it locked.
    begun, over, throwing = threading.Lock(), threading.Lock(), threading.Lock()
    ended = False

    def watch() -> None:
        with begun:
            end, most = time.monotonic() + seconds, held_memory() + MOST_MEMORY
        wait = min(seconds, _LOOK)
        while not over.acquire(timeout=wait):
            wait = max(0.0, min(end - time.monotonic(), _LOOK))
            reason = MemoryIsUp if held_memory() > most else TimeIsUp if wait == 0 else None
            if reason is None:
                continue
            with throwing:  # so that nothing is thrown once the body has ended
                if not ended:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(reason))
            wait = _PATIENCE

    begun.acquire()
    over.acquire()
    watcher = threading.Thread(target=watch, daemon=True, name="deadline")
    try:
        watcher.start()
    except RuntimeError:
        yield
        return
    try:
        begun.release()  # not before: thrown amid the start, it would leave a watcher that nobody ends
        yield
    finally:
        while not ended:
            try:
                with throwing:
                    ended = True
            except TimeIsUp:  # landed right here: the body had ended in time
                continue
        # Thrown but not yet landed, it would end code that has done nothing wrong: it lands at a loop's next turn, or
        # not at all. (Taking it back by SetAsyncExc(None) leaves Python 3.11 in a state that a profiler hangs in.)
        try:
            for _ in range(3):
                pass
        except TimeIsUp:
            pass
        over.release()
