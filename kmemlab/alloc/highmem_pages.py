"""What needs an address of a page only for a moment: clearing, copying and filling pages that may lie in HighMem."""

from __future__ import annotations

from kmemlab.alloc.kmap_local import KmapCtrl, kmap_local_page, kunmap_local
from kmemlab.mm.kernel_access import clear, copy
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import PAGE_SIZE


@kernel("include/linux/highmem.h", "clear_highpage")
def clear_highpage(ctrl: KmapCtrl, pfn: int) -> None:
    """Fill a page with zeros, wherever it lies."""
    kaddr = kmap_local_page(ctrl, pfn)
    clear(ctrl.mm.boot, kaddr, PAGE_SIZE)
    kunmap_local(ctrl, kaddr)


@kernel("include/linux/highmem.h", "copy_highpage")
def copy_highpage(ctrl: KmapCtrl, to_pfn: int, from_pfn: int) -> None:
    """Copy a page to another: two slots, given back in the reverse order."""
    vfrom = kmap_local_page(ctrl, from_pfn)
    vto = kmap_local_page(ctrl, to_pfn)
    copy(ctrl.mm.boot, vto, vfrom, PAGE_SIZE)
    kunmap_local(ctrl, vto)
    kunmap_local(ctrl, vfrom)


@kernel("mm/highmem.c", "zero_user_segments", left_out="compound pages")
def zero_user_segments(ctrl: KmapCtrl, pfn: int, start1: int, end1: int, start2: int = 0, end2: int = 0) -> None:
    """Fill the bytes [start1, end1) and [start2, end2) of a page with zeros; all are multiples of 4.

    Raises `BadRequest` for bytes that the page does not have.
    """
    for start, end in ((start1, end1), (start2, end2)):
        if not 0 <= start <= PAGE_SIZE or not 0 <= end <= PAGE_SIZE or start % 4 or end % 4:
            raise BadRequest(
                f"[{start}, {end}) are no bytes of a page",
                where="zero_user_segments",
                remedy=f"choose multiples of 4 from 0 to {PAGE_SIZE}",
            )
    kaddr = kmap_local_page(ctrl, pfn)
    for start, end in ((start1, end1), (start2, end2)):
        if end > start:
            clear(ctrl.mm.boot, kaddr + start, end - start)
    kunmap_local(ctrl, kaddr)


@kernel("include/linux/highmem.h", "zero_user")
def zero_user(ctrl: KmapCtrl, pfn: int, start: int, size: int) -> None:
    """Fill `size` bytes of a page with zeros. Raises `BadRequest` for bytes that the page does not have."""
    zero_user_segments(ctrl, pfn, start, start + size)
