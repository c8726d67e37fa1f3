"""The command line is kept, and what the kernel doesn't know of it goes to process 1 (init/main.c)."""

from __future__ import annotations

from kmemlab.boot.cmdline import next_arg
from kmemlab.boot.globals import Boot
from kmemlab.boot.known_parameters import KNOWN_PARAMETERS, KNOWN_PARAMETERS_I386
from kmemlab.boot.memblock import memblock_alloc_or_panic, memblock_phys_free
from kmemlab.sim.kernel import kernel

ENVP_INIT = ("HOME", "TERM")  # what process 1 has in its environment anyway


@kernel("init/main.c", "setup_command_line", left_out="bootconfig")
def setup_command_line(boot: Boot) -> None:
    """Keep the command line twice: one for /proc/cmdline, one to be cut into parameters."""
    size = len(boot.spec.cmdline.encode()) + 1
    for _ in ("saved_command_line", "static_command_line"):
        memblock_alloc_or_panic(boot.memblock, size, 64, "setup_command_line")


@kernel("init/main.c", "unknown_bootoption", left_out="names that only a built-in function refuses", traced=False)
def unknown_bootoption(name: str, arch: str = "x86_64") -> bool:
    """Whether a parameter is none of the kernel's. With a dot it is a module's, which may come later.

    >>> [unknown_bootoption(name) for name in ("nokaslr", "mem", "page_alloc.shuffle", "slub-debug")]
    [True, False, False, False]
    >>> unknown_bootoption("highmem"), unknown_bootoption("highmem", "i386")
    (True, False)
    """
    return "." not in name and name.replace("-", "_") not in KNOWN_UNDERSCORED[arch]


KNOWN_UNDERSCORED = {
    arch: frozenset(name.replace("-", "_") for name in names)
    for arch, names in (("x86_64", KNOWN_PARAMETERS), ("i386", KNOWN_PARAMETERS_I386))
}


@kernel("init/main.c", "print_unknown_bootoptions", left_out="more than 32 of them")
def print_unknown_bootoptions(boot: Boot) -> None:
    """Say what will be handed on: parameters without a value to process 1, the others to its environment."""
    arguments: list[str] = []
    environment: dict[str, str] = {}
    for name, value in next_arg(boot.spec.cmdline):
        if name == "--":
            break
        if not unknown_bootoption(name, boot.config.arch):
            continue
        if value is None:
            arguments.append(name)
        elif name not in ENVP_INIT:
            environment[name] = f"{name}={value}"
    options = [*arguments, *environment.values()]
    if not options:
        return
    size = 1 + sum(len(option.encode()) + 1 for option in options)
    place = memblock_alloc_or_panic(boot.memblock, size, 64, "print_unknown_bootoptions")
    told = " ".join(options)
    boot.printk.info(f'Unknown kernel command line parameters "{told}", will be passed to user space.')
    memblock_phys_free(boot.memblock, place, size, caller="print_unknown_bootoptions")
