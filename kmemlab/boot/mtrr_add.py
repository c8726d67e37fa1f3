"""mtrr_add: a driver asks for a range of its own. Ranges may nest where their types go together, never cross.

existing      ├────── write-back ──────┤
new              ├── uncachable ──┤          may lie within: uncachable wins there
new           ├────── write-back ──────┤     is there already: one user more
new                        ├── uncachable ──┤    crosses: refused
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.mtrr import generic_get_mtrr, get_mtrr_var_range
from kmemlab.boot.mtrr_state import MTRR_STATE_MTRR_ENABLED, MtrrState
from kmemlab.hardware.mtrr import MSR_MTRRCAP, MSR_MTRRPHYSBASE, MTRRCAP_WC
from kmemlab.sim.kernel import kernel
from kmemlab.types.errno import EINVAL, ENOSPC, ENOSYS, ENXIO
from kmemlab.types.errors import BadRequest
from kmemlab.types.mtrr_type import (
    MTRR_MASK_VALID,
    MTRR_NUM_TYPES,
    MTRR_TYPE_UNCACHABLE,
    MTRR_TYPE_WRBACK,
    MTRR_TYPE_WRCOMB,
    MTRR_TYPE_WRTHROUGH,
    mtrr_attrib_to_str,
)
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE


@kernel("arch/x86/kernel/cpu/mtrr/mtrr.c", "mtrr_add", lock="mtrr_mutex")
def mtrr_add(boot: Boot, base: int, size: int, type: int, increment: bool = True) -> int:
    """Let the bytes [base, base + size) be of a type; gives the register, or minus an error number."""
    if not boot.mtrr.enabled & MTRR_STATE_MTRR_ENABLED:
        return -ENXIO
    if base % PAGE_SIZE or size % PAGE_SIZE:
        boot.printk.info("size and base must be multiples of 4 kiB")
        return -EINVAL
    return mtrr_add_page(boot, base >> PAGE_SHIFT, size >> PAGE_SHIFT, type, increment)


@kernel("arch/x86/kernel/cpu/mtrr/mtrr.c", "mtrr_add_page", lock="mtrr_mutex", left_out="telling the other CPUs")
def mtrr_add_page(boot: Boot, base: int, size: int, type: int, increment: bool) -> int:
    """The same in pages."""
    state = boot.mtrr
    refusal = generic_validate_add_page(boot, base, size, type)
    if refusal:
        return refusal
    replace = -1
    for reg in range(state.num_var_ranges):
        lbase, lsize, ltype = generic_get_mtrr(state, reg)
        if not lsize or base >= lbase + lsize or base + size <= lbase:
            continue
        within = lbase <= base and base + size <= lbase + lsize
        around = base <= lbase and base + size >= lbase + lsize
        if not within and not (around and (type == ltype or types_compatible(type, ltype))):
            boot.printk.info(f"0x{base:x}000,0x{size:x}000 overlaps existing 0x{lbase:x}000,0x{lsize:x}000")
            return -EINVAL
        if not within:
            if type == ltype:
                replace = reg if replace == -1 else -2  # one that becomes needless can be used for the new one
            continue
        if type == ltype:
            state.mtrr_usage_table[reg] += increment
            return reg
        if not types_compatible(type, ltype):
            old, new = mtrr_attrib_to_str(ltype), mtrr_attrib_to_str(type)
            boot.printk.info(f"type mismatch for {base:x}000,{size:x}000 old: {old} new: {new}")
            return -EINVAL
    return take_range(boot, base, size, type, replace, increment)


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "generic_validate_add_page", left_out="an erratum of the Pentium Pro")
def generic_validate_add_page(boot: Boot, base: int, size: int, type: int) -> int:
    """0 if a register could hold the range, else minus an error number; with what mtrr_add_page checks itself."""
    say = boot.printk.info
    if size <= 0:
        say("zero sized request")
        return -EINVAL
    if size & size - 1 or base % size:
        say(f"base(0x{base:x}000) is not aligned on a size(0x{size:x}000) boundary")
        return -EINVAL
    if type >= MTRR_NUM_TYPES:
        say(f"type: {type} invalid")
        return -EINVAL
    if type == MTRR_TYPE_WRCOMB and not boot.mtrr.msr.rdmsr(MSR_MTRRCAP) & MTRRCAP_WC:
        say("your processor doesn't support write-combining")
        return -ENOSYS
    if (base | base + size - 1) >> boot.mtrr.msr.phys_bits - PAGE_SHIFT:
        say("base or size exceeds the MTRR width")
        return -EINVAL
    return 0


@kernel("arch/x86/kernel/cpu/mtrr/mtrr.c", "types_compatible", traced=False)
def types_compatible(type1: int, type2: int) -> bool:
    """Whether it is defined what memory of both types is: one is uncachable, or they are write-back and -through."""
    return MTRR_TYPE_UNCACHABLE in (type1, type2) or {type1, type2} == {MTRR_TYPE_WRTHROUGH, MTRR_TYPE_WRBACK}


@kernel("arch/x86/kernel/cpu/mtrr/generic.c", "generic_get_free_region", traced=False)
def generic_get_free_region(state: MtrrState, replace: int) -> int:
    """A register for a new range: the one to be replaced, or the first unused one."""
    if replace >= 0:
        return replace
    unused = (reg for reg in range(state.num_var_ranges) if not generic_get_mtrr(state, reg)[1])
    return next(unused, -ENOSPC)


@kernel("arch/x86/kernel/cpu/mtrr/mtrr.c", "mtrr_add_page", lock="mtrr_mutex")
def take_range(boot: Boot, base: int, size: int, type: int, replace: int, increment: bool) -> int:
    """The last part of mtrr_add_page: put the range into a register."""
    state = boot.mtrr
    reg = generic_get_free_region(state, replace)
    if reg < 0:
        boot.printk.info("no more MTRRs available")
        return reg
    set_mtrr(state, reg, base, size, type)
    if replace >= 0:
        state.mtrr_usage_table[reg] += increment
    else:
        state.mtrr_usage_table[reg] = 1
    return reg


@kernel("arch/x86/kernel/cpu/mtrr/mtrr.c", "set_mtrr", left_out="stopping all CPUs meanwhile, caches off")
def set_mtrr(state: MtrrState, reg: int, base: int, size: int, type: int) -> None:
    """Write a pair of registers; size 0 switches the range off."""
    mask = (1 << state.msr.phys_bits) - (size << PAGE_SHIFT) | MTRR_MASK_VALID if size else 0
    state.msr.wrmsr(MSR_MTRRPHYSBASE + 2 * reg, base << PAGE_SHIFT | type if size else 0)
    state.msr.wrmsr(MSR_MTRRPHYSBASE + 2 * reg + 1, mask)
    get_mtrr_var_range(state, reg)


@kernel("arch/x86/kernel/cpu/mtrr/mtrr.c", "mtrr_del", lock="mtrr_mutex")
def mtrr_del(boot: Boot, reg: int, base: int, size: int) -> int:
    """One user less of a register, or with `reg` -1 of the one that holds exactly these bytes; the last one frees it.

    Raises `BadRequest` for a range that nobody asked for (C only says so).
    """
    state = boot.mtrr
    if reg < 0:
        wanted = (base >> PAGE_SHIFT, size >> PAGE_SHIFT)
        found = [nth for nth in range(state.num_var_ranges) if generic_get_mtrr(state, nth)[:2] == wanted]
        if not found:
            return -EINVAL
        reg = found[0]
    if reg >= state.num_var_ranges or not generic_get_mtrr(state, reg)[1] or state.mtrr_usage_table[reg] < 1:
        raise BadRequest(f"MTRR {reg} not used", where="mtrr_del", remedy="name one of those that /proc/mtrr shows")
    state.mtrr_usage_table[reg] -= 1
    if not state.mtrr_usage_table[reg]:
        set_mtrr(state, reg, 0, 0, 0)
    return reg
