"""Which CPUs there may be, are and run when boot is over: the command line can leave some out.

present ⊇ online       a CPU that maxcpus= leaves out is there and may be brought up later
possible               gets per-CPU memory: those present, and room for those that may be plugged in
"""

from __future__ import annotations

from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.globals import Boot
from kmemlab.hardware.spec import MachineSpec
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import CONFIGS
from kmemlab.types.units import INT_MAX, simple_strtoull


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
            allowed = simple_strtoull(value or "")[0] & INT_MAX
    return allowed


@invented("C's nr_cpus and _setup_possible_cpus each set a variable", traced=False)
def number_of(cmdline: str, option: str) -> int | None:
    """The number that the last parameter `option` says; None if there is none."""
    found = None
    for name, value in next_arg(cmdline):
        if parameq(name, option) and (value or "").isdecimal():
            found = simple_strtoull(value or "")[0] & INT_MAX
    return found


@kernel("kernel/smp.c", "nrcpus", traced=False)
def nr_cpus(spec: MachineSpec) -> int:
    """The hard limit: what nr_cpus= says, but no more than the kernel was built for."""
    built_for = CONFIGS[spec.kernel].nr_cpus
    return min(number_of(spec.cmdline, "nr_cpus") or built_for, built_for)


@kernel("arch/x86/kernel/smpboot.c", "prefill_possible_map", traced=False)
def num_possible_cpus(spec: MachineSpec) -> int:
    """The CPUs that get per-CPU memory.

    >>> from kmemlab.hardware.spec import CpuSpec
    >>> cpus = CpuSpec(present=4, possible=4, node_of=(0, 0, 0, 0))
    >>> cmdlines = "quiet", "nr_cpus=2", "nosmp", "maxcpus=2", "possible_cpus=6"
    >>> [num_possible_cpus(MachineSpec("four", (), cmdline=cmdline, cpus=cpus)) for cmdline in cmdlines]
    [4, 2, 1, 4, 6]
    """
    if setup_max_cpus(spec.cmdline) == 0:
        return 1
    asked = number_of(spec.cmdline, "possible_cpus")
    return max(min(spec.cpus.possible if asked is None else asked, nr_cpus(spec)), 1)


@kernel("include/linux/cpumask.h", "num_present_cpus", traced=False)
def num_present_cpus(spec: MachineSpec) -> int:
    """The CPUs that the firmware has told of, as many as the kernel takes notice of."""
    return min(spec.cpus.present, num_possible_cpus(spec))


@kernel("include/linux/cpumask.h", "num_online_cpus", traced=False)
def num_online_cpus(boot: Boot) -> int:
    """The CPUs that smp_init has brought up: 0 … n - 1."""
    allowed = setup_max_cpus(boot.spec.cmdline)
    present = num_present_cpus(boot.spec)
    return present if allowed is None else min(present, max(allowed, 1))
