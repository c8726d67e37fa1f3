"""/sys/kernel/slab as one table: a row a cache, a column a file. Only SLUB has it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kmemlab.alloc.kmem_cache import (
    SLAB_ACCOUNT,
    SLAB_CACHE_DMA,
    SLAB_CACHE_DMA32,
    SLAB_CONSISTENCY_CHECKS,
    SLAB_HWCACHE_ALIGN,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
)
from kmemlab.alloc.slab_create import slab_unmergeable
from kmemlab.alloc.slab_pages import slab_nid
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.alloc.slub_partial import count_partial_free, nodes_of, slabs_on
from kmemlab.machine.kernel import Kernel
from kmemlab.sim.kernel import invented, kernel

REMOTE_NODE_DEFRAG_RATIO = 100  # per cent; kernels without NUMA don't have the file
UNIQUE_ID_LETTERS = (
    ("d", SLAB_CACHE_DMA),
    ("D", SLAB_CACHE_DMA32),
    ("a", SLAB_RECLAIM_ACCOUNT),
    ("F", SLAB_CONSISTENCY_CHECKS),
    ("A", SLAB_ACCOUNT),
)

COLUMNS = (
    "name", "link", "object_size", "slab_size", "objs_per_slab", "order", "cpu_partial", "min_partial",
    "align", "aliases", "reclaim_account", "hwcache_align", "cache_dma", "destroy_by_rcu", "usersize",
    "red_zone", "poison", "store_user", "sanity_checks", "remote_node_defrag_ratio", "objects",
    "total_objects", "slabs", "cpu_slabs", "partial", "objects_partial", "ctor",
)  # fmt: skip


@invented("a table of /sys/kernel/slab is what real machines were saved as")
def slab_table(kernel: Kernel) -> str:
    """All caches and the links to those that are shared, in the order of their names."""
    rows = [row for cache in kernel.slab.existing() if isinstance(cache, SlubCache) for row in slab_rows(kernel, cache)]
    rows.sort(key=lambda row: name_key(row["name"]))
    lines = [COLUMNS, *([row[column] for column in COLUMNS] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


@kernel("mm/slub.c", "sysfs_slab_add", traced=False)
def slab_rows(kernel: Kernel, cache: SlubCache) -> Iterator[dict[str, str]]:
    """A cache's folder; one that may be shared is named by what it is, and each user's name is a link to it."""
    row = slab_row(cache, kernel.boot.config.numa)
    if slab_unmergeable(cache):
        yield row | {"name": cache.name}
        return
    unique_id = create_unique_id(cache)
    yield row | {"name": unique_id}
    for name in kernel.slab.users_of(cache):
        yield row | {"name": name, "link": unique_id}


@kernel("mm/slub.c", "create_unique_id", traced=False)
def create_unique_id(cache: SlubCache) -> str:
    """What two caches must have in common to be shared, as a name: `:A-0000064`."""
    letters = "".join(letter for letter, flag in UNIQUE_ID_LETTERS if cache.flags & flag)
    return f":{letters}{'-' if letters else ''}{cache.size:07}"


@invented("the files of one cache's folder", traced=False)
def slab_row(cache: SlubCache, numa: bool) -> dict[str, str]:
    """What stands in each file: geometry, switches, then what there is of slabs and objects."""
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
    row |= {name: by_node(counts, numa) for name, counts in slab_counts(cache).items()}
    ctor = cache.common.ctors[cache.ctor - 1].__name__ if cache.ctor else "-"
    return row | {"link": "-", "ctor": ctor, "remote_node_defrag_ratio": str(REMOTE_NODE_DEFRAG_RATIO) if numa else "-"}


@kernel("mm/slub.c", "show_slab_objects", traced=False)
def slab_counts(cache: SlubCache) -> dict[str, dict[int, int]]:
    """Slabs and objects of each node; objects that are free in CPUs' slabs count as in use."""
    pages, per_node = cache.pages, cache.per_node
    nodes = tuple(nodes_of(cache))
    total = {nid: per_node.total_objects[cache.node + nid] for nid in nodes}
    counts = {
        "objects": {nid: total[nid] - count_partial_free(cache, nid) for nid in nodes},
        "total_objects": total,
        "slabs": {nid: per_node.nr_slabs[cache.node + nid] for nid in nodes},
        "cpu_slabs": dict.fromkeys(nodes, 0),
        "partial": {nid: per_node.nr_partial[cache.node + nid] for nid in nodes},
        "objects_partial": {nid: sum(pages.inuse[slab] for slab in slabs_on(cache, nid)) for nid in nodes},
    }
    for row in range(cache.cpu_slab, cache.cpu_slab + cache.per_cpu.nr_cpus):
        slab, reserve = cache.per_cpu.slab[row], cache.per_cpu.partial[row]
        if slab:
            counts["cpu_slabs"][slab_nid(pages, slab)] += 1
        if reserve:
            counts["cpu_slabs"][slab_nid(pages, reserve)] += pages.slabs[reserve]
    return counts


@invented("the end of show_slab_objects", traced=False)
def by_node(counts: dict[int, int], numa: bool) -> str:
    """The sum, and on kernels with NUMA what each node has of it.

    >>> by_node({0: 64, 1: 192}, numa=True), by_node({0: 0}, numa=True)
    ('256 N0=64 N1=192', '0')
    """
    nodes = "".join(f" N{nid}={count}" for nid, count in counts.items() if count) if numa else ""
    return f"{sum(counts.values())}{nodes}"


@invented("names that differ in a number are told in the order of the number", traced=False)
def name_key(name: str) -> list[tuple[int, int | str]]:
    """Sorts `kmalloc-8k` before `kmalloc-16`, as file managers do.

    >>> sorted(["kmalloc-16", "kmalloc-8k", "kmalloc-8"], key=name_key)
    ['kmalloc-8', 'kmalloc-8k', 'kmalloc-16']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]
