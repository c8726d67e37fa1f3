"""mem= and memmap=: the command line's say in the memory map."""

from __future__ import annotations

from kmemlab.boot.cmdline import early_param
from kmemlab.boot.e820 import e820__range_add, e820__range_remove, e820__range_update
from kmemlab.boot.globals import Boot
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.e820_type import E820_TYPE_ACPI, E820_TYPE_PRAM, E820_TYPE_RAM, E820_TYPE_RESERVED
from kmemlab.types.errors import BadParameter, KernelPanic
from kmemlab.types.units import U64_MAX, memparse, simple_strtoull

TYPE_OF_SIGN = {"@": E820_TYPE_RAM, "#": E820_TYPE_ACPI, "$": E820_TYPE_RESERVED, "!": E820_TYPE_PRAM}


@early_param("mem")
@kernel("arch/x86/kernel/e820.c", "parse_memopt", left_out="mem=nopentium of i386")
def parse_memopt(boot: Boot, value: str) -> None:
    """mem=SIZE: use no memory above SIZE. Raises `BadParameter` for no size, or none at all."""
    if not value:
        malformed("mem", value)
    if value == "nopentium" and boot.config.highmem:
        boot.nopentium = 1
        return
    if value == "nopentium":
        boot.printk.info("mem=nopentium ignored! (only supported on x86_32)")
        malformed("mem", value)
    boot.userdef = 1
    mem_size, _ = memparse(value)
    if mem_size == 0:
        malformed("mem", value)
    remove_ram_above(boot, mem_size)
    boot.max_mem_size = mem_size


@early_param("memmap")
@kernel("arch/x86/kernel/e820.c", "parse_memmap_opt")
def parse_memmap_opt(boot: Boot, value: str) -> None:
    """memmap=A,B,…: change the map step by step; a step that can't be read is skipped."""
    for step in value.split(","):
        if step:
            parse_memmap_one(boot, step)


@kernel("arch/x86/kernel/e820.c", "parse_memmap_one")
def parse_memmap_one(boot: Boot, step: str) -> None:
    """One step of memmap=.

    exactmap         forget the BIOS's map: what follows is all there is
    SIZE@START       this is RAM      #: ACPI data     $: reserved     !: persistent memory
    SIZE%START-A+B   make type B of what is type A here (without -A: add B; without +B: remove A)
    SIZE             as mem=SIZE
    """
    if step.startswith("exactmap"):
        boot.e820_table.nr_entries = 0
        boot.userdef = 1
        return
    mem_size, rest = memparse(step)
    if rest == step:
        return
    boot.userdef = 1
    sign = rest[:1]
    if sign in TYPE_OF_SIGN:
        start, _ = memparse(rest[1:])
        e820__range_add(boot.e820_table, start, mem_size, TYPE_OF_SIGN[sign])
    elif sign == "%":
        change_type(boot, mem_size, rest[1:])
    else:
        remove_ram_above(boot, mem_size)


@invented("the % branch of C's parse_memmap_one")
def change_type(boot: Boot, mem_size: int, text: str) -> None:
    """START-A+B: make type B of type A within `mem_size` bytes from START on."""
    start, rest = memparse(text)
    old = new = 0
    if rest.startswith("-"):
        old, rest = e820_type(rest[1:])
    if rest.startswith("+"):
        new, rest = e820_type(rest[1:])
    if rest:
        return
    if old and old == new:
        raise KernelPanic(
            f"kernel BUG in e820__range_update: type {old} shall become type {new}",
            where="memmap= on the command line",
            remedy="write two types that differ, as in memmap=1M%16M-1+2",
        )
    if old and new:
        e820__range_update(boot.e820_table, start, mem_size, old, new)
    elif new:
        e820__range_add(boot.e820_table, start, mem_size, new)
    else:
        e820__range_remove(boot.e820_table, start, mem_size, old, bool(old))


@invented("C assigns the number to an enum, which has 32 bits", traced=False)
def e820_type(text: str) -> tuple[int, str]:
    """The number of a type, and the text behind it."""
    number, rest = simple_strtoull(text)
    return number & 0xFFFFFFFF, rest


@invented("C writes this line in both parameters")
def remove_ram_above(boot: Boot, mem_size: int) -> None:
    """Forget all RAM from the address `mem_size` on."""
    e820__range_remove(boot.e820_table, mem_size, U64_MAX - mem_size, E820_TYPE_RAM, True)


@invented("C returns -EINVAL")
def malformed(name: str, value: str) -> None:
    """Refuse a value."""
    raise BadParameter(
        f"{name}={value} can't be read",
        where="the kernel command line",
        remedy=f"write {name}=512M",
    )
