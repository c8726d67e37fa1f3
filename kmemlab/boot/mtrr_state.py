"""What the kernel keeps of the MTRRs and the PAT: a copy of the boot CPU's registers, and who uses which."""

from __future__ import annotations

from kmemlab.hardware.mtrr import NUM_FIXED_RANGES, MemoryTypeRegisters
from kmemlab.sim.column import column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct

MTRR_STATE_MTRR_FIXED_ENABLED = 1
MTRR_STATE_MTRR_ENABLED = 2


@kernel("arch/x86/include/uapi/asm/mtrr.h", "struct mtrr_state_type")
class MtrrState(Struct):
    """The registers as the kernel read them; `base` and `mask` in the format of the registers, all 0 before boot."""

    mtrr_state_set = Cell()
    have_fixed = Cell()
    enabled = Cell()  # bit 0: fixed ranges, bit 1: MTRRs at all
    def_type = Cell()
    num_var_ranges = Cell()

    def __init__(self, msr: MemoryTypeRegisters) -> None:
        count = len(msr.base)
        self.msr = msr
        self.fixed_ranges = column("B", NUM_FIXED_RANGES)
        self.base = column("Q", count)
        self.mask = column("Q", count)
        self.mtrr_usage_table = column("i", count)  # how many users asked for each range


@invented("C's static variables of arch/x86/mm/pat/memtype.c are fields here")
class PatState(Struct):
    """How far the kernel has come with the PAT."""

    pat_disabled = Cell()
    pat_bp_enabled = Cell()
    init_cm_done = Cell()
