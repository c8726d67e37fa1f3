"""Who has the CPU: the work, or kswapd. The completely fair scheduler of Linux 6.1, as far as two threads go.

vruntime: the CPU time that a thread has had; who has had less is the next to run

kswapd wakes: it may be 3 ms behind at most (half the scheduler's latency of 6 ms), as a sleeper's credit
   more than 1 ms behind the work ─▶ it runs at once        less ─▶ when the work's slice is over

Two threads that both want the CPU get it in turns of 3 ms.
"""

from __future__ import annotations

from kmemlab.sim.kernel import invented

LATENCY = 0.006  # seconds: sysctl_sched_latency of one CPU
SLICE = LATENCY / 2
CREDIT = LATENCY / 2
GRANULARITY = 0.001  # sysctl_sched_wakeup_granularity


@invented("kernel/sched/fair.c, for two threads on one CPU")
class FairShares:
    """The CPU time of kswapd (`vruntime`); the work's is told with each question."""

    def __init__(self) -> None:
        self.vruntime = 0.0
        self.preempts = False
        self.slice_began = 0.0

    def kswapd_woken(self, worked: float) -> None:
        """kswapd has slept until now, and the work has had `worked` seconds of the CPU."""
        self.vruntime = max(self.vruntime, worked - CREDIT)
        self.preempts = worked - self.vruntime > GRANULARITY

    def gives_way(self, worked: float) -> bool:
        """Whether the work must leave the CPU to kswapd now."""
        return self.preempts or worked - self.slice_began >= SLICE

    def kswapd_ran(self, seconds: float) -> None:
        """kswapd has had so much of the CPU."""
        self.vruntime += seconds

    def work_runs(self, worked: float) -> None:
        """The work has the CPU again."""
        self.preempts, self.slice_began = False, worked
