"""Partial slabs of SLUB: where a slab goes that has some objects free, and where one is looked for.

node's list   head ◀─ taken from here      freed slabs join at the tail
CPU's list    partial ──▶ slab (slabs=3) ──▶ slab (2) ──▶ slab (1)     frozen: nobody else takes from them;
              a first slab that counts cpu_partial_slabs is too many: then all go to their nodes
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.alloc.kmem_cache import SLAB_STORE_USER
from kmemlab.alloc.page_alloc import gfp_zone
from kmemlab.alloc.slab_bug import CORRUPT, DOUBLE_FREE, Oops, bug_at
from kmemlab.alloc.slab_common import report_bug
from kmemlab.alloc.slab_pages import slab_address, slab_nid
from kmemlab.alloc.slub_debug import alloc_debug_processing
from kmemlab.alloc.slub_def import CPU_PARTIAL_SLABS, FULL, PARTIAL, SlubCache, kmem_cache_debug
from kmemlab.alloc.slub_freelist import get_freepointer, set_freepointer
from kmemlab.alloc.slub_report import freelist_corrupted
from kmemlab.alloc.slub_slab import discard_slab
from kmemlab.boot.smp import num_online_cpus
from kmemlab.mm.context import CPU, task_comm
from kmemlab.mm.node import ZONELIST_FALLBACK
from kmemlab.mm.zonelist import numa_mem_id
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add, list_add_tail, list_del, list_for_each
from kmemlab.types.config import NUMA_NO_NODE


@invented("&n->partial or &n->full", traced=False)
def list_of(cache: SlubCache, nid: int, which: int) -> int:
    """The head of a node's list of the cache's slabs."""
    return cache.pages.list_head(cache.number, nid, which)


@invented("for_each_kmem_cache_node", traced=False)
def nodes_of(cache: SlubCache) -> Iterator[int]:
    """The nodes that the cache keeps lists for."""
    for nid in range(cache.per_node.nr_nodes):
        if cache.per_node.address[cache.node + nid]:
            yield nid


@invented("list_for_each_entry over n->partial or n->full", traced=False)
def slabs_on(cache: SlubCache, nid: int, which: int = PARTIAL) -> tuple[int, ...]:
    """The slabs of a node's list, first to last."""
    if not cache.per_node.address[cache.node + nid]:
        return ()
    return tuple(list_for_each(cache.pages.slab_list, list_of(cache, nid, which)))


@kernel("mm/slub.c", "count_partial", traced=False)
def count_partial_free(cache: SlubCache, nid: int) -> int:
    """How many objects are free in the partial slabs of a node."""
    pages = cache.pages
    return sum(pages.objects[slab] - pages.inuse[slab] for slab in slabs_on(cache, nid))


@kernel("mm/slub.c", "__add_partial", lock="n->list_lock", traced=False)
def add_partial(cache: SlubCache, nid: int, slab: int, tail: bool) -> None:
    """Put a slab on its node's partial list: at the head it is used again soon, at the tail it may yet become empty."""
    cache.per_node.nr_partial[cache.node + nid] += 1
    add = list_add_tail if tail else list_add
    add(cache.pages.slab_list, slab, list_of(cache, nid, PARTIAL))


@kernel("mm/slub.c", "remove_partial", lock="n->list_lock", traced=False)
def remove_partial(cache: SlubCache, nid: int, slab: int) -> None:
    """Take a slab off its node's partial list."""
    list_del(cache.pages.slab_list, slab)
    cache.per_node.nr_partial[cache.node + nid] -= 1


@kernel("mm/slub.c", "add_full", lock="n->list_lock", traced=False)
def add_full(cache: SlubCache, nid: int, slab: int) -> None:
    """Where users are tracked, full slabs are kept on a list, so that their objects can be listed."""
    if cache.flags & SLAB_STORE_USER:
        list_add(cache.pages.slab_list, slab, list_of(cache, nid, FULL))


@kernel("mm/slub.c", "remove_full", lock="n->list_lock", traced=False)
def remove_full(cache: SlubCache, slab: int) -> None:
    """A slab is not full any more."""
    if cache.flags & SLAB_STORE_USER:
        list_del(cache.pages.slab_list, slab)


