"""A kernel in which something went wrong is tainted: from then on each report says so."""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.sim.kernel import invented, kernel

TAINT_BAD_PAGE = 5
TAINT_LETTERS = "PFSRMBUDAWCIOELKXTN"


@kernel("kernel/panic.c", "print_tainted", traced=False)
def print_tainted(cache: KmemCache) -> str:
    """Whether something has gone wrong in this kernel before: from then on its words count for less."""
    tainted = cache.common.tainted
    if not tainted:
        return "Not tainted"
    letters = [letter if tainted >> bit & 1 else " " for bit, letter in enumerate(TAINT_LETTERS)]
    return "Tainted: " + "".join(["G" if letters[0] == " " else "P", *letters[1:]])


@invented("add_taint(TAINT_BAD_PAGE, …)", traced=False)
def taint(cache: KmemCache) -> None:
    """From now on the kernel says that something went wrong in it."""
    cache.common.tainted |= 1 << TAINT_BAD_PAGE
