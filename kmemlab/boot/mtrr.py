"""MTRRs as the kernel uses them: read at boot, asked whenever a mapping needs a type, extended on demand.

    lookup [start, end)   all of it in the same ranges: combine their types
                          a range covers a part only: cut there, and combine the parts' types
    combine               UC wins; WB and WT give WT; any other mix is taken as UC

Sizes and bases of ranges are kept in pages, as in /proc/mtrr.
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.mtrr_state import MTRR_STATE_MTRR_ENABLED, MTRR_STATE_MTRR_FIXED_ENABLED, MtrrState
from kmemlab.boot.pat import pat_disable, pat_init
from kmemlab.hardware.mtrr import (
    FIXED_MSRS,
    MSR_MTRRCAP,
    MSR_MTRRDEFTYPE,
    MSR_MTRRPHYSBASE,
    MTRRCAP_FIXED,
    fixed_index,
)
from kmemlab.sim.kernel import kernel
from kmemlab.types.mtrr_type import (
    MTRR_MASK_VALID,
    MTRR_TYPE_INVALID,
    MTRR_TYPE_UNCACHABLE,
    MTRR_TYPE_WRBACK,
    MTRR_TYPE_WRTHROUGH,
    mtrr_attrib_to_str,
)
from kmemlab.types.units import MIB, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE


@kernel("arch/x86/kernel/cpu/mtrr/mtrr.c", "mtrr_bp_init", left_out="mtrr_cleanup; CPUs with registers of their own")
def mtrr_bp_init(boot: Boot) -> None:
    """Read the boot CPU's MTRRs; if they are on, set up the PAT, too."""
    if "mtrr" in boot.spec.cpus.flags and get_mtrr_state(boot.mtrr):
        pat_init(boot)
        return
    boot.printk.info("Disabled")
    pat_disable(boot, "MTRRs disabled, skipping PAT initialization too.")


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "get_mtrr_state", left_out="AMD's TOM2; the debug prints")
def get_mtrr_state(state: MtrrState) -> bool:
    """Copy the registers; says whether MTRRs are on."""
    msr = state.msr
    cap = msr.rdmsr(MSR_MTRRCAP)
    state.num_var_ranges = cap & 0xFF
    state.have_fixed = int(bool(cap & MTRRCAP_FIXED))
    for reg in range(state.num_var_ranges):
        get_mtrr_var_range(state, reg)
        if state.mask[reg] & MTRR_MASK_VALID:
            state.mtrr_usage_table[reg] = 1  # the firmware is its user
    for nth, fixed in enumerate(FIXED_MSRS):
        value = msr.rdmsr(fixed)
        for byte in range(8):
            state.fixed_ranges[8 * nth + byte] = value >> 8 * byte & 0xFF
    deftype = msr.rdmsr(MSR_MTRRDEFTYPE)
    state.def_type = deftype & 0xFF
    state.enabled = deftype >> 10 & 3
    state.mtrr_state_set = 1
    return bool(state.enabled & MTRR_STATE_MTRR_ENABLED)


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "get_mtrr_var_range", traced=False)
def get_mtrr_var_range(state: MtrrState, reg: int) -> None:
    """Copy one pair of registers."""
    state.base[reg] = state.msr.rdmsr(MSR_MTRRPHYSBASE + 2 * reg)
    state.mask[reg] = state.msr.rdmsr(MSR_MTRRPHYSBASE + 2 * reg + 1)


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "generic_get_mtrr", traced=False)
def generic_get_mtrr(state: MtrrState, reg: int) -> tuple[int, int, int]:
    """A variable range as (base, size, type), both in pages; all 0 if it is not in use."""
    mask = state.mask[reg]
    if not mask & MTRR_MASK_VALID:
        return 0, 0, 0
    base = state.base[reg]
    return base >> PAGE_SHIFT, get_mtrr_size(state, mask) >> PAGE_SHIFT, base & 0xFF


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "get_mtrr_size", traced=False)
def get_mtrr_size(state: MtrrState, mask: int) -> int:
    """How many bytes a mask leaves free: what is missing from it up to the width of physical addresses."""
    return (1 << state.msr.phys_bits) - (mask & PAGE_MASK)


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "check_type_overlap", traced=False)
def check_type_overlap(prev: int, curr: int) -> int:
    """The type of memory that is of two types.

    >>> check_type_overlap(6, 4), check_type_overlap(6, 0), check_type_overlap(6, 1), check_type_overlap(1, 1)
    (4, 0, 0, 1)
    """
    if prev == curr:
        return curr
    if {prev, curr} == {MTRR_TYPE_WRBACK, MTRR_TYPE_WRTHROUGH}:
        return MTRR_TYPE_WRTHROUGH
    return MTRR_TYPE_UNCACHABLE


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "mtrr_type_lookup", left_out="AMD's TOM2")
def mtrr_type_lookup(state: MtrrState, start: int, end: int) -> tuple[int, bool]:
    """The type of the bytes [start, end), and whether one register (or none) decides for all of them.

    0xff means that MTRRs are off. Below 1 MiB only the fixed range of `start` is asked.
    """
    if not (state.mtrr_state_set and state.enabled & MTRR_STATE_MTRR_ENABLED):
        return MTRR_TYPE_INVALID, True
    if start < MIB and state.have_fixed and state.enabled & MTRR_STATE_MTRR_FIXED_ENABLED:
        return state.fixed_ranges[fixed_index(start)], False
    found, partial_end, uniform = mtrr_type_lookup_variable(state, start, end)
    while partial_end < end and found != MTRR_TYPE_UNCACHABLE:
        uniform = False
        start = partial_end
        another, partial_end, _ = mtrr_type_lookup_variable(state, start, end)
        found = check_type_overlap(found, another)
    return found, uniform and partial_end >= end


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "mtrr_type_lookup_variable", traced=False)
def mtrr_type_lookup_variable(state: MtrrState, start: int, end: int) -> tuple[int, int, bool]:
    """The type of the first part of [start, end), where that part ends, and whether no two ranges overlap in it."""
    found, uniform = MTRR_TYPE_INVALID, True
    last = end - 1
    for reg in range(state.num_var_ranges):
        if not state.mask[reg] & MTRR_MASK_VALID:
            continue
        base, mask = state.base[reg] & PAGE_MASK, state.mask[reg] & PAGE_MASK
        start_in, last_in = start & mask == base & mask, last & mask == base & mask
        if start_in != last_in or (start < base < last):
            # The border of this range lies within: look at what is before it only.
            border = base + get_mtrr_size(state, mask) if start_in else base
            last = (border if border > start else start + PAGE_SIZE) - 1  # the latter for odd masks only
        if start_in:
            current = state.base[reg] & 0xFF
            uniform = uniform and found == MTRR_TYPE_INVALID
            found = current if found == MTRR_TYPE_INVALID else check_type_overlap(found, current)
    return (state.def_type if found == MTRR_TYPE_INVALID else found), last + 1, uniform


@kernel("arch/x86/kernel/cpu/mtrr/if.c", "mtrr_seq_show")
def mtrr_lines(state: MtrrState) -> list[str]:
    """The lines of /proc/mtrr: one for each variable range in use."""
    lines = []
    for reg in range(state.num_var_ranges):
        base, size, type = generic_get_mtrr(state, reg)
        if size:
            number, unit = (size << PAGE_SHIFT - 10, "K") if size < MIB >> PAGE_SHIFT else (size >> 8, "M")
            count = state.mtrr_usage_table[reg]
            lines.append(
                f"reg{reg:02}: base=0x{base:06x}000 ({base >> 8:5}MB), size={number:5}{unit}B, count={count}: "
                f"{mtrr_attrib_to_str(type)}"
            )
    return lines
