"""kmem_cache: one kind of object, and how a slab of them is laid out.

object_size    what the user asked for                    104
size           the slot: with padding and debugging       104 ──▶ rounded up to align
oo             2**order pages hold so many slots          order 0: 39 in 4096 bytes

    slab   │ slot │ slot │ slot │ …                       │ rest │
    slot   │ object …… │ red zone │ free pointer │ who took it, who freed it │ padding │
                         └──────── only where slub_debug or a constructor asks for it ─┘
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell

if TYPE_CHECKING:  # the front knows caches; a cache knows the front only to reach what all caches share
    from kmemlab.alloc.slab_common import SlabCommon, SlabEngine

SLAB_CONSISTENCY_CHECKS = 0x100
SLAB_RED_ZONE = 0x400
SLAB_POISON = 0x800
SLAB_KMALLOC = 0x1000
SLAB_HWCACHE_ALIGN = 0x2000
SLAB_CACHE_DMA = 0x4000
SLAB_CACHE_DMA32 = 0x8000
SLAB_STORE_USER = 0x10000
SLAB_RECLAIM_ACCOUNT = 0x20000
SLAB_PANIC = 0x40000
SLAB_TYPESAFE_BY_RCU = 0x80000
SLAB_MEM_SPREAD = 0x100000
SLAB_TRACE = 0x200000
SLAB_NOLEAKTRACE = 0x800000
SLAB_FAILSLAB = 0x2000000
SLAB_ACCOUNT = 0x4000000

SLAB_DEBUG_FLAGS = SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER | SLAB_TRACE | SLAB_CONSISTENCY_CHECKS
DEBUG_DEFAULT_FLAGS = SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER
DEBUG_METADATA_FLAGS = SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER  # those that make slots larger


@kernel("mm/slab.h", "struct kmem_cache", left_out="sysfs, KASAN; SLUB and SLAB each add their own fields")
class KmemCache(Struct):
    """What both engines know of a cache; sizes in bytes. A slot whose `object_size` is 0 holds no cache."""

    refcount = Cell()  # users of the name; -1: nobody else may share it
    flags = Cell()
    object_size = Cell()
    size = Cell()  # of a slot: object, padding, what debugging keeps
    align = Cell()
    useroffset = Cell()  # which part of an object may be copied to user space
    usersize = Cell()
    ctor = Cell()  # 1 + its number among the constructors; 0: none
    name_at = Cell()  # 1 + its number among the names
    address = U64Cell()  # where C's struct lies: an object of the cache kmem_cache
    init_on_alloc = Cell()  # objects are cleared when they are given out
    nr_held = Cell()  # objects that somebody holds. Ours: C's callers must remember

    def __init__(self, common: SlabCommon, engine: SlabEngine, number: int) -> None:
        self.common = common
        self.engine = engine
        self.number = number
        self.pages = common.pages
        self.current = common.mm.current

    @property
    def name(self) -> str:
        """The name that it was created with; "" for an empty slot."""
        return self.common.names.line(self.name_at - 1) if self.name_at else ""


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
