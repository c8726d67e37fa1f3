"""warn_alloc: what the kernel says when somebody gets no memory."""

from __future__ import annotations

from kmemlab.boot.numa import nodes_of
from kmemlab.mm.context import task_comm
from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types import gfp as gfp_bits

# The names that a mask is made of, in the order in which printk looks for them: whole requests first.
_NAMES = (
    "GFP_TRANSHUGE", "GFP_TRANSHUGE_LIGHT", "GFP_HIGHUSER_MOVABLE", "GFP_HIGHUSER", "GFP_USER", "GFP_KERNEL_ACCOUNT",
    "GFP_KERNEL", "GFP_NOFS", "GFP_ATOMIC", "GFP_NOIO", "GFP_NOWAIT", "GFP_DMA", "__GFP_HIGHMEM", "GFP_DMA32",
    "__GFP_HIGH", "__GFP_ATOMIC", "__GFP_IO", "__GFP_FS", "__GFP_NOWARN", "__GFP_RETRY_MAYFAIL", "__GFP_NOFAIL",
    "__GFP_NORETRY", "__GFP_COMP", "__GFP_ZERO", "__GFP_NOMEMALLOC", "__GFP_MEMALLOC", "__GFP_HARDWALL",
    "__GFP_THISNODE", "__GFP_RECLAIMABLE", "__GFP_MOVABLE", "__GFP_ACCOUNT", "__GFP_WRITE", "__GFP_RECLAIM",
    "__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM", "__GFP_ZEROTAGS",
)  # fmt: skip


@invented("%pGg of C's printf", traced=False)
def gfp_flag_names(gfp: int) -> str:
    """A mask by the names of its parts.

    >>> gfp_flag_names(0xDC2), gfp_flag_names(0)
    ('GFP_KERNEL|__GFP_HIGHMEM|__GFP_ZERO', 'none')
    """
    names = []
    for name in _NAMES:
        bits = getattr(gfp_bits, name)
        if gfp & bits == bits:
            names.append(name)
            gfp &= ~bits
    return "|".join(names) or "none"


@invented("%*pbl of C's printf", traced=False)
def number_list(numbers: list[int]) -> str:
    """Ascending numbers with rows of them shortened.

    >>> number_list([0, 1, 2, 5])
    '0-2,5'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


@kernel("mm/page_alloc.c", "warn_alloc", left_out="the rate limit; the call stack and the state of memory that follow")
def warn_alloc(mm: Mm, gfp: int, text: str) -> None:
    """Say who did not get what, unless the request said not to."""
    if gfp & gfp_bits.__GFP_NOWARN:
        return
    mm.boot.printk.info(
        f"{task_comm(mm.current)}: {text}, mode:{gfp:#x}({gfp_flag_names(gfp)}), nodemask=(null),"
        f"cpuset=/,mems_allowed={number_list(nodes_of(mm.node_has_memory))}"
    )
