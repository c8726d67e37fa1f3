"""The nodes of the swap cache take memory, too: whoever swaps out asks for a slab of them at a time.

add_to_swap_cache ─▶ a new node of the xarray ─▶ 14 to a slab of 2 pages ─▶ a request that may not wait

The model's xarray takes its nodes from a table of its own. In a zone of few pages a request more is a fallback more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.mm.globals import Mm
from kmemlab.mm.swap_state import add_to_swap_cache
from kmemlab.mm.xarray import XaNodes, xas_alloc
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.gfp import (
    __GFP_COMP,
    __GFP_NORETRY,
    __GFP_NOWARN,
    __GFP_RECLAIMABLE,
    GFP_NOWAIT,
)

NODE_GFP = GFP_NOWAIT | __GFP_NOWARN | __GFP_NORETRY | __GFP_COMP | __GFP_RECLAIMABLE
SLAB_ORDER, SLAB_NODES = 1, 14  # radix_tree_node: 576 bytes each
LEFT = SLAB_NODES // 2  # of the slab in use when a trace begins: nobody saved it


@invented("the slabs of radix_tree_node that a swap cache takes")
class SwapNodes:
    """Counts the nodes that the model's swap cache makes, and asks for a slab when the last one is full."""

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.left = LEFT

    def take(self) -> None:
        """One more node; none is counted where there is no memory."""
        if not self.left and alloc_pages_inner(self.mm, NODE_GFP, SLAB_ORDER, 0) is not None:
            self.left = SLAB_NODES
        self.left -= self.left > 0

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While this lasts nodes of the swap cache take memory."""
        made = 0

        def alloc(nodes: XaNodes, shift: int, parent: int, offset: int) -> int:
            nonlocal made
            made += 1
            return int(run_alloc(nodes, shift, parent, offset))

        def add(mm: Mm, pfn: int, entry: int) -> int | None:
            before = made
            shadow: int | None = run_add(mm, pfn, entry)
            for _ in range(made - before):
                self.take()
            return shadow

        with livepatch(xas_alloc, alloc), livepatch(add_to_swap_cache, add):
            run_alloc, run_add = xas_alloc.original, add_to_swap_cache.original  # type: ignore[attr-defined]
            yield
