"""A machine whose callers hold struct pages, as in C: a request gives one, and it is given back by it.

alloc_pages ──▶ pfn ──▶ __pfn_to_page ──▶ struct page, at some address        the caller keeps this
__free_pages  ◀── pfn ◀── __page_to_pfn ◀── struct page

Its kernel is built with classic SPARSEMEM: each section has a memory map of its own, wherever there was room for it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from random import Random

from kmemlab.machine.machine import Machine
from kmemlab.mm.four_models import model_machine
from kmemlab.mm.sparsemem import ClassicSections, SparsememExtreme
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import GFP_DMA32, GFP_HIGHUSER_MOVABLE, GFP_KERNEL

Sections = list[int | None]  # where the struct pages of each section begin; None: the section has none


class SparseMachine(Machine):
    """A machine that tells of blocks by their first struct page."""

    @functools.cached_property
    def model(self) -> SparsememExtreme:
        """The memory map of this machine. Nothing of it changes after boot."""
        return SparsememExtreme(model_machine(self.kernel.boot))

    def alloc_struct_page(self, gfp: int, order: int, node: int = 0) -> int:
        """Take 2**`order` pages, near a node; the address of the first one's struct page. Raises `OutOfMemory`."""
        return int(self._command("alloc_struct_page", gfp, order, node))

    def free_struct_page(self, page: int, order: int) -> None:
        """Give a block back by its first struct page. Raises what `free_pages` raises."""
        self._command("free_struct_page", page, order)

    def _do_alloc_struct_page(self, gfp: int, order: int, node: int) -> int:
        return self.model.pfn_to_page(self._do_alloc_pages(gfp, order, node))

    def _do_free_struct_page(self, page: int, order: int) -> None:
        self._do_free_pages(self.model.page_to_pfn(page), order)


def sections_of(model: ClassicSections) -> Sections:
    """Where the map of each section begins, in the order of the sections."""
    found: Sections = [None] * (max(model.sections) + 1)
    for number in model.sections:
        piece = model.piece_of(number * model.pages_per_section)
        if piece is not None:
            found[number] = piece.va + (number * model.pages_per_section - piece.first_pfn) * model.sizeof_page
    return found


def struct_pages(machine: SparseMachine, seed: int, steps: int = 120) -> Iterator[str]:
    """A seeded mix of requests, near all nodes and from all zones; yields what each one came to."""
    rng = Random(seed)
    nodes = machine.model.machine.nodes
    held: list[tuple[int, int]] = []
    for _ in range(steps):
        if held and rng.random() < 0.45:
            page, order = held.pop(rng.randrange(len(held)))
            machine.free_struct_page(page, order)
            yield f"__free_pages({page:#x}, {order})"
        else:
            gfp, order = rng.choice((GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_DMA32)), rng.choice((0, 0, 1, 2, 5))
            try:
                page = machine.alloc_struct_page(gfp, order, rng.choice(nodes))
            except OutOfMemory:  # what GFP_DMA32 may have can run out
                yield f"alloc_pages(order {order}) found nothing"
                continue
            held.append((page, order))
            yield f"alloc_pages(order {order}) → struct page {page:#x}"