# -- taking ------------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "alloc_single_from_partial", lock="n->list_lock")
def alloc_single_from_partial(cache: SlubCache, nid: int, slab: int, orig_size: int) -> int | None:
    """Take one object of a slab whose objects are watched; the slab stays on the list unless it is full now."""
    pages = cache.pages
    obj = pages.freelist[slab]
    pages.freelist[slab] = get_freepointer(cache, obj)
    pages.inuse[slab] = pages.inuse[slab] + 1 & 0xFFFF
    if not alloc_debug_processing(cache, slab, obj, orig_size):
        remove_partial(cache, nid, slab)
        return None
    if pages.inuse[slab] == pages.objects[slab]:
        remove_partial(cache, nid, slab)
        add_full(cache, nid, slab)
    return obj


@kernel("mm/slub.c", "acquire_slab", lock="n->list_lock", traced=False)
def acquire_slab(cache: SlubCache, nid: int, slab: int, take_objects: bool) -> int:
    """Freeze a partial slab for this CPU; with `take_objects` its freelist goes to the CPU, too. Returns that list."""
    pages = cache.pages
    freelist = pages.freelist[slab]
    if take_objects:
        pages.inuse[slab] = pages.objects[slab]
        pages.freelist[slab] = 0
    pages.frozen[slab] = 1
    remove_partial(cache, nid, slab)
    return freelist


@kernel("mm/slub.c", "get_partial_node", lock="n->list_lock")
def get_partial_node(cache: SlubCache, nid: int, orig_size: int) -> tuple[int, int]:
    """The first partial slab of a node becomes this CPU's, more of them its reserve: (slab, freelist), or (0, 0).

    Where objects are watched, only one object is taken: (0, object).
    """
    found, freelist, more = 0, 0, 0
    if not cache.per_node.nr_partial[cache.node + nid]:
        return 0, 0
    for slab in slabs_on(cache, nid):
        if kmem_cache_debug(cache):
            obj = alloc_single_from_partial(cache, nid, slab, orig_size)
            if obj:
                return 0, obj
            continue
        taken = acquire_slab(cache, nid, slab, take_objects=not found)
        if not found:
            found, freelist = slab, taken
        else:
            put_cpu_partial(cache, slab, drain=False)
            more += 1
        if more > cache.cpu_partial_slabs // 2:
            break
    return found, freelist


@kernel(
    "mm/slub.c", "get_any_partial", left_out="cpusets, memory policies; C rolls a dice where the ratio is below 100 %"
)
def get_any_partial(cache: SlubCache, gfp: int, orig_size: int) -> tuple[int, int]:
    """The same from other nodes, the nearest first, if they have more partial slabs than they need."""
    mm = cache.common.mm
    if not cache.remote_node_defrag_ratio:
        return 0, 0
    zonelist = mm.node_data[mm.numa.cpu_to_node[mm.current.cpu]].node_zonelists[ZONELIST_FALLBACK]
    highest = gfp_zone(mm, gfp)
    for entry in range(zonelist.count):
        nid = zonelist.nid[entry]
        if zonelist.zone_idx[entry] <= highest and cache.per_node.nr_partial[cache.node + nid] > cache.min_partial:
            slab, freelist = get_partial_node(cache, nid, orig_size)
            if freelist:
                return slab, freelist
    return 0, 0


@kernel("mm/slub.c", "get_partial", traced=False)
def get_partial(cache: SlubCache, gfp: int, node: int, orig_size: int) -> tuple[int, int]:
    """A partial slab of the node that is wanted, or of any if none is; as `get_partial_node` returns it."""
    searchnode = numa_mem_id(cache.common.mm) if node == NUMA_NO_NODE else node
    slab, freelist = get_partial_node(cache, searchnode, orig_size)
    if freelist or node != NUMA_NO_NODE:
        return slab, freelist
    return get_any_partial(cache, gfp, orig_size)


# -- leaving -----------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "deactivate_slab")
def deactivate_slab(cache: SlubCache, slab: int, freelist: int) -> None:
    """A CPU leaves its slab: its free objects go back to the slab's own freelist, the slab to where it belongs."""
    pages = cache.pages
    if not pages.frozen[slab]:
        raise not_frozen(cache, slab, "mm/slub.c:2480")
    nid = slab_nid(pages, slab)
    # Others have freed into it meanwhile, so it may soon be empty: to the tail.
    tail = bool(pages.freelist[slab])
    last, count = last_free_object(cache, slab, freelist)
    if last:
        set_freepointer(cache, last, pages.freelist[slab])
        pages.freelist[slab] = freelist
        pages.inuse[slab] = pages.inuse[slab] - count & 0xFFFF  # 16 bits, as in C: a double free wraps it
    pages.frozen[slab] = 0
    if not pages.inuse[slab] and cache.per_node.nr_partial[cache.node + nid] >= cache.min_partial:
        discard_slab(cache, slab)
    elif pages.freelist[slab]:
        add_partial(cache, nid, slab, tail)
    else:
        add_full(cache, nid, slab)


