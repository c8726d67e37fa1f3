"""What the SLAB allocator keeps of a cache: its geometry, one kmem_cache_node a node, one array_cache a CPU.

struct kmem_cache    num, gfporder, colour …             limit, batchcount, shared
    │
    ├─ CPU 0   │ array_cache │     ├─ node 0   slabs_partial ──▶ slab ⇄ slab      the next objects come from here
    ├─ CPU 1   │ array_cache │     │           slabs_full    ──▶ slab ⇄ slab
    └─ …                           │           slabs_free    ──▶ slab              given back when there are too many
                                   │           shared array, alien arrays
                                   └─ node 1   …
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.alloc.slab_array_cache import ArrayCaches
from kmemlab.alloc.slab_common import SlabCommon, SlabEngine
from kmemlab.alloc.slab_pages import NR_CACHES
from kmemlab.mm.context import CPU, HZ
from kmemlab.mm.globals import Mm
from kmemlab.mm.zonelist import cpu_to_mem
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.units import PAGE_SIZE

SLABS_PARTIAL, SLABS_FULL, SLABS_FREE = range(3)
REAPTIMEOUT_AC = 2 * HZ
REAPTIMEOUT_NODE = 4 * HZ
BUILT_IN = 1
"""The address of what lies in the kernel's image until kmalloc works; and of what is per-CPU memory."""

# struct kmem_cache_node, and struct kmem_cache up to its pointers to nodes, in bytes; by the size of a pointer
SIZEOF_KMEM_CACHE_NODE = {8: 120, 4: 64}
OFFSETOF_KMEM_CACHE_NODE = {8: 120, 4: 92}
OFFSETOF_KMEM_CACHE_NODE_DEBUG = {8: 224, 4: 152}


@kernel(
    "mm/slab.h", "struct kmem_cache_node", left_out="list_lock; the heads of its lists stand in struct slab's links"
)
class KmemCacheNodes(Struct):
    """What each cache keeps for each node: node `nid` of cache `c` is number c * nr_nodes + nid.

    `address` is where C's struct lies, 0 while there is none; `alien` is the address of its table of alien arrays.
    """

    address: Column
    total_slabs: Column
    free_slabs: Column
    free_objects: Column
    free_limit: Column
    colour_next: Column
    next_reap: Column
    free_touched: Column
    alien: Column

    def __init__(self, nr_nodes: int) -> None:
        nodes = NR_CACHES * nr_nodes
        self.address = column("Q", nodes)
        self.total_slabs = column("q", nodes)
        self.free_slabs = column("q", nodes)
        self.free_objects = column("q", nodes)  # in slabs; those in arrays count as taken
        self.free_limit = column("q", nodes)  # more free objects than this, and free slabs are given back
        self.colour_next = column("I", nodes)
        self.next_reap = column("q", nodes)
        self.free_touched = column("B", nodes)  # somebody took from a free slab since the last look
        self.alien = column("Q", nodes)


