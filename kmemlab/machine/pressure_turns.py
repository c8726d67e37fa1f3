"""Two stacks of which one runs at a time: the work's, and a kernel thread's that may stop in the middle of a function.

work      ──┐ run()                 ┌── run() returns ──┐ run()                ┌──
            │                       │                   │                      │
kswapd      └── body … back() ──────┘                   └── … back() goes on ──┘
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Semaphore, Thread

from kmemlab.sim.kernel import invented


@invented("another stack is over, and its thread ends")
class TurnsEnd(BaseException):
    """Nobody waits for this stack any more."""


@invented("a kernel thread's stack")
class Turns:
    """`body` is called again and again on a stack of its own, whenever `run` is; it hands back by `back`."""

    def __init__(self, body: Callable[[], None]) -> None:
        self.body = body
        self.mine, self.callers = Semaphore(0), Semaphore(0)
        self.error: BaseException | None = None
        self.over = False
        self.thread: Thread | None = None

    def run(self) -> None:
        """Let the other stack go on until it hands back. An exception there comes out here."""
        if self.thread is None:
            self.thread = Thread(target=self.live, daemon=True)
            self.thread.start()
        self.mine.release()
        self.callers.acquire()
        if self.error is not None:
            raise self.error

    def back(self) -> None:
        """Hand over to whoever called `run`, and wait for the next `run`."""
        self.callers.release()
        self.mine.acquire()
        if self.over:
            raise TurnsEnd

    def live(self) -> None:
        """What the other thread does."""
        self.mine.acquire()
        try:
            while not self.over:
                self.body()
        except TurnsEnd:
            pass
        except BaseException as error:
            self.error = error
        self.callers.release()

    def end(self) -> None:
        """The other stack is not needed any more."""
        self.over = True
        if self.thread is not None:
            self.mine.release()
            self.thread.join()
            self.thread = None
