"""mtrr_trim_uncached_memory: RAM that no MTRR makes cached is slower than no RAM, so it is given up.

default uncachable     RAM  ├──────────────────────────────┤
                       WB   ├───────────────┤
                       UC           ├──┤                         a device's window
                       kept ├───────┤  ├────┤
                       lost         ├──┤    ├──────────────┤
"""

from __future__ import annotations

from kmemlab.boot.cmdline import cmdline_find_option
from kmemlab.boot.e820 import e820__print_table, e820__range_update, e820__update_table
from kmemlab.boot.globals import Boot
from kmemlab.boot.mtrr import generic_get_mtrr
from kmemlab.boot.mtrr_state import MTRR_STATE_MTRR_ENABLED, MTRR_STATE_MTRR_FIXED_ENABLED
from kmemlab.hardware.mtrr import MSR_MTRRDEFTYPE
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.e820_type import E820_TYPE_RAM, E820_TYPE_RESERVED
from kmemlab.types.mtrr_type import MTRR_TYPE_UNCACHABLE, MTRR_TYPE_WRBACK, MTRR_TYPE_WRPROT
from kmemlab.types.units import MIB, PAGE_SHIFT

PfnRange = tuple[int, int]  # the end is not included


@kernel("arch/x86/kernel/cpu/mtrr/cleanup.c", "mtrr_trim_uncached_memory", left_out="AMD's TOM2; the stack trace")
def mtrr_trim_uncached_memory(boot: Boot, end_pfn: int) -> bool:
    """Take RAM that is not cached out of the e820 table; says whether there was any."""
    if not needs_trimming(boot):
        return False
    ranges = [generic_get_mtrr(boot.mtrr, reg) for reg in range(boot.mtrr.num_var_ranges)]
    used = [(base, size, type) for base, size, type in ranges if size]
    if not any(type == MTRR_TYPE_WRBACK for _, _, type in used):
        boot.printk.info("CPU MTRRs all blank - virtualized system.")
        return False
    if any(type not in (MTRR_TYPE_WRBACK, MTRR_TYPE_UNCACHABLE) for _, _, type in used):
        return False  # somebody knows better than this function
    covered = x86_get_mtrr_mem_range(boot, ranges)
    # Before, between and behind what is covered.
    starts = [0, *(end for _, end in covered)]
    ends = [*(start for start, _ in covered), max(end_pfn, starts[-1])]
    total_trim_size = sum(
        real_trim_memory(boot, start, end) for start, end in zip(starts, ends, strict=True) if start < end
    )
    if not total_trim_size:
        return False
    boot.printk.info(
        f"WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing {total_trim_size // MIB}MB of RAM."
    )
    boot.printk.info("update e820 for mtrr")
    e820__update_table_print(boot)
    return True


@kernel("arch/x86/kernel/e820.c", "e820__update_table_print", formerly=("update_e820",))
def e820__update_table_print(boot: Boot) -> None:
    """Put the table in order again, and print it."""
    if e820__update_table(boot.e820_table):
        return
    boot.printk.info("modified physical RAM map:")
    e820__print_table(boot.e820_table, "modified")


@invented("the first lines of mtrr_trim_uncached_memory", traced=False)
def needs_trimming(boot: Boot) -> bool:
    """MTRRs are there, what they leave out is uncachable, and nobody said disable_mtrr_trim."""
    if "mtrr" not in boot.spec.cpus.flags or cmdline_find_option(boot.spec.cmdline, "disable_mtrr_trim") is not None:
        return False
    return boot.mtrr.msr.rdmsr(MSR_MTRRDEFTYPE) & 0xFF == MTRR_TYPE_UNCACHABLE


@kernel("arch/x86/kernel/cpu/mtrr/cleanup.c", "real_trim_memory")
def real_trim_memory(boot: Boot, start_pfn: int, limit_pfn: int) -> int:
    """Make RAM within the range reserved; gives the bytes of it that were RAM."""
    start, size = start_pfn << PAGE_SHIFT, limit_pfn - start_pfn << PAGE_SHIFT
    return e820__range_update(boot.e820_table, start, size, E820_TYPE_RAM, E820_TYPE_RESERVED)


@kernel("arch/x86/kernel/cpu/mtrr/cleanup.c", "x86_get_mtrr_mem_range", left_out="ranges to be left out besides")
def x86_get_mtrr_mem_range(boot: Boot, ranges: list[tuple[int, int, int]]) -> list[PfnRange]:
    """What is cached: all write-back ranges together, without the uncachable ones. Sorted, apart from each other."""
    covered: list[PfnRange] = []
    for base, size, type in ranges:
        if type == MTRR_TYPE_WRBACK and size:
            covered = add_range_with_merge(covered, base, base + size)
    first_mib = MIB >> PAGE_SHIFT
    fixed = MTRR_STATE_MTRR_ENABLED | MTRR_STATE_MTRR_FIXED_ENABLED
    for reg, (base, size, type) in enumerate(ranges):
        if not size or type not in (MTRR_TYPE_UNCACHABLE, MTRR_TYPE_WRPROT):
            continue
        end = base + size
        if base < first_mib and boot.mtrr.have_fixed and boot.mtrr.enabled & fixed == fixed:
            boot.printk.info(
                f"WARNING: BIOS bug: VAR MTRR {reg} contains strange UC entry under 1M, check with your system vendor!"
            )
            base = first_mib  # below, the fixed ranges decide
        covered = subtract_range(covered, base, end)
    return sorted(covered)


@kernel("kernel/range.c", "add_range_with_merge", traced=False)
def add_range_with_merge(ranges: list[PfnRange], start: int, end: int) -> list[PfnRange]:
    """The ranges with one more, which becomes one with those that it touches.

    >>> add_range_with_merge([(0, 4), (8, 9)], 4, 6)
    [(8, 9), (0, 6)]
    """
    apart = []
    for other_start, other_end in ranges:
        if other_start <= end and start <= other_end:
            start, end = min(start, other_start), max(end, other_end)
        else:
            apart.append((other_start, other_end))
    return [*apart, (start, end)]


@kernel("kernel/range.c", "subtract_range", traced=False)
def subtract_range(ranges: list[PfnRange], start: int, end: int) -> list[PfnRange]:
    """The ranges without [start, end).

    >>> subtract_range([(0, 10)], 3, 5)
    [(0, 3), (5, 10)]
    """
    if start >= end:
        return ranges
    pieces = [piece for first, last in ranges for piece in ((first, min(last, start)), (max(first, end), last))]
    return [(first, last) for first, last in pieces if first < last]
