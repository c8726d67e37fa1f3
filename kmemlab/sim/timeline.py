"""The timeline: walks a recorded run forwards and backwards, by write, by function, by command."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from kmemlab.sim import hook
from kmemlab.sim.column import Column
from kmemlab.sim.hook import NONE_WORD, WIDE, Function, own_code
from kmemlab.sim.journal import Command, Journal, entries, show_value
from kmemlab.sim.kernel import invented, registry
from kmemlab.sim.recording import (
    CALL,
    INDEX_BITS,
    INDEX_MASK,
    KIND,
    LINE,
    RAISE,
    RETURN,
    RETURN_OBJECT,
    WRITE,
    signed,
)
from kmemlab.types.errors import BadRewind


@dataclass
class Call:
    """One call of a kernel function, as the log has it.

    `enter` and `leave` are places in the command's log: just inside the function, and just behind it.
    """

    function: Function
    arguments: tuple[Any, ...]
    depth: int
    enter: int
    line: int = 0  # of the caller, where lines were recorded
    leave: int = -1
    value: Any = None
    raised: bool = False
    calls: list[Call] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The function's name in C."""
        mark = registry.of(self.function)
        return mark.name if mark else self.function.__name__

    def text(self) -> str:
        """The call with its arguments by name, and what came of it."""
        names = own_code(self.function).co_varnames
        inside = ", ".join(
            f"{name}={show_value(name, value)}" for name, value in zip(names, self.arguments, strict=False)
        )
        outcome = " raised" if self.raised else "" if self.value is None else f" → {show_value('', self.value)}"
        return f"{self.name}({inside}){outcome}"


@dataclass
class Write:
    """One write: which column, which cell, and the value before and after."""

    column: str
    index: int
    old: int
    new: int
    line: int


@dataclass(frozen=True)
class Event:
    """One thing in a command's log: a call entered or left, or a cell written.

    `place` is just behind it. `line` is where the writer, or the caller, stood; 0 where lines were not recorded.
    """

    kind: str  # call, return or write
    place: int
    stack: tuple[Call, ...]  # the calls that are open, the one entered or left included
    line: int
    column: Column | None = None
    index: int = 0