@invented("the first stage of deactivate_slab", traced=False)
def last_free_object(cache: SlubCache, slab: int, freelist: int) -> tuple[int, int]:
    """The last object of a CPU's freelist, and how many it has. Raises `Oops` for a list that is a circle."""
    last, count, obj = 0, 0, freelist
    while obj:
        if count > cache.pages.objects[slab]:
            raise circular_freelist(cache, slab)
        following = get_freepointer(cache, obj)
        if freelist_corrupted(cache, slab, obj, following):
            break
        last, obj = obj, following
        count += 1
    return last, count


@invented("C would go round in it for ever, until the watchdog says that the CPU is stuck", traced=False)
def circular_freelist(cache: SlubCache, slab: int) -> Oops:
    """What ends the walk along a freelist that comes back to itself: an object was freed twice."""
    current = cache.common.mm.current
    current.printk.info(
        f"watchdog: BUG: soft lockup - CPU#{current.cpu} stuck for 26s! [{task_comm(current)}:{current.pid}]"
    )
    what = f"the freelist of a slab of {cache.name} is a circle: an object was freed twice"
    report_bug(cache, DOUBLE_FREE, what, slab_address(cache.pages, slab))
    return Oops(what, where="deactivate_slab", remedy="boot with slub_debug=F: then the second free is refused")


@invented("VM_BUG_ON(!slab->frozen): only a debug kernel looks; another goes round for ever")
def not_frozen(cache: SlubCache, slab: int, place: str) -> Oops:
    """What ends the walk along a CPU's reserve that comes back to itself: it meets a slab that it has let go before."""
    what = f"slab {slab} of {cache.name} is a CPU's, but not frozen: the CPU's partial list leads to a slab twice"
    report_bug(cache, CORRUPT, what, slab_address(cache.pages, slab))
    return bug_at(cache.common.mm.boot.printk, place, what)


@kernel("mm/slub.c", "__unfreeze_partials")
def unfreeze_partials(cache: SlubCache, partial_slab: int) -> None:
    """A CPU's reserve goes to the nodes' lists; empty slabs that are too many there go back to the page allocator."""
    pages = cache.pages
    discard: list[int] = []
    while partial_slab:
        slab, partial_slab = partial_slab, pages.next[partial_slab]
        if not pages.frozen[slab]:
            raise not_frozen(cache, slab, "mm/slub.c:2569")
        nid = slab_nid(pages, slab)
        pages.frozen[slab] = 0
        if not pages.inuse[slab] and cache.per_node.nr_partial[cache.node + nid] >= cache.min_partial:
            discard.insert(0, slab)
        else:
            add_partial(cache, nid, slab, tail=True)
    for slab in discard:
        discard_slab(cache, slab)


@kernel("mm/slub.c", "put_cpu_partial")
def put_cpu_partial(cache: SlubCache, slab: int, drain: bool) -> None:
    """Put a slab that was just frozen at the front of this CPU's reserve; a reserve that is full leaves it first."""
    pages = cache.pages
    row = cache.cpu_slab + cache.current.cells[CPU]
    oldest, old = 0, cache.per_cpu.partial[row]
    if old and drain and pages.slabs[old] >= cache.cells[CPU_PARTIAL_SLABS]:
        oldest, old = old, 0
    pages.slabs[slab] = pages.slabs[old] + 1 if old else 1
    pages.next[slab] = old
    cache.per_cpu.partial[row] = slab
    if oldest:
        unfreeze_partials(cache, oldest)


@kernel("mm/slub.c", "__flush_cpu_slab")
def flush_cpu_slab(cache: SlubCache, cpu: int) -> None:
    """A CPU gives up its slab and its reserve."""
    per_cpu, row = cache.per_cpu, cache.cpu_slab + cpu
    slab, freelist, partial = per_cpu.slab[row], per_cpu.freelist[row], per_cpu.partial[row]
    per_cpu.slab[row] = per_cpu.freelist[row] = per_cpu.partial[row] = 0
    if slab:
        deactivate_slab(cache, slab, freelist)
    if partial:
        unfreeze_partials(cache, partial)


@kernel("mm/slub.c", "flush_all", left_out="work queues: one CPU does it for all")
def flush_all(cache: SlubCache) -> None:
    """Every CPU gives up its slab and its reserve."""
    for cpu in range(num_online_cpus(cache.common.mm.boot)):
        flush_cpu_slab(cache, cpu)
