"""What SLAB does from time to time: arrays that nobody used are emptied, slabs that nobody needs are given back.

    every 2 s, on each CPU, for each cache     its array was used since the last look?  then only forget that
                                               else 1/5 of its limit goes back to the slabs
    every 4 s, once on each node               the same for the shared array
                                               nobody took from a free slab? then free slabs go back, a fifth of what
                                               the node may keep

A CPU that comes or goes has arrays to be made, or to be emptied.
"""

from __future__ import annotations

from kmemlab.alloc.kmalloc import kfree
from kmemlab.alloc.slab_array_cache import drop_oldest, entries_of
from kmemlab.alloc.slab_boot import state_of
from kmemlab.alloc.slab_cache import (
    REAPTIMEOUT_AC,
    REAPTIMEOUT_NODE,
    SlabCache,
    get_node,
    has_node,
    nr_cpus_node,
    online_nodes,
)
from kmemlab.alloc.slab_common import FULL, SlabCommon
from kmemlab.alloc.slab_free import drain_alien_array
from kmemlab.alloc.slab_grow import slabs_destroy
from kmemlab.alloc.slab_lists import drain_freelist, free_block
from kmemlab.alloc.slab_setup import (
    do_drain,
    drain_alien_cache,
    free_alien_cache,
    init_cache_node,
    setup_kmem_cache_node,
)
from kmemlab.boot.smp import num_online_cpus
from kmemlab.mm.context import HZ
from kmemlab.mm.zonelist import cpu_to_mem, numa_mem_id
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import INT_MAX


@kernel("mm/slab.c", "drain_array_locked", lock="n->list_lock")
def drain_array_locked(cache: SlabCache, ac: int, nid: int, free_all: bool = False) -> None:
    """Give objects of an array back to the slabs, the oldest first: a fifth of its limit, or half of what is left."""
    arrays = cache.state.arrays
    avail = arrays.avail[ac]
    if not avail:
        return
    tofree = avail if free_all else (arrays.limit[ac] + 4) // 5
    if tofree > avail:
        tofree = (avail + 1) // 2
    surplus = free_block(cache, entries_of(arrays, ac)[:tofree], nid)
    drop_oldest(arrays, ac, tofree)
    slabs_destroy(cache, surplus)


@kernel("mm/slab.c", "drain_array")
def drain_array(cache: SlabCache, ac: int, nid: int) -> None:
    """Empty an array a little, unless it was used since the last look."""
    arrays = cache.state.arrays
    if not arrays.address[ac] or not arrays.avail[ac]:
        return
    if arrays.touched[ac]:
        arrays.touched[ac] = 0
        return
    drain_array_locked(cache, ac, nid)


@kernel("mm/slab.c", "reap_alien", lock="alien->lock")
def reap_alien(cache: SlabCache, nid: int) -> None:
    """Send the objects of one other node home; which node, changes from time to time."""
    state, arrays = cache.state, cache.state.arrays
    home = state.slab_reap_node[cache.common.mm.current.cpu]
    alien = arrays.alien(cache.number, nid, home)
    if state.nodes.alien[get_node(cache, nid)] and arrays.address[alien]:
        slabs_destroy(cache, drain_alien_array(cache, alien, home))


@kernel("mm/slab.c", "next_reap_node", traced=False)
def next_reap_node(common: SlabCommon, cpu: int) -> None:
    """Which node's alien objects a CPU looks at the next time: the next one that is online."""
    state, online = state_of(common), online_nodes(common.mm)
    node = state.slab_reap_node[cpu]
    state.slab_reap_node[cpu] = next((nid for nid in online if nid > node), online[0])


@kernel("mm/slab.c", "cache_reap", left_out="giving up when somebody else changes caches")
def cache_reap(common: SlabCommon) -> None:
    """What the running CPU does every two seconds, for every cache."""
    mm, state = common.mm, state_of(common)
    nid = numa_mem_id(mm)
    for cache in list(common.existing()):
        assert isinstance(cache, SlabCache)
        reap_alien(cache, nid)
        drain_array(cache, cache.first_cpu_cache + mm.current.cpu, nid)
        reap_node(cache, nid)
    if len(mm.node_data) > 1:
        next_reap_node(common, mm.current.cpu)
    state.reap_due[mm.current.cpu] = mm.current.jiffies + REAPTIMEOUT_AC


