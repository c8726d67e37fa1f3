"""The laws of pools: no element is lost, none is there twice, and who waits has a reason."""

from __future__ import annotations

from typing import NoReturn

from kmemlab.alloc.mempool import Mempool, Mempools, kind_of
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.sim.kernel import invented


@invented("a law is code beside the structure it speaks of", traced=False)
def check_mempools(pools: Mempools) -> None:
    """The reserve is no larger than it should be; what it lacks is with users; the allocator below knows all elements.

    Raises `BrokenLaw` that names the law and the pool.
    """
    seen: dict[tuple[str, int], int] = {}
    for pool in pools.pools:
        if not pool.in_use:
            if any(pool.cells) or any(pool.elements) or any(pool.out) or pool.wait.count:
                _broken(pool, "is not in use, but something is left in it")
            continue
        _check_counts(pool)
        for element in (*pool.reserve(), *pool.with_users()):
            if not kind_of(pool).held(pools.slab, element, pool.pool_data):
                _broken(pool, f"has element {element:#x}, which is free in the allocator below")
            other = seen.setdefault((kind_of(pool).name, element), pool.number)
            if other != pool.number or (*pool.reserve(), *pool.with_users()).count(element) > 1:
                _broken(pool, f"has element {element:#x} twice, or shares it with pool {other}")


def _check_counts(pool: Mempool) -> None:
    if not 0 <= pool.curr_nr <= pool.min_nr:
        _broken(pool, f"has {pool.curr_nr} elements in reserve, and should have {pool.min_nr} at most")
    if any(pool.elements[pool.curr_nr :]) or any(pool.out[pool.nr_out :]):
        _broken(pool, "has elements behind its last one")
    missing = pool.min_nr - pool.curr_nr
    if missing > pool.nr_out + pool.short:
        _broken(pool, f"lacks {missing} elements, but users have only {pool.nr_out}")
    if pool.wait.count and pool.curr_nr:
        _broken(pool, f"has {pool.curr_nr} elements in reserve, and yet tasks wait for one")


def _broken(pool: Mempool, law: str) -> NoReturn:
    raise BrokenLaw(f"pool {pool.number} {law}", where="mempool")
