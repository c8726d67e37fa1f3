"""ZoneLab: one small zone with nothing around it, to watch the buddy at work."""

from __future__ import annotations

from kmemlab.machine.commanded import Commanded, numbers_within, whole_numbers
from kmemlab.mm.buddy import example_zone, free_one_page, rmqueue_smallest
from kmemlab.mm.check_zone import check_conservation
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.wrong_free import wrong_free
from kmemlab.mm.zone import NR_FREE_PAGES, zone_spans_pfn
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.migratetype import MIGRATE_MOVABLE

MOST_BLOCKS = 1 << 10


@invented("the buddy alone, without watermarks, mobility types and zonelists in the way")
class ZoneLab(Commanded):
    """A zone of a few free blocks; `alloc` and `free` go straight to `__rmqueue_smallest` and `__free_one_page`.

    >>> lab = ZoneLab(order=3)  # one free block of 8 pages
    >>> lab.alloc(0), lab.zone.nr_free[:4].tolist()
    (0, [1, 1, 1, 0])
    """

    def __init__(self, order: int = MAX_ORDER - 1, blocks: int = 1) -> None:
        """`blocks` free blocks of 2**`order` pages. Raises `BadRequest` for an order that there is not, or no block."""
        numbers_within("ZoneLab", 0, MAX_ORDER - 1, order=order)
        numbers_within("ZoneLab", 1, MOST_BLOCKS, blocks=blocks)
        self.zone = example_zone(order, blocks)
        self.zone.managed_pages = self.zone.vm_stat[NR_FREE_PAGES]
        super().__init__(self.zone)

    def alloc(self, order: int = 0) -> int:
        """Take 2**`order` pages; returns the first page frame number.

        Raises `BadRequest` for an order that does not exist, `OutOfMemory` when no block is large enough.
        """
        whole_numbers("alloc", order=order)
        pfn: int = self._command("alloc", order)
        return pfn

    def free(self, pfn: int, order: int = 0) -> None:
        """Give a block back.

        Raises `DoubleFree` when it is free, `BadRequest` when it was not taken with this order.
        """
        whole_numbers("free", pfn=pfn, order=order)
        self._command("free", pfn, order)

    def check_laws(self) -> None:
        """No page is lost."""
        check_conservation(self.zone)

    def _do_alloc(self, order: int) -> int:
        if not 0 <= order < MAX_ORDER:
            raise BadRequest(
                f"there is no order {order}", where=f"alloc({order})", remedy=f"choose 0 to {MAX_ORDER - 1}"
            )
        pfn = rmqueue_smallest(self.zone, order, MIGRATE_MOVABLE)
        if pfn is None:
            raise OutOfMemory(
                f"no free block has {1 << order} pages", where=f"alloc({order})", remedy="free some first"
            )
        self.zone.vm_stat[NR_FREE_PAGES] -= 1 << order
        self.zone.nr_owned += 1 << order
        self.zone.page.owned[pfn] = 1 + order
        return pfn

    def _do_free(self, pfn: int, order: int) -> None:
        page = self.zone.page
        inside = zone_spans_pfn(self.zone, pfn)
        if not inside or page.owned[pfn] != 1 + order:
            raise wrong_free(page, self.zone if inside else None, pfn, order)
        page.owned[pfn] = 0
        self.zone.nr_owned -= 1 << order
        free_one_page(self.zone, pfn, order, MIGRATE_MOVABLE)
