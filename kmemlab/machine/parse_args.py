"""parse_args: the parameters that act when nodes and zones are known, and memblock still gives memory."""

from __future__ import annotations

from kmemlab.alloc.hugetlb import parse_hugetlb_params
from kmemlab.alloc.kmem_cache import SLAB_POISON, SLAB_STORE_USER
from kmemlab.alloc.slub_params import parse_slub_debug_flags, parse_slub_params
from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.machine.kernel import Kernel
from kmemlab.sim.kernel import invented, kernel


@kernel("kernel/params.c", "parse_args", left_out="all parameters but those of SLUB and of huge pages")
def parse_args(kernel: Kernel) -> None:
    """Let the ordinary parameters act."""
    params = kernel.slab.params
    parse_slub_params(params, kernel.boot.printk)
    if slub_debug_values(kernel.boot.spec.cmdline):
        # Clearing pages is configured in and not switched off yet, so C says this whatever init_on_alloc= wants.
        if params.slub_debug & SLAB_POISON:
            kernel.boot.printk.info("mem auto-init: SLAB_POISON will take precedence over init_on_alloc/init_on_free")
        kernel.mm.stack_depot_want_early_init = int(wants_call_stacks(kernel))
    parse_hugetlb_params(kernel.mm)


@invented("the values of one parameter", traced=False)
def slub_debug_values(cmdline: str) -> list[str]:
    """What stands behind each slub_debug."""
    return [value or "" for name, value in next_arg(cmdline) if parameq(name, "slub_debug")]


@invented("a line of setup_slub_debug", traced=False)
def wants_call_stacks(kernel: Kernel) -> bool:
    """Whether some slab shall remember by which path each object was allocated (U)."""
    values = slub_debug_values(kernel.boot.spec.cmdline)
    by_name = any(
        names is not None and flags & SLAB_STORE_USER
        for value in values
        for flags, names in parse_slub_debug_flags(value)
    )
    return by_name or bool(kernel.slab.params.slub_debug & SLAB_STORE_USER)
