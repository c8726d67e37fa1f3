"""The disk of a replay: a virtual machine's, which answers in half a millisecond. The model's own has an arm to move.

batch of reclaim ─▶ requests ── 0.5 ms of the CPU's clock ──▶ written: the page may go
"""

from __future__ import annotations

from collections import deque

from kmemlab.mm.globals import Mm
from kmemlab.mm.page_state import set_page_flag
from kmemlab.mm.page_writeback import folio_end_writeback
from kmemlab.mm.wait import folio_unlock
from kmemlab.sim.kernel import invented
from kmemlab.types.pageflags import PG_uptodate

LATENCY = 0.0005  # seconds


@invented("another disk than the model's")
class QuickDisk:
    """Does what the model's disk was asked for, sooner than that would."""

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.asked: deque[tuple[float, int]] = deque()  # when, and how many requests
        self.noted = 0

    def answer(self, now: float) -> None:
        """Note what is new, and do what has waited long enough."""
        disk, asked = self.mm.disk, self.asked
        if disk.pending < self.noted:  # the model's own clock did some
            self.forget(self.noted - disk.pending)
        if disk.pending > self.noted:
            asked.append((now, disk.pending - self.noted))
            self.noted = disk.pending
        while asked and asked[0][0] + LATENCY <= now:
            _, requests = asked.popleft()
            self.noted -= requests
            for _ in range(requests):
                self.finish()

    def forget(self, requests: int) -> None:
        """So many of the oldest requests have been done already."""
        self.noted -= requests
        while requests:
            when, waiting = self.asked.popleft()
            if waiting > requests:
                self.asked.appendleft((when, waiting - requests))
            requests -= min(requests, waiting)

    def finish(self) -> None:
        """The oldest request is done; the bytes are of no account here."""
        pfn, _, write = self.mm.disk.take_done()
        if write:
            folio_end_writeback(self.mm, pfn)
        else:
            set_page_flag(self.mm.page, pfn, PG_uptodate)
            folio_unlock(self.mm, pfn)
