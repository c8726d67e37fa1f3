"""Shrinkers: caches of objects give up a part of them when pages are short, in proportion to what the lists give up.

priority 12 … 0      a cache of n objects is asked for n / 2**priority · 4 / seeks, in batches of 128
                     what is left over of a batch is put off (nr_deferred), and added another time
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kmemlab.mm.globals import MAX_SHRINKERS, Mm
from kmemlab.mm.vm_event import SLABS_SCANNED
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import TooLarge

SHRINK_BATCH = 128
DEFAULT_SEEKS = 2  # how dear it is to make an object anew: 0 is for objects that need no I/O
SHRINK_STOP = -1
SHRINK_EMPTY = -2


@kernel("include/linux/shrinker.h", "struct shrink_control", left_out="memcg; looking at fewer than asked for")
@dataclass(frozen=True, slots=True)
class ShrinkControl:
    """What a cache is asked: on whose behalf (`gfp_mask`), objects of which node, how many to look at."""

    gfp_mask: int
    nid: int
    nr_to_scan: int = 0


@kernel("include/linux/shrinker.h", "struct shrinker", left_out="memcg; being freed")
@dataclass(frozen=True, slots=True)
class Shrinker:
    """A cache that can shrink. `count_objects(mm, sc)` says of how many objects it could let go.

    `scan_objects(mm, sc)` looks at `sc.nr_to_scan` of them and returns how many it let go, or SHRINK_STOP.
    """

    name: str
    count_objects: Callable[[Mm, ShrinkControl], int]
    scan_objects: Callable[[Mm, ShrinkControl], int]
    seeks: int = DEFAULT_SEEKS
    batch: int = 0


# Filled when modules are loaded; the place in the list is the row of what is put off, which is state of the machine.
SHRINKERS: list[Shrinker] = []


@kernel("mm/vmscan.c", "register_shrinker", formerly=("set_shrinker",))
def register_shrinker(shrinker: Shrinker) -> None:
    """From now on the cache is asked, too. Raises `TooLarge` when there are too many."""
    if len(SHRINKERS) == MAX_SHRINKERS:
        raise TooLarge(
            f"more than {MAX_SHRINKERS} shrinkers", where=shrinker.name, remedy="unregister those that are done"
        )
    SHRINKERS.append(shrinker)


@kernel("mm/vmscan.c", "unregister_shrinker", formerly=("remove_shrinker",), traced=False)
def unregister_shrinker(shrinker: Shrinker) -> None:
    """The cache is not asked any more."""
    SHRINKERS.remove(shrinker)


@invented("tests and experiments enter a cache for a while", traced=False)
@contextmanager
def registered_shrinker(shrinker: Shrinker) -> Iterator[None]:
    """While this lasts, the cache is asked, too."""
    register_shrinker(shrinker)
    try:
        yield
    finally:
        unregister_shrinker(shrinker)


@invented("the first part of do_shrink_slab", traced=False)
def slab_delta(freeable: int, priority: int, seeks: int) -> int:
    """How many objects of a cache a run at this priority wants.

    >>> slab_delta(10000, 6, 2), slab_delta(4095, 12, 2), slab_delta(10000, 12, 0)
    (312, 0, 5000)
    """
    return (freeable >> priority) * 4 // seeks if seeks else freeable // 2


@kernel("mm/vmscan.c", "do_shrink_slab", formerly=("shrink_slab_node",))
def do_shrink_slab(mm: Mm, gfp: int, nid: int, number: int, priority: int) -> int:
    """Have shrinker `number` let objects of a node go, in batches; what makes no whole batch is put off.

    Returns how many objects it let go.
    """
    shrinker = SHRINKERS[number]
    freeable = shrinker.count_objects(mm, ShrinkControl(gfp, nid))
    if freeable in (0, SHRINK_EMPTY):
        return 0
    row = nid * MAX_SHRINKERS + number
    deferred, mm.nr_deferred[row] = mm.nr_deferred[row], 0
    delta = slab_delta(freeable, priority, shrinker.seeks)
    total_scan = min((deferred >> priority) + delta, 2 * freeable)
    batch, scanned, freed = shrinker.batch or SHRINK_BATCH, 0, 0
    while total_scan >= batch or total_scan >= freeable:
        nr_to_scan = min(batch, total_scan)
        gone = shrinker.scan_objects(mm, ShrinkControl(gfp, nid, nr_to_scan))
        if gone == SHRINK_STOP:
            break
        freed += gone
        mm.vm_event[SLABS_SCANNED] += nr_to_scan
        total_scan -= nr_to_scan
        scanned += nr_to_scan
    mm.nr_deferred[row] += min(max(deferred + delta - scanned, 0), 2 * freeable)
    return freed


@kernel("mm/vmscan.c", "shrink_slab", formerly=("shrink_slab_memcg",), left_out="memcg")
def shrink_slab(mm: Mm, gfp: int, nid: int, priority: int) -> int:
    """Ask all caches; returns how many objects of the node they let go."""
    return sum(do_shrink_slab(mm, gfp, nid, number, priority) for number in range(len(SHRINKERS)))
