"""An answer inside a machine: a kernel function's place that it takes, and what is then asked of the machine.

own      power on ─▶ boot ─▶ request ─▶ request ─▶ …        the kernel's own function
yours    power on ─▶ boot ─▶ request ─▶ request ─▶ …        the answer in its place
                                ▲
                                the first after which the two machines differ
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.deadline import TimeIsUp
from kmemlab.course.task import Verdict
from kmemlab.course.told import error_text, pressed
from kmemlab.machine.machine import Machine
from kmemlab.sim.column import Column
from kmemlab.sim.hook import Function
from kmemlab.sim.kernel import registry
from kmemlab.sim.livepatch import livepatch
from kmemlab.sim.recording import RecordingColumn
from kmemlab.sim.struct import structs_of
from kmemlab.sim.timeline import Call, Timeline
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.views.panel import Panel

GOES_ON = "the machine goes on as with the kernel's own"
_LARGEST = 1 << 17  # cells of a column that is compared; larger ones (RAM) don't change alone


def _nothing(_machine: Machine) -> Iterator[str]:
    yield from ()


def _itself(_machine: Machine, answer: Answer) -> Function:
    return answer.function


def effects(timeline: Timeline, command: int, call: Call) -> dict[str, Any]:
    """What a call came to: how it ended, and what stands in each cell that it changed."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for write in timeline.writes(command, call.enter, call.leave):
        cell = f"{write.column}[{write.index}]"
        first.setdefault(cell, write.old)
        last[cell] = write.new
    return ending(timeline, command, call) | {cell: new for cell, new in last.items() if new != first[cell]}


def ending(_timeline: Timeline, _command: int, call: Call) -> dict[str, Any]:
    """How a call ended: for answers whose writes need not be the kernel's one by one."""
    value = call.value
    plain = value is None or isinstance(value, (int, str, list, tuple))
    return {"returns": "an error" if call.raised else value if plain else type(value).__name__}


@dataclass(frozen=True)
class Inside:
    """A machine on which an answer runs in a kernel function's place, and what is asked of it after boot.

    `patch` makes of the answer what takes the place, where that isn't the answer itself; `exact` says that it writes
    just what the kernel's own would, so that the whole state can be compared, as it can where an answer itself stands.
    `compared` tells what a call of `seen` came to; `seen` is the function itself, if not given: another one, where
    calls of it are not recorded, and `also` are more of them. `every` is the number of steps between two looks at the
    whole state.
    """

    function: Function
    machine: Callable[[], Machine]
    work: Callable[[Machine], Iterator[str]] = _nothing
    until: str | None = None
    patch: Callable[[Machine, Answer], Function] = _itself
    compared: Callable[[Timeline, int, Call], dict[str, Any]] = effects
    seen: Function | None = None
    also: tuple[Function, ...] = ()
    panel: Callable[[Machine, Call], Panel] | None = None
    folded: tuple[str, ...] = ()
    exact: bool = False
    every: int = 10

    def __post_init__(self) -> None:
        for function in self.watched:
            mark = registry.of(function)
            assert mark, "the function is one of the kernel's"
            assert mark.traced, "calls of the functions that are seen are recorded"

    @property
    def watched(self) -> tuple[Function, ...]:
        """The functions whose calls are compared."""
        return (self.seen or self.function, *self.also)

    @property
    def comparable(self) -> bool:
        """Whether a right answer leaves the whole state as the kernel's own function does."""
        return self.exact or self.patch is Inside.patch

    def steps(self, machine: Machine) -> Iterator[str]:
        """Boot the machine and do the work; yields what each step came to."""
        machine.start_kernel(self.until)
        yield "boot"
        yield from self.work(machine)


class Trial:
    """One of the two machines, with the answer in it or without, step by step."""

    def __init__(self, inside: Inside, answer: Answer | None) -> None:
        self.inside = inside
        self.machine = inside.machine()
        self.patch = inside.patch(self.machine, answer) if answer else None
        self.steps = inside.steps(self.machine)

    def step(self) -> str | None:
        """Do the next step; what it came to, an error included, or None at the end."""
        with livepatch(self.inside.function, self.patch) if self.patch else nullcontext():
            try:
                return next(self.steps, None)
            except TimeIsUp:
                raise
            except BaseException as error:
                if pressed(error):
                    raise
                return error_text(error)

    def columns(self) -> list[Column | RecordingColumn]:
        """The state, without what is too large to be looked at after each step."""
        found = (column for struct in structs_of(self.machine.root) for _, column in struct.columns())
        return [column for column in found if len(column) <= _LARGEST]


def steps_alike(inside: Inside, answer: Answer) -> int | None:
    """How many steps may be passed over: after them the two machines were alike. None if they were to the end."""
    own, yours = Trial(inside, None), Trial(inside, answer)
    alike = 0
    for number in count(1):
        told = own.step()
        if told != yours.step():
            return alike
        if told is None or number % inside.every == 0:
            if not _alike(own.columns(), yours.columns()):
                return alike
            alike = number
        if told is None:
            return None
    return alike


def survives(inside: Inside, answer: Answer) -> Verdict | None:
    """Run both machines step by step: each step comes to the same; after some, and at the end, all laws hold."""
    own, yours = Trial(inside, None), Trial(inside, answer)
    last = ""
    for number in count():
        want, got = own.step(), yours.step()
        if got != want:
            return Verdict(GOES_ON, f"step {number} should be {want}, it was {_first_line(got)}")
        if want is None or number % inside.every == 0:
            try:
                yours.machine.check()
            except KmemlabError as error:
                return Verdict(error.what, f"after {last}")
        if want is None:
            break
        last = want
    return None


def whole(value: Any) -> int:
    """An answer as a number; raises `BadRequest` for anything else: the kernel could not go on with it."""
    if type(value) is not int:
        raise BadRequest(f"{value!r} is no number", where="your function", remedy="return a whole number")
    return value


def _first_line(told: str | None) -> str:
    return told.split("\n")[0] if told else "nothing"


def _alike(own: list[Any], yours: list[Any]) -> bool:
    return len(own) == len(yours) and all(a == b for a, b in zip(own, yours, strict=True))
