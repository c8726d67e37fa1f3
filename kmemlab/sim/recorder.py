"""The recorder: swaps every column of a machine for one that logs, and every kernel function for one that tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType

from kmemlab.sim import hook
from kmemlab.sim.hook import Function, set_recorded
from kmemlab.sim.journal import Command, Journal
from kmemlab.sim.kernel import invented, registry
from kmemlab.sim.livepatch import patches
from kmemlab.sim.recording import RecordingColumn, RecordingLines, RecordingU64
from kmemlab.sim.struct import Struct, on_new_column, structs_of

_running: list[Recorder] = []


def traced_functions() -> list[Function]:
    """The kernel functions whose calls are logged: of every room that is loaded."""
    return [
        mark.function
        for mark in registry
        if mark.traced
        and isinstance(mark.function, FunctionType)
        and not mark.function.__module__.startswith("kmemlab.sim.")
    ]


@invented("recording that is off costs nothing: nothing of it stands in the algorithms")
class Recorder:
    """Records one machine into a journal from `start` to `stop`."""

    def __init__(self, root: Struct, journal: Journal) -> None:
        self.root = root
        self.journal = journal

    def start(self) -> None:
        """Put the recording columns in place."""
        for struct in structs_of(self.root):
            for name, _ in list(struct.columns()):
                self._swap_in(struct, name)
        on_new_column.append(self._adopt)
        _running.append(self)
        try:
            set_recorded(traced_functions(), True)
        except BaseException:  # else half of the functions would go on to log, for each machine to come
            self.stop()
            raise

    def stop(self) -> None:
        """Put the plain columns back; the journal can still rewind what it has."""
        _running.remove(self)
        on_new_column.remove(self._adopt)
        for struct in structs_of(self.root):
            for name, view in list(struct.columns()):
                if isinstance(view, RecordingColumn):
                    struct.__dict__[name] = view.plain
        if not _running:
            set_recorded(traced_functions(), False)

    def _swap_in(self, struct: Struct, name: str) -> None:
        plain = struct.__dict__[name]
        if isinstance(plain, RecordingColumn):
            return
        journal = self.journal
        number = len(journal.columns)
        journal.columns.append(plain)
        journal.names.append(f"{struct!r}.{name}")
        if journal.lines:
            struct.__dict__[name] = RecordingLines(plain, number, journal.log, journal.line_of_caller)
        else:
            kind = RecordingU64 if plain.format == "Q" else RecordingColumn
            struct.__dict__[name] = kind(plain, number, journal.log)

    def _adopt(self, struct: Struct, name: str) -> None:
        """A struct that is born in the middle of a recorded command belongs to that machine."""
        if hook.recorders and hook.recorders[-1] is self.journal:
            self._swap_in(struct, name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this context lasts, calls of kernel functions go into this journal."""
        hook.recorders.append(self.journal)
        try:
            yield
        finally:
            hook.recorders.pop()

    @contextmanager
    def command(self, name: str, args: tuple[object, ...], names: tuple[str, ...] = ()) -> Iterator[None]:
        """One command of the machine, from its first call to its last; `names` are those of its arguments."""
        self.journal.begin(Command(name, args, tuple(patches), names))
        try:
            with self.listening():
                yield
        finally:
            self.journal.end()
