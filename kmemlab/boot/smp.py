"""Which CPUs run when boot is over: those that are there, unless the command line leaves some out."""

from __future__ import annotations

from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.globals import Boot
from kmemlab.sim.kernel import kernel


@kernel("kernel/smp.c", "setup_max_cpus", traced=False)
def setup_max_cpus(cmdline: str) -> int | None:
    """How many CPUs maxcpus= allows (nosmp: none but the one that boots), or None for all; the last one holds.

    >>> setup_max_cpus("maxcpus=4 maxcpus=2"), setup_max_cpus("nosmp"), setup_max_cpus("quiet")
    (2, 0, None)
    """
    allowed = None
    for name, value in next_arg(cmdline):
        if parameq(name, "nosmp"):
            allowed = 0
        elif parameq(name, "maxcpus") and (value or "").isdecimal():
            allowed = int(value or "")
    return allowed


@kernel("include/linux/cpumask.h", "num_online_cpus", traced=False)
def num_online_cpus(boot: Boot) -> int:
    """The CPUs that smp_init has brought up: 0 … n - 1."""
    allowed = setup_max_cpus(boot.spec.cmdline)
    present = boot.spec.cpus.present
    return present if allowed is None else min(present, max(allowed, 1))
