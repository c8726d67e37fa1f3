"""What SLUB keeps: the geometry of a cache, a slab for each CPU, lists of partial slabs for each node.

             ┌ CPU 0   slab ──▶ [ frozen ]   freelist: its free objects, taken from here without any lock
a cache ─────┤         partial ─▶ slab ─▶ slab        frozen, too: this CPU's reserve
             └ node 0  partial ─▶ slab ⇄ slab ⇄ …     for every CPU; nr_slabs counts these and all others
                       (full)    ─▶ slab ⇄ …          only where users are tracked; else full slabs are on no list
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemlab.alloc.kmem_cache import SLAB_DEBUG_FLAGS, KmemCache
from kmemlab.alloc.slab_pages import NR_CACHES
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.sim.column import Column, column, index_typecode
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell

if TYPE_CHECKING:  # the front knows caches; a cache knows the front only to reach what all caches share
    from kmemlab.alloc.slab_common import SlabCommon

TRACK_SIZE = {8: 32, 4: 20}  # struct track, by the size of a pointer: address, stack, CPU, process, time

FLAGS = KmemCache.flags.index
PARTIAL, FULL = range(2)
"""Which of a node's lists of slabs."""


@kernel("include/linux/slub_def.h", "struct kmem_cache_cpu", left_out="the transaction id: nothing runs in between")
class KmemCacheCpu(Struct):
    """Of every cache and CPU, in row `cache.cpu_slab + cpu`: the slab that objects are taken from. 0: none."""

    freelist: Column
    slab: Column
    partial: Column

    def __init__(self, nr_cpus: int, max_pfn: int) -> None:
        rows = NR_CACHES * nr_cpus
        self.nr_cpus = nr_cpus
        self.freelist = column("Q", rows)
        self.slab = column(index_typecode(max_pfn), rows)
        self.partial = column(index_typecode(max_pfn), rows)


@kernel("mm/slab.h", "struct kmem_cache_node", lock="n->list_lock")
class KmemCacheNode(Struct):
    """Of every cache and node, in row `cache.node + nid`. `address` is where C's struct lies; 0: there is none."""

    nr_partial: Column
    nr_slabs: Column
    total_objects: Column
    address: Column

    def __init__(self, nr_nodes: int) -> None:
        rows = NR_CACHES * nr_nodes
        self.nr_nodes = nr_nodes
        self.nr_partial = column("q", rows)
        self.nr_slabs = column("q", rows)
        self.total_objects = column("q", rows)
        self.address = column("Q", rows)


@kernel("include/linux/slub_def.h", "struct kmem_cache", left_out="sysfs, KASAN")
class SlubCache(KmemCache):
    """A cache of SLUB: how large slots and slabs are, and how many slabs are kept where."""

    inuse = Cell()  # where what follows the object begins
    offset = Cell()  # where the pointer to the next free object stands in a free one
    red_left_pad = Cell()
    order = Cell()  # oo: pages of a slab, 2**order
    objects = Cell()  # oo: slots of a slab
    min_order = Cell()  # min: when no block of `order` is to be had
    min_partial = Cell()  # partial slabs that a node keeps even if they are empty
    cpu_partial = Cell()  # free objects that a CPU may keep in partial slabs
    cpu_partial_slabs = Cell()
    allocflags = Cell()  # what each request for pages adds
    random = Cell()  # what pointers in free objects are mixed with; 0: they stand there as they are
    random_seq = U64Cell()  # address of the order in which a new slab's objects are chained; 0: as they lie
    remote_node_defrag_ratio = Cell()  # of 1024: how readily partial slabs of other nodes are used

    def __init__(self, common: SlabCommon, number: int, per_cpu: KmemCacheCpu, per_node: KmemCacheNode) -> None:
        super().__init__(common, common.engine, number)
        self.pointer = self.pages.pointer
        self.per_cpu = per_cpu
        self.per_node = per_node
        self.track_size = TRACK_SIZE[self.pointer]
        self.cpu_slab = number * per_cpu.nr_cpus
        self.node = number * per_node.nr_nodes


CPU_PARTIAL_SLABS = SlubCache.cpu_partial_slabs.index


@invented("C allocates them when a cache is created")
def new_caches(common: SlabCommon) -> tuple[SlubCache, ...]:
    """The slots for caches of SLUB, and what every one has for CPUs and nodes."""
    pages = common.pages
    per_cpu = KmemCacheCpu(num_possible_cpus(common.mm.boot.spec), pages.max_pfn)
    per_node = KmemCacheNode(pages.nr_nodes)
    return tuple(SlubCache(common, number, per_cpu, per_node) for number in range(NR_CACHES))


@kernel("mm/slub.c", "kmem_cache_debug", traced=False)
def kmem_cache_debug(cache: SlubCache) -> bool:
    """Whether the objects of a cache are watched: then each goes through the slow path, and no slab is a CPU's."""
    return bool(cache.cells[FLAGS] & SLAB_DEBUG_FLAGS)
