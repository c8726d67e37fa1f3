"""Who is the next to have the CPU: the completely fair scheduler of Linux 6.1, for the threads of one CPU.

vruntime: the CPU time that a thread has had; who has had least is the next to run

wakes up     it may be 3 ms behind the others at most (half the scheduler's latency of 6 ms, a sleeper's credit);
             who is more than 1 ms ahead of it, and runs, must give way
each 4 ms    who has had its share of the 6 ms, and is as much ahead of another, must give way

A thread gives way where it asks whether it must (cond_resched), and not in the middle of something.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from heapq import heappop, heappush

from kmemlab.mm.context import HZ
from kmemlab.sim.kernel import invented

LATENCY = 0.006  # seconds: sysctl_sched_latency of one CPU
CREDIT = LATENCY / 2
GRANULARITY = 0.001  # sysctl_sched_wakeup_granularity
LEAST_SLICE = 0.00075  # sysctl_sched_min_granularity
TICK_TIME = 0.0002  # what a tick costs

WORK, KWORKER, SAMPLER, KSOFTIRQD, EXITING = -1, -2, -3, -4, -5  # the threads; a node's number is its kswapd's
KWORKER_TIME = 0.00003


@invented("kernel/sched/fair.c, for the threads of one CPU")
class FairCpu:
    """One CPU: its clock in seconds, the threads that want it, and how much of it each has had."""

    def __init__(self, now: float) -> None:
        self.clock = now
        self.vruntime: dict[int, float] = {WORK: 0.0}
        self.runnable = [WORK]
        self.running = WORK
        self.least = 0.0  # min_vruntime
        self.began = 0.0  # the vruntime of the running thread when it got the CPU
        self.resched = False  # the running thread must give way
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.timers_set = 0

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something when the clock comes to `time`."""
        self.timers_set += 1
        heappush(self.timers, (time, self.timers_set, action))

    def next_tick(self) -> float:
        """When the next tick is: later than now, however the clock was rounded."""
        tick = int(self.clock * HZ) + 1
        return (tick if tick / HZ > self.clock else tick + 1) / HZ

    def expire(self) -> None:
        """Do what is due."""
        while self.timers and self.timers[0][0] <= self.clock:
            heappop(self.timers)[2]()

    def advance(self, time: float) -> None:
        """The clock goes on to `time`, if it is not there yet; nobody is charged."""
        self.clock = max(self.clock, time)
        self.update()
        self.expire()

    def update(self) -> None:
        """The least that a thread has had never goes back. Who has to wait for a pause of the work does not hold it."""
        had = [self.vruntime[who] for who in self.runnable if who >= WORK or who == self.running]
        if had:
            self.least = max(self.least, min(had))

    def charge(self, seconds: float) -> None:
        """The running thread has used so much of the CPU. Ticks cost it more; the work's are in its own time."""
        before, self.clock = self.clock, self.clock + seconds
        self.vruntime[self.running] += seconds
        self.update()
        if int(before * HZ) != int(self.clock * HZ):
            since_tick = self.clock - int(self.clock * HZ) / HZ
            if self.running != WORK:
                self.clock += TICK_TIME
                self.vruntime[self.running] += TICK_TIME
            self.tick(self.vruntime[self.running] - since_tick)
        self.expire()

    def tick(self, vruntime: float) -> None:
        """The tick finds the running thread at `vruntime`: must it give way?"""
        others = [self.vruntime[who] for who in self.runnable if who != self.running]
        if not others:
            return
        ran, share = vruntime - self.began, LATENCY / (1 + len(others))
        if ran > share or (ran >= LEAST_SLICE and vruntime - min(others) > share):
            self.resched = True

    def wake(self, who: int) -> None:
        """A thread wants the CPU."""
        if who in self.runnable:
            return
        self.vruntime[who] = max(self.vruntime.get(who, 0.0), self.least - CREDIT)
        if self.runnable and self.vruntime[self.running] - self.vruntime[who] > GRANULARITY:
            self.resched = True
        self.runnable.append(who)

    def sleep(self, who: int) -> None:
        """A thread does not want the CPU any more."""
        if who in self.runnable:
            self.runnable.remove(who)
        self.update()

    def pick(self, excluded: Container[int] = ()) -> int | None:
        """Who is the next: it has the CPU now. None if nobody else wants it."""
        self.resched = False
        while True:
            able = [who for who in self.runnable if who not in excluded]
            if not able:
                return None
            who = min(able, key=self.vruntime.__getitem__)
            self.running, self.began = who, self.vruntime[who]
            if who != KWORKER:
                return who
            self.clock += KWORKER_TIME
            self.vruntime[KWORKER] += KWORKER_TIME
            self.sleep(KWORKER)

    def let_run(self, who: int) -> None:
        """A thread runs on, whoever else wants the CPU."""
        self.running, self.began, self.resched = who, self.vruntime[who], False
