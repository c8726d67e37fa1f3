"""/proc/slabinfo: one line a cache, the newest first."""

from __future__ import annotations

from kmemlab.machine.kernel import Kernel
from kmemlab.sim.kernel import kernel


@kernel("mm/slab_common.c", "slab_show", formerly=("s_show",))
def slabinfo(kernel: Kernel) -> str:
    """Objects in use and all, slot size, objects and pages a slab; what an array of SLAB holds; slabs.

    Objects that are free in a CPU's slab count as in use.
    """
    columns = "<active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    text = f"slabinfo - version: 2.1\n# name            {columns}"
    text += " : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
    for cache in kernel.slab.existing():
        info = cache.engine.get_slabinfo(cache)
        text += f"{cache.name:<17} {info.active_objs:6} {info.num_objs:6} {cache.size:6}"
        text += f" {info.objects_per_slab:4} {1 << info.cache_order:4}"
        text += f" : tunables {info.limit:4} {info.batchcount:4} {info.shared:4}"
        text += f" : slabdata {info.active_slabs:6} {info.num_slabs:6} {info.shared_avail:6}\n"
    return text
