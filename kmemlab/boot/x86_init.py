"""x86_init: the table of functions by which a platform takes part in boot (arch/x86/kernel/x86_init.c).

    x86_init.resources.memory_setup ──▶ e820__memory_setup_default       a PC asks its BIOS
                                        xen_memory_setup                 a guest of Xen asks its host

setup_arch calls through the table, so it does not know on what it runs. Here are the entries that have to do with
memory; all of them are as on a PC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import BadRequest

F = TypeVar("F", bound=Callable[..., Any])

# What an entry may point to, by C's names; the first is what the table holds from the start.
CHOICES = {
    "resources.probe_roms": ("probe_roms", "x86_init_noop"),
    "resources.reserve_resources": ("reserve_standard_io_resources", "i386_reserve_resources"),
    "resources.memory_setup": ("e820__memory_setup_default",),
    "mpparse.find_smp_config": ("default_find_smp_config", "x86_init_noop"),
    "paging.pagetable_init": ("paging_init", "native_pagetable_init"),
}

# C's linker knows where functions are; ours say so when their files are imported.
FUNCTIONS: dict[str, Callable[..., Any]] = {}


@kernel("arch/x86/include/asm/x86_init.h", "struct x86_init_ops", left_out="interrupts, timers, PCI, hypervisors")
class X86InitOps(Struct):
    """Which of its choices each entry points to; all zero is the table of a PC with a 64-bit kernel.

    >>> X86InitOps().table()["resources.memory_setup"]
    'e820__memory_setup_default'
    """

    probe_roms = Cell()
    reserve_resources = Cell()
    memory_setup = Cell()
    find_smp_config = Cell()
    pagetable_init = Cell()

    def table(self) -> dict[str, str]:
        """The C name of the function that each entry points to."""
        return {entry: names[getattr(self, entry.partition(".")[2])] for entry, names in CHOICES.items()}

    def point(self, entry: str, function: str) -> None:
        """Let an entry point to another of its choices. Raises `BadRequest` for what is none."""
        if function not in CHOICES.get(entry, ()):
            raise BadRequest(
                f"x86_init.{entry} can't point to {function}",
                where="the platform's hooks",
                remedy=f"choose one of {CHOICES.get(entry) or CHOICES}",
            )
        setattr(self, entry.partition(".")[2], CHOICES[entry].index(function))


@invented("C writes the function's name into the table", traced=False)
def x86_init_function(function: F) -> F:
    """Say that the table may point to this function."""
    FUNCTIONS[function.__name__] = function
    return function


@invented("C calls through the pointer", traced=False)
def x86_init_call(x86_init: X86InitOps, entry: str, *args: Any) -> Any:
    """Call what the entry points to; gives what it gives."""
    return FUNCTIONS[x86_init.table()[entry]](*args)


@x86_init_function
@kernel("arch/x86/kernel/x86_init.c", "x86_init_noop", traced=False)
def x86_init_noop(*_args: Any) -> None:
    """Nothing: a platform that has no use for a step points here."""
