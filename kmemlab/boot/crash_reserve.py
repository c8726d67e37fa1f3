"""crashkernel=: memory set aside at boot for a second kernel that looks at the ruins of the first."""

from __future__ import annotations

from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_phys_alloc_range, memblock_phys_free, memblock_phys_mem_size
from kmemlab.boot.resource import insert_resource, new_resource
from kmemlab.boot.swiotlb import swiotlb_size_or_default
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadParameter
from kmemlab.types.units import GIB, MIB, TIB, memparse

CRASH_ALIGN = 16 * MIB
CRASH_ADDR_LOW_MAX = 4 * GIB
CRASH_ADDR_HIGH_MAX = 64 * TIB
CRASH_ADDR_MAX_32 = 512 * MIB  # i386: both limits


@kernel("arch/x86/kernel/setup.c", "reserve_crashkernel")
def reserve_crashkernel(boot: Boot) -> None:
    """Take the memory that crashkernel= asks for: where it says, else below 4 GiB, else anywhere."""
    memblock = boot.memblock
    size, base = parse_crashkernel(boot.spec.cmdline, memblock_phys_mem_size(memblock))
    high = False
    if not size:
        size, high = parse_crashkernel_suffix(boot.spec.cmdline, ",high") or 0, True
    if not size:
        return
    if base:
        if memblock_phys_alloc_range(memblock, size, MIB, base, base + size, caller="reserve_crashkernel") != base:
            boot.printk.info("crashkernel reservation failed - memory is in use.")
            return
    else:
        base = find_crash_base(boot, size, high)
        if not base:
            boot.printk.info("crashkernel reservation failed - No suitable area found.")
            return
    if base >= CRASH_ADDR_LOW_MAX and not reserve_crashkernel_low(boot):
        memblock_phys_free(memblock, base, size, caller="reserve_crashkernel")
        return
    ram_mib = memblock_phys_mem_size(memblock) >> 20
    boot.printk.info(f"Reserving {size >> 20}MB of memory at {base >> 20}MB for crashkernel (System RAM: {ram_mib}MB)")
    claim(boot, base, size)
    boot.crashk_start, boot.crashk_end = base, base + size


@invented("a piece of C's reserve_crashkernel")
def find_crash_base(boot: Boot, size: int, high: bool) -> int:
    """A place for the second kernel: below 4 GiB unless `high`, else as high as there is memory; 0 if there is none."""
    base = 0
    for limit in crash_limits(boot, high):
        base = base or memblock_phys_alloc_range(
            boot.memblock, size, CRASH_ALIGN, CRASH_ALIGN, limit, caller="reserve_crashkernel"
        )
    return base


@invented("C's CRASH_ADDR_LOW_MAX and CRASH_ADDR_HIGH_MAX, macros", traced=False)
def crash_limits(boot: Boot, high: bool) -> tuple[int, ...]:
    """Below which addresses a place is looked for, one limit after the other."""
    if boot.config.highmem:
        return (CRASH_ADDR_MAX_32,)
    return (CRASH_ADDR_HIGH_MAX,) if high else (CRASH_ADDR_LOW_MAX, CRASH_ADDR_HIGH_MAX)


@kernel("arch/x86/kernel/setup.c", "reserve_crashkernel_low")
def reserve_crashkernel_low(boot: Boot) -> bool:
    """Take some memory below 4 GiB as well: devices that reach no higher need it. False if there is none."""
    size = parse_crashkernel_suffix(boot.spec.cmdline, ",low")
    if size is None:
        size = max(swiotlb_size_or_default(boot) + 8 * MIB, 256 * MIB)
    if not size:
        return True
    base = memblock_phys_alloc_range(
        boot.memblock, size, CRASH_ALIGN, 0, CRASH_ADDR_LOW_MAX, caller="reserve_crashkernel_low"
    )
    if not base:
        boot.printk.info(f"Cannot reserve {size >> 20}MB crashkernel low memory, please try smaller size.")
        return False
    low_mib = CRASH_ADDR_LOW_MAX >> 20
    boot.printk.info(
        f"Reserving {size >> 20}MB of low memory at {base >> 20}MB for crashkernel (low RAM limit: {low_mib}MB)"
    )
    claim(boot, base, size)
    return True


@invented("C's crashk_res and crashk_low_res are variables")
def claim(boot: Boot, base: int, size: int) -> None:
    """Show the range in /proc/iomem."""
    insert_resource(boot.iomem_resource, new_resource(boot.iomem_resource, base, base + size - 1, "Crash kernel"))


@kernel("kernel/crash_core.c", "parse_crashkernel")
def parse_crashkernel(cmdline: str, system_ram: int) -> tuple[int, int]:
    """Size and base of the last crashkernel= without ",high" or ",low"; (0, 0) if there is none.

    >>> parse_crashkernel("crashkernel=128M@16M", 0)
    (134217728, 16777216)
    >>> parse_crashkernel("crashkernel=512M-2G:64M,2G-:128M", 3 << 30)
    (134217728, 0)
    """
    for value in crashkernel_values(cmdline):
        if value.endswith((",high", ",low")):
            continue
        try:
            sizes, _, base = value.partition("@")
            size = size_for(sizes, system_ram) if ":" in sizes else size_there(sizes)
            return size, size_there(base) if base else 0
        except BadParameter:
            return 0, 0
    return 0, 0


@kernel("kernel/crash_core.c", "parse_crashkernel_mem")
def size_for(ranges: str, system_ram: int) -> int:
    """What "start-end:size,…" gives a machine with this much memory; an end left out is open."""
    for part in ranges.split(","):
        span, _, size = part.partition(":")
        start, _, end = span.partition("-")
        if size_there(start) <= system_ram and (not end or system_ram < size_there(end)):
            return size_there(size)
    return 0


@invented("C compares the pointer before and after memparse", traced=False)
def size_there(text: str) -> int:
    """A size; raises `BadParameter` where no digit stands."""
    size, rest = memparse(text)
    if rest == text:
        raise BadParameter(f"{text!r} is no size", where="crashkernel=", remedy="write a size, as in crashkernel=128M")
    return size


@kernel("kernel/crash_core.c", "parse_crashkernel_suffix")
def parse_crashkernel_suffix(cmdline: str, suffix: str) -> int | None:
    """The size of the last crashkernel=SIZE that ends with `suffix`, or None."""
    for value in crashkernel_values(cmdline):
        if value.endswith(suffix):
            try:
                return size_there(value)
            except BadParameter:
                return None
    return None


@kernel("kernel/crash_core.c", "get_last_crashkernel", traced=False)
def crashkernel_values(cmdline: str) -> list[str]:
    """The values of all crashkernel= parameters, the last one first."""
    return [value for name, value in next_arg(cmdline) if value and parameq(name, "crashkernel")][::-1]
