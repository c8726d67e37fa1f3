"""What the tests of object allocators share: small machines, and a look at memory past the allocator."""

from __future__ import annotations

from typing import Any

from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.slab_create import kmem_cache_create
from kmemlab.alloc.slab_memory import read_number
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.machine.machine import Machine
from kmemlab.types.slab_config import SlabConfig

SMALL = {"e820": [[0, 0x9FBFF, "usable"], [0x100000, 0x7FFFFFF, "usable"]]}
PLAIN = SlabConfig(freelist_hardened=False, freelist_random=False)


def small(cmdline: str = "", slab: SlabConfig = PLAIN, **more: Any) -> Machine:
    """A machine of 128 MiB whose freelists are as they stand in textbooks."""
    return Machine.boot({**SMALL, "cmdline": cmdline, **more}, slab=slab)


def new_cache(common: SlabCommon, name: str = "test", size: int = 256, **more: Any) -> SlubCache:
    cache = kmem_cache_create(common, name, size, **more)
    assert isinstance(cache, SlubCache)
    return cache


def pointer_in(cache: SlubCache, obj: int) -> int:
    """What stands in a free object where the pointer to the next one is."""
    return read_number(cache.pages, obj + cache.offset, cache.pages.pointer)


def partial_of(cache: SlubCache) -> list[int]:
    """The slabs of this CPU's reserve."""
    slab, found = cache.per_cpu.partial[cache.cpu_slab], []
    while slab:
        found.append(slab)
        slab = cache.pages.next[slab]
    return found
