"""The threads of a machine while a trace's work is replayed: who of them runs, and when one hands over to another.

         own stack   what it does
work     the caller  the steps of the trace; in a step it may free pages itself, and wait
kswapd   one a node  the model's own kswapd; stops wherever C would call schedule
sampler  none        takes the CPU while the machine saves its state, between two marks of the trace
ksoftirqd  none      takes the CPU for what was freed by way of RCU, a grace period later
exiting    none      whoever the OOM killer chose gives its pages back

work ──┐ pause of the trace   ┌── request ──┐ reclaim gives way         ┌── at the request's time it is over
       └── kswapd, sampler ───┘             └── kswapd, others' steps ──┘
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kmemlab.machine.pressure_disk import PluggedDisk
from kmemlab.machine.pressure_sched import EXITING, KSOFTIRQD, SAMPLER, WORK, FairCpu
from kmemlab.machine.pressure_turns import Turns
from kmemlab.mm.context import HZ, set_task_comm, task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.node import PglistData
from kmemlab.reclaim.kswapd import kswapd
from kmemlab.sim.kernel import invented

BACKGROUND = frozenset((SAMPLER, KSOFTIRQD, EXITING))
WAITING = frozenset((WORK,))
NOBODY: frozenset[int] = frozenset()
STEP = 0.0001  # seconds: the sampler and ksoftirqd take the CPU in such pieces
GRACE = 0.008  # until RCU's callbacks may run
EXIT_BATCH = 510  # pages that whoever was killed gives back at a time: MAX_GATHER_BATCH
EXIT_ROUND = 8 + 19 * EXIT_BATCH  # and takes out of its page tables before: as much as an mmu_gather holds
UNMAP_TIME, EXIT_TIME = 0.45e-6, 2.6e-6  # seconds that each takes: out of the page tables, and given back

# What of mm.current belongs to the thread that runs.
OWN = ("cpu", "pid", "flags", "preempt_count", "hardirq_count", "irqs_disabled", "oom_victim", "reclaimed_slab")


@invented("the threads of one CPU, and a kswapd a node")
class Threads:
    """Hands the CPU over. `due` does steps of other tasks whose time has come; `next_due` tells that of the next.

    `pass_jiffies` makes the model's jiffies follow the clock; `exit_further` gives back pages of whoever was killed,
    and tells how many are left.
    """

    def __init__(
        self,
        mm: Mm,
        cpu: FairCpu,
        disk: PluggedDisk,
        due: Callable[[], None],
        next_due: Callable[[], float],
        pass_jiffies: Callable[[], None],
        exit_further: Callable[[int], int],
    ) -> None:
        self.mm, self.cpu, self.disk = mm, cpu, disk
        self.due, self.next_due = due, next_due
        self.pass_jiffies, self.exit_further = pass_jiffies, exit_further
        self.for_disk: set[int] = set()  # kswapds that wait for the disk
        self.stacks = [Turns(partial(self.body, pgdat)) for pgdat in mm.node_data]
        self.contexts: dict[int, tuple[list[int], str]] = {}  # what mm.current was when a kswapd lost the CPU
        self.me = WORK  # whose stack this is
        self.inside = False  # the work is in a step
        self.ahead = False  # in a request that began before its time in the trace: others' steps go on beside it
        self.ends = 0.0  # when that request is over
        self.excluded = BACKGROUND  # who can't have the CPU now: while the trace shows the work, it is the work's
        self.until = 0.0  # when the pause ends
        self.hurried = False  # a kswapd is to hand back at once
        self.rounds = 0  # of kswapd
        self.backlog = 0.0  # seconds of RCU's callbacks
        self.gathered, self.gathering = 0, True  # pages of whoever was killed that wait to be given back; they grow

    # -- the work hands over -------------------------------------------------------------------------------------------

    def pause(self, until: float) -> None:
        """The trace shows nothing of the work until then: the others run. What nobody wants was the work's own."""
        cpu = self.cpu
        self.rest(until)
        left = until - cpu.clock
        if left > 0:
            cpu.vruntime[WORK] += left
            cpu.advance(until)

    def rest(self, until: float) -> None:
        """The others run until then, or until none of them wants to."""
        cpu = self.cpu
        kept, self.excluded, self.until = self.excluded, WAITING, until
        while cpu.clock < until:
            who = cpu.pick(WAITING)
            if who is not None:
                self.run(who)
            elif cpu.timers and cpu.timers[0][0] < until:
                cpu.vruntime[WORK] += max(0.0, cpu.timers[0][0] - cpu.clock)
                cpu.advance(cpu.timers[0][0])
            elif not self.inside or self.next_due() >= until:
                break
            else:
                cpu.advance(self.next_due())
            if self.inside:
                self.due()
        self.excluded = kept
        cpu.let_run(WORK)

    def contend(self) -> None:
        """The work goes on when it is its turn."""
        while (who := self.cpu.pick(self.excluded)) != WORK:
            assert who is not None, "the work wants the CPU"
            self.until = self.cpu.clock + 1 / HZ
            self.run(who)
            self.due()

    def progress_made(self) -> None:
        """Reclaim of a request that began early has freed pages: what the trace says it took longer, others had."""
        if self.ahead and self.ends > self.cpu.clock:
            ends, self.ends = self.ends, 0.0
            self.rest(ends)

    def begin_ahead(self, ends: float, request: Callable[[], None]) -> None:
        """A request that must wait begins now, though the trace shows it only when it is over."""
        self.inside = self.ahead = True
        self.ends, self.excluded = ends, NOBODY
        self.cpu.running = WORK
        self.contend()
        request()
        self.inside = self.ahead = False
        self.excluded = BACKGROUND

    # -- the others ----------------------------------------------------------------------------------------------------

    def run(self, who: int) -> None:
        """A thread that was picked runs until it hands back."""
        if who in BACKGROUND:
            self.take_time(who)
        else:
            self.run_kswapd(who)

    def take_time(self, who: int) -> None:
        """A thread without a stack has the CPU."""
        cpu = self.cpu
        cpu.running = who
        while who in cpu.runnable and cpu.clock < self.until and not cpu.resched:
            took = min(STEP, self.until - cpu.clock)
            if who == KSOFTIRQD:
                took = min(took, self.backlog)
                self.backlog -= took
                if self.backlog < 1e-9:
                    cpu.sleep(who)
            elif who == EXITING:
                took = self.exit_batch()
            cpu.charge(took)
            self.disk.answer()

    def exit_batch(self) -> float:
        """Whoever was killed takes pages out of its page tables, or gives some of those back; how long that took."""
        if self.gathering:
            self.gathered += EXIT_BATCH
            self.gathering = self.gathered < min(EXIT_ROUND, self.exit_further(0))
            return EXIT_BATCH * UNMAP_TIME
        left = self.exit_further(EXIT_BATCH)
        self.gathered = max(0, self.gathered - EXIT_BATCH) if left else 0
        self.gathering = not self.gathered
        if not left:
            self.cpu.sleep(EXITING)
        return EXIT_BATCH * EXIT_TIME

    def later(self, seconds: float) -> None:
        """RCU's callbacks will want so much of the CPU when the grace period is over."""

        def over() -> None:
            self.backlog += seconds
            self.cpu.wake(KSOFTIRQD)

        self.cpu.at(self.cpu.clock + GRACE, over)

    def run_kswapd(self, nid: int) -> None:
        """A kswapd goes on where it was."""
        kept = self.own()
        if nid in self.contexts:
            self.become(self.contexts.pop(nid))
        self.cpu.running = self.me = nid
        self.stacks[nid].run()
        self.me = WORK
        if self.mm.node_data[nid].kswapd_awake:
            self.contexts[nid] = self.own()
        self.become(kept)
        self.cpu.running = WORK

    def body(self, pgdat: PglistData) -> None:
        """What a kswapd does when it has the CPU; asleep, it hands back."""
        began = self.cpu.clock
        kswapd(self.mm, pgdat)
        if pgdat.kswapd_awake:
            if self.cpu.clock == began:
                self.spend(STEP)  # one that can do nothing takes its time, too
        else:
            self.cpu.sleep(pgdat.node_id)
            self.rounds += 1
            self.stacks[pgdat.node_id].back()

    def own(self) -> tuple[list[int], str]:
        """What of mm.current is the running thread's."""
        current = self.mm.current
        return [getattr(current, name) for name in OWN], task_comm(current)

    def become(self, own: tuple[list[int], str]) -> None:
        """Another thread runs."""
        for name, value in zip(OWN, own[0], strict=True):
            setattr(self.mm.current, name, value)
        set_task_comm(self.mm.current, own[1])

    # -- whoever runs --------------------------------------------------------------------------------------------------

    def spend(self, seconds: float) -> None:
        """Whoever runs has used so much of the CPU, and comes to where it may lose it."""
        self.cpu.charge(seconds)
        self.disk.answer()
        self.may_switch()

    def may_switch(self) -> None:
        """cond_resched."""
        if self.me != WORK:
            if self.must_leave(self.me):
                self.stacks[self.me].back()
        elif self.inside:
            self.due()
            if self.cpu.resched:
                self.contend()

    def must_leave(self, nid: int) -> bool:
        """Whether a kswapd must hand back."""
        cpu = self.cpu
        if self.hurried or (self.excluded == WAITING and cpu.clock >= self.until):
            return True
        if self.ahead and self.next_due() <= cpu.clock:
            return True
        return cpu.resched and cpu.pick(self.excluded) != nid

    def sleep_until(self, time: float) -> None:
        """Whoever runs waits for the disk until then."""
        if self.me == WORK:
            self.wake_kswapd()
            self.work_sleeps_until(time)
        elif self.inside and WORK in self.cpu.runnable:
            self.kswapd_sleeps_until(time)
        else:
            self.cpu.advance(time)
            self.may_switch()
        self.pass_jiffies()

    def wake_kswapd(self) -> None:
        """A task that is throttled makes kswapd runnable itself, without wakeup_kswapd."""
        for pgdat in self.mm.node_data:
            if pgdat.kswapd_awake and pgdat.node_id not in self.for_disk:
                self.cpu.wake(pgdat.node_id)

    def kswapd_sleeps_until(self, time: float) -> None:
        """A kswapd waits, and hands back."""
        me = self.me

        def over() -> None:
            self.for_disk.discard(me)
            self.cpu.wake(me)

        self.cpu.sleep(me)
        self.for_disk.add(me)
        self.cpu.at(time, over)
        self.stacks[me].back()

    def work_sleeps_until(self, time: float) -> None:
        """The work waits in its reclaim; a kswapd that works meanwhile may be what it waits for."""
        cpu, rounds = self.cpu, self.rounds
        cpu.sleep(WORK)
        while cpu.clock < time and rounds == self.rounds:
            who = cpu.pick(BACKGROUND)
            if who is None:
                break
            self.hurried = True
            self.run(who)
            self.hurried = False
            self.due()
        if rounds == self.rounds:
            cpu.advance(time)
        cpu.wake(WORK)
        self.contend()

    def end(self) -> None:
        """The replay is over."""
        for stack in self.stacks:
            stack.end()
