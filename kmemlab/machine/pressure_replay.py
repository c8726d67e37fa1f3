"""Replay under pressure: the work of a trace drives the model, which reclaims by itself. Do both stay alike?

trace's clock ──▶ the CPU's clock ──▶ jiffies ──▶ daemons, disk
step of the work ──▶ the model's memory ──▶ wakeup_kswapd ──▶ kswapd runs when the scheduler lets it

Where the trace shows one step of the work after another, the CPU is the work's; kswapd has it where it must be given
way. Where the trace shows nothing of the work for a while, the others have it (machine/pressure_threads.py):

trace    ─ step step step ────────────────────── step step ─
model    ─ step step step ─ kswapd, sampler, … ─ step step ─

A request that must wait for pages shows in the trace when it is over. It begins as soon as the steps before it are
done, and frees pages itself beside kswapd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from kmemlab.alloc.kcompactd import kcompactd
from kmemlab.machine.pressure_agenda import Agenda
from kmemlab.machine.pressure_costs import ReclaimCosts
from kmemlab.machine.pressure_disk import PluggedDisk
from kmemlab.machine.pressure_model import PressureModel
from kmemlab.machine.pressure_names import SavedNames
from kmemlab.machine.pressure_nodes import SwapNodes
from kmemlab.machine.pressure_sched import EXITING, SAMPLER, WORK, FairCpu
from kmemlab.machine.pressure_threads import Threads
from kmemlab.machine.pressure_work import Act, Kind, Step
from kmemlab.machine.replay_counters import FreePageCounts
from kmemlab.mm.context import HZ
from kmemlab.mm.globals import Mm
from kmemlab.mm.kswapd_wake import wakeup_kswapd
from kmemlab.mm.vm_event import PGSTEAL_DIRECT, PGSTEAL_KSWAPD
from kmemlab.mm.wait import DAEMONS, tick
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_MIN, Zone
from kmemlab.mm.zone_watermark_ok import zone_watermark_fast
from kmemlab.mm.zonelist import for_each_zone_zonelist
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.gfp import __GFP_DIRECT_RECLAIM as GFP_DIRECT_RECLAIM
from kmemlab.types.gfp import GFP_ZONEMASK

PAUSE = 0.0005  # seconds: what is longer between two steps of tasks is a wait, or others' turn
IN_A_ROW = 0.0001  # interrupts that follow so close belong together
LONGEST_PAUSE = 10.0  # of a longer one the beginning is passed over
LEAST_STEP = 0.00005  # a step of the work takes so long, even when the model is late
MARK_TIME = 0.0004  # whoever saves the state has the CPU so long before its mark is written


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

    def __init__(
        self, model: PressureModel, steps: Sequence[Step], names: SavedNames | None = None, every: int = 256
    ) -> None:
        """`names` were in memory at the start. A point of the curve is noted every so many steps."""
        self.model = model
        self.mm = model.mm
        self.names = SavedNames([]) if names is None else names
        self.agenda = Agenda(steps)
        self.every = every
        self.now = self.start = steps[0].time if steps else 0.0
        self.worked_at = self.interrupted_at = self.start  # when a task, and when an interrupt, did its last step
        self.busy_until = self.start  # of the request that began before its time
        self.asked = 0  # requests of the work until now, also those that a page in the cache has answered
        self.first_jiffy = self.mm.current.jiffies
        self.one_cpu = self.mm.boot.spec.cpus.present == 1
        self.cpu = FairCpu(self.start)
        self.disk = PluggedDisk(self.mm, self.cpu)
        self.threads = Threads(
            self.mm,
            self.cpu,
            self.disk,
            self.do_due,
            self.agenda.next_of_others,
            self.pass_jiffies,
            self.exit_further,
        )
        self.costs = ReclaimCosts(self.threads, cold=self.names.scanned == 0)
        self.counts = FreePageCounts(self.mm)
        self.wakeups: list[WakeUp] = []
        self.curve: list[PressureAt] = []
        self.acts: dict[Act, Callable[[Step], None]] = {
            Act.REQUEST: model.request,
            Act.ADD: model.add,
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
            stack.callback(self.threads.end)
            stack.enter_context(self.kswapd_is_no_daemon())
            stack.enter_context(self.model.answering())
            stack.enter_context(self.model.tasks.ending())
            stack.enter_context(self.counts.in_force())
            stack.enter_context(self.noting_wakeups())
            stack.enter_context(self.disk.in_force())
            stack.enter_context(SwapNodes(self.mm).in_force())
            stack.enter_context(self.costs.in_force())
            stack.enter_context(self.names.in_force(self.mm, self.costs.name_looked_at))
            self.expect_marks()
            while (step := self.agenda.next()) is not None:
                self.reach(step)

    def expect_marks(self) -> None:
        """Between two marks somebody saves the machine's state, and wants the CPU for it."""
        for step in self.agenda.steps:
            if step.act is Act.MARK and step.text.endswith(" begin"):
                self.cpu.at(step.time - MARK_TIME, partial(self.cpu.wake, SAMPLER))
            elif step.act is Act.MARK:
                self.cpu.at(step.time, partial(self.cpu.sleep, SAMPLER))

    def reach(self, step: Step) -> None:
        """Let the time until a step pass, then do it; or begin with a request that would have to wait."""
        cpu = self.cpu
        pause = not self.one_cpu or self.agenda.next_of_a_task() - self.worked_at > PAUSE
        in_a_row = not step.pid and step.time - self.interrupted_at <= IN_A_ROW
        if pause and step.time > cpu.clock:
            waiting = self.agenda.request_ahead(self.would_wait) if self.now >= self.busy_until else None
            if waiting is not None:
                self.begin_ahead(waiting)
                return
            if not in_a_row:
                self.skip_idle(step.time)
                self.threads.pause(step.time)
        if step.pid:
            if not pause:
                self.work_takes(step.time - self.worked_at, step.time)
            self.worked_at = step.time
        else:
            if pause and in_a_row:
                cpu.clock += step.time - self.interrupted_at
            self.interrupted_at = step.time
        self.agenda.take()
        cpu.advance(step.time)
        self.do(step)

    def skip_idle(self, until: float) -> None:
        """Of a pause of hours only the end is gone through: whoever had something to do has done it by then."""
        skipped = until - self.cpu.clock - LONGEST_PAUSE
        if skipped > 0:
            self.cpu.clock += skipped
            self.mm.current.jiffies += int(skipped * HZ)

    def work_takes(self, seconds: float, until: float) -> None:
        """The work has had the CPU. Where the model is later than the trace, it makes up for that."""
        late = max(0.0, self.cpu.clock + seconds - until)
        self.cpu.running = WORK
        self.cpu.charge(seconds - min(late, max(0.0, seconds - LEAST_STEP)))

    def do(self, step: Step) -> None:
        """Do a step; then whoever must be given way has its turn."""
        inside, self.threads.inside = self.threads.inside, True
        self.act(step)
        self.threads.inside = inside
        if inside:
            return
        if not (step.act is Act.REQUEST and step.content and step.content.kind is Kind.FILE):
            self.give_way()  # between the request for a page of a file and its way into the file nobody asks
        for pgdat in self.mm.node_data:
            if pgdat.kcompactd_awake and not pgdat.kswapd_awake:
                kcompactd(self.mm, pgdat)
        if self.agenda.at % self.every == 0:
            self.curve.append(self.point())

    def act(self, step: Step) -> None:
        """What a step does to the model."""
        self.asked += step.act is Act.REQUEST
        self.now = max(self.now, step.time)
        self.disk.answer()
        self.pass_jiffies()
        self.model.become(step)
        self.counts.passes(step.cpu, step.time)
        self.acts[step.act](step)

    def exit_further(self, pages: int) -> int:
        """Whoever was killed gives back so many pages more, at a time of which the trace shows no step."""
        self.curve.append(replace(self.point(), time=max(self.now, self.cpu.clock)))
        return self.model.exit_further(pages)

    def give_way(self) -> None:
        """The work returns from a step. If the trace shows a pause next, that is the others' turn anyway."""
        if self.model.dying:
            self.cpu.wake(EXITING)
        if self.cpu.resched and self.agenda.next_of_a_task() - self.worked_at <= PAUSE:
            self.threads.until = float("inf")
            self.threads.contend()
            self.cpu.let_run(WORK)

    def pass_jiffies(self) -> None:
        """The model's jiffies follow the CPU's clock."""
        mm = self.mm
        jiffies = self.first_jiffy + int(self.cpu.clock * HZ) - int(self.start * HZ)
        mm.in_worker = 0
        while mm.current.jiffies < jiffies:
            tick(mm)
        mm.in_worker = 1
        for pgdat in mm.node_data:
            if pgdat.kswapd_sleep_until and mm.current.jiffies >= pgdat.kswapd_sleep_until:
                self.cpu.wake(pgdat.node_id)

    # -- a request that waits ------------------------------------------------------------------------------------------

    def would_wait(self, step: Step) -> bool:
        """Whether a request finds all its zones below their lowest mark, and may free pages itself."""
        content, mm = step.content, self.mm
        if step.act is not Act.REQUEST or content is None or not content.gfp & GFP_DIRECT_RECLAIM:
            return False
        highest = mm.gfp_zone_table[content.gfp & GFP_ZONEMASK]
        if highest is None:
            return False
        zonelist = mm.node_data[mm.numa.cpu_to_node[step.cpu]].node_zonelists[0]
        return not any(
            zone_watermark_fast(
                zone, content.order, zone.watermark[WMARK_MIN] + zone.watermark_boost, highest, 0, content.gfp
            )
            for zone in for_each_zone_zonelist(mm, zonelist, highest)
        )

    def begin_ahead(self, at: int) -> None:
        """A task asks for a block, and must free pages; steps of others are done when their time comes."""
        step = self.agenda.begin(at)
        self.busy_until = step.time
        self.asked += 1
        self.model.become(step)
        self.threads.begin_ahead(step.time - PAUSE, lambda: self.acts[step.act](step))
        self.agenda.waits = 0
        self.give_way()

    def do_due(self) -> None:
        """While a task waits for pages: steps of others whose time has come."""
        while self.threads.ahead and self.agenda.next_of_others() <= self.cpu.clock:
            pid, self.agenda.waits = self.agenda.waits, 0
            own = self.threads.own()
            self.threads.ahead = False
            self.do(self.agenda.take())
            self.threads.ahead = True
            self.threads.become(own)
            self.agenda.waits = pid

    # -- kswapd --------------------------------------------------------------------------------------------------------

    @contextmanager
    def kswapd_is_no_daemon(self) -> Iterator[None]:
        """While this lasts no tick lets kswapd run: here it has a stack of its own."""
        daemon = DAEMONS.pop("kswapd")
        try:
            yield
        finally:
            DAEMONS["kswapd"] = daemon
            self.mm.in_worker = 0

    @contextmanager
    def noting_wakeups(self) -> Iterator[None]:
        """While this lasts the model's wake-ups are noted."""

        def noting(mm: Mm, zone: Zone, gfp: int, order: int, highest_zoneidx: int) -> None:
            pgdat = mm.node_data[zone.node]
            awake = pgdat.kswapd_awake
            original(mm, zone, gfp, order, highest_zoneidx)
            if pgdat.kswapd_awake and not awake:
                self.cpu.wake(pgdat.node_id)
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
