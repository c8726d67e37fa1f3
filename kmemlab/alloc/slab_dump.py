"""dump_unreclaimable_slab: how much the kernel's own objects take that nobody can make it give back."""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import SLAB_RECLAIM_ACCOUNT
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import KIB


@kernel("mm/slab_common.c", "dump_unreclaimable_slab", lock="slab_mutex")
def dump_unreclaimable_slab(common: SlabCommon) -> None:
    """Say of each cache that has no shrinker what its objects in use take, and what all take."""
    say = common.mm.boot.printk.info
    say("Unreclaimable slab info:")
    say("Name                      Used          Total")
    for cache in common.existing():
        if cache.flags & SLAB_RECLAIM_ACCOUNT:
            continue
        info = cache.engine.get_slabinfo(cache)
        if info.num_objs:
            used, total = (count * cache.size // KIB for count in (info.active_objs, info.num_objs))
            say(f"{cache.name:<17} {used:10}KB {total:10}KB")
