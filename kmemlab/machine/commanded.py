"""What takes commands: each is carried out, followed by its laws, and recorded when that is on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from kmemlab.sim.journal import DEFAULT_CAP, Command, Journal
from kmemlab.sim.kernel import invented
from kmemlab.sim.recorder import Recorder
from kmemlab.sim.struct import Struct
from kmemlab.sim.timeline import Timeline
from kmemlab.types.errors import BadRequest


@invented("a history of commands is what makes a deterministic machine copy, pickle and rewind")
class Commanded:
    """Something with state below `root` that is changed by commands alone: the methods named `_do_…`."""

    def __init__(self, root: Struct) -> None:
        self.root = root
        self._done: list[Command] = []  # before recording began
        self._recorder: Recorder | None = None
        self._timeline: Timeline | None = None

    def _command(self, name: str, *args: Any) -> Any:
        names = _names(getattr(type(self), f"_do_{name}"))
        command = Command(name, args, names=names)
        try:
            with self._recorder.command(name, args, names) if self._recorder else nullcontext():
                result = self._carry_out(command)
        finally:
            if self._recorder is None:  # one that failed has left its traces, too: somebody may have been killed
                self._done.append(command)
        self.check_laws()
        return result

    def _carry_out(self, command: Command) -> Any:
        return getattr(self, f"_do_{command.name}")(*command.args)

    def check_laws(self) -> None:
        """What must hold after each command; raises `BrokenLaw`."""

    def record(self, cap: int = DEFAULT_CAP, *, lines: bool = False) -> Timeline:
        """Begin to record; `cap` bounds the journal in bytes. With `lines`, source lines too, which is slower."""
        if self._recorder is not None:
            raise BadRequest("this is recorded already", where="record", remedy="use its timeline")
        journal = Journal(self._carry_out, cap)
        journal.lines = lines
        recorder = Recorder(self.root, journal)
        timeline = Timeline(journal, recorder.listening)
        recorder.start()
        self._recorder, self._timeline = recorder, timeline
        return timeline

    def stop_recording(self) -> None:
        """Go to the present and stop; what was recorded is forgotten."""
        if self._recorder is not None and self._timeline is not None:
            recorder, timeline = self._recorder, self._timeline
            try:
                timeline.to_end()
            finally:  # whatever the way to the present meets: a recorder that stays would log the machines to come
                self._recorder = self._timeline = None
                recorder.stop()
                self._done += timeline.commands

    @contextmanager
    def recording(self, *, lines: bool = False) -> Iterator[Timeline]:
        """Record while this context lasts."""
        timeline = self.record(lines=lines)
        try:
            yield timeline
        finally:
            self.stop_recording()

    @property
    def timeline(self) -> Timeline:
        """The recorded run. Raises `BadRequest` when nothing is recorded."""
        if self._timeline is None:
            raise BadRequest("nothing is recorded", where="timeline", remedy="call record() before the commands")
        return self._timeline

    @property
    def commands(self) -> tuple[Command, ...]:
        """What was asked, up to where the state stands."""
        if self._timeline is None:
            return tuple(self._done)
        return (*self._done, *self._timeline.commands[: self._timeline.place()[0]])


@functools.cache
def _names(method: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(method).parameters)[1:]


@invented("C's compiler says it", traced=False)
def whole_numbers(function: str, **arguments: object) -> None:
    """Raise `BadRequest` for the first argument that is no whole number."""
    for name, value in arguments.items():
        if not isinstance(value, int):
            raise BadRequest(
                f"{name} must be a whole number, not {value!r}", where=function, remedy=f"write for example {name}=0"
            )


@invented("C's compiler says it", traced=False)
def texts(function: str, **arguments: object) -> None:
    """Raise `BadRequest` for the first argument that is no string."""
    for name, value in arguments.items():
        if not isinstance(value, str):
            raise BadRequest(
                f"{name} must be a string, not {value!r}", where=function, remedy=f'write for example {name}="data"'
            )


@invented("C's compiler says it", traced=False)
def list_of_numbers(function: str, **arguments: object) -> None:
    """Raise `BadRequest` for the first argument that is no list or tuple of whole numbers."""
    for name, value in arguments.items():
        if not isinstance(value, Sequence) or not all(isinstance(item, int) for item in value):
            raise BadRequest(
                f"{name} must be a list of whole numbers, not {value!r}",
                where=function,
                remedy=f"write for example {name}=[1, 2]",
            )


@invented("C's types have so many bits", traced=False)
def numbers_within(function: str, least: int, most: int, **arguments: int) -> None:
    """Raise `BadRequest` for the first argument that is no whole number from `least` to `most`."""
    whole_numbers(function, **arguments)
    for name, value in arguments.items():
        if not least <= value <= most:
            raise BadRequest(f"{name} can't be {value:#x}", where=function, remedy=f"choose {least} to {most:#x}")
