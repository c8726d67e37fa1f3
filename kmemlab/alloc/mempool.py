"""mempool: some elements are set aside beforehand, so that whoever may wait always gets one in the end.

mempool_alloc    1. the allocator below, without reclaim and without I/O
                 2. the reserve, its last element                   elements  [ a ][ b ][ c ]   curr_nr 3 of min_nr 4
                 3. the allocator below once more, with all that the caller allows                ▲ taken, and put back
                 4. wait for a mempool_free                                                       here
mempool_free     fills the reserve first; only when that is full does an element go back to the allocator below
"""

from __future__ import annotations

from kmemlab.alloc.fault_inject import FaultAttr, should_fail
from kmemlab.alloc.kmap_local import KmapCtrl
from kmemlab.alloc.mempool_kinds import MempoolKind, mempool_kind
from kmemlab.alloc.mempool_poison import check_element, poison_element
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.wait_queue import WaitQueueHead, add_wait_queue, finish_wait, wake_up
from kmemlab.mm.context import might_sleep, task_comm
from kmemlab.mm.globals import Mm
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.errors import BadRequest, DoubleFree, MustWait, TooLarge

MOST_POOLS = 16
MOST_ELEMENTS = 256


@kernel("include/linux/mempool.h", "struct mempool_s", left_out="the arrays come from kmalloc", formerly=("mempool_t",))
class Mempool(Struct):
    """One pool: `elements[0]` … `elements[curr_nr - 1]` are the reserve.

    Ours are `out` and `out_pid`: which elements are with users, `nr_out` of them, and which task took each.
    """

    in_use = Cell()
    kind = Cell()  # the number of its pair of functions, plus 1
    pool_data = Cell()
    min_nr = Cell()
    curr_nr = Cell()
    nr_out = Cell()
    short = Cell()  # how many elements the reserve lacks since it was made larger
    poisoned = Cell()  # CONFIG_SLUB_DEBUG_ON: what lies in the reserve is marked

    elements: Column
    out: Column
    out_pid: Column

    def __init__(self, number: int) -> None:
        self.number = number
        self.elements = column("Q", MOST_ELEMENTS)
        self.out = column("Q", MOST_ELEMENTS)
        self.out_pid = column("q", MOST_ELEMENTS)
        self.wait = WaitQueueHead()

    def reserve(self) -> tuple[int, ...]:
        """The elements set aside, the one that is taken next last."""
        return tuple(self.elements[: self.curr_nr])

    def with_users(self) -> tuple[int, ...]:
        """The elements that users have."""
        return tuple(self.out[: self.nr_out])


@invented("C allocates each pool with kzalloc")
class Mempools(Struct):
    """All pools of the machine, and what makes the allocators below them fail."""

    def __init__(self, ctrl: KmapCtrl, slab: SlabCommon) -> None:
        self.ctrl = ctrl
        self.slab = slab
        self.mm: Mm = ctrl.mm
        self.fault = FaultAttr()
        self.pools = tuple(Mempool(number) for number in range(MOST_POOLS))


@invented("C calls pool->alloc; tests let it fail here")
def alloc_below(pools: Mempools, pool: Mempool, gfp: int) -> int | None:
    """Ask the allocator below for an element."""
    if should_fail(pools.fault, 1):
        return None
    return kind_of(pool).alloc(pools.slab, gfp, pool.pool_data)


@invented("C keeps pointers to the two functions", traced=False)
def kind_of(pool: Mempool) -> MempoolKind:
    """The pair of functions that a pool was made with."""
    return mempool_kind(pool.kind - 1)


@kernel("mm/mempool.c", "add_element", left_out="KASAN")
def add_element(pools: Mempools, pool: Mempool, element: int) -> None:
    """Put an element on top of the reserve."""
    assert pool.curr_nr < pool.min_nr
    if pool.poisoned:
        poison_element(pools.ctrl, kind_of(pool), element, pool.pool_data)
    pool.elements[pool.curr_nr] = element
    pool.curr_nr += 1


