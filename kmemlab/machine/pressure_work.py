"""What the work did, read from the trace of a machine that was short of memory. What reclaim did is left out.

trace  ─┬─ page requests, frees, page cache, LRU insertions and activations by the work ──▶ steps for the model
        ├─ kswapd's page events                                            ┐
        ├─ those between mm_vmscan_direct_reclaim_begin and _end of a task ├─▶ dropped: the model decides by itself
        ├─ those of the exit of the OOM killer's victim                    ┘
        └─ those of compaction, which moves pages and frees none ──▶ dropped

A page of the trace is known by what stands in it. What that is, later events tell: a page that comes to the page cache
is a page of that file, one that is inserted into an anonymous list is memory of the program that asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from kmemlab.machine.replay_reclaim import KSWAPD
from kmemlab.machine.trace_reader import TraceEvent
from kmemlab.sim.kernel import invented
from kmemlab.types.gfp import __GFP_DIRECT_RECLAIM as GFP_DIRECT_RECLAIM
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from kmemlab.types.units import PAGE_SHIFT

_FILE_PAGE = re.compile(r"dev (\S+) ino (\w+) pfn=0x([0-9a-f]{1,16}) ofs=(\d{1,18})(?!\w)")
_LRU_PAGE = re.compile(r"(?:folio|page)=\S+ pfn=(?:0x)?([0-9a-f]{1,16})(?!\w)(?: lru=(\w+) flags=(.*))?")
_SCORE = re.compile(r"pid=(\d{1,9}) comm=(.*) oom_score_adj=(-?\d{1,4})(?!\w)")
_VICTIM = re.compile(r"pid=(\d{1,9})(?!\w)")
# Of these events only a replay under pressure reads more than the name.
READ_HERE = {
    "mm_filemap_add_to_page_cache": _FILE_PAGE,
    "mm_filemap_delete_from_page_cache": _FILE_PAGE,
    "mm_lru_insertion": _LRU_PAGE,
    "mm_lru_activate": _LRU_PAGE,
    "oom_score_adj_update": _SCORE,
    "mark_victim": _VICTIM,
}

BEGINS = ("mm_vmscan_direct_reclaim_begin", "mm_compaction_begin")
ENDS = ("mm_vmscan_direct_reclaim_end", "mm_compaction_end")
LEAVES = ("mm_page_free", "mm_page_free_batched", "mm_page_pcpu_drain")


@invented("what a page of a trace is for")
class Kind(Enum):
    """What stands in a page."""

    KERNEL = "the kernel's own"
    FILE = "a page of a file"
    ANON = "memory of a program"


@invented("a page of a trace, known by what stands in it")
@dataclass(slots=True, eq=False)
class Content:
    """What stands in a block from a request until it is freed, and the model's page that holds it meanwhile."""

    pid: int = 0
    order: int = 0
    gfp: int = 0
    kind: Kind = Kind.KERNEL
    file: str = ""
    index: int = 0
    mapped: bool = False
    shared: bool = False  # memory of programs that no program's own page table gave: a tmpfs
    page: int | None = None
    old: bool = False  # in use since before the trace, in the same page frames of the model
    entry: int = 0  # of swap


@invented("what a step of the work is")
class Act(Enum):
    """What the work does."""

    REQUEST = "asks for a block"
    ADD = "puts a block into a file"
    FREE = "gives a block back"
    ACTIVATE = "uses a page again"
    EXIT = "ends"
    SCORE = "gets another oom_score_adj"
    MARK = "says how far it is"


@invented("a step of the work")
class Step(NamedTuple):
    """One step: when, who (`pid`, 0 for an interrupt), what, and with which block."""

    time: float
    act: Act
    cpu: int
    pid: int
    task: str
    content: Content | None = None
    text: str = ""
    number: int = 0
    line: int = 0  # of the trace


