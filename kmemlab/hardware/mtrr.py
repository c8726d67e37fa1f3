"""MTRRs: registers in which the firmware says how ranges of physical addresses may be cached.

0x2ff   default type                 [fixed 10][enabled 11] 6 = write-back
0x250…  fixed ranges, one byte each   8 ⋅ 64K │ 16 ⋅ 16K │ 64 ⋅ 4K  = the first MiB
0x200…  variable ranges, in pairs     base | type     mask | valid (bit 11)

    reg 0   base 0c0000000, mask ff_c0000000     x matches if x & mask == base & mask: [3G, 4G)
"""

from __future__ import annotations

import re

from kmemlab.hardware.spec import MachineSpec
from kmemlab.sim.column import column
from kmemlab.sim.kernel import invented
from kmemlab.sim.struct import Struct, U64Cell
from kmemlab.types.errors import BadSpec
from kmemlab.types.mtrr_type import (
    MTRR_DEF_TYPE_ENABLED,
    MTRR_DEF_TYPE_FIXED_ENABLED,
    MTRR_MASK_VALID,
    MTRR_NAMES,
    MTRR_TYPE_UNCACHABLE,
    MTRR_TYPE_WRBACK,
    MTRR_TYPE_WRPROT,
    PAT_POWER_ON,
)
from kmemlab.types.units import KIB, MIB, PAGE_MASK

MSR_MTRRCAP = 0xFE
MSR_MTRRPHYSBASE = 0x200  # base and mask of range i: 0x200 + 2i, 0x201 + 2i
MSR_PAT = 0x277
MSR_MTRRDEFTYPE = 0x2FF
FIXED_MSRS = (0x250, 0x258, 0x259, *range(0x268, 0x270))  # eight ranges each
MTRRCAP_FIXED, MTRRCAP_WC = 1 << 8, 1 << 10
NUM_FIXED_RANGES = 88
NUM_VAR_RANGES = 8

_LINE = re.compile(r"reg(\d+): base=0x([0-9a-f]+) \( *\d+MB\), size= *(\d+)([KM])B, count=\d+: (.+)")
_UNITS = {"K": KIB, "M": MIB}