@invented("C's static variables of mm/slab.c are fields here")
class SlabState(Struct):
    """What all caches of the SLAB allocator share. `debug` is CONFIG_DEBUG_SLAB."""

    slab_max_order = Cell()
    slab_max_order_set = Cell()
    use_alien_caches = Cell()

    held: Column
    cpu_online: Column
    slab_reap_node: Column
    reap_due: Column

    def __init__(self, mm: Mm, debug: bool) -> None:
        nr_nodes, nr_cpus = len(mm.node_data), len(mm.numa.cpu_to_node)
        self.debug = debug
        self.nr_nodes = nr_nodes
        self.nr_cpus = nr_cpus
        self.arrays = ArrayCaches(nr_cpus, nr_nodes)
        self.nodes = KmemCacheNodes(nr_nodes)
        # Ours, C's callers must remember: one bit for 16 bytes of memory, set while somebody holds the object there.
        self.held = column("B", mm.page.max_pfn * PAGE_SIZE // 128)
        self.cpu_online = column("B", nr_cpus)  # the CPUs that may have objects in their arrays
        self.slab_reap_node = column("i", nr_cpus)  # whose alien arrays a CPU looks at next
        self.reap_due = column("q", nr_cpus)  # slab_reap_work: when a CPU will reap; 0: it doesn't
        self.slab_max_order = 0
        self.use_alien_caches = 1


@kernel("include/linux/slab_def.h", "struct kmem_cache", left_out="KASAN; the statistics of CONFIG_DEBUG_SLAB")
class SlabCache(KmemCache):
    """The geometry of a cache of SLAB, and the sizes of its arrays."""

    num = Cell()  # objects of a slab
    gfporder = Cell()
    colour = Cell()  # how many places a slab's first object can have
    colour_off = Cell()  # bytes from one to the next
    freelist_size = Cell()  # one byte an object
    allocflags = Cell()  # what each request for pages adds
    obj_offset = Cell()  # with debugging an object begins behind a red zone
    batchcount = Cell()
    limit = Cell()
    shared = Cell()

    def __init__(self, common: SlabCommon, engine: SlabEngine, number: int, state: SlabState) -> None:
        super().__init__(common, engine, number)
        self.state = state
        self.first_node = number * state.nr_nodes
        self.first_cpu_cache = number * state.nr_cpus


# cache.cells[…]: each object that comes or goes asks for these.
SIZE, OBJ_OFFSET = SlabCache.size.index, SlabCache.obj_offset.index


@kernel("mm/slab.h", "get_node", traced=False)
def get_node(cache: SlabCache, nid: int) -> int:
    """The number of a cache's kmem_cache_node."""
    return cache.first_node + nid


@invented("cachep->node[nid] is not NULL", traced=False)
def has_node(cache: SlabCache, nid: int) -> bool:
    """Whether a cache has anything for a node yet."""
    return bool(cache.state.nodes.address[cache.first_node + nid])


@kernel("mm/slab.h", "for_each_kmem_cache_node", traced=False)
def for_each_kmem_cache_node(cache: SlabCache) -> list[int]:
    """The nodes that a cache has something for, ascending."""
    return [nid for nid in range(cache.state.nr_nodes) if has_node(cache, nid)]


@kernel("include/linux/nodemask.h", "for_each_online_node", traced=False)
def online_nodes(mm: Mm) -> list[int]:
    """The nodes that are online, ascending."""
    return [nid for nid in range(len(mm.node_data)) if mm.numa.node_online[nid]]


@invented("C's callers must remember what they hold", traced=False)
def is_held(cache: SlabCache, objp: int) -> bool:
    """Whether somebody holds the object in a slot."""
    bit = objp - cache.pages.page_offset >> 4
    return bool(cache.state.held[bit >> 3] >> (bit & 7) & 1)


@kernel("mm/slab.c", "cpu_cache_get", traced=False)
def cpu_cache_get(cache: SlabCache) -> int:
    """The array cache of the running CPU."""
    return cache.first_cpu_cache + cache.current.cells[CPU]


@kernel("include/linux/topology.h", "nr_cpus_node", traced=False)
def nr_cpus_node(state: SlabState, mm: Mm, nid: int) -> int:
    """How many CPUs of a node are online."""
    return sum(1 for cpu in range(state.nr_cpus) if state.cpu_online[cpu] and cpu_to_mem(mm, cpu) == nid)


@kernel("mm/slab.c", "kmem_cache_node_init")
def kmem_cache_node_init(cache: SlabCache, nid: int, address: int) -> None:
    """A node without any slab; `address` is where C keeps the struct."""
    nodes, n, pages = cache.state.nodes, get_node(cache, nid), cache.pages
    for which in (SLABS_PARTIAL, SLABS_FULL, SLABS_FREE):
        init_list_head(pages.slab_list, pages.list_head(cache.number, nid, which))
    nodes.address[n] = address
    nodes.total_slabs[n] = nodes.free_slabs[n] = nodes.free_objects[n] = nodes.free_limit[n] = 0
    nodes.colour_next[n] = nodes.next_reap[n] = nodes.free_touched[n] = nodes.alien[n] = 0
    cache.state.arrays.address[cache.state.arrays.shared(cache.number, nid)] = 0