@invented("the recorded run, to be walked in both directions")
class Timeline:
    """Where the machine stands in its recorded run, and how to move there and back.

    A place is a command and how many words of its log are done; 0 is just before the command. Moves return False where
    there is nowhere to go. A new command, asked of a machine that was rewound, drops what came after.
    """

    def __init__(self, journal: Journal, listening: Callable[[], AbstractContextManager[None]]) -> None:
        self._journal = journal
        self._listening = listening  # running a command again needs the recorder's ear
        self._parsed: tuple[tuple[int, int, int], list[Call]] = ((-1, 0, 0), [])

    # -- where ---------------------------------------------------------------------------------------------------------

    @property
    def commands(self) -> tuple[Command, ...]:
        """Every command that was recorded, oldest first."""
        return tuple(self._journal.commands)

    def place(self) -> tuple[int, int]:
        """The command that the machine stands before (0 words done) or in; `(len(commands), 0)` is the present."""
        journal = self._journal
        if not journal.rewound:
            return len(journal.commands), 0
        segment = journal.segments[journal.segment]
        if segment.net is not None:
            return segment.first + (segment.commands if journal.offset else 0), 0
        begun = sum(start < journal.offset for start in segment.starts)
        bounds = [*segment.starts, len(segment.log)]
        if begun == 0 or journal.offset == bounds[begun]:
            return segment.first + begun, 0
        return segment.first + begun - 1, journal.offset - bounds[begun - 1]

    def stack(self) -> list[Call]:
        """The calls that the machine stands in, outermost first."""
        command, words = self.place()
        return [call for call in walk(self.calls(command)) if call.enter <= words < call.leave] if words else []

    def calls(self, command: int) -> list[Call]:
        """The outermost calls of a command, each with the calls it made."""
        log, start, stop = self._log(command)
        key = (id(log), start, stop)
        if self._parsed[0] != key:
            self._parsed = key, self._parse(log, start, stop)
        return self._parsed[1]

    def call_tree(self, command: int) -> str:
        """The calls of a command as text, printed from the log of the run itself."""
        lines = [str(self._journal.commands[command])]
        lines += [f"{'   ' * call.depth} └ {call.text()}" for call in walk(self.calls(command))]
        return "\n".join(lines)

    def writes(self, command: int, start: int = 0, stop: int | None = None) -> list[Write]:
        """The writes of a command between two places, in order. The machine is brought to the later place."""
        log, first, end = self._log(command)
        stop = end - first if stop is None else stop
        self._go(command, stop)
        found = [
            self._write_at(log, at) for at in entries(log, first + start, first + stop) if log[at] >> KIND == WRITE
        ]
        later: dict[tuple[str, int], int] = {}
        for write in reversed(found):
            write.new = later.get((write.column, write.index), write.new)
            later[write.column, write.index] = write.old
        return found

    def events(self, command: int, within: Call | None = None) -> list[Event]:
        """Everything that a command, or one call of it, did, in order: calls entered, calls left, cells written."""
        log, start, stop = self._log(command)
        calls = walk(self.calls(command))
        stack: list[Call] = []
        found = []
        first = start
        if within is not None:
            stack = [call for call in calls if call.enter <= within.enter < call.leave]
            calls = walk(stack[-1].calls)
            found = [Event("call", within.enter, tuple(stack), within.line)]
            first, stop = start + within.enter, start + within.leave
        line = 0
        for at in entries(log, first, stop):
            kind = log[at] >> KIND
            if kind == CALL:
                stack.append(next(calls))
                found.append(Event("call", stack[-1].enter, tuple(stack), stack[-1].line))
            elif RETURN <= kind <= RAISE:
                found.append(Event("return", stack[-1].leave, tuple(stack), 0))
                stack.pop()
            elif kind == WRITE:
                column = self._journal.columns[log[at] >> INDEX_BITS]
                found.append(Event("write", at + 2 - start, tuple(stack), line, column, log[at] & INDEX_MASK))
            line = log[at] & INDEX_MASK if kind == LINE else 0
        return found

    # -- by command ----------------------------------------------------------------------------------------------------

    def rewind(self, command: int = 0) -> None:
        """Go to just before a command; `len(commands)` is the present.

        Raises `BadRewind` for a command that was never recorded.
        """
        count = len(self._journal.commands)
        if not 0 <= command <= count:
            raise BadRewind(f"there is no command {command}", where="timeline.rewind", remedy=f"choose 0 to {count}")
        self._go(command)

    def go(self, command: int, place: int) -> None:
        """Go to a place within a command, as `Call.enter`, `Call.leave` and `Event.place` say it."""
        self._go(command, place)

    def to_end(self) -> None:
        """Go back to the present."""
        self._go(len(self._journal.commands))

    def next_command(self) -> bool:
        """Go to the end of the command at hand."""
        command, _ = self.place()
        return command < len(self._journal.commands) and self._go(command + 1)

    def previous_command(self) -> bool:
        """Go to the start of the command at hand, or of the one before."""
        command, words = self.place()
        return (words > 0 or command > 0) and self._go(command if words else command - 1)

    # -- by function ---------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Go on to where the next function is entered, or to the command's end."""
        return self._forward(lambda call: True)

    def over(self) -> bool:
        """Go on as `step`, but past the functions that the function at hand calls."""
        stack = self.stack()
        depth = stack[-1].depth if stack else 0
        return self._forward(lambda call: call.depth <= depth)

    def out(self) -> bool:
        """Go on until the function at hand has returned."""
        stack = self.stack()
        return self._go(self.place()[0], stack[-1].leave) if stack else self.next_command()

    def back(self) -> bool:
        """Go back to where the last function was entered, or to the command's start."""
        command, words = self.place()
        if not words:
            if command == 0:
                return False
            command, words = command - 1, self._length(command - 1)
        return self._go(
            command, max((call.enter for call in walk(self.calls(command)) if call.enter < words), default=0)
        )

    def run_until(self, name: str) -> bool:
        """Go on until the function with this C, old or Python name is entered; stay where it never is."""
        wanted = {mark.function for mark in registry.find(name)}
        command, words = self.place()
        for number in range(command, len(self._journal.commands)):
            for call in walk(self.calls(number)):
                if call.function in wanted and (number > command or call.enter > words):
                    return self._go(number, call.enter)
        return False

    # -- by write ------------------------------------------------------------------------------------------------------

    def write(self) -> Write | None:
        """Do the next write; None at the present."""
        command, words = self.place()
        for number in range(command, len(self._journal.commands)):
            log, start, stop = self._log(number)
            for at in entries(log, start + (words if number == command else 0), stop):
                if log[at] >> KIND == WRITE:
                    self._go(number, at + 2 - start)
                    return self._write_at(log, at)
        self.to_end()
        return None

    def unwrite(self) -> Write | None:
        """Take the last write back; None at the very start."""
        command, words = self.place()
        for number in range(command if words else command - 1, -1, -1):
            log, start, stop = self._log(number)
            places = [at for at in entries(log, start, start + words if words else stop) if log[at] >> KIND == WRITE]
            words = 0
            if places:
                self._go(number, places[-1] + 2 - start)
                write = self._write_at(log, places[-1])
                self._go(number, places[-1] - start)
                return write
        self.rewind(0)
        return None

    # -- the log -------------------------------------------------------------------------------------------------------

    def _forward(self, accept: Callable[[Call], bool]) -> bool:
        command, words = self.place()
        if command == len(self._journal.commands):
            return False
        for call in walk(self.calls(command)):
            if call.enter > words and accept(call):
                return self._go(command, call.enter)
        return self._go(command + 1)

    def _go(self, command: int, words: int = 0) -> bool:
        journal = self._journal
        with self._listening():
            index, start = journal.locate(command)
            if words and journal.segments[index].net is not None:
                journal.expand(index)
                index, start = journal.locate(command)
            journal.move(index, start + words)
        return True

    def _length(self, command: int) -> int:
        _, start, stop = self._log(command)
        return stop - start

    def _log(self, command: int) -> tuple[array[int], int, int]:
        """The log that holds a command, and where it begins and ends there."""
        journal = self._journal
        index = journal.segment_of(command)
        if journal.segments[index].net is not None:
            place = self.place()
            with self._listening():
                journal.expand(index)
            self._go(*place)
        segment = journal.segments[index]
        bounds = [*segment.starts, len(segment.log)]
        return segment.log, bounds[command - segment.first], bounds[command - segment.first + 1]

    def _parse(self, log: array[int], start: int, stop: int) -> list[Call]:
        outermost: list[Call] = []
        open_calls: list[Call] = []
        entered: Call | None = None  # by the entry before
        for at in entries(log, start, stop):
            word = log[at]
            kind = word >> KIND
            if kind == LINE and entered:
                entered.line = word & INDEX_MASK
            entered = None
            if kind == CALL:
                call = self._call_at(log, at, len(open_calls), at - start)
                (open_calls[-1].calls if open_calls else outermost).append(call)
                open_calls.append(call)
                entered = call
            elif RETURN <= kind <= RAISE:
                call = open_calls.pop()
                call.leave = at + 1 - start
                call.raised = kind == RAISE
                if kind == RETURN:
                    call.value = word & ((1 << KIND) - 1)
                elif kind == RETURN_OBJECT:
                    call.value = self._journal.object_of(word & INDEX_MASK)
        return outermost

    def _call_at(self, log: array[int], at: int, depth: int, place: int) -> Call:
        word = log[at]
        function = hook.functions[word >> INDEX_BITS & 0xFFFF]
        words = log[at + 1 : at + 1 + (word & 0xFF)]
        kinds = [str(function.__annotations__.get(name, "")) for name in own_code(function).co_varnames[: len(words)]]
        arguments = tuple(
            self._journal.object_of(value)
            if word & WIDE or not kind.startswith(("int", "bool"))
            else None
            if value == NONE_WORD
            else value
            for value, kind in zip(words, kinds, strict=True)
        )
        return Call(function, arguments, depth, place + 1 + len(words))

    def _write_at(self, log: array[int], at: int) -> Write:
        """A write that is done: its old value is in the log, its new one in the cell."""
        number, index = log[at] >> INDEX_BITS, log[at] & INDEX_MASK
        line = log[at - 1] & INDEX_MASK if at and log[at - 1] >> KIND == LINE else 0
        return Write(
            self._journal.names[number], index, log[at + 1], signed(self._journal.columns[number][index]), line
        )


def walk(calls: list[Call]) -> Iterator[Call]:
    """Every call of a tree, in the order in which they were entered."""
    for call in calls:
        yield call
        yield from walk(call.calls)