@kernel("mm/mempool.c", "remove_element", left_out="KASAN")
def remove_element(pools: Mempools, pool: Mempool) -> int:
    """Take the last element of the reserve."""
    assert pool.curr_nr > 0
    pool.curr_nr -= 1
    element = pool.elements[pool.curr_nr]
    pool.elements[pool.curr_nr] = 0
    if pool.poisoned:
        check_element(pools.ctrl, kind_of(pool), element, pool.pool_data, pool.number, pool.curr_nr)
    return element


@kernel("mm/mempool.c", "mempool_create", formerly=("mempool_create_node", "mempool_init_node", "mempool_init"))
def mempool_create(pools: Mempools, min_nr: int, kind: int, pool_data: int, poison: bool = False) -> Mempool | None:
    """A pool with `min_nr` elements set aside; None if the allocator below has not that many."""
    pool = next((pool for pool in pools.pools if not pool.in_use), None)
    if pool is None or min_nr > MOST_ELEMENTS:
        raise TooLarge(
            f"this machine has {MOST_POOLS} pools of at most {MOST_ELEMENTS} elements",
            where="mempool_create",
            remedy="destroy a pool, or set fewer elements aside",
        )
    pool.in_use, pool.kind, pool.pool_data, pool.poisoned = 1, kind + 1, pool_data, int(poison)
    pool.min_nr = min_nr
    while pool.curr_nr < pool.min_nr:
        element = alloc_below(pools, pool, gfp_bits.GFP_KERNEL)
        if element is None:
            mempool_exit(pools, pool)
            return None
        add_element(pools, pool, element)
    return pool


@kernel("mm/mempool.c", "mempool_exit")
def mempool_exit(pools: Mempools, pool: Mempool) -> None:
    """Give the reserve back to the allocator below."""
    while pool.curr_nr:
        kind_of(pool).free(pools.slab, remove_element(pools, pool), pool.pool_data)
    pool.in_use = pool.kind = pool.pool_data = pool.min_nr = pool.short = pool.poisoned = 0


@kernel("mm/mempool.c", "mempool_destroy")
def mempool_destroy(pools: Mempools, pool: Mempool) -> None:
    """Give the reserve back and forget the pool.

    Raises `BadRequest` while users have elements: up to 3.x a BUG_ON found that, since then nobody does.
    """
    if pool.nr_out:
        who = sorted({pool.out_pid[at] for at in range(pool.nr_out)})
        shown = ", ".join(f"{element:#x}" for element in pool.with_users()[:4])
        raise BadRequest(
            f"{pool.nr_out} elements of pool {pool.number} ({kind_of(pool).name}) are still with users: {shown}"
            f"{' …' if pool.nr_out > 4 else ''}, taken by pid {', '.join(map(str, who))}",
            where="mempool_destroy",
            remedy="give each back with mempool_free before the pool goes",
        )
    wake_up(pool.wait)
    mempool_exit(pools, pool)


@kernel(
    "mm/mempool.c",
    "mempool_resize",
    left_out="races; who waits finds new elements when its 5 seconds are over: here it is woken at once",
    lock="pool->lock",
)
def mempool_resize(pools: Mempools, pool: Mempool, new_min_nr: int) -> None:
    """Set more or fewer elements aside. What can't be had now, later frees will put there."""
    if new_min_nr > MOST_ELEMENTS:
        raise TooLarge(
            f"a pool has at most {MOST_ELEMENTS} elements here", where="mempool_resize", remedy="set fewer aside"
        )
    might_sleep(pools.mm.current, "mm/mempool.c")
    if new_min_nr <= pool.min_nr:
        while new_min_nr < pool.curr_nr:
            kind_of(pool).free(pools.slab, remove_element(pools, pool), pool.pool_data)
        pool.min_nr = new_min_nr
    else:
        pool.min_nr = new_min_nr
        while pool.curr_nr < pool.min_nr:
            element = alloc_below(pools, pool, gfp_bits.GFP_KERNEL)
            if element is None:
                break
            add_element(pools, pool, element)
            wake_up(pool.wait)
    pool.short = max(0, pool.min_nr - pool.curr_nr - pool.nr_out)


