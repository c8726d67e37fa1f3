"""The journal: every write and every kernel call of a run in one flat log, bounded, and able to go back.

    commands    0        1        2        3        4        5        6   …
    segments   [───── net ─────][──── net ────][──── log ────][─ log ─        newest, still growing
                 one value a cell (a keyframe's    every write and call
                 difference to the next)

A WRITE entry holds the value that is *not* in the cell now: undoing swaps the two, and so does redoing.
A segment that must shrink keeps one swap a cell for all its commands together. Its inside is gone but not lost: its
commands are run again from its start.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from types import FrameType
from typing import Any

from kmemlab.sim import hook
from kmemlab.sim.column import Column
from kmemlab.sim.hook import Function
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import patches_as_then
from kmemlab.sim.recording import CALL, COMMAND, INDEX_BITS, INDEX_MASK, KIND, LINE, RETURN_OBJECT, WRITE, signed
from kmemlab.types.errors import BadRewind
from kmemlab.types.units import U64_MAX

DEFAULT_CAP = 256 << 20
KEYFRAME_EVERY = 1 << 19  # words of log between keyframes: 4 MiB

_COUNT = 0xFF


_LONGEST = 40


def show_value(name: str, value: Any) -> str:
    """An argument for a reader: flags and addresses in hex, page frames and counts in decimal, objects by name.

    >>> show_value("gfp", 3264), show_value("pfn", 2242304), show_value("start", 1 << 32)
    ('0xcc0', '2242304', '0x100000000')
    """
    if type(value) is int:
        return hex(value) if name == "gfp" or value >= 1 << 32 or name.endswith("addr") else str(value)
    text = str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST and " at 0x" not in text else type(value).__name__


@dataclass(frozen=True, slots=True)
class Command:
    """One thing the machine was asked to do, with the patches that were in force."""

    name: str
    args: tuple[Any, ...] = ()
    patches: tuple[tuple[Function, Function], ...] = ()
    names: tuple[str, ...] = ()  # of the arguments, for people

    def __str__(self) -> str:
        shown = [show_value(name, arg) for name, arg in zip_longest(self.names, self.args, fillvalue="")]
        return (
            f"{self.name}({', '.join(f'{n}={s}' if n else s for n, s in zip_longest(self.names, shown, fillvalue=''))})"
        )


@dataclass
class Segment:
    """The log of some commands in a row; `net` is set instead of `log` once it was shrunk."""

    first: int  # number of its first command
    log: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q"))  # where each command begins in `log`
    net: tuple[array[int], array[int]] | None = None
    commands: int = 0

    @property
    def bytes(self) -> int:
        """The memory that the segment's words take."""
        return 8 * (len(self.log) if self.net is None else 2 * len(self.net[0]))


def entry_words(word: int) -> int:
    """How many words the entry takes that begins with `word`."""
    kind = word >> KIND
    return 2 if kind == WRITE else 1 + (word & _COUNT) if kind == CALL else 1


def entries(log: array[int], start: int, stop: int) -> Iterator[int]:
    """The places of the entries of `log` from `start` to before `stop`."""
    at = start
    while at < stop:
        yield at
        at += entry_words(log[at])


