"""What pools are made of: pairs of functions, known by name, so that a machine's history can name them.

A pair of your own joins by `register_mempool_kind`; it takes and gives numbers (a pfn, an address) and keeps its state
in structs, as everything does that can be rewound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest

AllocFn = Callable[[Mm, int, int], int | None]
FreeFn = Callable[[Mm, int, int], None]


@invented("C passes two pointers to functions and a void *")
@dataclass(frozen=True, slots=True)
class MempoolKind:
    """How elements are had and given back; `held` says whether the allocator below thinks that one is in use.

    `pfns` gives the page frames of an element whose contents may be poisoned; none if it has none.
    """

    name: str
    alloc: AllocFn
    free: FreeFn
    held: Callable[[Mm, int, int], bool]
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
def mempool_alloc_pages(mm: Mm, gfp: int, pool_data: int) -> int | None:
    """An element is a block of 2**pool_data pages."""
    return alloc_pages_inner(mm, gfp, pool_data, mm.numa.cpu_to_node[mm.current.cpu])


@kernel("mm/mempool.c", "mempool_free_pages")
def mempool_free_pages(mm: Mm, element: int, pool_data: int) -> None:
    """Give a block of pages back."""
    free_pages_inner(mm, element, pool_data)


@invented("what C never asks", traced=False)
def pages_held(mm: Mm, element: int, pool_data: int) -> bool:
    """Whether somebody holds the block."""
    return mm.page.owned[element] == 1 + pool_data


@invented("the pages of a block", traced=False)
def pages_of_block(element: int, pool_data: int) -> range:
    """The page frames of a block."""
    return range(element, element + (1 << pool_data))


PAGES = register_mempool_kind(MempoolKind("pages", mempool_alloc_pages, mempool_free_pages, pages_held, pages_of_block))
