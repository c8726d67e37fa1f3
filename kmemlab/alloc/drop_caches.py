"""fs/drop_caches.c: an administrator has caches emptied: 1 clean pages of files, 2 names and inodes, 3 both, 4 quietly.

Nobody gains by it but those who measure: what was dropped is read again, and what is dirty stays.
"""

from __future__ import annotations

from kmemlab.alloc.filemap import drop_pagecache
from kmemlab.boot.numa import nodes_of
from kmemlab.mm.context import task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_event import DROP_SLAB
from kmemlab.reclaim.shrinker import shrink_slab
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import GFP_KERNEL

DROP_PAGES, DROP_OBJECTS, DROP_QUIETLY = 1, 2, 4


@kernel("mm/vmscan.c", "drop_slab_node", left_out="fatal signals; memcg", traced=False)
def drop_slab_node(mm: Mm, nid: int) -> int:
    """Ask all caches for all their objects of a node, again while that is worth while; returns how many went."""
    gone, shift = 0, 0
    while True:
        freed = shrink_slab(mm, GFP_KERNEL, nid, 0)
        gone += freed
        if freed >> shift <= 1:
            return gone
        shift += 1


@kernel("mm/vmscan.c", "drop_slab")
def drop_slab(mm: Mm) -> int:
    """Have all caches that can shrink give up what nobody uses; returns how many objects it were."""
    return sum(drop_slab_node(mm, nid) for nid in nodes_of(mm.numa.node_online))


@kernel("fs/drop_caches.c", "drop_caches_sysctl_handler")
def drop_caches_sysctl_handler(mm: Mm, value: int) -> None:
    """Drop what the bits of `value` say, and tell so in the log, unless that was forbidden once."""
    if value & DROP_PAGES:
        drop_pagecache(mm)
    if value & DROP_OBJECTS:
        drop_slab(mm)
        mm.vm_event[DROP_SLAB] += 1
    if not mm.drop_caches_quiet:
        mm.boot.printk.info(f"{task_comm(mm.current)} ({mm.current.pid}): drop_caches: {value}")
    mm.drop_caches_quiet |= value & DROP_QUIETLY
