"""How the classic SLAB allocator cuts pages into objects: the arithmetic of mm/slab.c.

A slab needs, besides its objects, one byte an object: in which order they will be handed out. Where those bytes go is
tried in this order:

    in an object   │ obj │ obj │ … │ obj = the bytes │ rest │    the object that is handed out last
    off the slab   │ obj │ obj │ … │ obj │ rest │  ──▶ the bytes, in an object of kmalloc's
    on the slab    │ obj │ obj │ … │ obj │ rest │ the bytes │

The rest is not lost altogether: the slabs of a cache begin their objects at different places in it ("colours"), so that
the first objects of all slabs don't compete for the same lines of the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kmemlab.alloc.kmem_cache import (
    SLAB_NOLEAKTRACE,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
)
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SIZE, round_up

CFLGS_OBJFREELIST_SLAB = 0x40000000
CFLGS_OFF_SLAB = 0x80000000

KMALLOC_MAX_ORDER = MAX_ORDER - 1
SLAB_OBJ_MIN_SIZE = 16  # so that a page has at most 256 objects, and a byte can number them
SLAB_OBJ_MAX_NUM = 255
SLAB_MAX_ORDER_HI = 1
REDZONE_ALIGN = 8
RED_ZONE_SIZE = 8

FreelistCache = Callable[[int], tuple[int, bool] | None]
"""The cache that kmalloc takes so many bytes from: the size of its objects, and whether it keeps its own bytes off its
slabs. None if that cache was not made yet."""


@invented("what C hands from function to function in a half-finished struct kmem_cache")
@dataclass(frozen=True, slots=True)
class SlabRequest:
    """What is known of a cache before its slabs are laid out; sizes in bytes."""

    object_size: int  # what the user asked for
    size: int  # with padding and debugging
    flags: int
    has_ctor: bool
    slab_max_order: int
    freelist_cache: FreelistCache
    init_on_free: bool = False  # nothing may be left in free objects


@invented("the fields of struct kmem_cache that say how a slab is laid out")
@dataclass(frozen=True, slots=True)
class SlabShape:
    """A slab of 2**`gfporder` pages with `num` objects; `left_over` bytes remain for colours."""

    num: int
    gfporder: int
    left_over: int
    placement: int  # CFLGS_…, or 0: on the slab

    def colours(self, colour_off: int) -> int:
        """In how many different places a slab's objects can begin; 0 and 1 both mean that there is no choice.

        C rounds down, so the place that would just use up the rest is never used.
        """
        return self.left_over // colour_off


@kernel("mm/slab.c", "cache_estimate", formerly=("kmem_cache_estimate",), traced=False)
def cache_estimate(gfporder: int, buffer_size: int, placement: int) -> tuple[int, int]:
    """How many objects 2**`gfporder` pages hold, and the bytes that are left over.

    >>> cache_estimate(0, 256, CFLGS_OBJFREELIST_SLAB), cache_estimate(0, 32, 0)
    ((16, 0), (124, 4))
    """
    each = buffer_size if placement else buffer_size + 1
    return divmod(PAGE_SIZE << gfporder, each)


@kernel("mm/slab.c", "calculate_slab_order")
def calculate_slab_order(request: SlabRequest, placement: int) -> SlabShape | None:
    """The lowest order at which at most 1/8 of a slab is left over, up to slab_max_order; None if no order will do.

    >>> calculate_slab_order(SlabRequest(1504, 1504, 0, False, 1, lambda size: None), CFLGS_OBJFREELIST_SLAB)
    SlabShape(num=5, gfporder=1, left_over=672, placement=1073741824)
    """
    best = None
    for gfporder in range(KMALLOC_MAX_ORDER + 1):
        num, left_over = cache_estimate(gfporder, request.size, placement)
        if not num:
            continue
        if num > SLAB_OBJ_MAX_NUM:
            break
        if placement == CFLGS_OFF_SLAB and not off_slab_is_worth_it(request, num):
            continue
        best = SlabShape(num, gfporder, left_over, placement)
        # What can be reclaimed is often asked for where no higher order can be waited for.
        if request.flags & SLAB_RECLAIM_ACCOUNT or gfporder >= request.slab_max_order:
            break
        if left_over * 8 <= PAGE_SIZE << gfporder:
            break
    return best


@invented("the middle of calculate_slab_order", traced=False)
def off_slab_is_worth_it(request: SlabRequest, num: int) -> bool:
    """Whether the bytes of `num` objects are small beside one object, and can be had without going round in circles."""
    cache = request.freelist_cache(num)
    # A cache whose slabs need bytes off the slab could end up asking itself for them.
    if cache is None or cache[1]:
        return False
    return cache[0] <= request.object_size // 2


@kernel("mm/slab.c", "set_objfreelist_slab_cache")
def set_objfreelist_slab_cache(request: SlabRequest) -> SlabShape | None:
    """Keep the bytes in a free object: only where nobody minds what is written into free objects."""
    if request.init_on_free or request.has_ctor or request.flags & SLAB_TYPESAFE_BY_RCU:
        return None
    shape = calculate_slab_order(request, CFLGS_OBJFREELIST_SLAB)
    return shape if shape is not None and shape.num <= request.object_size else None


@kernel("mm/slab.c", "set_off_slab_cache")
def set_off_slab_cache(request: SlabRequest) -> SlabShape | None:
    """Keep the bytes elsewhere, unless what is left over of the slab would hold them anyway."""
    if request.flags & SLAB_NOLEAKTRACE:
        return None
    shape = calculate_slab_order(request, CFLGS_OFF_SLAB)
    return shape if shape is not None and shape.left_over < shape.num else None


@kernel("mm/slab.c", "set_on_slab_cache")
def set_on_slab_cache(request: SlabRequest) -> SlabShape | None:
    """Keep the bytes at the end of the slab, at the cost of room for objects."""
    return calculate_slab_order(request, 0)


@invented("the middle of __kmem_cache_create", traced=False)
def shape_slab(request: SlabRequest) -> SlabShape | None:
    """The first of the three placements that works; None: the objects are too large for any slab (-E2BIG).

    >>> shape_slab(SlabRequest(1 << 23, 1 << 23, 0, False, 1, lambda size: None)) is None
    True
    """
    return set_objfreelist_slab_cache(request) or set_off_slab_cache(request) or set_on_slab_cache(request)


@invented("what __kmem_cache_create works out of an object before it looks at slabs")
@dataclass(frozen=True, slots=True)
class ObjectLayout:
    """One object with its padding: it begins `obj_offset` bytes into a slot of `size` bytes.

    slot   │ red zone 8 │ object …… │ padding │ red zone 8 │ who had it last │
                        └ obj_offset                only with CONFIG_DEBUG_SLAB
    """

    size: int
    align: int
    obj_offset: int
    flags: int


@invented("the lines of __kmem_cache_create below #if FORCED_DEBUG", traced=False)
def forced_debug_flags(size: int, flags: int) -> int:
    """What CONFIG_DEBUG_SLAB adds to a cache: poison; and red zones and user, where they don't double the size."""
    grown = size - 1 + REDZONE_ALIGN + 2 * RED_ZONE_SIZE
    if size < PAGE_SIZE or (size - 1).bit_length() == grown.bit_length():
        flags |= SLAB_RED_ZONE | SLAB_STORE_USER
    return flags if flags & SLAB_TYPESAFE_BY_RCU else flags | SLAB_POISON