@invented("the model-specific registers are hardware")
class MemoryTypeRegisters(Struct):
    """The MTRRs and the PAT of one machine (all CPUs have the same). All 0, which is off, until the firmware has run.

    >>> from kmemlab.hardware.spec import CpuSpec
    >>> line = "reg00: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable"
    >>> registers = MemoryTypeRegisters(MachineSpec("one", (), cpus=CpuSpec(flags=("mtrr",)), mtrr=(line,)))
    >>> registers.post()
    >>> hex(registers.rdmsr(0x200)), hex(registers.rdmsr(0x201)), hex(registers.rdmsr(0x2FF))
    ('0xc0000000', '0xffc0000800', '0xc06')
    """

    deftype = U64Cell()
    pat = U64Cell()

    def __init__(self, spec: MachineSpec) -> None:
        """Raises `BadSpec` for a line of the description that no register could hold."""
        self.ranges = tuple(range_of(line, spec) for line in spec.mtrr)
        count = max(NUM_VAR_RANGES, *(reg + 1 for reg, *_ in self.ranges)) if self.ranges else NUM_VAR_RANGES
        self.has_mtrr = "mtrr" in spec.cpus.flags
        # Firmware either starts from "all is cached" and excludes, or the other way round.
        usual = "uncachable" if MTRR_TYPE_WRBACK in {type for *_, type in self.ranges} else "write-back"
        self.default = MTRR_NAMES.index(spec.mtrr_default or usual)
        self.phys_bits = spec.cpus.phys_bits
        self.fixed = column("B", NUM_FIXED_RANGES)
        self.base = column("Q", count)
        self.mask = column("Q", count)

    def post(self) -> None:
        """What the firmware does before anything else runs: the first MiB by its use, then the other ranges."""
        self.pat = PAT_POWER_ON
        if not self.has_mtrr:
            return
        for index in range(NUM_FIXED_RANGES):
            # Below 640 KiB there is RAM, then the window of the video card, then ROM.
            self.fixed[index] = (
                MTRR_TYPE_WRBACK if index < 16 else MTRR_TYPE_UNCACHABLE if index < 24 else MTRR_TYPE_WRPROT
            )
        for reg, base, size, type in self.ranges:
            self.base[reg] = base | type
            self.mask[reg] = (1 << self.phys_bits) - size | MTRR_MASK_VALID
        self.deftype = MTRR_DEF_TYPE_ENABLED | MTRR_DEF_TYPE_FIXED_ENABLED | self.default

    def rdmsr(self, msr: int) -> int:
        """What a register holds; 0 for one that is not here."""
        if msr == MSR_MTRRCAP:
            return len(self.base) | MTRRCAP_FIXED | MTRRCAP_WC
        if msr == MSR_MTRRDEFTYPE:
            return self.deftype
        if msr == MSR_PAT:
            return self.pat
        if msr in FIXED_MSRS:
            first = 8 * FIXED_MSRS.index(msr)
            return sum(self.fixed[first + nth] << 8 * nth for nth in range(8))
        reg, is_mask = divmod(msr - MSR_MTRRPHYSBASE, 2)
        if 0 <= reg < len(self.base):
            return self.mask[reg] if is_mask else self.base[reg]
        return 0

    def wrmsr(self, msr: int, value: int) -> None:
        """Set a register; one that is not here, or can't be set, stays."""
        reg, is_mask = divmod(msr - MSR_MTRRPHYSBASE, 2)
        if msr == MSR_MTRRDEFTYPE:
            self.deftype = value
        elif msr == MSR_PAT:
            self.pat = value
        elif msr in FIXED_MSRS:
            for nth in range(8):
                self.fixed[8 * FIXED_MSRS.index(msr) + nth] = value >> 8 * nth & 0xFF
        elif 0 <= reg < len(self.base):
            cells = self.mask if is_mask else self.base
            cells[reg] = value

    def type_of(self, addr: int) -> int:
        """The type that the CPU uses for one physical address; what the manual leaves undefined is uncached here."""
        if not self.deftype & MTRR_DEF_TYPE_ENABLED:
            return MTRR_TYPE_UNCACHABLE
        if addr < MIB and self.deftype & MTRR_DEF_TYPE_FIXED_ENABLED:
            return self.fixed[fixed_index(addr)]
        types = {
            self.base[reg] & 0xFF
            for reg in range(len(self.base))
            if self.mask[reg] & MTRR_MASK_VALID and not (addr ^ self.base[reg]) & self.mask[reg] & PAGE_MASK
        }
        if not types:
            return self.deftype & 0xFF
        if types == {4, 6}:
            return 4  # write-through and write-back
        return types.pop() if len(types) == 1 else MTRR_TYPE_UNCACHABLE


@invented("a part of mtrr_type_lookup_fixed", traced=False)
def fixed_index(addr: int) -> int:
    """Which fixed range an address of the first MiB is in.

    >>> fixed_index(0x7FFFF), fixed_index(0x80000), fixed_index(0xC0000), fixed_index(0xFFFFF)
    (7, 8, 24, 87)
    """
    if addr < 0x80000:
        return addr >> 16
    if addr < 0xC0000:
        return 8 + (addr - 0x80000 >> 14)
    return 24 + (addr - 0xC0000 >> 12)


@invented("a machine's description has the lines of /proc/mtrr", traced=False)
def range_of(line: str, spec: MachineSpec) -> tuple[int, int, int, int]:
    """A line of /proc/mtrr as (register, base, size, type), in bytes; raises `BadSpec` for one that can't be."""
    found = _LINE.fullmatch(line)
    if not found or found[5] not in MTRR_NAMES or found[5] == "?":
        refusal = f"{line!r} is no line of /proc/mtrr"
    else:
        reg, base, size = int(found[1]), int(found[2], 16), int(found[3]) * _UNITS[found[4]]
        if size == 0 or size & size - 1 or base % size:
            refusal = f"no register can hold {line!r}: its size is no power of two, or its base no multiple of that"
        elif base + size > 1 << spec.cpus.phys_bits:
            refusal = f"{line!r} lies above the {spec.cpus.phys_bits} address bits of this CPU"
        elif reg >= 32:
            refusal = f"{line!r} is of a register that no CPU has"
        else:
            return reg, base, size, MTRR_NAMES.index(found[5])
    raise BadSpec(refusal, where=f"machine {spec.name!r}, mtrr", remedy="copy the lines of /proc/mtrr as they are")
