"""What the boot CPU can do, after the command line has had its say."""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.sim.kernel import kernel


@kernel("arch/x86/include/asm/cpufeature.h", "boot_cpu_has", left_out="what else clears flags", traced=False)
def boot_cpu_has(boot: Boot, feature: str) -> bool:
    """Whether CPUID names a feature, by the name that /proc/cpuinfo gives it, and nobody has switched it off."""
    return feature in boot.spec.cpus.flags and not (feature == "pse" and boot.nopentium)
