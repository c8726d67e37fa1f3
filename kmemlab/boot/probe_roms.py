"""Addresses of a PC that are nobody's to give: ROMs, and on i386 the window of the graphics card.

a0000           c0000        c8000            f0000        fffff
| Video RAM area | Video ROM | adapters' ROMs | System ROM |
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.resource import ROOT, new_resource, request_resource
from kmemlab.boot.x86_init import x86_init_call, x86_init_function
from kmemlab.sim.kernel import invented, kernel

SYSTEM_ROM = (0xF0000, 0xFFFFF)
VIDEO_RAM = (0xA0000, 0xBFFFF)


@x86_init_function
@kernel("arch/x86/kernel/probe_roms.c", "probe_roms", left_out="ROMs that have to be looked for: ours have no contents")
def probe_roms(boot: Boot) -> None:
    """Claim the BIOS's own ROM, right below 1 MiB."""
    request_resource(boot.iomem_resource, ROOT, new_resource(boot.iomem_resource, *SYSTEM_ROM, "System ROM"))


@x86_init_function
@kernel("arch/x86/kernel/setup.c", "reserve_standard_io_resources", left_out="I/O ports: all there is to it")
def reserve_standard_io_resources(boot: Boot) -> None:
    """Claim the ports of a PC's timers, keyboard and the like: no memory."""


@x86_init_function
@kernel("arch/x86/kernel/head32.c", "i386_reserve_resources")
def i386_reserve_resources(boot: Boot) -> None:
    """Claim the window through which programs of old wrote to the screen, and the ports."""
    request_resource(boot.iomem_resource, ROOT, new_resource(boot.iomem_resource, *VIDEO_RAM, "Video RAM area"))
    reserve_standard_io_resources(boot)


@kernel("arch/x86/kernel/head32.c", "i386_start_kernel", left_out="what has nothing to do with memory")
def i386_start_kernel(boot: Boot) -> None:
    """The first C function of an i386 kernel: its entries of the table differ."""
    boot.x86_init.point("resources.reserve_resources", "i386_reserve_resources")
    boot.x86_init.point("paging.pagetable_init", "native_pagetable_init")  # in C a matter of compiling


@invented("x86_init.resources.probe_roms(), a line of setup_arch")
def resources_probe_roms(boot: Boot) -> None:
    """Let the platform claim its ROMs."""
    x86_init_call(boot.x86_init, "resources.probe_roms", boot)


@invented("x86_init.resources.reserve_resources(), a line of setup_arch")
def resources_reserve_resources(boot: Boot) -> None:
    """Let the platform claim what it knows of without asking."""
    x86_init_call(boot.x86_init, "resources.reserve_resources", boot)
