"""What reclaim costs, in seconds of the CPU that made the traces: one that QEMU emulates, and that writes a trace.

From one event of reclaim to the next, where nobody else runs between them, a batch takes 12 to 31 µs, a page passed
over 0.02 to 0.3, taken off a list 0.4 to 0.9 (of a program 1.4 to 2.5), freed 3.2 to 4.4, written 19 to 22, and 12 to
17 more when the disk is done; a name of sysfs 4.1 to 6.5. QEMU translates code when it runs for the first time:
kswapd's first run takes 5 to 8 ms longer, and the first direct reclaim 1 to 2.5.

What is below lies within that. Where a trace is decided by a page more or less, it was chosen so that the model's
wake-ups come near Linux's: it is a calibration, and no measurement to four digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.machine.pressure_sched import KWORKER, FairCpu
from kmemlab.machine.pressure_threads import WAITING, Threads
from kmemlab.mm.globals import Mm
from kmemlab.mm.lruvec import LRU_ACTIVE, LRU_FILE
from kmemlab.mm.node import PglistData
from kmemlab.mm.vm_event import PGREFILL, PGSCAN_DIRECT, PGSCAN_KSWAPD
from kmemlab.mm.wait import cond_resched, io_schedule
from kmemlab.reclaim.scan_control import ScanControl, current_is_kswapd
from kmemlab.reclaim.shrink_list import pageout
from kmemlab.reclaim.shrink_node import shrink_list, shrink_node
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch

BATCH_TIME, NODE_TIME = 14e-6, 7e-6
SKIP_TIME, PAGE_TIME, ANON_TIME, FREE_TIME, WRITE_TIME = 0.25e-6, 0.9e-6, 2.05e-6, 3.6e-6, 21.66e-6
NAME_TIME, KEPT_TIME = 4.3e-6, 0.7e-6  # a name of sysfs that goes with its inode; one that stays
RCU_TIME = 3.18e-6  # what such a name takes ksoftirqd
COLD_KSWAPD, COLD_DIRECT = 0.007, 0.002
PRESSURE_WINDOW = 512  # pages, after which vmpressure wakes its worker


@invented("what reclaim costs")
class ReclaimCosts:
    """Charges whoever frees pages for what it does. `cold` tells whether nobody has freed any before the trace."""

    def __init__(self, threads: Threads, cold: bool) -> None:
        self.threads = threads
        self.cpu: FairCpu = threads.cpu
        self.cold = {True: COLD_KSWAPD if cold else 0.0, False: COLD_DIRECT}  # by current_is_kswapd
        self.scanned = 0

    def name_looked_at(self, freed: int, kept: int) -> None:
        """Some names of sysfs were looked at."""
        if freed:
            self.threads.later(freed * RCU_TIME)
        self.threads.spend(freed * NAME_TIME + kept * KEPT_TIME)

    def scanned_pages(self, mm: Mm) -> int:
        """How many pages were looked at until now."""
        return mm.vm_event[PGSCAN_KSWAPD] + mm.vm_event[PGSCAN_DIRECT] + mm.vm_event[PGREFILL]

    def node_done(self, mm: Mm, sc: ScanControl, scanned: int) -> None:
        """A pass over a node is over: vmpressure has its worker woken now and then, and then whoever is behind runs."""
        self.threads.spend(NODE_TIME)
        if current_is_kswapd(mm):
            self.threads.rounds += 1
        elif sc.nr_reclaimed:
            self.threads.progress_made()
        self.scanned += scanned
        if self.scanned >= PRESSURE_WINDOW:
            self.scanned = 0
            if self.threads.inside or self.threads.excluded != WAITING:
                self.cpu.wake(KWORKER)
            self.threads.may_switch()

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While this lasts reclaim takes time."""

        def list_takes_time(mm: Mm, pgdat: PglistData, lru: int, nr_to_scan: int, sc: ScanControl) -> int:
            scanned, taken = self.scanned_pages(mm), sc.nr.taken
            freed = int(run_list(mm, pgdat, lru, nr_to_scan, sc))
            scanned = self.scanned_pages(mm) - scanned
            taken = scanned if lru & LRU_ACTIVE else sc.nr.taken - taken
            took = BATCH_TIME + taken * (PAGE_TIME if lru >= LRU_FILE else ANON_TIME)
            self.threads.spend(took + (scanned - taken) * SKIP_TIME + freed * FREE_TIME)
            return freed

        def write_takes_time(mm: Mm, pfn: int) -> bool:
            written = bool(run_pageout(mm, pfn))
            self.cpu.charge(WRITE_TIME * written)
            return written

        def node_takes_time(mm: Mm, pgdat: PglistData, sc: ScanControl) -> None:
            scanned, kswapd = sc.nr_scanned, current_is_kswapd(mm)
            cold, self.cold[kswapd] = self.cold[kswapd], 0.0
            if cold:
                self.threads.spend(cold)
            run_node(mm, pgdat, sc)
            self.node_done(mm, sc, sc.nr_scanned - scanned)

        def gives_way(mm: Mm) -> None:
            self.threads.may_switch()

        def waits(mm: Mm) -> None:
            self.threads.sleep_until(self.cpu.next_tick())
            self.threads.disk.answer()

        with (
            livepatch(shrink_list, list_takes_time),
            livepatch(pageout, write_takes_time),
            livepatch(shrink_node, node_takes_time),
            livepatch(cond_resched, gives_way),
            livepatch(io_schedule, waits),
        ):
            run_list, run_node = shrink_list.original, shrink_node.original  # type: ignore[attr-defined]
            run_pageout = pageout.original  # type: ignore[attr-defined]
            yield
