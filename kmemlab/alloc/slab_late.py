"""The parts of boot that come after kmem_cache_init, by whichever allocator of objects the kernel is built with."""

from __future__ import annotations

from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.sim.kernel import kernel


@kernel("mm/slub.c", "kmem_cache_init_late", left_out="SLUB's queue for freeing slabs, which nothing needs here")
def kmem_cache_init_late(common: SlabCommon) -> None:
    """Interrupts are on: what the allocator of objects still lacks is made. SLAB's arrays get their proper sizes."""
    common.engine.kmem_cache_init_late(common)


@kernel("kernel/smp.c", "smp_init", left_out="all but what the allocator of objects does for each CPU")
def smp_init(common: SlabCommon) -> None:
    """The other CPUs come up; SLAB makes what their nodes lack, and its timers begin to run."""
    common.engine.smp_init(common)
