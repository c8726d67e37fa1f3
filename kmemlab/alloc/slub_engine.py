"""SLUB as the front sees it."""

from __future__ import annotations

from kmemlab.alloc.slab_common import SlabEngine
from kmemlab.alloc.slub import alloc_bulk, free_bulk, slab_alloc, slab_free
from kmemlab.alloc.slub_cache import (
    get_slabinfo,
    kmem_cache_alias,
    kmem_cache_create,
    kmem_cache_init,
    kmem_cache_release,
    slab_ksize,
)
from kmemlab.alloc.slub_check import check_cache
from kmemlab.alloc.slub_def import new_caches
from kmemlab.alloc.slub_shutdown import (
    call_sites,
    find_object,
    kmem_cache_shrink,
    kmem_cache_shutdown,
    object_is_free,
)

SLUB = SlabEngine(
    name="SLUB",
    kmalloc_shift_low=3,
    kmalloc_flags=0,
    new_caches=new_caches,
    kmem_cache_init=kmem_cache_init,
    kmem_cache_create=kmem_cache_create,
    kmem_cache_alias=kmem_cache_alias,
    slab_alloc=slab_alloc,
    slab_free=slab_free,
    kmem_cache_alloc_bulk=alloc_bulk,
    kmem_cache_free_bulk=free_bulk,
    kmem_cache_shutdown=kmem_cache_shutdown,
    kmem_cache_release=kmem_cache_release,
    kmem_cache_shrink=kmem_cache_shrink,
    get_slabinfo=get_slabinfo,
    slab_ksize=slab_ksize,
    find_object=find_object,
    object_is_free=object_is_free,
    call_sites=call_sites,
    check_cache=check_cache,
)
