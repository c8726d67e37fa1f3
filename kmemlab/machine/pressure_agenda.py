"""The steps of a trace's work in their order. A request may be begun before its turn; the steps around it go on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from kmemlab.machine.pressure_work import Step
from kmemlab.sim.kernel import invented

LOOK_AHEAD = 64  # steps of tasks, among which one may be begun before its turn
NEVER = float("inf")


@invented("the steps of the work, and which is the next")
class Agenda:
    """What is done, what comes next, and when."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.at = 0
        self.waits = 0  # the pid of a task whose request was begun before its turn, and is not over
        self.begun: set[int] = set()
        self.of_tasks = [at for at, step in enumerate(steps) if step.pid]

    def next(self) -> Step | None:
        """The next step; None after the last."""
        while self.at in self.begun:
            self.at += 1
        return self.steps[self.at] if self.at < len(self.steps) else None

    def take(self) -> Step:
        """The next step, which is done now."""
        step = self.next()
        assert step is not None, "all is done"
        self.at += 1
        return step

    def next_of_a_task(self) -> float:
        """When a task does its next step, begun or not; an interrupt is none."""
        at = bisect_left(self.of_tasks, self.at)
        return self.steps[self.of_tasks[at]].time if at < len(self.of_tasks) else 0.0

    def next_of_others(self) -> float:
        """When the next step is, if the task that waits does not do it."""
        step = self.next()
        return NEVER if step is None or not self.waits or step.pid == self.waits else step.time

    def request_ahead(self, would_wait: Callable[[Step], bool]) -> int | None:
        """The first request that would have to wait, among the next step of each task."""
        seen: set[int] = set()
        first = bisect_left(self.of_tasks, self.at)
        for at in self.of_tasks[first : first + LOOK_AHEAD]:
            step = self.steps[at]
            if step.pid in seen or at in self.begun:
                continue
            seen.add(step.pid)
            if would_wait(step):
                return at
        return None

    def begin(self, at: int) -> Step:
        """A request is begun before its turn."""
        self.begun.add(at)
        self.waits = self.steps[at].pid
        return self.steps[at]