@invented("the first half of __kmem_cache_create", traced=False)
def lay_out_object(object_size: int, align: int, flags: int, pointer: int, debug: bool) -> ObjectLayout:
    """Pad an object to words, to its alignment, and to 16 bytes at least; with debugging, put it between red zones.

    >>> lay_out_object(200, 8, 0, pointer=8, debug=False)
    ObjectLayout(size=200, align=8, obj_offset=0, flags=0)
    >>> lay_out_object(200, 8, 0, pointer=8, debug=True).size
    224
    """
    if debug:
        flags = forced_debug_flags(object_size, flags)
    else:
        flags &= ~(SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER)
    size = round_up(object_size, pointer)
    ralign = pointer
    if flags & SLAB_RED_ZONE:
        ralign = REDZONE_ALIGN
        size = round_up(size, REDZONE_ALIGN)
    ralign = max(ralign, align)
    # A red zone of 8 bytes before the object would spoil a larger alignment.
    if ralign > REDZONE_ALIGN:
        flags &= ~(SLAB_RED_ZONE | SLAB_STORE_USER)
    obj_offset = 0
    if flags & SLAB_RED_ZONE:
        obj_offset = RED_ZONE_SIZE
        size += 2 * RED_ZONE_SIZE
    if flags & SLAB_STORE_USER:
        size += REDZONE_ALIGN if flags & SLAB_RED_ZONE else pointer
    size = round_up(size, ralign)
    if size < SLAB_OBJ_MIN_SIZE:
        size = round_up(SLAB_OBJ_MIN_SIZE, ralign)
    return ObjectLayout(size, ralign, obj_offset, flags)


@invented("the numbers that enable_cpucache guesses", traced=False)
def array_cache_sizes(size: int, possible_cpus: int, debug: bool) -> tuple[int, int, int]:
    """(limit, batchcount, shared): what a CPU keeps, moves at a time, and how many batches the CPUs of a node share.

    >>> array_cache_sizes(256, possible_cpus=2, debug=False), array_cache_sizes(8192, possible_cpus=2, debug=False)
    ((120, 60, 8), (8, 4, 0))
    """
    limit = 1 if size > 131072 else 8 if size > PAGE_SIZE else 24 if size > 1024 else 54 if size > 256 else 120
    # Objects that one CPU takes and another gives back pass through the shared array.
    shared = 8 if size <= PAGE_SIZE and possible_cpus > 1 else 0
    if debug:
        limit = min(limit, 32)
    return limit, (limit + 1) // 2, shared
