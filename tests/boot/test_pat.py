"""The PAT's line in the log in each of its cases, and types of memory by both rules."""

from __future__ import annotations

import pytest

from kmemlab.boot.globals import Boot
from kmemlab.boot.mtrr import mtrr_bp_init
from kmemlab.boot.pat import UC, UC_MINUS, WB, WC, WP, WT, effective_type, init_cache_modes, nopat
from kmemlab.hardware.mtrr import MSR_PAT
from kmemlab.hardware.spec import load_spec

POWER_ON = "x86/PAT: Configuration [0-7]: WB  WT  UC- UC  WB  WT  UC- UC  "
FULL = "x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT  "
OLD = "x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WC  UC- UC  "


def said(flags: list[str], before: bool = False, **cpus: object) -> list[str]:
    boot = Boot(load_spec({"e820": [], "cpus": {"flags": flags, **cpus}}))
    boot.mtrr.msr.post()
    if before:
        nopat(boot, "")
    mtrr_bp_init(boot)
    init_cache_modes(boot)
    return list(boot.printk.lines())


def test_the_cases_of_real_machines() -> None:
    off = "x86/PAT: MTRRs disabled, skipping PAT initialization too."
    assert said(["mtrr", "pat"]) == [FULL]
    assert said(["mtrr"]) == ["x86/PAT: PAT not supported by the CPU.", POWER_ON]
    assert said([]) == ["Disabled", off, POWER_ON]
    assert said(["pat"]) == ["Disabled", off, POWER_ON]


def test_it_can_be_refused_and_old_cpus_get_less() -> None:
    assert said(["mtrr", "pat"], before=True) == ["x86/PAT: PAT support disabled via boot option.", POWER_ON]
    assert said(["mtrr", "pat"], vendor="GenuineIntel", family=6, model=13) == [OLD]
    assert said(["mtrr", "pat"], vendor="GenuineIntel", family=6, model=14) == [FULL]
    assert said(["mtrr", "pat"], vendor="AuthenticAMD", family=6, model=8) == [FULL]


def test_the_register_holds_what_the_log_says() -> None:
    boot = Boot(load_spec({"e820": [], "cpus": {"flags": ["mtrr", "pat"]}}))
    boot.mtrr.msr.post()
    mtrr_bp_init(boot)
    assert hex(boot.mtrr.msr.rdmsr(MSR_PAT)) == "0x407050600070106"


# Intel's manual, volume 3A, table 11-7: rows are what the MTRR says, columns what the PAT says.
COLUMNS = (UC, UC_MINUS, WC, WT, WB, WP)
EFFECTIVE = {
    UC: (UC, UC, WC, UC, UC, UC),
    WC: (UC, WC, WC, UC, WC, UC),
    WT: (UC, UC, WC, WT, WT, UC),
    WB: (UC, UC, WC, WT, WB, WP),
    WP: (UC, UC, WC, UC, WP, WP),
}


@pytest.mark.parametrize("mtrr", EFFECTIVE)
def test_effective_types(mtrr: int) -> None:
    assert tuple(effective_type(mtrr, pat) for pat in COLUMNS) == EFFECTIVE[mtrr]
