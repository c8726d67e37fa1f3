"""The freelist of a slab: one byte an object says in which order objects are handed out.

    active = 3          ┌── taken ──┐ ┌── free ───┐
    freelist            │ 0   1   2 │ 3   4   5   │    the next one taken is object freelist[active]
                        └───────────┘ └───────────┘
    object 1 comes back │ 0   1   1 │ 3   4   5   │    active = 2, freelist[2] = 1: it will be taken next

The bytes before `active` mean nothing. Older kernels kept a number in each object's place instead (kmem_bufctl_t, a
chain through the free objects), four bytes an object.
"""

from __future__ import annotations

from kmemlab.alloc.slab_cache import SIZE, SlabCache
from kmemlab.alloc.slab_debug_old import check_double_free
from kmemlab.sim.kernel import invented, kernel


@kernel("mm/slab.c", "get_free_obj", formerly=("slab_bufctl",), traced=False)
def get_free_obj(cache: SlabCache, slab: int, idx: int) -> int:
    """Which object stands at place `idx` of a slab's freelist."""
    pages = cache.pages
    paddr = pages.freelist[slab] + idx - pages.page_offset
    # RAM is read by words of 8 bytes: of these, the one that holds the byte.
    return pages.ram.read(paddr & ~7) >> 8 * (paddr & 7) & 0xFF


@kernel("mm/slab.c", "set_free_obj", traced=False)
def set_free_obj(cache: SlabCache, slab: int, idx: int, objnr: int) -> None:
    """Write an object's number at place `idx` of a slab's freelist."""
    pages = cache.pages
    paddr = pages.freelist[slab] + idx - pages.page_offset
    word, shift = paddr & ~7, 8 * (paddr & 7)
    pages.ram.write(word, pages.ram.read(word) & ~(0xFF << shift) | objnr << shift)


@kernel("mm/slab.c", "index_to_obj", traced=False)
def index_to_obj(cache: SlabCache, slab: int, idx: int) -> int:
    """The address of the slot of object `idx`; with debugging the object begins `obj_offset` later."""
    return cache.pages.s_mem[slab] + cache.size * idx


@kernel("include/linux/slab_def.h", "obj_to_index", left_out="the division by multiplication", traced=False)
def obj_to_index(cache: SlabCache, slab: int, objp: int) -> int:
    """Which object of its slab an address is in."""
    return (objp - cache.pages.s_mem[slab]) // cache.size


@kernel("mm/slab.c", "slab_get_obj", traced=False)
def slab_get_obj(cache: SlabCache, slab: int) -> int:
    """Take the next free object of a slab that has one."""
    pages = cache.pages
    active = pages.inuse[slab]
    pages.inuse[slab] = active + 1
    return pages.s_mem[slab] + cache.cells[SIZE] * get_free_obj(cache, slab, active)


@kernel("mm/slab.c", "slab_put_obj", traced=False)
def slab_put_obj(cache: SlabCache, slab: int, objp: int) -> None:
    """Give an object back to its slab: it is the next one that the slab gives."""
    pages = cache.pages
    objnr = (objp - pages.s_mem[slab]) // cache.cells[SIZE]
    if cache.state.debug:
        check_double_free(cache, objp, objnr, slab_free_objects(cache, slab))
    active = pages.inuse[slab] - 1
    pages.inuse[slab] = active
    # A full slab whose list lay in an object has no list. This object is free now, and taken last: it carries the list.
    if not pages.freelist[slab]:
        pages.freelist[slab] = objp + cache.obj_offset
    set_free_obj(cache, slab, active, objnr)


@invented("the loop of slab_put_obj's check", traced=False)
def slab_free_objects(cache: SlabCache, slab: int) -> list[int]:
    """The numbers of a slab's free objects, the one that is taken next first."""
    return [get_free_obj(cache, slab, idx) for idx in range(cache.pages.inuse[slab], cache.num)]
