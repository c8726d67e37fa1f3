"""The text of /sys/kernel/tracing/trace, line by line: who ran where and when, and what event that was.

            capt-107     [000] d..3.     5.311042: mm_page_pcpu_drain: page=… pfn=0x65cc order=0 migratetype=1
            TASK-PID     [cpu] FLAGS     TIME      event               fields
                               │││││
                               ││││└ migrate-disable depth
                               │││└─ preempt-disable depth (. is 0)
                               ││└── context: . task, s softirq, h hardirq, H both
                               │└─── a reschedule is due (N)
                               └──── interrupts are off (d)

A line that is none of these, or whose fields can't be read, is kept with its number and what is wrong; reading goes on.
"""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from kmemlab.machine.trace_events import EVENT_FORMATS
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture

EVENT_FILES = ("events.txt.gz", "events.txt", "events.txt.xz")
MOST_TOLD = 1000  # bad lines that are kept with their text; more are only counted

_LINE = re.compile(
    r" *(.{1,16}?)-(\d{1,10}) +(?:\([ \d-]+\) +)?\[(\d{1,5})\] +"  # a thread group's bracket is an option of ftrace
    r"([.dDbBX][.NnpLlBb][.hHsSzZ][.0-9a-f][.0-9a-f]?) +(\d{1,12}\.\d{1,9}): ([A-Za-z_]\w*): ?(.*)"
)
_LOST = re.compile(r"CPU:(\d+) \[LOST (\d+) EVENTS\]")


@invented("a line of a trace")
class TraceEvent(NamedTuple):
    """One event: its place in the file, who ran, and the values of its fields (`EVENT_FORMATS`)."""

    line: int
    task: str
    pid: int
    cpu: int
    flags: str
    time: float  # seconds, by the trace's clock
    name: str
    fields: tuple[Any, ...]

    @property
    def in_interrupt(self) -> bool:
        """Whether an interrupt handler ran, hard or soft."""
        return self.flags[2] != "."

    @property
    def preempt_depth(self) -> int:
        """How many times preemption had been switched off."""
        return 0 if self.flags[3] == "." else int(self.flags[3], 16)


@invented("a line of a trace")
class SkippedLine(NamedTuple):
    """A line that is no event: its number, what is wrong with it, and how it begins."""

    line: int
    what: str
    text: str


@invented("bad lines are told, not followed")
class SkippedLines:
    """The lines that were passed over: all are counted, the first `MOST_TOLD` kept."""

    def __init__(self) -> None:
        self.count = 0
        self.told: list[SkippedLine] = []

    def add(self, line: int, what: str, text: str) -> None:
        """Pass over a line, and say why."""
        self.count += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(SkippedLine(line, what, text[:120].rstrip("\n")))


@invented("a trace as a sequence of events")
def read_events(lines: Iterable[str], skipped: SkippedLines) -> Iterator[TraceEvent]:
    """The events of a trace's lines in order; what is no event is added to `skipped`.

    >>> bad = SkippedLines()
    >>> line = "  init-1  [000] d..2.  6.077152: mm_page_free: page=ffffea0000197300 pfn=0x65cc order=1"
    >>> [(event.cpu, event.name, event.fields) for event in read_events(["# tracer: nop", line], bad)], bad.count
    ([(0, 'mm_page_free', (26060, 1))], 0)
    """
    match, formats = _LINE.fullmatch, EVENT_FORMATS
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        found = match(line)
        if found is None:
            if not line.startswith("#"):
                skipped.add(number, line_complaint(line), line)
            continue
        task, pid, cpu, flags, time, name, text = found.groups()
        form = formats.get(name)
        try:
            fields = form.read(text) if form is not None else (text,)
        except ValueError as error:
            skipped.add(number, f"{name}: {error}", line)
            continue
        if fields is None:
            assert form is not None
            skipped.add(number, f"{name}: {form.complaint(text)}", line)
            continue
        yield TraceEvent(number, task, int(pid), int(cpu), flags, float(time), name, fields)


@invented("bad lines are told, not followed", traced=False)
def line_complaint(line: str) -> str:
    """What is wrong with a line that is no event."""
    lost = _LOST.match(line)
    if lost:
        return f"the trace buffer of CPU {lost[1]} was full: {lost[2]} events are missing here"
    if not line.strip():
        return "an empty line"
    if not line.isprintable() and "\t" not in line:
        return "no text"
    if re.match(r" *.{1,16}?-\d+ +\[\d+\]", line):
        return "the line breaks off, or its flags or its time can't be read"
    return "no line of a trace: TASK-PID [cpu] flags time: event: fields"


@invented("a trace is a file, packed or not", traced=False)
def open_trace(path: Path) -> IO[str]:
    """The trace's text, unpacked by what its first bytes say. Raises `BadCapture` when it can't be read."""
    try:
        with path.open("rb") as file:
            magic = file.read(6)
    except OSError as error:
        raise BadCapture(
            f"this trace can't be read: {error.strerror}",
            where=str(path),
            remedy="give a trace folder, or its events.txt or events.txt.gz",
        ) from None
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n")
    if magic.startswith(b"\xfd7zXZ"):
        return lzma.open(path, "rt", encoding="utf-8", errors="replace", newline="\n")
    return path.open(encoding="utf-8", errors="replace", newline="\n")


@invented("a trace is a file, packed or not")
def trace_events(path: Path, skipped: SkippedLines) -> Iterator[TraceEvent]:
    """The events of a file. Raises `BadCapture` for a file that can't be read, breaks off packed, or has no event."""
    events = 0
    try:
        with open_trace(path) as text:
            for event in read_events(text, skipped):
                events += 1
                yield event
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error):
        raise BadCapture(
            "this trace is packed, and breaks off or is damaged", where=str(path), remedy="copy it again"
        ) from None
    if not events:
        first = f"; line {skipped.told[0].line}: {skipped.told[0].what}" if skipped.told else ""
        raise BadCapture(
            f"this is no trace: it has no event{first}",
            where=str(path),
            remedy="save the text of /sys/kernel/tracing/trace while events are enabled",
        )


@invented("a trace is a folder, or the file in it", traced=False)
def find_events(trace: Path) -> Path:
    """The file of events of a trace folder; a file is taken as it is. Raises `BadCapture` if there is none."""
    try:
        trace.stat()
    except (OSError, ValueError) as error:
        raise BadCapture(
            f"there is no such trace: {getattr(error, 'strerror', None) or error}",
            where=str(trace)[:255],
            remedy="give a trace folder, or its events.txt or events.txt.gz",
        ) from None
    if not trace.is_dir():
        return trace
    for name in EVENT_FILES:
        if (trace / name).is_file():
            return trace / name
    raise BadCapture(
        "this folder holds no trace", where=str(trace), remedy=f"put one of {', '.join(EVENT_FILES)} there"
    )