@kernel("mm/mempool.c", "mempool_alloc", lock="pool->lock")
def mempool_alloc(pools: Mempools, pool: Mempool, gfp: int) -> int | None:
    """An element; None only for a caller that may not wait. It is not cleared.

    Raises `MustWait` where C sleeps: the allocator below has nothing, and the reserve is empty.
    """
    if gfp & gfp_bits.__GFP_DIRECT_RECLAIM:
        might_sleep(pools.mm.current, "include/linux/sched/mm.h")
    finish_wait(pool.wait, pools.mm.current.pid)
    # The reserve must stand in for the emergency reserves of the zones, and failing is no reason to complain.
    gfp |= gfp_bits.__GFP_NOMEMALLOC | gfp_bits.__GFP_NORETRY | gfp_bits.__GFP_NOWARN
    gentle = gfp & ~(gfp_bits.__GFP_DIRECT_RECLAIM | gfp_bits.__GFP_IO)
    for gfp_temp in dict.fromkeys((gentle, gfp)):
        element = alloc_below(pools, pool, gfp_temp)
        if element is None and pool.curr_nr:
            element = remove_element(pools, pool)
        if element is not None:
            give_out(pools, pool, element)
            return element
    if gfp & gfp_bits.__GFP_DIRECT_RECLAIM:
        wait_for_element(pools, pool)
    return None


@invented("C keeps no list of what users have", traced=False)
def give_out(pools: Mempools, pool: Mempool, element: int) -> None:
    """Note that the running task has an element."""
    if pool.nr_out == MOST_ELEMENTS:
        kind_of(pool).free(pools.slab, element, pool.pool_data)
        raise TooLarge(
            f"users have {MOST_ELEMENTS} elements of pool {pool.number}", where="mempool_alloc", remedy="free some"
        )
    pool.out[pool.nr_out], pool.out_pid[pool.nr_out] = element, pools.mm.current.pid
    pool.nr_out += 1


@invented("C sleeps here, 5 seconds at most before it tries again")
def wait_for_element(pools: Mempools, pool: Mempool) -> None:
    """Put the task in the pool's row of those who wait. Raises `MustWait`, which says who has the elements."""
    current = pools.mm.current
    add_wait_queue(pool.wait, current.pid)
    who = ", ".join(str(pid) for pid in sorted(set(pool.out_pid[: pool.nr_out])))
    raise MustWait(
        f"pool {pool.number} is empty and the allocator below has nothing: {task_comm(current)} (pid {current.pid}) "
        f"sleeps; {f'users have {pool.nr_out} elements (pid {who})' if pool.nr_out else 'nobody has an element'}",
        where="mempool_alloc",
        remedy="give an element back with mempool_free, then ask again; or free memory below",
    )


@kernel("mm/mempool.c", "mempool_free", left_out="memory barriers", lock="pool->lock")
def mempool_free(pools: Mempools, pool: Mempool, element: int) -> tuple[int, ...]:
    """Give an element back: to the reserve if that is not full; returns the tasks that this wakes.

    Raises `DoubleFree` for an element of the reserve, `BadRequest` for one that is not of this pool.
    """
    take_back(pool, element)
    if pool.curr_nr < pool.min_nr:
        add_element(pools, pool, element)
        pool.short = min(pool.short, max(0, pool.min_nr - pool.curr_nr - pool.nr_out))
        return wake_up(pool.wait)
    kind_of(pool).free(pools.slab, element, pool.pool_data)
    return ()


@invented("C keeps no list of what users have: it would take any pointer", traced=False)
def take_back(pool: Mempool, element: int) -> None:
    """Note that no user has an element any more."""
    users = pool.with_users()
    if element not in users:
        where = f"mempool_free({element:#x}, pool {pool.number})"
        if element in pool.reserve():
            raise DoubleFree(f"{element:#x} lies in the reserve already", where=where, remedy="free each element once")
        raise BadRequest(
            f"pool {pool.number} has given out no element {element:#x}",
            where=where,
            remedy="free what mempool_alloc of this pool returned, once",
        )
    at, last = users.index(element), pool.nr_out - 1
    pool.out[at], pool.out_pid[at] = pool.out[last], pool.out_pid[last]
    pool.out[last] = pool.out_pid[last] = 0
    pool.nr_out = last
