"""What pools are made of: pairs of functions, known by name, so that a machine's history can name them.

A pair of your own joins by `register_mempool_kind`; it takes and gives numbers (a pfn, an address) and keeps its state
in structs, as everything does that can be rewound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kmemlab.alloc.kmalloc import kfree, kmalloc
from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.slab_common import SlabCommon, kmem_cache_alloc, kmem_cache_free
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import PAGE_SHIFT

AllocFn = Callable[[SlabCommon, int, int], int | None]
FreeFn = Callable[[SlabCommon, int, int], None]
"""Both get the allocators below (objects, and by `.mm` pages), then gfp or the element, then the pool's `pool_data`."""


@invented("C passes two pointers to functions and a void *")
@dataclass(frozen=True, slots=True)
class MempoolKind:
    """How elements are had and given back; `held` says whether the allocator below thinks that one is in use.

    `pfns` gives the page frames of an element that are poisoned in the reserve; none for objects of caches, as
    slub_debug poisons those.
    """

    name: str
    alloc: AllocFn
    free: FreeFn
    held: Callable[[SlabCommon, int, int], bool]
    pfns: Callable[[int, int], range]


_kinds: list[MempoolKind] = []


@invented("a C module brings its functions along")
def register_mempool_kind(kind: MempoolKind) -> MempoolKind:
    """Make a pair of functions known; a later one of the same name takes its place."""
    for number, known in enumerate(_kinds):
        if known.name == kind.name:
            _kinds[number] = kind
            return kind
    _kinds.append(kind)
    return kind


@invented("C has the pointers themselves", traced=False)
def mempool_kind(number: int) -> MempoolKind:
    """The pair with a number."""
    return _kinds[number]


@invented("C has the pointers themselves", traced=False)
def mempool_kind_number(name: str) -> int:
    """The number of the pair with a name. Raises `BadRequest`."""
    names = [kind.name for kind in _kinds]
    if name not in names:
        raise BadRequest(
            f"no pool can be made of {name!r}", where="mempool_create", remedy=f"choose one of {', '.join(names)}"
        )
    return names.index(name)


@kernel("mm/mempool.c", "mempool_alloc_pages")
def mempool_alloc_pages(common: SlabCommon, gfp: int, pool_data: int) -> int | None:
    """An element is a block of 2**pool_data pages, known by its first page frame."""
    mm = common.mm
    return alloc_pages_inner(mm, gfp, pool_data, mm.numa.cpu_to_node[mm.current.cpu])


@kernel("mm/mempool.c", "mempool_free_pages")
def mempool_free_pages(common: SlabCommon, element: int, pool_data: int) -> None:
    """Give a block of pages back."""
    free_pages_inner(common.mm, element, pool_data)


@invented("what C never asks", traced=False)
def pages_held(common: SlabCommon, element: int, pool_data: int) -> bool:
    """Whether somebody holds the block."""
    return common.mm.page.owned[element] == 1 + pool_data


@invented("the pages of a block", traced=False)
def pages_of_block(element: int, pool_data: int) -> range:
    """The page frames of a block."""
    return range(element, element + (1 << pool_data))


@kernel("mm/mempool.c", "mempool_kmalloc")
def mempool_kmalloc(common: SlabCommon, gfp: int, pool_data: int) -> int | None:
    """An element is pool_data bytes, known by their address."""
    return kmalloc(common, pool_data, gfp)


@kernel("mm/mempool.c", "mempool_kfree")
def mempool_kfree(common: SlabCommon, element: int, pool_data: int) -> None:
    """Give memory of kmalloc back."""
    kfree(common, element)


@kernel("mm/mempool.c", "mempool_alloc_slab")
def mempool_alloc_slab(common: SlabCommon, gfp: int, pool_data: int) -> int | None:
    """An element is an object of the cache number pool_data."""
    return kmem_cache_alloc(common.caches[pool_data], gfp)


@kernel("mm/mempool.c", "mempool_free_slab")
def mempool_free_slab(common: SlabCommon, element: int, pool_data: int) -> None:
    """Give an object back to its cache."""
    kmem_cache_free(common.caches[pool_data], element)


@invented("what C never asks", traced=False)
def object_held(common: SlabCommon, element: int, pool_data: int) -> bool:
    """Whether there is a slab, or a block of kmalloc, where the object lies; a free checks the rest."""
    pfn = element - common.pages.page_offset >> PAGE_SHIFT
    return bool(common.pages.slab_cache[pfn]) or bool(common.mm.page.owned[pfn])


@invented("slub_debug poisons objects", traced=False)
def no_pages(element: int, pool_data: int) -> range:
    """Nothing for a pool to poison."""
    return range(0)


for _kind in (
    MempoolKind("pages", mempool_alloc_pages, mempool_free_pages, pages_held, pages_of_block),
    MempoolKind("kmalloc", mempool_kmalloc, mempool_kfree, object_held, no_pages),
    MempoolKind("slab", mempool_alloc_slab, mempool_free_slab, object_held, no_pages),
):
    register_mempool_kind(_kind)
