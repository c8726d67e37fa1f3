"""Work for a machine: a plan of commands that a seed decides, run step by step, stopped, and rewound.

Workload ──plan(machine)──▶ steps, one command or a few each
     a + b   first a, then b                a | b   by turns, so that both end together

Run      advance() ─▶ a step, a step, … every 16th: a moment for the time series
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from kmemlab.machine.machine import Machine
from kmemlab.machine.time_series import TimeSeries, moment
from kmemlab.process.signal import Killed
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, OutOfMemory

Progress = Callable[[int, int], None]
"""Is told how many steps are done, and how many there are in all."""


@invented("a program knows how much it has to do")
class Plan(NamedTuple):
    """What a workload does on one machine: about how many steps, and the steps; each yields what it has to tell."""

    length: int
    steps: Iterator[str]


@invented("a program that keeps a machine busy")
@dataclass(frozen=True, slots=True)
class Workload:
    """A named piece of work. The same seed on the same machine does the same."""

    name: str
    says: str
    plan: Callable[[Machine], Plan]

    def __add__(self, then: Workload) -> Workload:
        """This one, and when it has ended the other."""

        def plan(machine: Machine) -> Plan:
            first, second = self.plan(machine), then.plan(machine)

            def steps() -> Iterator[str]:
                yield from _until_it_fails(self.name, first.steps)
                yield from _until_it_fails(then.name, second.steps)

            return Plan(first.length + second.length, steps())

        return Workload(f"{self.name}, then {then.name}", f"{self.says} {then.says}", plan)

    def __or__(self, other: Workload) -> Workload:
        """Both by turns."""

        def plan(machine: Machine) -> Plan:
            plans = {0: self.plan(machine), 1: other.plan(machine)}
            return Plan(sum(one.length for one in plans.values()), _by_turns((self.name, other.name), plans))

        return Workload(f"{self.name} with {other.name}", f"{self.says} {other.says}", plan)


def _until_it_fails(name: str, steps: Iterator[str]) -> Iterator[str]:
    """The steps of a program until it ends, or until memory runs out for it: then it has ended, too."""
    try:
        yield from steps
    except (OutOfMemory, Killed) as error:
        yield f"{name}: {error.what}"


def _by_turns(names: tuple[str, str], plans: dict[int, Plan]) -> Iterator[str]:
    """The next step is of the one that is further from its end; the other goes on when one has ended."""
    steps = {at: _until_it_fails(names[at], plan.steps) for at, plan in plans.items()}
    done = dict.fromkeys(plans, 0)
    while steps:
        at = min(steps, key=lambda at: (done[at] / max(1, plans[at].length), at))
        done[at] += 1
        try:
            yield next(steps[at])
        except StopIteration:
            del steps[at]


@invented("one run of a workload, which can be stopped and gone on with")
class Run:
    """A workload at work on a machine, with the time series that it leaves.

    `every` so many steps the machine is looked at. Raises `BadRequest` for a machine that has not booted to the end.
    """

    def __init__(self, machine: Machine, workload: Workload, *, every: int = 16) -> None:
        if not machine.kernel.mm.vmalloc.vmap_initialized:
            raise BadRequest("nothing can work on this machine yet", where="Run", remedy="boot it to the end first")
        if every < 1:
            raise BadRequest(f"every {every} steps can't be done", where="Run", remedy="look every 1 or more steps")
        self.machine, self.workload, self.every = machine, workload, every
        self._begin()

    def _begin(self) -> None:
        self.done = 0
        self.finished = self._stopping = False
        timeline = self.machine._timeline
        self._recorded_from = timeline.place()[0] if timeline else None
        plan = self.workload.plan(self.machine)
        self.length, self._steps = plan.length, _until_it_fails(self.workload.name, plan.steps)
        self.series = TimeSeries(f"{self.workload.name} on {self.machine.spec.name}", [moment(self.machine.kernel, 0)])

    def advance(self, steps: int | None = None, progress: Progress | None = None) -> TimeSeries:
        """Do so many steps, or all that are left; returns the series so far.

        A keyboard interrupt ends it behind the step that it is at, never within one; calling it again goes on.
        """
        self._stopping = False
        left = steps
        with _interrupted_by(self.stop):
            while not self.finished and not self._stopping and left != 0:
                self._step()
                left = None if left is None else left - 1
                if progress and (self.finished or self.done % self.every == 0):
                    progress(self.done, max(self.done, self.length))
        self._look()
        return self.series

    def stop(self) -> None:
        """Let `advance` end behind the step that it is at: for a button, or a signal."""
        self._stopping = True

    def rewind(self) -> None:
        """Take the whole run back, and stand ready to begin anew. Raises `BadRequest` where it was not recorded."""
        if self._recorded_from is None or self.machine._timeline is None:
            raise BadRequest(
                "this run was not recorded",
                where="Run.rewind",
                remedy="call machine.record() before the run, or run it on machine.fork()",
            )
        self.machine.timeline.rewind(self._recorded_from)
        self._begin()

    def _step(self) -> None:
        said = next(self._steps, None)
        if said is None:
            self.finished = True
            return
        self.done += 1
        if said:
            self.series.events.append((self.done, said))
        if self.done % self.every == 0:
            self._look()

    def _look(self) -> None:
        if self.series.moments[-1].step != self.done:
            self.series.moments.append(moment(self.machine.kernel, self.done))


@contextmanager
def _interrupted_by(stop: Callable[[], None]) -> Iterator[None]:
    """While this lasts Ctrl-C calls `stop`: a command that is broken off in its middle would leave a broken machine."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