@invented("what the events of reclaim may be used for")
class Dropping:
    """Which page events belong to reclaim, to compaction, or to the exit of a victim."""

    def __init__(self) -> None:
        self.busy: set[int] = set()
        self.victims: set[int] = set()

    def note(self, event: TraceEvent) -> None:
        """Follow the events that bracket what is dropped."""
        if event.name in BEGINS:
            self.busy.add(event.pid)
        elif event.name in ENDS:
            self.busy.discard(event.pid)
        elif event.name == "mark_victim":
            victim = _VICTIM.match(event.fields[0])
            if victim is not None:
                self.victims.add(int(victim[1]))

    def drops(self, event: TraceEvent) -> bool:
        """Whether a page event is none of the work's. What an interrupt does belongs to no task."""
        if event.in_interrupt:
            return False
        if event.pid in self.busy or KSWAPD.fullmatch(event.task) or event.task == "oom_reaper":
            return True
        if event.pid not in self.victims:
            return False
        # A victim's request that may wait was under way when it was chosen; what its exit asks for can't wait.
        return event.name != "mm_page_alloc" or not event.fields[3] & GFP_DIRECT_RECLAIM


@invented("a trace as the steps of the work")
class WorkReader:
    """Reads the steps of the work from events; `used` tells by a byte a page frame which were in use at the start."""

    def __init__(self, events: Sequence[TraceEvent], used: bytearray, bulk: Container[int] = ()) -> None:
        """After the events at the places `bulk` somebody took a page without an event of its own."""
        self.events = events
        self.used = used
        self.bulk = bulk
        self.dropping = Dropping()
        self.holds: dict[int, Content] = {}  # page frame of the trace → what stands in it
        self.mappings: set[tuple[int, str]] = set()  # who has mapped pages of which file
        self.old: dict[int, Content] = {}  # the same for blocks from before the trace
        self.handlers = {
            "mm_page_alloc": self.page_alloc,
            "mm_page_free": self.page_free,
            "mm_filemap_add_to_page_cache": self.add_to_page_cache,
            "mm_filemap_delete_from_page_cache": self.delete_from_page_cache,
            "mm_lru_insertion": self.lru_insertion,
            "mm_lru_activate": self.lru_activate,
            "oom_score_adj_update": self.score,
            "tracing_mark_write": self.mark,
        }

    def steps(self) -> list[Step]:
        """All steps in order. What stands in a block is known when all have been read."""
        last = {event.pid: at for at, event in enumerate(self.events) if not event.in_interrupt}
        steps: list[Step] = []
        for at, event in enumerate(self.events):
            self.dropping.note(event)
            handler = self.handlers.get(event.name)
            if handler is not None:
                steps += handler(event)
            if at in self.bulk and not self.dropping.drops(event):
                steps.append(self.unseen_request(event))
            if last.get(event.pid) == at and event.pid > 1 and event.name in LEAVES:
                # The last that is heard of a task is that it gives pages back: it has ended.
                steps.append(Step(event.time, Act.EXIT, event.cpu, event.pid, event.task))
        self.conclude(steps)
        return steps

    def conclude(self, steps: Sequence[Step]) -> None:
        """What no event tells of each page, but the events of others do.

        Who has mapped some pages of a file reads all through that mapping. Where insertions into lists were not traced,
        pages are taken for a program's by the flags of the request.
        """
        untold = not any(event.name == "mm_lru_insertion" for event in self.events)
        for content in (step.content for step in steps if step.act is Act.REQUEST and step.content is not None):
            if content.kind is Kind.FILE:
                content.mapped |= (content.pid, content.file) in self.mappings
            elif untold and not content.order and content.gfp & GFP_HIGHUSER_MOVABLE == GFP_HIGHUSER_MOVABLE:
                content.kind = Kind.ANON

    def step(self, event: TraceEvent, act: Act, content: Content | None = None) -> Step:
        """A step as an event tells it."""
        pid = 0 if event.in_interrupt else event.pid
        return Step(event.time, act, event.cpu, pid, event.task, content, line=event.line)

    def page_alloc(self, event: TraceEvent) -> Iterator[Step]:
        """Somebody asks for a block, and gets one."""
        pfn, order, _, gfp = event.fields
        if not pfn:
            return
        self.forget(pfn, order)
        if not self.dropping.drops(event):
            content = Content(0 if event.in_interrupt else event.pid, order, gfp)
            self.holds[pfn] = content
            yield self.step(event, Act.REQUEST, content)

    def unseen_request(self, event: TraceEvent) -> Step:
        """Somebody takes the page of an event in bulk."""
        self.forget(event.fields[0], 0)
        content = self.holds[event.fields[0]] = Content(0 if event.in_interrupt else event.pid, 0, GFP_KERNEL)
        return self.step(event, Act.REQUEST, content)

    def page_free(self, event: TraceEvent) -> Iterator[Step]:
        """A block is given back; one that nobody was seen to ask for was taken in bulk, and is passed over."""
        content = self.leaves(event.fields[0], event.fields[1])
        if content is not None and not self.dropping.drops(event):
            yield self.step(event, Act.FREE, content)

    def leaves(self, pfn: int, order: int) -> Content | None:
        """What stood in a block that is given back."""
        content = self.holds.pop(pfn, None) or self.content_of_old(pfn, order)
        self.forget(pfn, order)
        return content

    def forget(self, pfn: int, order: int) -> None:
        """From now on this block is no longer one from before the trace."""
        self.used[pfn : pfn + (1 << order)] = bytes(1 << order)
        self.holds.pop(pfn, None)

    def content_of_old(self, pfn: int, order: int = 0) -> Content | None:
        """What stands in a block that was in use before the trace: it is in the same page frames of the model."""
        if pfn >= len(self.used) or not self.used[pfn]:
            return None
        return self.old.setdefault(pfn, Content(order=order, page=pfn, old=True))

    def add_to_page_cache(self, event: TraceEvent) -> Iterator[Step]:
        """The page that was just asked for is one of a file."""
        found = _FILE_PAGE.match(event.fields[0])
        content = self.holds.get(int(found[3], 16)) if found else None
        if found is not None and content is not None:
            content.kind, content.file = Kind.FILE, f"{found[1]} {found[2]}"
            content.index = int(found[4]) >> PAGE_SHIFT
            yield self.step(event, Act.ADD, content)

    def delete_from_page_cache(self, event: TraceEvent) -> Iterator[Step]:
        """A page of a file goes: the file was cut, or its pages dropped. If reclaim did it, the model decides."""
        found = _FILE_PAGE.match(event.fields[0])
        if found is None or self.dropping.drops(event):
            return
        content = self.leaves(int(found[3], 16), 0)
        if content is None:  # it moved to another frame meanwhile: the file and the place in it tell
            content = Content(kind=Kind.FILE, file=f"{found[1]} {found[2]}", index=int(found[4]) >> PAGE_SHIFT)
        yield self.step(event, Act.FREE, content)

    def lru_insertion(self, event: TraceEvent) -> Iterator[Step]:
        """A page comes to a list: whether it is a program's, and mapped. Whoever empties the batch is of no account."""
        found = _LRU_PAGE.match(event.fields[0])
        content = self.holds.get(int(found[1], 16)) if found else None
        if found is not None and content is not None and found[3]:
            flags = found[3]
            if content.kind is Kind.FILE and flags[0] == "M":
                self.mappings.add((content.pid, content.file))
            elif content.kind is not Kind.FILE and "b" in flags:
                content.kind, content.shared = Kind.ANON, "a" not in flags and "s" not in flags
        return iter(())

    def lru_activate(self, event: TraceEvent) -> Iterator[Step]:
        """A page was used again by a read or write."""
        found = _LRU_PAGE.match(event.fields[0])
        if found is not None:
            pfn = int(found[1], 16)
            content = self.holds.get(pfn) or self.content_of_old(pfn)
            if content is not None:
                yield self.step(event, Act.ACTIVATE, content)

    def score(self, event: TraceEvent) -> Iterator[Step]:
        """Somebody makes a task more or less likely to be killed."""
        found = _SCORE.match(event.fields[0])
        if found is not None:
            yield Step(event.time, Act.SCORE, event.cpu, int(found[1]), found[2], number=int(found[3]))

    def mark(self, event: TraceEvent) -> Iterator[Step]:
        """The machine's own remark."""
        yield Step(event.time, Act.MARK, event.cpu, event.pid, event.task, text=str(event.fields[0]).strip())


@invented("what the model is compared with", traced=False)
def victim_of(events: Sequence[TraceEvent]) -> int | None:
    """The pid of the OOM killer's first victim; None if nobody was killed."""
    for event in events:
        found = _VICTIM.match(event.fields[0]) if event.name == "mark_victim" else None
        if found is not None:
            return int(found[1])
    return None
