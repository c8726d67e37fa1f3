"""struct array_cache: a stack of free objects, so that most requests need no list, no lock and no slab.

    each CPU's own      avail 3 of limit 120     │ obj │ obj │ obj │ ← taken from here, given back to here
    shared on a node    avail 60 of limit 480    what one CPU has too much of, another takes from here
    alien               avail 2 of limit 12      objects of another node's slabs, on their way home

C gets each array from kmalloc or as per-CPU memory. Here all lie side by side in one column, and an array cache is the
number of its place, an int.
"""

from __future__ import annotations

from kmemlab.alloc.slab_pages import NR_CACHES
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Struct

ENTRIES = 512
"""Room in each array: the largest that boot makes has 480 (8 batches of 60)."""

BOOT_CPUCACHE_ENTRIES = 1
NO_BATCH = 0xBAADF00D - (1 << 32)
"""0xbaadf00d as an int: the batchcount of arrays that nobody refills from slabs. Who ever used it would notice."""


@kernel("mm/slab.c", "struct array_cache", left_out="the memory that kmalloc gives for the entries holds nothing here")
class ArrayCaches(Struct):
    """The array caches of all caches: first those of CPUs, then the shared ones of nodes, then the aliens.

    Array cache `ac` has its objects in entry[ac * ENTRIES …], `avail` of them; the last is the one that is taken next.
    `address` is where C's struct lies, 0 where there is none (an array of a CPU: 1, for that is per-CPU memory).
    """

    avail: Column
    limit: Column
    batchcount: Column
    touched: Column
    address: Column
    entry: Column

    def __init__(self, nr_cpus: int, nr_nodes: int) -> None:
        self.nr_cpus = nr_cpus
        self.nr_nodes = nr_nodes
        self.first_shared = NR_CACHES * nr_cpus
        self.first_alien = self.first_shared + NR_CACHES * nr_nodes
        arrays = self.first_alien + NR_CACHES * nr_nodes * nr_nodes
        self.avail = column("i", arrays)
        self.limit = column("i", arrays)
        self.batchcount = column("i", arrays)
        self.touched = column("B", arrays)
        self.address = column("Q", arrays)
        self.entry = column("Q", arrays * ENTRIES)

    def shared(self, cache: int, node: int) -> int:
        """The place of the array that the CPUs of a node share."""
        return self.first_shared + cache * self.nr_nodes + node

    def alien(self, cache: int, node: int, home: int) -> int:
        """The place of the array in which node `node` collects objects of node `home`."""
        return self.first_alien + (cache * self.nr_nodes + node) * self.nr_nodes + home


@kernel("mm/slab.c", "init_arraycache")
def init_arraycache(arrays: ArrayCaches, ac: int, address: int, limit: int, batch: int) -> None:
    """Make an array cache that lies at `address` empty, with room for `limit` objects."""
    arrays.address[ac] = address
    arrays.avail[ac] = 0
    arrays.limit[ac] = limit
    arrays.batchcount[ac] = batch
    arrays.touched[ac] = 0


@invented("C follows pointers", traced=False)
def entries_of(arrays: ArrayCaches, ac: int) -> tuple[int, ...]:
    """The objects in an array cache, the one that has been there longest first."""
    first = ac * ENTRIES
    return tuple(arrays.entry[first : first + arrays.avail[ac]])


@kernel("mm/slab.c", "__free_one", left_out="the check of CONFIG_SLAB_FREELIST_HARDENED", traced=False)
def free_one(arrays: ArrayCaches, ac: int, objp: int) -> None:
    """Put an object on top."""
    avail = arrays.avail[ac]
    arrays.entry[ac * ENTRIES + avail] = objp
    arrays.avail[ac] = avail + 1


@kernel("mm/slab.c", "transfer_objects")
def transfer_objects(arrays: ArrayCaches, to: int, source: int, most: int) -> int:
    """Move objects from the top of one array to the top of another, as many as fit; returns how many.

    >>> arrays = ArrayCaches(nr_cpus=2, nr_nodes=1)
    >>> for ac in (0, 1): init_arraycache(arrays, ac, 1, 3, 2)
    >>> for objp in (10, 20, 30): free_one(arrays, 0, objp)
    >>> transfer_objects(arrays, 1, 0, most=2), entries_of(arrays, 0), entries_of(arrays, 1)
    (2, (10,), (20, 30))
    """
    have, room = arrays.avail[source], arrays.limit[to] - arrays.avail[to]
    nr = min(have, most, room)
    if nr <= 0:
        return 0
    copy_entries(arrays, to, arrays.avail[to], source, have - nr, nr)
    arrays.avail[source] -= nr
    arrays.avail[to] += nr
    return nr


@kernel("lib/string.c", "memcpy", traced=False)
def copy_entries(arrays: ArrayCaches, to: int, to_at: int, source: int, at: int, nr: int) -> None:
    """Copy `nr` entries of one array, from the `at`-th on, to another, or down within the same."""
    entry = arrays.entry
    start, target = source * ENTRIES + at, to * ENTRIES + to_at
    for step in range(nr):
        entry[target + step] = entry[start + step]


@invented("the memmove at the end of cache_flusharray and drain_array_locked", traced=False)
def drop_oldest(arrays: ArrayCaches, ac: int, nr: int) -> None:
    """Take the `nr` objects that have been there longest out; the others move down."""
    left = arrays.avail[ac] - nr
    copy_entries(arrays, ac, 0, ac, nr, left)
    arrays.avail[ac] = left
