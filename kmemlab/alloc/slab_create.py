"""Caches by name: made, shared where two want the same, and destroyed when the last user goes.

kmem_cache_create("a", 100, …)  ─▶ a cache "a"
kmem_cache_create("b", 104, …)  ─▶ the same one, if neither has a constructor or needs its slots watched:
                                   104 bytes fit into its slots, and are wasted by less than a pointer
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kmemlab.alloc.kmem_cache import (
    SLAB_ACCOUNT,
    SLAB_CACHE_DMA,
    SLAB_CACHE_DMA32,
    SLAB_DEBUG_FLAGS,
    SLAB_FAILSLAB,
    SLAB_HWCACHE_ALIGN,
    SLAB_MEM_SPREAD,
    SLAB_NOLEAKTRACE,
    SLAB_PANIC,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TRACE,
    SLAB_TYPESAFE_BY_RCU,
    KmemCache,
)
from kmemlab.alloc.slab_bug import Oops
from kmemlab.alloc.slab_common import SLAB_CACHES, SlabCommon, enter_cache, kmem_cache_alloc, kmem_cache_free, new_slot
from kmemlab.alloc.slab_geometry import calculate_alignment
from kmemlab.alloc.slub_params import kmem_cache_flags
from kmemlab.boot.cmdline import bool_option, cmdline_find_option, next_arg, parameq
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head, list_del
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.errno import EINVAL
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import round_up

SLAB_NEVER_MERGE = (
    SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER | SLAB_TRACE | SLAB_TYPESAFE_BY_RCU | SLAB_NOLEAKTRACE | SLAB_FAILSLAB
)
SLAB_MERGE_SAME = SLAB_RECLAIM_ACCOUNT | SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_ACCOUNT
CACHE_CREATE_MASK = (
    SLAB_HWCACHE_ALIGN | SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_PANIC | SLAB_TYPESAFE_BY_RCU | SLAB_DEBUG_FLAGS
    | SLAB_NOLEAKTRACE | SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT
)  # fmt: skip
SLAB_FLAGS_PERMITTED = CACHE_CREATE_MASK | SLAB_MEM_SPREAD


@kernel("mm/slub.c", "kmem_cache_init")
def kmem_cache_init(common: SlabCommon) -> None:
    """Make the first caches, the way the machine's allocator does it; from then on kmalloc works."""
    cmdline = common.params.cmdline
    init_list_head(common.slab_caches, SLAB_CACHES)
    names = [name for name, _ in next_arg(cmdline)]
    common.slab_nomerge = int(any(parameq(name, off) for name in names for off in ("slab_nomerge", "slub_nomerge")))
    poison = bool_option(cmdline_find_option(cmdline, "page_poison"), default=False)
    common.init_on_alloc = int(bool_option(cmdline_find_option(cmdline, "init_on_alloc"), default=True) and not poison)
    common.init_on_free = int(bool_option(cmdline_find_option(cmdline, "init_on_free"), default=False) and not poison)
    common.engine.kmem_cache_init(common)


# -- merging -----------------------------------------------------------------------------------------------------------


@kernel("mm/slab_common.c", "slab_unmergeable", traced=False)
def slab_unmergeable(cache: KmemCache) -> bool:
    """Whether a cache can't take in another one's objects."""
    return bool(
        cache.common.slab_nomerge
        or cache.flags & SLAB_NEVER_MERGE
        or cache.ctor
        or cache.usersize
        or cache.refcount < 0
    )


@kernel("mm/slab_common.c", "find_mergeable")
def find_mergeable(common: SlabCommon, size: int, align: int, flags: int, name: str) -> KmemCache | None:
    """A cache whose slots suit, too: large enough, by less than a pointer too large, and of the same kind of pages."""
    if common.slab_nomerge:
        return None
    pointer = common.params.pointer
    size = round_up(size, pointer)
    align = calculate_alignment(flags, align, size, common.params.cache_line, pointer)
    size = round_up(size, align)
    flags = kmem_cache_flags(common.params, flags, name)
    if flags & SLAB_NEVER_MERGE:
        return None
    for cache in reversed(tuple(common.existing())):
        same_pages = flags & SLAB_MERGE_SAME == cache.flags & SLAB_MERGE_SAME
        if slab_unmergeable(cache) or not same_pages or cache.size % align:
            continue
        if common.engine.name == "SLAB" and (align > cache.align or cache.align % align):
            continue
        if size <= cache.size < size + pointer:
            return cache
    return None


@kernel("mm/slub.c", "__kmem_cache_alias")
def kmem_cache_alias(common: SlabCommon, name: str, size: int, align: int, flags: int) -> KmemCache | None:
    """Share a cache that suits, if there is one. It is then as large as its largest user needs."""
    cache = find_mergeable(common, size, align, flags, name)
    if cache is not None:
        cache.refcount += 1
        cache.object_size = max(cache.object_size, size)
        common.engine.kmem_cache_alias(cache, size)
        common.users.append(f"{cache.address:x} {name}")
    return cache


