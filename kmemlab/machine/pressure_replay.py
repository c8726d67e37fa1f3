"""Replay under pressure: the work of a trace drives the model, which reclaims by itself. Do both stay alike?

trace's clock ──▶ jiffies ──▶ disk, daemons
step of the work ──▶ the model's memory ──▶ wakeup_kswapd ──▶ kswapd runs when the step is done

kswapd is a second thread. On the machine's only CPU it has its turn as the scheduler says (machine/pressure_sched.py):

work ──┐ woken          ┌── work, 3 ms ──┐              ┌──
       └── kswapd, 3 ms ┘                └── kswapd ────┘ it sleeps

Where there are more CPUs the work goes on beside it. How long kswapd takes follows from how many pages it looks at and
writes; what the work does meanwhile is done when a batch of kswapd's is, so the two act on the same lists in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from kmemlab.alloc.kcompactd import kcompactd
from kmemlab.machine.pressure_counters import LaggingCounters
from kmemlab.machine.pressure_disk import QuickDisk
from kmemlab.machine.pressure_model import PressureModel
from kmemlab.machine.pressure_sched import SLICE, FairShares
from kmemlab.machine.pressure_work import Act, Step
from kmemlab.mm.context import HZ, set_task_comm, task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.kswapd_wake import wakeup_kswapd
from kmemlab.mm.node import PglistData
from kmemlab.mm.vm_event import PGSTEAL_DIRECT, PGSTEAL_KSWAPD
from kmemlab.mm.wait import tick
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.reclaim.kswapd import kswapd
from kmemlab.reclaim.scan_control import ScanControl, current_is_kswapd
from kmemlab.reclaim.shrink_list import pageout
from kmemlab.reclaim.shrink_node import shrink_list
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch

MOST_RUNS = 17  # of kswapd between two steps: one that can do nothing gives up after 16

# What reclaim costs, in seconds of a CPU that QEMU emulates and that writes a trace: a page taken off its list,
# judged and put back or freed; a page written to swap; a batch, which takes locks and asks shrinkers.
PAGE_TIME, WRITE_TIME, BATCH_TIME = 5.3e-6, 30e-6, 15e-6
PAUSE = 0.0001  # what is longer between two steps is a wait, or another thread's turn, and not the work's own time


@invented("a replay's result is data")
@dataclass(frozen=True, slots=True)
class WakeUp:
    """kswapd was woken: when, and how many page requests of the work there had been."""

    time: float
    requests: int


@invented("a replay's result is data")
@dataclass(frozen=True, slots=True)
class PressureAt:
    """Where the model stands at a moment: free pages, pages reclaimed so far, wake-ups so far; a mark of the trace."""

    time: float
    free: int
    reclaimed: int
    wakeups: int
    mark: str = ""


@invented("a trace's work drives the model")
class PressureReplay:
    """The model, its clock, and what is counted."""

    def __init__(self, model: PressureModel, steps: Sequence[Step], every: int = 256) -> None:
        """A point of the curve is noted every so many steps."""
        self.model = model
        self.mm = model.mm
        self.steps = steps
        self.at = 0
        self.asked = 0  # requests of the work until now, also those that a page in the cache has answered
        self.every = every
        self.now = self.start = steps[0].time if steps else 0.0
        self.first_jiffy = self.mm.current.jiffies
        self.worked = 0.0  # how long the work has been at it, without pauses
        self.used = 0.0  # of kswapd's slice
        self.clock = 0.0  # the CPU's: work, pauses, and kswapd
        self.disk = QuickDisk(self.mm)
        self.scheduler = FairShares()
        self.one_cpu = self.mm.boot.spec.cpus.present == 1
        self.wakeups: list[WakeUp] = []
        self.curve: list[PressureAt] = []
        self.acts: dict[Act, Callable[[Step], None]] = {
            Act.REQUEST: model.request,
            Act.FREE: model.free,
            Act.ACTIVATE: model.activate,
            Act.EXIT: model.exit,
            Act.SCORE: model.score,
            Act.MARK: self.mark,
        }

    # -- the work ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Go through all steps."""
        with ExitStack() as stack:
            stack.enter_context(self.model.answering())
            stack.enter_context(self.model.tasks.ending())
            stack.enter_context(LaggingCounters().in_force())
            stack.enter_context(self.noting_wakeups())
            stack.enter_context(self.kswapd_takes_time())
            self.go_on(float("inf"))

    def go_on(self, seconds: float) -> None:
        """Go through the steps that the work does in so many seconds of its own."""
        steps, until = self.steps, self.worked + seconds
        while self.at < len(steps) and self.worked <= until:
            step = steps[self.at]
            self.at += 1
            self.asked += step.act is Act.REQUEST
            self.worked += min(step.time - self.now, PAUSE)
            self.clock += step.time - self.now
            self.disk.answer(self.clock)
            self.now = step.time
            while self.mm.current.jiffies < self.first_jiffy + int((step.time - self.start) * HZ):
                tick(self.mm)
            self.model.become(step)
            self.acts[step.act](step)
            self.let_kswapd_run()
            if self.at % self.every == 0:
                self.curve.append(self.point())

    # -- kswapd --------------------------------------------------------------------------------------------------------

    def let_kswapd_run(self) -> None:
        """Whoever was woken works until it sleeps, or gives up, as soon as the scheduler gives it the CPU."""
        if self.mm.in_worker:
            return
        for pgdat in self.mm.node_data:
            if pgdat.kswapd_awake and (not self.one_cpu or self.scheduler.gives_way(self.worked)):
                self.mm.in_worker = 1
                self.run_kswapd(pgdat)
                self.mm.in_worker = 0
                self.scheduler.work_runs(self.worked)
        for pgdat in self.mm.node_data:
            if pgdat.kcompactd_awake and not pgdat.kswapd_awake:
                kcompactd(self.mm, pgdat)

    def run_kswapd(self, pgdat: PglistData) -> None:
        """kswapd runs until it sleeps; it may be stopped half-way."""
        for _ in range(MOST_RUNS):
            if not pgdat.kswapd_awake:
                break
            kswapd(self.mm, pgdat)
            self.pass_slice()

    def pass_slice(self) -> float:
        """kswapd has used some time; how much."""
        used, self.used = self.used, 0.0
        self.clock += used
        self.scheduler.kswapd_ran(used)
        return used

    @contextmanager
    def kswapd_takes_time(self) -> Iterator[None]:
        """While this lasts the work goes on when kswapd's time is over."""

        def timed(mm: Mm, pgdat: PglistData, lru: int, nr_to_scan: int, sc: ScanControl) -> int:
            freed = int(original(mm, pgdat, lru, nr_to_scan, sc))
            self.disk.answer(self.clock + self.used)
            if current_is_kswapd(mm):
                self.used += BATCH_TIME + nr_to_scan * PAGE_TIME
                if not self.one_cpu or self.used >= SLICE:
                    self.others_run()
            return freed

        def writes(mm: Mm, pfn: int) -> bool:
            written = bool(original_pageout(mm, pfn))
            self.used += WRITE_TIME * written * current_is_kswapd(mm)
            return written

        with livepatch(shrink_list, timed), livepatch(pageout, writes):
            original = shrink_list.original  # type: ignore[attr-defined]
            original_pageout = pageout.original  # type: ignore[attr-defined]
            yield

    def others_run(self) -> None:
        """The work has its turn; then kswapd goes on where it was."""
        current = self.mm.current
        kept = current.cpu, current.pid, current.flags, task_comm(current)
        used = self.pass_slice()
        self.go_on(SLICE if self.one_cpu else used)
        current.cpu, current.pid, current.flags = kept[:3]
        set_task_comm(current, kept[3])

    @contextmanager
    def noting_wakeups(self) -> Iterator[None]:
        """While this lasts the model's wake-ups are noted."""

        def noting(mm: Mm, zone: Zone, gfp: int, order: int, highest_zoneidx: int) -> None:
            pgdat = mm.node_data[zone.node]
            awake = pgdat.kswapd_awake
            original(mm, zone, gfp, order, highest_zoneidx)
            if pgdat.kswapd_awake and not awake:
                self.scheduler.kswapd_woken(self.worked)
                self.wakeups.append(WakeUp(self.now, self.asked))

        with livepatch(wakeup_kswapd, noting):
            original = wakeup_kswapd.original  # type: ignore[attr-defined]
            yield

    # -- what is told --------------------------------------------------------------------------------------------------

    def mark(self, step: Step) -> None:
        """Note where the model stands when the machine saved its state."""
        if step.text.endswith(" begin"):
            self.curve.append(self.point(step.text))

    def point(self, mark: str = "") -> PressureAt:
        """Where the model stands now."""
        free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in self.mm.populated_zones())
        return PressureAt(self.now, free, self.reclaimed(), len(self.wakeups), mark)

    def reclaimed(self) -> int:
        """How many pages the model has reclaimed."""
        return self.mm.vm_event[PGSTEAL_KSWAPD] + self.mm.vm_event[PGSTEAL_DIRECT]
