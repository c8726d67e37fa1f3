"""Caches at one moment, frozen: their slabs, and what became of each object. The same for SLUB and for SLAB.

slab at pfn 6160   objects at byte 64   HHHHcc..      H held, c free in the hands of a CPU, s free in an array that
                                                      CPUs or nodes share, . free in its slab
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.alloc.slab_cache import SlabCache
from kmemlab.alloc.slab_check import slabs_by_cache
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.slab_laws import arrays_of, objects_in_arrays
from kmemlab.alloc.slab_pages import slab_address, slab_nid
from kmemlab.alloc.slab_size import CFLGS_OBJFREELIST_SLAB, CFLGS_OFF_SLAB
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.machine.snapshot import FROZEN
from kmemlab.sim.kernel import invented
from kmemlab.types.units import PAGE_SIZE

HELD, ON_CPU, SHARED, FREE = "H", "c", "s", "."


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class SlabShot:
    """One slab: the first object begins `start` bytes into it, and `objects` has a letter for each."""

    pfn: int
    node: int
    start: int
    objects: str
    index_at: int  # where on the slab the bytes of its freelist lie; -1: nowhere on it


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class CacheShot:
    """One cache; sizes in bytes. Slabs are in the order of their page frames."""

    name: str
    object_size: int
    size: int
    num: int
    order: int
    colour_off: int
    index_place: str
    slabs: tuple[SlabShot, ...]

    @property
    def pages(self) -> int:
        """The pages of all slabs."""
        return len(self.slabs) << self.order

    def count(self, letter: str) -> int:
        """How many objects are in one state: `HELD`, `ON_CPU`, `SHARED` or `FREE`."""
        return sum(slab.objects.count(letter) for slab in self.slabs)

    @property
    def waste(self) -> int:
        """The bytes of its pages that no object can use: padding, what a slab keeps for itself, and what is left."""
        return self.pages * PAGE_SIZE - sum(len(slab.objects) for slab in self.slabs) * self.object_size


@invented(FROZEN)
def cache_shot(cache: KmemCache) -> CacheShot:
    """Freeze a cache."""
    if isinstance(cache, SlabCache):
        return _slab_shot(cache)
    assert isinstance(cache, SlubCache)
    return _slub_shot(cache)


def _slabs_of(cache: KmemCache) -> list[int]:
    """The slabs of a cache, found by their pages, for SLUB keeps full slabs on no list."""
    return sorted(slabs_by_cache(cache.common).get(cache.number, ()))


def _slab_shot(cache: SlabCache) -> CacheShot:
    pages = cache.pages
    in_arrays, cpus = objects_in_arrays(cache), {name for _, name, _ in arrays_of(cache)[: cache.state.nr_cpus]}
    place = "in an object" if cache.flags & CFLGS_OBJFREELIST_SLAB else "on the slab"
    place = "off the slab" if cache.flags & CFLGS_OFF_SLAB else place
    slabs = []
    for slab in _slabs_of(cache):
        letters = ""
        for index in range(cache.num):
            objp = pages.s_mem[slab] + index * cache.size
            array = in_arrays.get(objp)
            held = not cache.engine.object_is_free(cache, objp + cache.obj_offset)
            letters += HELD if held else FREE if array is None else ON_CPU if array in cpus else SHARED
        start, end = slab_address(pages, slab), slab_address(pages, slab) + (PAGE_SIZE << cache.gfporder)
        freelist = pages.freelist[slab]
        index_at = freelist - start if start <= freelist < end else -1
        slabs.append(SlabShot(slab, slab_nid(pages, slab), pages.s_mem[slab] - start, letters, index_at))
    return CacheShot(
        cache.name, cache.object_size, cache.size, cache.num, cache.gfporder, cache.colour_off, place, tuple(slabs)
    )


def _slub_shot(cache: SlubCache) -> CacheShot:
    pages = cache.pages
    slabs = []
    for slab in _slabs_of(cache):
        start = slab_address(pages, slab) + cache.red_left_pad
        free = ON_CPU if pages.frozen[slab] else FREE
        objects = range(start, start + pages.objects[slab] * cache.size, cache.size)
        letters = "".join(free if cache.engine.object_is_free(cache, objp) else HELD for objp in objects)
        slabs.append(SlabShot(slab, slab_nid(pages, slab), cache.red_left_pad, letters, -1))
    return CacheShot(
        cache.name, cache.object_size, cache.size, cache.objects, cache.order, 0, "in the objects", tuple(slabs)
    )


@invented(FROZEN)
def find_cache(common: SlabCommon, name: str) -> KmemCache | None:
    """The cache with a name, or None."""
    return next((cache for cache in common.existing() if cache.name == name), None)
