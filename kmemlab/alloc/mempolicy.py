"""Pages for a caller who names no node: the task's memory policy names one (mm/mempolicy.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kmemlab.boot.numa import nodes_of
from kmemlab.mm.globals import Mm
from kmemlab.mm.mempolicy import interleave_nodes
from kmemlab.mm.page_free import page_zone
from kmemlab.mm.vm_event import NUMA_INTERLEAVE_HIT
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.units import MIB, PAGE_SHIFT

AllocPages: TypeAlias = Callable[[Mm, int, int, int], "int | None"]
"""A page allocator: (mm, gfp, order, node) to the first page frame, or None. Boot has one of its own."""

LEAST_TO_INTERLEAVE = 16 * MIB >> PAGE_SHIFT


@kernel("mm/mempolicy.c", "numa_policy_init", left_out="its caches; the policy that prefers the own node")
def numa_policy_init(mm: Mm) -> None:
    """Boot takes pages from all nodes in turn, if they have 16 MiB at least; else from the largest."""
    policy = mm.mempolicy
    nodes = nodes_of(mm.node_has_memory)
    wanted = [nid for nid in nodes if mm.node_data[nid].node_present_pages >= LEAST_TO_INTERLEAVE]
    for nid in wanted or [max(nodes, key=lambda nid: mm.node_data[nid].node_present_pages)]:
        policy.nodes[nid] = 1
    policy.interleave = 1
    policy.il_prev = -1


@kernel("mm/mempolicy.c", "numa_default_policy")
def numa_default_policy(mm: Mm) -> None:
    """Boot is over: pages come from the node of the CPU."""
    mm.mempolicy.interleave = 0


@kernel("include/linux/topology.h", "numa_node_id", traced=False)
def numa_node_id(mm: Mm) -> int:
    """The node of the CPU that runs."""
    return mm.numa.cpu_to_node[mm.current.cpu]


@invented("C's policy_node, and numa_node_id for the local policy", traced=False)
def policy_node(mm: Mm, nid: int = NUMA_NO_NODE) -> int:
    """The node to ask: the one that was named, or the one that the policy names."""
    if nid != NUMA_NO_NODE:
        return nid
    if mm.mempolicy.interleave:
        return interleave_nodes(mm.mempolicy)
    return numa_node_id(mm)


@invented("C's alloc_pages and alloc_page_interleave, with boot's allocator, too", traced=False)
def policy_alloc(mm: Mm, gfp: int, order: int, alloc: AllocPages) -> int | None:
    """A block for a caller who names no node, or None; counted if it comes from the node whose turn it is."""
    nid = policy_node(mm)
    pfn = alloc(mm, gfp, order, nid)
    zone = page_zone(mm, pfn) if pfn is not None and mm.mempolicy.interleave else None
    if zone is not None and zone.node == nid:
        zone.vm_numa_event[NUMA_INTERLEAVE_HIT] += 1
    return pfn


@invented("the arithmetic of alloc_pages_bulk_array_mempolicy", traced=False)
def nodes_in_bulk(mm: Mm, nid: int, nr_pages: int) -> list[tuple[int, int]]:
    """Which node is to give how many of so many pages: the named one all, or each of those that take turns its share.

    The pages of a node come in one piece, not in turn; the first nodes give what doesn't divide.
    """
    if nid != NUMA_NO_NODE or not mm.mempolicy.interleave:
        return [(policy_node(mm, nid), nr_pages)]
    share, rest = divmod(nr_pages, sum(mm.mempolicy.nodes))
    shares = [share + (nth < rest) for nth in range(sum(mm.mempolicy.nodes))]
    return [(interleave_nodes(mm.mempolicy), pages) for pages in shares]
