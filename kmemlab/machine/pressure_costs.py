"""What reclaim costs, in seconds of a CPU that QEMU emulates, and that writes a trace meanwhile.

Measured, in traces made later, which show who had the CPU too; at the speed of the CPU that made files-128m:

a batch           23 to 36 µs │ a page written             9 to 12 │ a tick                                  100 to 160
a page freed      2.8 to 3.7  │ a request to the disk   110 to 160 │ a name of sysfs that goes                      3.7
taken off a list  0.3 to 0.9  │ its interrupt     45, 1.7 for each │ one that stays                                0.45
a node without pages        22  │ the OOM killer's report, and the line on the victim  12 to 20 thousand

QEMU translates code when it runs for the first time: the first batch of each list takes 0.5 to 2.5 ms longer, the first
page that is written 3, the first direct reclaim 1. The CPU that made swap-160m took 1.6 times as long for everything.

What is below was fitted before that, and is not measured, but for the last two: of some four hundred sets it is one
with which the wake-ups of files-128m, swap-160m and oom-192m come near Linux's. It knows one speed for all machines,
and holds the cost of a request in those of its pages. README tells what it is worth on other traces.
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
from kmemlab.process.oom_kill import oom_kill_process
from kmemlab.process.oom_report import OomControl
from kmemlab.process.task_struct import Processes
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
IDLE_NODE_TIME = 22e-6  # a pass over a node in which no page was looked at
REPORT_TIME = (
    0.0145  # what the report of the OOM killer takes on its way through a serial line, and the line on the victim
)
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
        self.threads.spend(NODE_TIME if scanned else IDLE_NODE_TIME)
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

        def reports(processes: Processes, oc: OomControl, message: str) -> None:
            self.threads.spend(REPORT_TIME)
            run_kill(processes, oc, message)

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
            livepatch(oom_kill_process, reports),
        ):
            run_list, run_node = shrink_list.original, shrink_node.original  # type: ignore[attr-defined]
            run_kill = oom_kill_process.original  # type: ignore[attr-defined]
            run_pageout = pageout.original  # type: ignore[attr-defined]
            yield
