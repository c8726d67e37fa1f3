"""The memory policy of the running task: from which node the next page comes when nobody names one.

local         the node of the CPU
interleave    0, 1, 2, 0, 1, 2, …      boot's policy, so that its tables don't crowd one node
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Cell, Struct


@kernel("include/linux/mempolicy.h", "struct mempolicy", left_out="all modes but local and interleave; one a task")
class Mempolicy(Struct):
    """`interleave` is 0 for the local policy; `nodes` says which nodes take turns, `il_prev` whose turn was last."""

    interleave = Cell()
    il_prev = Cell()

    nodes: Column

    def __init__(self, nr_nodes: int) -> None:
        self.nodes = column("B", nr_nodes)


@kernel("mm/mempolicy.c", "interleave_nodes", traced=False)
def interleave_nodes(policy: Mempolicy) -> int:
    """The node whose turn it is."""
    nodes = policy.nodes
    nid = policy.il_prev
    for _ in range(len(nodes)):
        nid = (nid + 1) % len(nodes)
        if nodes[nid]:
            break
    policy.il_prev = nid
    return nid
