"""What the page allocator calls when pages are short, and who answers: whoever frees pages enters here what it does.

    __alloc_pages_slowpath ──▶ try_to_free_pages ──▶ TRY_TO_FREE_PAGES    floor reclaim/: shrinks lists and slabs
                           └─▶ out_of_memory     ──▶ OUT_OF_MEMORY        kills somebody

In C the allocator and what frees pages for it call each other by name. Here what frees lies on another floor; with
nothing entered no progress is made, and requests fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_event import ALLOCSTALL
from kmemlab.sim.kernel import invented, kernel

Reclaimer: TypeAlias = Callable[[Mm, int, int, int], int]
"""(mm, gfp, order, nid) → how many pages it freed, or for OUT_OF_MEMORY whether there will be some."""

# Filled when modules are loaded, like the kernel's initcalls; not part of any machine's state.
TRY_TO_FREE_PAGES: list[Reclaimer] = []
OUT_OF_MEMORY: list[Reclaimer] = []


@invented("tests and experiments enter a reclaimer for a while", traced=False)
@contextmanager
def registered(table: list[Reclaimer], reclaimer: Reclaimer) -> Iterator[None]:
    """While this lasts, `reclaimer` is asked too."""
    table.append(reclaimer)
    try:
        yield
    finally:
        table.remove(reclaimer)


@kernel("mm/vmscan.c", "try_to_free_pages", left_out="all of it but the counter: whoever has entered itself does it")
def try_to_free_pages(mm: Mm, gfp: int, order: int, nid: int, highest_zoneidx: int) -> int:
    """The caller itself frees pages before it goes on; returns how many."""
    mm.vm_event[ALLOCSTALL + highest_zoneidx] += 1
    return sum(reclaimer(mm, gfp, order, nid) for reclaimer in TRY_TO_FREE_PAGES)


@kernel("mm/oom_kill.c", "out_of_memory", left_out="all of it: whoever has entered itself does it")
def out_of_memory(mm: Mm, gfp: int, order: int, nid: int) -> bool:
    """Nothing is left that could be freed; whether somebody was killed or otherwise pages will come."""
    return any(killer(mm, gfp, order, nid) for killer in OUT_OF_MEMORY)
