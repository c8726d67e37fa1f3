"""How fragmented a zone is, in numbers: /sys/kernel/debug/extfrag.

unusable_index   which part of the free memory lies in blocks too small for an order: 0 none, 1 all
extfrag_index    why a request of an order would fail: near 0 for want of memory, near 1 for fragmentation; -1: it won't
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import invented, kernel


@kernel("mm/vmstat.c", "fill_contig_page_info", formerly=("struct contig_page_info",), traced=False)
def fill_contig_page_info(nr_free: Sequence[int], suitable_order: int) -> tuple[int, int, int]:
    """Of free blocks counted by order: the pages, the blocks, and the blocks of `suitable_order` that they make.

    >>> fill_contig_page_info([3, 1, 0, 1], 2)
    (13, 5, 2)
    """
    free_pages = sum(count << order for order, count in enumerate(nr_free))
    suitable = sum(nr_free[order] << order - suitable_order for order in range(suitable_order, len(nr_free)))
    return free_pages, sum(nr_free), suitable


@kernel("mm/vmstat.c", "__fragmentation_index", formerly=("fragmentation_index",), traced=False)
def fragmentation_index(nr_free: Sequence[int], order: int) -> int:
    """Why a request of this order would fail, in thousandths: 0 for want of memory, 1000 for fragmentation; or -1000.

    >>> fragmentation_index([64, 0, 0], 2), fragmentation_index([4, 0, 0], 2), fragmentation_index([0, 0, 1], 2)
    (735, 500, -1000)
    """
    free_pages, free_blocks, suitable = fill_contig_page_info(nr_free, order)
    if not free_blocks:
        return 0
    if suitable:
        return -1000
    return 1000 - (1000 + free_pages * 1000 // (1 << order)) // free_blocks


@kernel("mm/vmstat.c", "unusable_free_index", traced=False)
def unusable_free_index(nr_free: Sequence[int], order: int) -> int:
    """Which part of the free pages a request of this order can't use, in thousandths; all, if there are none.

    >>> unusable_free_index([2, 1, 1], 1), unusable_free_index([0, 0, 0], 0)
    (250, 1000)
    """
    free_pages, _, suitable = fill_contig_page_info(nr_free, order)
    return (free_pages - (suitable << order)) * 1000 // free_pages if free_pages else 1000


@kernel("mm/vmstat.c", "extfrag_show")
def extfrag_index(mm: Mm) -> str:
    """The text of /sys/kernel/debug/extfrag/extfrag_index."""
    return lines_of(mm, fragmentation_index, 2)


@kernel("mm/vmstat.c", "unusable_show")
def unusable_index(mm: Mm) -> str:
    """The text of /sys/kernel/debug/extfrag/unusable_index."""
    return lines_of(mm, unusable_free_index, 1)


@invented("walk_zones_in_node, and one line for each zone")
def lines_of(mm: Mm, index: Callable[[Sequence[int], int], int], width: int) -> str:
    """An index of each zone that has memory, for each order, in thousandths."""
    text = ""
    for zone in mm.populated_zones():
        values = (index(zone.nr_free, order) for order in range(len(zone.nr_free)))
        shown = "".join(f"{thousandths(value):>{width + 4}} " for value in values)
        text += f"Node {zone.node}, zone {zone.name:>8} {shown}\n"
    return text


@invented("C divides towards 0", traced=False)
def thousandths(value: int) -> str:
    """A number of thousandths as the kernel prints it.

    >>> thousandths(-1000), thousandths(58)
    ('-1.000', '0.058')
    """
    return f"{'-' if value < 0 else ''}{abs(value) // 1000}.{abs(value) % 1000:03}"
