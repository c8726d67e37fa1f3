"""/sys/kernel/slab as one table: a row a cache, a column a file."""

from __future__ import annotations

import re

from kmemlab.alloc.kmem_cache import (
    SLAB_CACHE_DMA,
    SLAB_CONSISTENCY_CHECKS,
    SLAB_HWCACHE_ALIGN,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
    KmemCache,
)
from kmemlab.machine.kernel import Kernel
from kmemlab.sim.kernel import invented

REMOTE_NODE_DEFRAG_RATIO = 100  # per cent; kernels without NUMA don't have the file

COLUMNS = (
    "name", "link", "object_size", "slab_size", "objs_per_slab", "order", "cpu_partial", "min_partial",
    "align", "aliases", "reclaim_account", "hwcache_align", "cache_dma", "destroy_by_rcu", "usersize",
    "red_zone", "poison", "store_user", "sanity_checks", "remote_node_defrag_ratio", "objects",
    "total_objects", "slabs", "cpu_slabs", "partial", "objects_partial", "ctor",
)  # fmt: skip


@invented("a table of /sys/kernel/slab is what real machines were saved as")
def slab_table(kernel: Kernel) -> str:
    """kmalloc's caches, in the order of their names. No slab is taken yet, so the counts of slabs and objects are 0."""
    rows = [slab_row(cache, kernel.boot.config.numa) for cache in kernel.slab.existing()]
    rows.sort(key=lambda row: name_key(row["name"]))
    lines = [COLUMNS, *([row[column] for column in COLUMNS] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


@invented("a row of slab_table", traced=False)
def slab_row(cache: KmemCache, numa: bool) -> dict[str, str]:
    """The files of one cache's folder."""
    row = dict.fromkeys(COLUMNS, "0")
    numbers = {
        "object_size": cache.object_size,
        "slab_size": cache.size,
        "objs_per_slab": cache.objects,
        "order": cache.order,
        "cpu_partial": cache.cpu_partial,
        "min_partial": cache.min_partial,
        "align": cache.align,
        "aliases": max(0, cache.refcount - 1),
        "usersize": cache.usersize,
    }
    flags = {
        "reclaim_account": SLAB_RECLAIM_ACCOUNT,
        "hwcache_align": SLAB_HWCACHE_ALIGN,
        "cache_dma": SLAB_CACHE_DMA,
        "destroy_by_rcu": SLAB_TYPESAFE_BY_RCU,
        "red_zone": SLAB_RED_ZONE,
        "poison": SLAB_POISON,
        "store_user": SLAB_STORE_USER,
        "sanity_checks": SLAB_CONSISTENCY_CHECKS,
    }
    row |= {name: str(number) for name, number in numbers.items()}
    row |= {name: str(int(bool(cache.flags & flag))) for name, flag in flags.items()}
    ratio = str(REMOTE_NODE_DEFRAG_RATIO) if numa else "-"
    return row | {"name": cache.name, "link": "-", "ctor": "-", "remote_node_defrag_ratio": ratio}


@invented("names that differ in a number are told in the order of the number", traced=False)
def name_key(name: str) -> list[tuple[int, int | str]]:
    """Sorts `kmalloc-8k` before `kmalloc-16`, as file managers do.

    >>> sorted(["kmalloc-16", "kmalloc-8k", "kmalloc-8"], key=name_key)
    ['kmalloc-8', 'kmalloc-8k', 'kmalloc-16']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]