@invented("state that rewinds")
class Journal:
    """What a recorder writes and a timeline reads.

    `run` carries out a command again; the journal calls it to bring back the inside of a segment that was shrunk.
    """

    def __init__(
        self, run: Callable[[Command], None], cap: int = DEFAULT_CAP, keyframe_every: int = KEYFRAME_EVERY
    ) -> None:
        self.run = run
        self.cap = cap
        self.keyframe_every = min(keyframe_every, max(cap // 64, 256))  # at least eight segments within the cap
        self.lines = False  # also log the source line of each write and call: for players, which show few steps
        self.columns: list[Column] = []
        self.names: list[str] = []  # of the columns, for people
        self.commands: list[Command] = []
        self._objects: list[Any] = [None]
        self._numbers: dict[Any, int] = {}
        # One array for good: every recording column and trampoline holds its methods. It is the newest segment's log.
        self.log: array[int] = array("q")
        self.append = self.log.append
        self.fromlist = self.log.fromlist
        self.segments: list[Segment] = [Segment(0, self.log)]
        self.segment, self.offset = 0, 0  # where the state stands, if rewound
        self.rewound = False

    # -- what recording calls ------------------------------------------------------------------------------------------

    def object(self, thing: Any) -> int:
        """The number under which the log knows an argument that is no plain integer."""
        if thing is None:
            return 0
        try:
            key: Any = (type(thing), thing)
            number = self._numbers.get(key)
        except TypeError:  # can't be hashed: known by identity, and kept alive so that it stays one
            key = (type(thing), id(thing))
            number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._objects)
            self._objects.append(thing)
        return number

    def object_of(self, number: int) -> Any:
        """The argument that the log knows under `number`."""
        return self._objects[number]

    def wide_call(self, header: int, arguments: list[Any]) -> None:
        """Log a call with an argument beyond 63 bits: all as objects, told apart by a high bit in the header."""
        self.fromlist([header | hook.WIDE, *map(self.object, arguments)])

    def returned(self, value: Any) -> None:
        """Log a return value that is no small number."""
        self.append(RETURN_OBJECT << KIND | self.object(value))

    def line_of_caller(self) -> None:
        """Log the line at which the running kernel function stands."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code not in hook.traced_codes:
            frame = frame.f_back
        if frame is not None:
            self.append(LINE << KIND | frame.f_lineno)

    # -- commands ------------------------------------------------------------------------------------------------------

    def begin(self, command: Command) -> None:
        """Start a command at the end of the log; a future that was rewound is dropped."""
        self.drop_future()
        if len(self.log) > self.keyframe_every:
            self._close_segment()
        last = self.segments[-1]
        last.starts.append(len(self.log))
        last.commands += 1
        self.commands.append(command)
        self.append(COMMAND << KIND | len(self.commands) - 1)

    def end(self) -> None:
        """A command is done: the state stands at the end of the log, and the log is kept under its cap."""
        while sum(s.bytes for s in self.segments) > self.cap and self._shrink():
            pass

    def drop_future(self) -> None:
        """Forget what comes after the place where the state stands.

        Raises `BadRewind` when that is the middle of a command: half a command can't be gone on from.
        """
        if not self.rewound:
            return
        if self.offset == self._end(self.segment) and self.segment < len(self.segments) - 1:
            self.segment, self.offset = self.segment + 1, 0
        here = self.segments[self.segment]
        if here.net is None and self.offset not in (0, len(here.log), *here.starts):
            raise BadRewind(
                "the machine stands inside a command",
                where="timeline",
                remedy="go to the command's end or start before asking for another",
            )
        del self.segments[self.segment + 1 :]
        self.log[:] = here.log[: self.offset]
        here.starts = array("q", (start for start in here.starts if start < self.offset))
        here.log, here.net, here.commands = self.log, None, len(here.starts)
        del self.commands[here.first + here.commands :]
        self.rewound = False

    def _close_segment(self) -> None:
        """A keyframe: what was logged so far becomes a segment of its own, and the log starts anew."""
        last = self.segments[-1]
        last.log = self.log[:]
        del self.log[:]
        self.segments.append(Segment(len(self.commands), self.log))

    # -- shrinking -----------------------------------------------------------------------------------------------------

    def _shrink(self) -> bool:
        """Make the oldest history smaller; False when there is nothing left to shrink."""
        for segment in self.segments[:-1]:
            if segment.net is None:
                segment.net = net_of(segment.log)
                segment.log = array("q")
                segment.starts = array("q")
                return True
        for index, (older, newer) in enumerate(zip(self.segments, self.segments[1:-1], strict=False)):
            if older.net is not None and newer.net is not None:
                older.net = join_nets(older.net, newer.net)
                older.commands += newer.commands
                del self.segments[index + 1]
                return True
        return False

    # -- places --------------------------------------------------------------------------------------------------------

    def segment_of(self, command: int) -> int:
        """The segment that holds a command."""
        for index, segment in enumerate(self.segments):
            if segment.first <= command < segment.first + segment.commands:
                return index
        raise BadRewind(
            f"there is no command {command}", where="the journal", remedy=f"choose 0 to {len(self.commands) - 1}"
        )

    def locate(self, command: int) -> tuple[int, int]:
        """The segment and the offset just before a command; behind the last one for `len(commands)`."""
        if command == len(self.commands):
            return len(self.segments) - 1, len(self.log)
        index = self.segment_of(command)
        segment = self.segments[index]
        if segment.net is not None and command > segment.first:
            self.expand(index)
        return index, segment.starts[command - segment.first] if segment.net is None else 0

    # -- moving --------------------------------------------------------------------------------------------------------

    def swap(self, key: int, other: int) -> int:
        """Put `other` into the cell `key`; returns what was there."""
        cells = self.columns[key >> INDEX_BITS]
        index = key & INDEX_MASK
        old = cells[index]
        cells[index] = other & U64_MAX if cells.format == "Q" else other
        return old - (U64_MAX + 1) if old >> 63 > 0 else old

    def _swap_log(self, log: array[int], start: int, stop: int) -> None:
        """Undo or redo the writes between two places of a log (it is the same act, in the order that is asked)."""
        places = [at for at in entries(log, min(start, stop), max(start, stop)) if log[at] >> KIND == WRITE]
        for at in places if stop > start else reversed(places):
            log[at + 1] = self.swap(log[at], log[at + 1])

    def _swap_net(self, net: tuple[array[int], array[int]]) -> None:
        keys, others = net
        for place, key in enumerate(keys):
            others[place] = self.swap(key, others[place])

    def move(self, segment: int, offset: int) -> None:
        """Bring the state to a place: a segment, and an offset in its log (0 is its start)."""
        self._settle()
        while self.segment > segment:
            self._to_start()
            self.segment -= 1
            self.offset = self._end(self.segment)
        while self.segment < segment:
            self._to_end()
            self.segment, self.offset = self.segment + 1, 0
        here = self.segments[segment]
        if here.net is not None and offset not in (0, self._end(segment)):
            self._expand()
        if here.net is not None:
            if offset != self.offset:
                self._swap_net(here.net)
        else:
            self._swap_log(here.log, self.offset, offset)
        self.offset = offset
        self.rewound = (segment, offset) != (len(self.segments) - 1, len(self.log))

    def _settle(self) -> None:
        """Say in numbers where the state stands when it is at the present, however far that has come."""
        if not self.rewound:
            self.segment, self.offset = len(self.segments) - 1, len(self.log)

    def _end(self, segment: int) -> int:
        """The offset of a segment's end; a shrunk segment has two places only, 0 and 1."""
        return 1 if self.segments[segment].net is not None else len(self.segments[segment].log)

    def _to_start(self) -> None:
        self.move(self.segment, 0)

    def _to_end(self) -> None:
        self.move(self.segment, self._end(self.segment))

    def expand(self, segment: int) -> None:
        """Give a shrunk segment its inside back: run its commands again from its start, and record them."""
        if self.segments[segment].net is not None:
            self.move(segment, 0)
            self._expand()

    def _expand(self) -> None:
        here = self.segments[self.segment]
        self._to_start()
        assert here.log is not self.log, "the newest segment is never shrunk"
        kept, self.log[:] = self.log[:], array("q")
        starts = array("q")
        try:
            for number in range(here.first, here.first + here.commands):
                starts.append(len(self.log))
                self.append(COMMAND << KIND | number)
                self.rerun(self.commands[number])
        except BaseException:  # somebody pressed Ctrl-C: as if it had not begun
            self._swap_log(self.log[:], len(self.log), 0)
            raise
        finally:
            again, self.log[:] = self.log[:], kept
        self._check_alike(here, again)
        here.log, here.starts, here.net = again, starts, None
        self.offset = len(here.log)

    def _check_alike(self, segment: Segment, again: array[int]) -> None:
        """Commands that were run again must end where they ended the first time; else take them back and say so."""
        assert segment.net is not None
        ended = dict(zip(*segment.net, strict=True))
        for key, start in zip(*net_of(again), strict=True):
            ended.setdefault(key, start)
        if all(signed(self.columns[key >> INDEX_BITS][key & INDEX_MASK]) == end for key, end in ended.items()):
            return
        self._swap_log(again, len(again), 0)
        first = segment.first
        raise BadRewind(
            f"commands {first} to {first + segment.commands - 1}, run again, did something else than the first time",
            where="the journal, which had forgotten what is inside of them",
            remedy="plug in functions that do the same each time, without counters or chance; or record with more cap",
        )

    def rerun(self, command: Command) -> None:
        """Carry a command out again, under the patches that were in force then, and no others."""
        with patches_as_then(command.patches), suppress(Exception):  # what failed the first time fails alike
            self.run(command)


def net_of(log: array[int]) -> tuple[array[int], array[int]]:
    """One swap a cell for a whole log: the value each cell had before its first write."""
    first: dict[int, int] = {}
    for at in entries(log, 0, len(log)):
        if log[at] >> KIND == WRITE:
            first.setdefault(log[at], log[at + 1])
    return array("q", first.keys()), array("q", first.values())


def join_nets(
    older: tuple[array[int], array[int]], newer: tuple[array[int], array[int]]
) -> tuple[array[int], array[int]]:
    """One swap a cell for two shrunk segments in a row: the older value wins."""
    cells = dict(zip(*newer, strict=True)) | dict(zip(*older, strict=True))
    return array("q", cells.keys()), array("q", cells.values())