# -- making ------------------------------------------------------------------------------------------------------------


@kernel("mm/slab_common.c", "kmem_cache_create_usercopy", formerly=("kmem_cache_create",), lock="slab_mutex")
def kmem_cache_create(
    common: SlabCommon,
    name: str,
    size: int,
    align: int = 0,
    flags: int = 0,
    ctor: Callable[[Any, int], None] | None = None,
    useroffset: int = 0,
    usersize: int = 0,
) -> KmemCache | None:
    """Make a cache of objects of `size` bytes, or share one that suits. None if that can't be done.

    `ctor(memory, address)` fills each object once, when its slab is made. Raises `KernelPanic` with SLAB_PANIC.
    """
    if flags & ~SLAB_FLAGS_PERMITTED:
        return creation_failed(common, name, flags, -EINVAL)
    flags &= CACHE_CREATE_MASK
    if size < usersize or size - usersize < useroffset or (useroffset and not usersize):
        usersize = useroffset = 0
    if not usersize and ctor is None:
        cache = kmem_cache_alias(common, name, size, align, flags)
        if cache is not None:
            return cache
    align = calculate_alignment(flags, align, size, common.params.cache_line, common.params.pointer)
    cache = create_cache(common, name, size, align, flags, ctor, useroffset, usersize)
    return creation_failed(common, name, flags, -EINVAL) if cache is None else cache


@kernel("mm/slab_common.c", "create_cache")
def create_cache(
    common: SlabCommon,
    name: str,
    object_size: int,
    align: int,
    flags: int,
    ctor: Callable[[Any, int], None] | None,
    useroffset: int,
    usersize: int,
) -> KmemCache | None:
    """Take a struct for a cache, let the engine work the cache out, and enter it on the list."""
    kmem_cache = common.caches[common.kmem_cache]
    address = kmem_cache_alloc(kmem_cache, gfp_bits.GFP_KERNEL | gfp_bits.__GFP_ZERO)
    if address is None:
        return None
    cache = new_slot(common)
    common.names.append(name)
    cache.name_at = common.names.count
    cache.size = cache.object_size = object_size
    cache.align, cache.useroffset, cache.usersize, cache.address = align, useroffset, usersize, address
    cache.ctor = 1 + common.ctors.add(ctor) if ctor else 0
    if not common.engine.kmem_cache_create(cache, flags):
        empty_slot(cache)
        kmem_cache_free(kmem_cache, address)
        return None
    cache.refcount = 1
    enter_cache(cache)
    common.users.append(f"{address:x} {name}")
    return cache


@invented("the end of kmem_cache_create_usercopy", traced=False)
def creation_failed(common: SlabCommon, name: str, flags: int, error: int) -> None:
    """Say that a cache can't be made. Raises `KernelPanic` where its creator can't live without."""
    if flags & SLAB_PANIC:
        raise KernelPanic(
            f"kmem_cache_create_usercopy: Failed to create slab '{name}'. Error {error}",
            where="kmem_cache_create",
            remedy="ask for flags that exist and for a size that a slab can hold",
        )
    common.mm.boot.printk.info(f"kmem_cache_create_usercopy({name}) failed with error {error}")


@invented("C gives the struct back; ours stay", traced=False)
def empty_slot(cache: KmemCache) -> None:
    """Leave a slot as it was at power-on."""
    for at in range(len(cache.cells)):
        cache.cells[at] = 0


# -- destroying --------------------------------------------------------------------------------------------------------


@kernel("mm/slab_common.c", "kmem_cache_destroy", lock="slab_mutex")
def kmem_cache_destroy(cache: KmemCache, caller: str = "?") -> None:
    """One user of a cache goes; with the last one the cache goes, unless objects are still held."""
    common = cache.common
    cache.refcount -= 1
    if cache.refcount:
        return
    if shutdown_cache(cache):
        common.mm.boot.printk.info(
            f"kmem_cache_destroy {cache.name}: Slab cache still has objects when called from {caller}"
        )
        return
    list_del(common.slab_caches, cache.number)
    common.engine.kmem_cache_release(cache)
    address = cache.address
    empty_slot(cache)
    kmem_cache_free(common.caches[common.kmem_cache], address)


@kernel("mm/slab_common.c", "shutdown_cache", left_out="SLAB_TYPESAFE_BY_RCU: readers that are not done yet")
def shutdown_cache(cache: KmemCache) -> bool:
    """Give back all slabs of a cache. True: objects are left, or the kernel stopped half way."""
    try:
        return cache.engine.kmem_cache_shutdown(cache)
    except Oops:
        return True


@kernel("mm/slab_common.c", "kmem_cache_shrink")
def kmem_cache_shrink(cache: KmemCache) -> int:
    """Give back the slabs of a cache that are empty; 0 if it has none left."""
    try:
        return cache.engine.kmem_cache_shrink(cache)
    except Oops:
        return 1
