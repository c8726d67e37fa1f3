"""The machine's commands for pools of elements that are set aside: mempool_create and its like."""

from __future__ import annotations

from kmemlab.alloc.mempool import (
    Mempool,
    mempool_alloc,
    mempool_create,
    mempool_destroy,
    mempool_free,
    mempool_resize,
)
from kmemlab.alloc.mempool_kinds import mempool_kind_number
from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.commands_slab import a_cache
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import PAGE_SIZE

KMALLOC_MAX_SIZE = PAGE_SIZE << MAX_ORDER - 1


@invented("one family of the machine's commands")
class MempoolCommands(Commanded):
    """Pools, known by number.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("tiny-128m")
    >>> pool = machine.mempool_create(2)
    >>> machine.fail_below()  # from now on the page allocator refuses the pool
    >>> first, second = machine.mempool_alloc(pool), machine.mempool_alloc(pool)
    >>> machine.mempool_free(pool, first); machine.mempool_free(pool, second)
    ()
    ()
    >>> machine.kernel.mempools.pools[pool].curr_nr
    2
    """

    kernel: Kernel

    def mempool_create(self, min_nr: int, kind: str = "pages", data: int | str = 0, *, poison: bool = False) -> int:
        """A pool with `min_nr` elements of a kind set aside.

        `data` is for the kind: of "pages" the order, of "kmalloc" the bytes, of "slab" the name of the cache.

        Raises `OutOfMemory` when there are not that many, `BadRequest` for a kind that there is not.
        """
        whole_numbers("mempool_create", min_nr=min_nr, **({} if kind == "slab" else {"data": data}))
        number: int = self._command("mempool_create", min_nr, kind, data, int(poison))
        return number

    def mempool_alloc(self, pool: int, gfp: int = GFP_KERNEL) -> int:
        """An element. Raises `MustWait` where the caller would sleep, `OutOfMemory` where it may not."""
        whole_numbers("mempool_alloc", pool=pool, gfp=gfp)
        element: int = self._command("mempool_alloc", pool, gfp)
        return element

    def mempool_free(self, pool: int, element: int) -> tuple[int, ...]:
        """Give an element back; returns the tasks that waited. Raises `DoubleFree`, `BadRequest`."""
        whole_numbers("mempool_free", pool=pool, element=element)
        woken: tuple[int, ...] = self._command("mempool_free", pool, element)
        return woken

    def mempool_resize(self, pool: int, min_nr: int) -> None:
        """Set another number of elements aside."""
        whole_numbers("mempool_resize", pool=pool, min_nr=min_nr)
        self._command("mempool_resize", pool, min_nr)

    def mempool_destroy(self, pool: int) -> None:
        """Give the reserve back. Raises `BadRequest` while users have elements."""
        whole_numbers("mempool_destroy", pool=pool)
        self._command("mempool_destroy", pool)

    def fail_below(self, interval: int = 1, times: int = -1, space: int = 0) -> None:
        """Let the allocators below pools fail: every `interval`-th request, `times` times, after `space` good ones."""
        whole_numbers("fail_below", interval=interval, times=times, space=space)
        self._command("fail_below", interval, times, space)

    def _do_mempool_create(self, min_nr: int, kind: str, data: int | str, poison: int) -> int:
        number = mempool_kind_number(kind)
        data = a_cache(self.kernel, data).number if isinstance(data, str) else data
        allowed = {"pages": range(MAX_ORDER), "kmalloc": range(1, KMALLOC_MAX_SIZE + 1)}.get(kind)
        if min_nr < 0 or not self.kernel.mm.totalram_pages or (allowed is not None and data not in allowed):
            raise BadRequest(
                f"no pool of {min_nr} elements of {kind} with {data} can be made",
                where="mempool_create",
                remedy=f"boot beyond mem_init; choose 0 or more elements, pages of an order up to {MAX_ORDER - 1}, or "
                f"1 to {KMALLOC_MAX_SIZE} bytes",
            )
        pool = mempool_create(self.kernel.mempools, min_nr, number, data, bool(poison))
        if pool is None:
            raise OutOfMemory(
                f"there are no {min_nr} elements to set aside",
                where="mempool_create",
                remedy="set fewer aside, or free memory",
            )
        return pool.number

    def _do_mempool_alloc(self, pool: int, gfp: int) -> int:
        element = mempool_alloc(self.kernel.mempools, a_pool(self.kernel, pool), gfp)
        if element is None:
            raise OutOfMemory(
                f"pool {pool} is empty, the allocator below has nothing, and the caller may not wait",
                where=f"mempool_alloc(pool {pool}, gfp={gfp:#x})",
                remedy="set more elements aside, or ask with a gfp that may wait (GFP_NOIO, GFP_KERNEL)",
            )
        return element

    def _do_mempool_free(self, pool: int, element: int) -> tuple[int, ...]:
        return mempool_free(self.kernel.mempools, a_pool(self.kernel, pool), element)

    def _do_mempool_resize(self, pool: int, min_nr: int) -> None:
        if min_nr <= 0:
            raise BadRequest(
                "kernel BUG at mm/mempool.c: a pool keeps at least 1 element",
                where=f"mempool_resize({min_nr})",
                remedy="destroy the pool instead",
            )
        mempool_resize(self.kernel.mempools, a_pool(self.kernel, pool), min_nr)

    def _do_mempool_destroy(self, pool: int) -> None:
        mempool_destroy(self.kernel.mempools, a_pool(self.kernel, pool))

    def _do_fail_below(self, interval: int, times: int, space: int) -> None:
        fault = self.kernel.mempools.fault
        fault.interval, fault.times, fault.space, fault.count = interval, times, space, 0


@invented("C has a pointer")
def a_pool(kernel: Kernel, number: int) -> Mempool:
    """The pool with a number. Raises `BadRequest` if there is none."""
    pools = kernel.mempools.pools
    if not 0 <= number < len(pools) or not pools[number].in_use:
        raise BadRequest(f"there is no pool {number}", where="mempool", remedy="take the number from mempool_create")
    return pools[number]
