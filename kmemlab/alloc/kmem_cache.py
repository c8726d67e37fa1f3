"""kmem_cache: one kind of object, and how a slab of them is laid out.

object_size    what the user asked for                    104
size           the slot: with padding and debugging       104 ──▶ rounded up to align
oo             2**order pages hold so many slots          order 0: 39 in 4096 bytes

    slab   │ slot │ slot │ slot │ …                       │ rest │
    slot   │ object …… │ red zone │ free pointer │ who took it, who freed it │ padding │
                         └──────── only where slub_debug or a constructor asks for it ─┘
"""

from __future__ import annotations

from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct

SLAB_CONSISTENCY_CHECKS = 0x100
SLAB_RED_ZONE = 0x400
SLAB_POISON = 0x800
SLAB_KMALLOC = 0x1000
SLAB_HWCACHE_ALIGN = 0x2000
SLAB_CACHE_DMA = 0x4000
SLAB_CACHE_DMA32 = 0x8000
SLAB_STORE_USER = 0x10000
SLAB_RECLAIM_ACCOUNT = 0x20000
SLAB_TYPESAFE_BY_RCU = 0x80000
SLAB_TRACE = 0x200000
SLAB_NOLEAKTRACE = 0x800000
SLAB_FAILSLAB = 0x2000000
SLAB_ACCOUNT = 0x4000000

SLAB_DEBUG_FLAGS = SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER | SLAB_TRACE | SLAB_CONSISTENCY_CHECKS
DEBUG_DEFAULT_FLAGS = SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER
DEBUG_METADATA_FLAGS = SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER  # those that make slots larger


@kernel("include/linux/slub_def.h", "struct kmem_cache", left_out="all that has to do with single slabs and CPUs")
class KmemCache(Struct):
    """The geometry of one cache; sizes in bytes. A cache with `refcount` 0 does not exist (yet)."""

    refcount = Cell()
    flags = Cell()
    object_size = Cell()
    usersize = Cell()  # how much of an object may be copied to user space
    align = Cell()
    inuse = Cell()  # where what follows the object begins
    offset = Cell()  # where the pointer to the next free object stands in a free one
    red_left_pad = Cell()
    size = Cell()
    order = Cell()  # oo: pages of a slab, 2**order
    objects = Cell()  # oo: slots of a slab
    min_order = Cell()  # min: when no block of `order` is to be had
    min_partial = Cell()  # partial slabs that a node keeps even if they are empty
    cpu_partial = Cell()  # free objects that a CPU may keep in partial slabs
    cpu_partial_slabs = Cell()

    def __init__(self, name: str) -> None:
        self.name = name


@invented("C's static variables of mm/slub.c are fields here")
class SlubParams(Struct):
    """What the command line says of SLUB, and what is known of the machine when caches are made."""

    slub_min_order = Cell()
    slub_max_order = Cell()
    slub_min_objects = Cell()  # 0: by the number of CPUs
    slub_debug = Cell()  # flags that every cache gets
    disable_higher_order_debug = Cell()
    nr_cpus = Cell()  # the present CPUs, or the possible ones if only one is present

    def __init__(self, cmdline: str, pointer: int, cache_line: int) -> None:
        self.cmdline = cmdline
        self.pointer = pointer  # bytes: 4 or 8
        self.cache_line = cache_line
