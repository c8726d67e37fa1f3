"""Freelists of SLUB: the list of free objects stands in the free objects themselves.

    freelist ──▶ [ object 5: …│ptr│… ] ──▶ [ object 2: …│ptr│… ] ──▶ 0
                              ▲
                    cache.offset: in the middle, where an overrun of the neighbour doesn't reach first

What stands there (CONFIG_SLAB_FREELIST_HARDENED):

    stored = pointer ^ cache.random ^ swab(address of the pointer)

Who overwrites it without knowing the random number sends the kernel to a random address, not to one of his choice.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.alloc.slab_bug import BAD_POINTER, DOUBLE_FREE, Oops, bug_at
from kmemlab.alloc.slab_common import get_random_u32, get_random_u64, report_bug
from kmemlab.alloc.slab_memory import read_number
from kmemlab.alloc.slab_pages import slab_address
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.hardware.ram import WORDS
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SHIFT

OFFSET, RANDOM = SlubCache.offset.index, SlubCache.random.index
from_bytes = int.from_bytes
WORD_IN_PAGE = WORDS - 1


@kernel("mm/slub.c", "freelist_ptr", traced=False)
def freelist_ptr(cache: SlubCache, pointer: int, address: int) -> int:
    """A pointer as it stands in an object at `address`, or the way back: mixing twice undoes it."""
    random = cache.cells[RANDOM]
    if not random:
        return pointer
    return pointer ^ random ^ from_bytes(address.to_bytes(cache.pointer, "little"), "big")


@kernel("mm/slub.c", "get_freepointer", traced=False)
def get_freepointer(cache: SlubCache, obj: int) -> int:
    """The free object behind a free object; 0 behind the last. Raises `Oops` if `obj` is no address of RAM."""
    address = obj + cache.cells[OFFSET]
    pages = cache.pages
    paddr = address - pages.page_offset
    pfn = paddr >> PAGE_SHIFT
    if not 0 <= pfn < pages.max_pfn:
        raise general_protection_fault(cache, obj)
    ram = pages.ram
    if cache.pointer == 8:
        stored = ram.words[ram.place[pfn] * WORDS + (paddr >> 3 & WORD_IN_PAGE)]
    else:
        stored = ram.read(paddr, 4)
    return freelist_ptr(cache, stored, address)


@kernel("mm/slub.c", "set_freepointer", traced=False)
def set_freepointer(cache: SlubCache, obj: int, following: int) -> None:
    """Let a free object name the next one.

    Raises `Oops` if the object would follow itself: that is a double free, as the hardened kernel finds it.
    """
    if obj == following and cache.common.freelist_hardened:
        raise freed_twice_in_a_row(cache, obj)
    address = obj + cache.cells[OFFSET]
    pages = cache.pages
    stored = freelist_ptr(cache, following, address)
    paddr = address - pages.page_offset
    ram = pages.ram
    if cache.pointer == 8:
        ram.words[ram.place[paddr >> PAGE_SHIFT] * WORDS + (paddr >> 3 & WORD_IN_PAGE)] = stored
    else:
        ram.write(paddr, stored, 4)


@invented("BUG_ON(object == fp)", traced=False)
def freed_twice_in_a_row(cache: SlubCache, obj: int) -> Oops:
    """What stops the kernel when an object is freed that was also the last one freed."""
    report_bug(cache, DOUBLE_FREE, f"object {obj:#x} of {cache.name} was freed twice in a row", obj)
    return bug_at(cache.common.mm.boot.printk, "mm/slub.c:419", f"object {obj:#x} would follow itself on the freelist")


@invented("what the CPU does at an address that is none", traced=False)
def general_protection_fault(cache: SlubCache, obj: int) -> Oops:
    """What stops the kernel when a pointer in a free object was overwritten, and is followed."""
    printk = cache.common.mm.boot.printk
    where = f"0x{obj:0{2 * cache.pages.pointer}x}"
    if cache.pages.pointer == 8:
        printk.info(f"general protection fault, probably for non-canonical address {where}: 0000 [#1] PREEMPT SMP")
    else:
        printk.info(f"BUG: unable to handle page fault for address: {obj:08x}")
    what = f"the freelist of {cache.name} leads to {where}, where no memory is: somebody wrote into a free object"
    report_bug(cache, BAD_POINTER, what, obj)
    return Oops(what, where="get_freepointer", remedy="boot with slub_debug=FZP to find who writes behind or after it")


@invented("C follows a list to its end, and for ever where it is a circle", traced=False)
def free_objects(cache: SlubCache, first: int, limit: int) -> Iterator[int]:
    """The objects of a freelist, at most `limit` + 1: one more than can be free says that the list is a circle."""
    obj = first
    for _ in range(limit + 1):
        if not obj:
            return
        yield obj
        obj = get_freepointer(cache, obj)


# -- the order of a new slab's objects ---------------------------------------------------------------------------------


@kernel("mm/slab_common.c", "freelist_randomize", traced=False)
def freelist_randomize(cache: SlubCache, count: int) -> list[int]:
    """0 … count - 1 in a random order (Fisher-Yates)."""
    order = list(range(count))
    for at in range(count - 1, 0, -1):
        other = get_random_u32(cache.common) % (at + 1)
        order[at], order[other] = order[other], order[at]
    return order


@kernel("mm/slub.c", "next_freelist_entry", traced=False)
def next_freelist_entries(cache: SlubCache, slab: int, start: int) -> Iterator[int]:
    """The objects of a slab in the cache's random order, from a random place of it on."""
    pages = cache.pages
    count = cache.objects
    limit = pages.objects[slab] * cache.size
    at = get_random_u32(cache.common) % count
    for step in range(count):
        offset = read_number(pages, cache.random_seq + 4 * ((at + step) % count), 4)
        # A slab of the lower order has fewer objects than the sequence.
        if offset < limit:
            yield start + offset


@kernel("mm/slub.c", "shuffle_freelist", traced=False)
def objects_in_order(cache: SlubCache, slab: int) -> Iterator[int]:
    """The objects of a new slab in the order in which its freelist shall have them."""
    pages = cache.pages
    start = slab_address(pages, slab) + cache.red_left_pad
    count, size = pages.objects[slab], cache.size
    if count < 2 or not cache.random_seq:
        yield from range(start, start + count * size, size)
    else:
        yield from next_freelist_entries(cache, slab, start)


@invented("s->random = get_random_long(), a line of kmem_cache_open", traced=False)
def set_random(cache: SlubCache) -> None:
    """Choose what the pointers of a cache are mixed with."""
    bits = 8 * cache.pages.pointer - 1  # one less than in C, so that it is never negative in a cell
    cache.random = (get_random_u64(cache.common) >> 64 - bits) | 1 if cache.common.freelist_hardened else 0
