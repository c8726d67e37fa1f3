"""How large a slot is, and how many pages a slab has: the arithmetic of mm/slub.c.

A slab should hold at least min_objects and waste at most 1/16 of itself, else 1/8, else 1/4; else one object less
is asked for, and so on. Example, size 640 on one CPU (min_objects 8):

    order 0   4096 = 6 ⋅ 640 + 256      too few objects
    order 1   8192 = 12 ⋅ 640 + 512     512 ≤ 8192 / 16, taken: 12 objects
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import (
    DEBUG_METADATA_FLAGS,
    SLAB_CACHE_DMA,
    SLAB_CACHE_DMA32,
    SLAB_DEBUG_FLAGS,
    SLAB_HWCACHE_ALIGN,
    SLAB_KMALLOC,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
    SlubParams,
)
from kmemlab.alloc.slub_def import TRACK_SIZE, SlubCache
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.units import PAGE_SIZE, get_order, round_down, round_up

ARCH_SLAB_MINALIGN = 8  # __alignof__(unsigned long long)
MAX_OBJS_PER_PAGE = 32767  # what the counter of a slab holds
MIN_PARTIAL, MAX_PARTIAL = 5, 10


@kernel("mm/slab_common.c", "calculate_alignment", traced=False)
def calculate_alignment(flags: int, align: int, size: int, cache_line: int, pointer: int) -> int:
    """The alignment of an object: what was asked for, and a cache line or a fraction of it that still holds one.

    >>> calculate_alignment(SLAB_HWCACHE_ALIGN, 0, 20, cache_line=64, pointer=8)
    32
    """
    if flags & SLAB_HWCACHE_ALIGN:
        ralign = cache_line
        while size <= ralign // 2:
            ralign //= 2
        align = max(align, ralign)
    return round_up(max(align, ARCH_SLAB_MINALIGN), pointer)


@kernel("mm/slub.c", "order_objects", traced=False)
def order_objects(order: int, size: int) -> int:
    """How many slots of `size` bytes 2**`order` pages hold (C counts the bytes in 32 bits)."""
    return (PAGE_SIZE << (order & 31) & 0xFFFFFFFF) // size


@kernel("mm/slub.c", "calc_slab_order", formerly=("slab_order",))
def calc_slab_order(params: SlubParams, size: int, min_objects: int, max_order: int, fract_leftover: int) -> int:
    """The lowest order that holds `min_objects` and wastes at most 1/`fract_leftover`; above `max_order`: none does."""
    min_order = params.slub_min_order
    if order_objects(min_order, size) > MAX_OBJS_PER_PAGE:
        return get_order(size * MAX_OBJS_PER_PAGE) - 1
    order = max(min_order, get_order(min_objects * size))
    while order <= max_order:
        slab_size = PAGE_SIZE << order
        if slab_size % size <= slab_size // fract_leftover:
            break
        order += 1
    return order


@kernel("mm/slub.c", "calculate_order")
def calculate_order(params: SlubParams, size: int) -> int | None:
    """How many pages (as an order) a slab of slots of `size` bytes gets; None if no slab can hold even one."""
    max_order = params.slub_max_order
    # The more CPUs take objects at the same time, the more should come out of one slab.
    min_objects = params.slub_min_objects or 4 * (params.nr_cpus.bit_length() + 1)
    min_objects = min(min_objects, order_objects(max_order, size))
    while min_objects > 1:
        for fraction in (16, 8, 4):
            order = calc_slab_order(params, size, min_objects, max_order, fraction)
            if order <= max_order:
                return order
        min_objects -= 1
    order = calc_slab_order(params, size, 1, max_order, 1)
    if order <= max_order:
        return order
    order = calc_slab_order(params, size, 1, MAX_ORDER, 1)
    return order if order < MAX_ORDER else None


@kernel("mm/slub.c", "calculate_sizes")
def calculate_sizes(params: SlubParams, cache: SlubCache) -> bool:
    """Lay out a slot of the cache, then a slab. False where no slab can hold one."""
    flags, object_size, pointer = cache.flags, cache.object_size, params.pointer
    size = round_up(object_size, pointer)
    # A red zone needs at least a word behind the object.
    if flags & SLAB_RED_ZONE and size == object_size:
        size += pointer
    cache.inuse = size
    # A free object must stay as it is where its contents are watched, still read or constructed: the pointer goes
    # behind it.
    keeps = flags & (SLAB_TYPESAFE_BY_RCU | SLAB_POISON) or cache.ctor
    if keeps or (flags & SLAB_RED_ZONE and object_size < pointer):
        cache.offset = size
        size += pointer
    else:
        cache.offset = round_down(object_size // 2, pointer)  # in the middle, where an overrun does not reach
    if flags & SLAB_STORE_USER:
        size += 2 * TRACK_SIZE[pointer]
        if flags & SLAB_KMALLOC:
            size += 4  # how much kmalloc was asked for
    cache.red_left_pad = 0
    if flags & SLAB_RED_ZONE:
        cache.red_left_pad = round_up(pointer, cache.align)
        size += pointer + cache.red_left_pad
    size = round_up(size, cache.align)
    order = calculate_order(params, size)
    if order is None:
        return False
    cache.size, cache.order, cache.objects = size, order, order_objects(order, size)
    cache.min_order = get_order(size)
    cache.allocflags = allocflags(flags) | (gfp_bits.__GFP_COMP if order else 0)
    return cache.objects > 0


@invented("a few lines of SLUB's calculate_sizes, and of SLAB's __kmem_cache_create", traced=False)
def allocflags(flags: int) -> int:
    """What every request of a cache for pages says: from which zones, of which mobility."""
    gfp = 0
    if flags & SLAB_CACHE_DMA:
        gfp |= gfp_bits.GFP_DMA
    if flags & SLAB_CACHE_DMA32:
        gfp |= gfp_bits.GFP_DMA32
    if flags & SLAB_RECLAIM_ACCOUNT:
        gfp |= gfp_bits.__GFP_RECLAIMABLE
    return gfp


@kernel("mm/slub.c", "set_cpu_partial")
def set_cpu_partial(cache: SlubCache) -> None:
    """How many free objects a CPU may keep in partial slabs: fewer of large ones, none where objects are watched."""
    size = cache.size
    nr_objects = 6 if size >= PAGE_SIZE else 24 if size >= 1024 else 52 if size >= 256 else 120
    cache.cpu_partial = 0 if cache.flags & SLAB_DEBUG_FLAGS else nr_objects
    # Slabs are counted, not objects; on average they are half full.
    cache.cpu_partial_slabs = -(-cache.cpu_partial * 2 // cache.objects)


@invented("a few lines of kmem_cache_open", traced=False)
def set_min_partial(cache: SlubCache) -> None:
    """How many partial slabs a node keeps: the larger the objects, the more, for a new slab is dear then."""
    cache.min_partial = max(MIN_PARTIAL, min(MAX_PARTIAL, (cache.size.bit_length() - 1) // 2))


@invented("the first half of kmem_cache_open", traced=False)
def set_geometry(params: SlubParams, cache: SlubCache, flags: int) -> bool:
    """Work out the whole geometry of a cache whose object_size and align are set. False if that can't be done."""
    cache.flags = flags
    if not calculate_sizes(params, cache):
        return False
    # slub_debug=O: rather no debugging than slabs of a higher order.
    if params.disable_higher_order_debug and get_order(cache.size) > get_order(cache.object_size):
        cache.flags &= ~DEBUG_METADATA_FLAGS
        if not calculate_sizes(params, cache):
            return False
    set_min_partial(cache)
    set_cpu_partial(cache)
    return True
