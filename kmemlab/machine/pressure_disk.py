"""The disk of a replay: a virtual machine's, which has no arm. The model's own has one, and is slower.

Its numbers were fitted, too: see machine/pressure_costs.py for those that were measured since.

shrink_lruvec ─▶ pages to write ─▶ plug: neighbours join ─▶ at its end, or when it is full ─▶ one request after another
                                                                                                        │
                              the pages may go  ◀── an interrupt that takes its time ◀── written ◀──────┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.hardware.disk import QUEUE_DEPTH
from kmemlab.machine.pressure_sched import WORK, FairCpu
from kmemlab.mm.globals import Mm
from kmemlab.mm.node import PglistData
from kmemlab.mm.page_state import set_page_flag
from kmemlab.mm.page_writeback import folio_end_writeback
from kmemlab.mm.vm_event import PGPGIN, PGPGOUT
from kmemlab.mm.wait import complete_requests, folio_unlock, submit_bio
from kmemlab.reclaim.scan_control import ScanControl
from kmemlab.reclaim.shrink_node import shrink_lruvec
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.pageflags import PG_uptodate
from kmemlab.types.units import KIB, PAGE_SIZE

LATENCY = 0.000276  # seconds: no request is done sooner
PAGE_TIME = 9.26e-6  # what each page of a request takes the disk
DONE_TIME = 15.28e-6  # and what it takes the CPU when it is done
MOST_PAGES = 254  # of a request: the segments of virtio-blk
PLUG_REQUESTS, PLUG_PAGES = 32, 32  # BLK_MAX_REQUEST_COUNT, and BLK_PLUG_FLUSH_SIZE of the last request


@invented("a request of a disk")
class DiskRequest:
    """Pages that lie side by side on the disk from block `first` on."""

    def __init__(self, first: int, pfn: int, write: bool) -> None:
        self.first, self.pages, self.write = first, [pfn], write

    def takes(self, block: int) -> bool:
        """Whether a page for this block joins."""
        return block == self.first + len(self.pages) and len(self.pages) < MOST_PAGES


@invented("another disk than the model's")
class PluggedDisk:
    """What tasks ask a disk for, and when it is done by the CPU's clock."""

    def __init__(self, mm: Mm, cpu: FairCpu) -> None:
        self.mm, self.cpu = mm, cpu
        self.plugs: dict[int, list[DiskRequest]] = {}  # of tasks that are in shrink_lruvec, by pid
        self.queue: deque[tuple[float, DiskRequest]] = deque()  # when each is done
        self.free_at = 0.0
        self.asked = 0  # pages that are under way

    def submit(self, pfn: int, block: int, write: bool) -> None:
        """A task asks for a page; writes of reclaim wait in its plug."""
        self.asked += 1
        plug = self.plugs.get(self.mm.current.pid) if write else None
        if plug is None:
            self.start(DiskRequest(block, pfn, write))
        elif plug and plug[-1].takes(block):
            plug[-1].pages.append(pfn)
        else:
            if len(plug) >= PLUG_REQUESTS or (plug and len(plug[-1].pages) >= PLUG_PAGES):
                self.flush(plug)
            plug.append(DiskRequest(block, pfn, write))

    def flush(self, plug: list[DiskRequest]) -> None:
        """What has waited in a plug goes to the disk."""
        for request in plug:
            self.start(request)
        plug.clear()

    def start(self, request: DiskRequest) -> None:
        """The disk begins with a request when it is done with those before."""
        self.free_at = max(self.free_at, self.cpu.clock) + PAGE_TIME * len(request.pages)
        self.queue.append((max(self.free_at, self.cpu.clock + LATENCY), request))

    def answer(self) -> None:
        """Do what is due; whoever has the CPU is interrupted. The work's interrupts are in its own time."""
        cpu = self.cpu
        while self.queue and self.queue[0][0] <= cpu.clock:
            _, request = self.queue.popleft()
            for pfn in request.pages:
                self.finish(pfn, request.write)
            took = DONE_TIME * len(request.pages)
            cpu.clock += took
            if cpu.running != WORK:
                cpu.vruntime[cpu.running] += took

    def finish(self, pfn: int, write: bool) -> None:
        """A page is read or written; the bytes are of no account here."""
        self.asked -= 1
        if self.mm.disk.pending > self.asked:
            self.mm.disk.take_done()
        if write:
            folio_end_writeback(self.mm, pfn)
        else:
            set_page_flag(self.mm.page, pfn, PG_uptodate)
            folio_unlock(self.mm, pfn)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While this lasts tasks ask this disk; the model's own queue only tells that something is under way."""

        def submitted(mm: Mm, pfn: int, block: int, write: bool) -> None:
            if mm.disk.pending < QUEUE_DEPTH - 1:
                mm.disk.submit(mm.current.jiffies, pfn, block, write)
            mm.vm_event[PGPGOUT if write else PGPGIN] += PAGE_SIZE // KIB
            self.submit(pfn, block, write)

        def completed(mm: Mm) -> None:
            """This disk tells by itself when it is done."""

        def plugged(mm: Mm, pgdat: PglistData, sc: ScanControl) -> None:
            pid = mm.current.pid
            plug = self.plugs[pid] = []
            shrink(mm, pgdat, sc)
            self.flush(plug)
            self.plugs.pop(pid, None)

        with (
            livepatch(submit_bio, submitted),
            livepatch(complete_requests, completed),
            livepatch(shrink_lruvec, plugged),
        ):
            shrink = shrink_lruvec.original  # type: ignore[attr-defined]
            yield
