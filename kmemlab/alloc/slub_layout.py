"""Where what stands in a slot of SLUB, and which addresses are objects at all.

slot   │ left red zone │ object …… │ red zone │ free pointer │ taken by │ freed by │ asked for │ padding │
       └ red_left_pad ─┘           └ object_size             └ get_info_end
                       └ where an object's address points     inuse
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.alloc.kmem_cache import SLAB_KMALLOC, SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU
from kmemlab.alloc.slab_pages import slab_address
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.sim.kernel import invented, kernel


@kernel("mm/slub.c", "freeptr_outside_object", traced=False)
def freeptr_outside_object(cache: SlubCache) -> bool:
    """Whether the free pointer stands behind the object, so that a free object's bytes stay as they are."""
    return cache.offset >= cache.inuse


@kernel("mm/slub.c", "get_info_end", traced=False)
def get_info_end(cache: SlubCache) -> int:
    """Where, from the object on, its red zone and free pointer end."""
    return cache.inuse + cache.pages.pointer if freeptr_outside_object(cache) else cache.inuse


@kernel("mm/slub.c", "size_from_object", traced=False)
def size_from_object(cache: SlubCache) -> int:
    """What of a slot lies from the object on."""
    return cache.size - cache.red_left_pad if cache.flags & SLAB_RED_ZONE else cache.size


@kernel("mm/slub.c", "slub_debug_orig_size", traced=False)
def orig_size_is_kept(cache: SlubCache) -> bool:
    """Whether an object remembers how many bytes kmalloc was asked for."""
    return bool(cache.flags & SLAB_STORE_USER and cache.flags & SLAB_KMALLOC)


@invented("s->flags & __OBJECT_POISON", traced=False)
def objects_are_poisoned(cache: SlubCache) -> bool:
    """Whether free objects are filled with a pattern: not where a constructor or a late reader needs their bytes."""
    return bool(cache.flags & SLAB_POISON and not cache.flags & SLAB_TYPESAFE_BY_RCU and not cache.ctor)


@kernel("mm/slub.c", "check_valid_pointer", traced=False)
def check_valid_pointer(cache: SlubCache, slab: int, obj: int) -> bool:
    """Whether an address is that of an object of the slab, or 0."""
    if not obj:
        return True
    offset = obj - cache.red_left_pad - slab_address(cache.pages, slab)
    return 0 <= offset < cache.pages.objects[slab] * cache.size and offset % cache.size == 0


@kernel("mm/slub.c", "for_each_object", traced=False)
def for_each_object(cache: SlubCache, slab: int) -> Iterator[int]:
    """The objects of a slab, free or not, as they lie."""
    start = slab_address(cache.pages, slab) + cache.red_left_pad
    yield from range(start, start + cache.pages.objects[slab] * cache.size, cache.size)


@kernel("include/linux/slub_def.h", "nearest_obj", traced=False)
def nearest_obj(cache: SlubCache, slab: int, address: int) -> int | None:
    """The object in whose slot an address lies; None behind the last slot."""
    base = slab_address(cache.pages, slab)
    index = (address - base) // cache.size
    return base + index * cache.size + cache.red_left_pad if index < cache.pages.objects[slab] else None