@invented("the second half of cache_reap's loop", traced=False)
def reap_node(cache: SlabCache, nid: int) -> None:
    """Every four seconds: empty the shared array a little, and give free slabs back that nobody needed."""
    nodes, arrays, n = cache.state.nodes, cache.state.arrays, get_node(cache, nid)
    jiffies = cache.common.mm.current.jiffies
    if nodes.next_reap[n] > jiffies:
        return
    nodes.next_reap[n] = jiffies + REAPTIMEOUT_NODE
    drain_array(cache, arrays.shared(cache.number, nid), nid)
    if nodes.free_touched[n]:
        nodes.free_touched[n] = 0
        return
    fifth = 5 * cache.num
    drain_freelist(cache, nid, (nodes.free_limit[n] + fifth - 1) // fifth)


@kernel("mm/slab.c", "start_cpu_timer", left_out="rounding, so that timers of several CPUs run out together")
def start_cpu_timer(common: SlabCommon, cpu: int) -> None:
    """From now on a CPU reaps."""
    state, mm = state_of(common), common.mm
    if not state.reap_due[cpu]:
        state.slab_reap_node[cpu] = cpu_to_mem(mm, cpu)
        next_reap_node(common, cpu)
        state.reap_due[cpu] = mm.current.jiffies + HZ


@kernel("mm/slab.c", "cpucache_init")
def cpucache_init(common: SlabCommon) -> None:
    """Let every CPU that is online reap from now on."""
    for cpu, online in enumerate(state_of(common).cpu_online):
        if online:
            start_cpu_timer(common, cpu)


@invented("bringup_nonboot_cpus calls slab_prepare_cpu for each")
def smp_init(common: SlabCommon) -> None:
    """The other CPUs come up, one by one; then timers run. Raises `KernelPanic` without memory for their arrays."""
    here = common.mm.current.cpu
    for cpu in range(num_online_cpus(common.mm.boot)):
        if cpu != here and not slab_prepare_cpu(common, cpu):
            raise KernelPanic(
                f"CPU{cpu}: no memory for its array caches", where="smp_init", remedy="give it more memory"
            )
    cpucache_init(common)


@invented("the timer wheel runs slab_reap_work of each CPU")
def run_reap_timers(common: SlabCommon) -> None:
    """Let each CPU whose time has come reap."""
    current, state = common.mm.current, state_of(common)
    here = current.cpu
    for cpu in range(state.nr_cpus):
        if 0 < state.reap_due[cpu] <= current.jiffies:
            current.cpu = cpu
            cache_reap(common)
    current.cpu = here


@kernel("mm/slab.c", "slab_prepare_cpu", formerly=("cpuup_prepare",))
def slab_prepare_cpu(common: SlabCommon, cpu: int) -> bool:
    """A CPU is about to come up: make what its node lacks. False: no memory."""
    nid, gfp = cpu_to_mem(common.mm, cpu), gfp_bits.GFP_KERNEL
    if common.slab_state < FULL:
        return True
    for cache in list(common.existing()):
        assert isinstance(cache, SlabCache)
        if not (init_cache_node(cache, nid, gfp) and setup_kmem_cache_node(cache, nid, gfp, force_change=False)):
            slab_dead_cpu(common, cpu)
            return False
    state_of(common).cpu_online[cpu] = 1
    return True


@kernel("mm/slab.c", "slab_dead_cpu", formerly=("cpuup_canceled",))
def slab_dead_cpu(common: SlabCommon, cpu: int) -> None:
    """A CPU is gone: what lay in its arrays goes back; if it was the last of its node, so do the node's arrays."""
    mm, state = common.mm, state_of(common)
    nid = cpu_to_mem(mm, cpu)
    state.cpu_online[cpu] = 0
    state.reap_due[cpu] = 0
    for cache in list(common.existing()):
        assert isinstance(cache, SlabCache)
        if not has_node(cache, nid):
            continue
        state.nodes.free_limit[get_node(cache, nid)] -= cache.batchcount
        do_drain(cache, cpu)
        if not nr_cpus_node(state, mm, nid):
            drop_node_arrays(cache, nid)
    for cache in list(common.existing()):
        assert isinstance(cache, SlabCache)
        if has_node(cache, nid):
            drain_freelist(cache, nid, INT_MAX)


@invented("the second half of cpuup_canceled", traced=False)
def drop_node_arrays(cache: SlabCache, nid: int) -> None:
    """Empty a node's shared and alien arrays, and give their memory back."""
    arrays = cache.state.arrays
    shared = arrays.shared(cache.number, nid)
    if arrays.address[shared]:
        drain_array_locked(cache, shared, nid, free_all=True)
        address, arrays.address[shared] = arrays.address[shared], 0
        kfree(cache.common, address)
    if cache.state.nodes.alien[get_node(cache, nid)]:
        drain_alien_cache(cache, nid)
        free_alien_cache(cache, nid)
