"""A time limit for code that may never end, without signals: those belong to whoever runs the notebook or the test."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TimeIsUp(BaseException):
    """Raised inside code that ran too long: no `Exception`, so `except Exception` in an answer doesn't catch it."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `TimeIsUp` in the body once it has run for `seconds`; again each second, if an answer caught it.

    It works between two steps of Python, so one long step in C isn't cut short. Without threads (a browser) there is
    no limit.

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
            wait = seconds
        while not over.acquire(timeout=wait):
            with throwing:  # so that nothing is thrown once the body has ended
                if not ended:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeIsUp))
            wait = 1.0  # the first one may be undoing a livepatch: leave it time

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
