"""The PAT: eight memory types to choose from by three bits of each page-table entry.

entry bits   PAT PCD PWT    0    1    2    3    4    5    6    7
after reset                 WB   WT   UC-  UC   WB   WT   UC-  UC       the upper four repeat the lower
Linux                       WB   WC   UC-  UC   WB   WP   UC-  WT       WT and WP are for who sets bit PAT
"""

from __future__ import annotations

from kmemlab.boot.cmdline import early_param
from kmemlab.boot.globals import Boot
from kmemlab.hardware.mtrr import MSR_PAT
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.mtrr_type import (
    MTRR_TYPE_UNCACHABLE,
    MTRR_TYPE_WRBACK,
    MTRR_TYPE_WRCOMB,
    MTRR_TYPE_WRPROT,
    MTRR_TYPE_WRTHROUGH,
    PAT_NAMES,
    PAT_POWER_ON,
    PAT_UC_MINUS,
)

UC, WC, WT, WP, WB, UC_MINUS = (
    MTRR_TYPE_UNCACHABLE,
    MTRR_TYPE_WRCOMB,
    MTRR_TYPE_WRTHROUGH,
    MTRR_TYPE_WRPROT,
    MTRR_TYPE_WRBACK,
    PAT_UC_MINUS,
)


@invented("C's macro PAT(x, y), eight times", traced=False)
def pat_value(*types: int) -> int:
    """The register that holds eight types, the first in the lowest byte.

    >>> pat_value(WB, WT, UC_MINUS, UC, WB, WT, UC_MINUS, UC) == PAT_POWER_ON
    True
    """
    return sum(type << 8 * entry for entry, type in enumerate(types))


PAT_FULL = pat_value(WB, WC, UC_MINUS, UC, WB, WP, UC_MINUS, WT)
PAT_OLD_INTEL = pat_value(WB, WC, UC_MINUS, UC, WB, WC, UC_MINUS, UC)


@kernel("arch/x86/mm/pat/memtype.c", "pat_disable", traced=False)
def pat_disable(boot: Boot, msg_reason: str) -> None:
    """Leave the PAT as it is, and say why; only the first reason counts."""
    if not boot.pat.pat_disabled:
        boot.pat.pat_disabled = 1
        boot.printk.info(f"x86/PAT: {msg_reason}")


@early_param("nopat")
@kernel("arch/x86/mm/pat/memtype.c", "nopat")
def nopat(boot: Boot, _value: str) -> None:
    """nopat: leave the PAT as the firmware set it."""
    pat_disable(boot, "PAT support disabled via boot option.")


@kernel("arch/x86/mm/pat/memtype.c", "pat_init", left_out="the other CPUs")
def pat_init(boot: Boot) -> None:
    """Give the PAT register the types that Linux uses."""
    if boot.pat.pat_disabled:
        return
    if "pat" not in boot.spec.cpus.flags:
        pat_disable(boot, "PAT not supported by the CPU.")
        return
    if not boot.mtrr.msr.rdmsr(MSR_PAT):
        pat_disable(boot, "PAT support disabled by the firmware.")
        return
    # Some Pentium CPUs forget the upper bit, so both halves must mean the same there.
    pat = PAT_OLD_INTEL if has_pat_erratum(boot) else PAT_FULL
    boot.mtrr.msr.wrmsr(MSR_PAT, pat)
    boot.pat.pat_bp_enabled = 1
    print_cache_modes(boot, pat)


@invented("a test within pat_init", traced=False)
def has_pat_erratum(boot: Boot) -> bool:
    """Whether this is a Pentium II, III, M or an early Pentium 4."""
    cpus = boot.spec.cpus
    old = (cpus.family == 6 and cpus.model <= 0xD) or (cpus.family == 15 and cpus.model <= 6)
    return cpus.vendor == "GenuineIntel" and old


@kernel("arch/x86/mm/pat/memtype.c", "init_cache_modes")
def init_cache_modes(boot: Boot) -> None:
    """If nobody set up the PAT: go by what is in the register, or by what CPUs without one do."""
    if boot.pat.init_cm_done:
        return
    pat = boot.mtrr.msr.rdmsr(MSR_PAT) if "pat" in boot.spec.cpus.flags else 0
    print_cache_modes(boot, pat or PAT_POWER_ON)


@kernel("arch/x86/mm/pat/memtype.c", "__init_cache_modes", left_out="the tables from cache mode to entry bits")
def print_cache_modes(boot: Boot, pat: int) -> None:
    """Say which types the eight combinations of bits stand for."""
    names = "".join(f"{PAT_NAMES[pat >> 8 * entry & 7]:4}" for entry in range(8))
    boot.printk.info(f"x86/PAT: Configuration [0-7]: {names}")
    boot.pat.init_cm_done = 1


@invented("the CPU does it; C only decides which entry bits it wants")
def effective_type(mtrr: int, pat: int) -> int:
    """What memory is in the end, by the type of its range and by the type that the page-table entry chose.

    >>> PAT_NAMES[effective_type(WB, WC)], PAT_NAMES[effective_type(UC, WB)], PAT_NAMES[effective_type(WC, UC_MINUS)]
    ('WC', 'UC', 'WC')
    """
    if pat == WC:
        return WC
    if pat == WB:
        return mtrr
    if pat == UC_MINUS:
        return WC if mtrr == WC else UC
    if pat == WT:
        return WT if mtrr in (WB, WT) else UC
    if pat == WP:
        return WP if mtrr in (WB, WP) else UC
    return UC
