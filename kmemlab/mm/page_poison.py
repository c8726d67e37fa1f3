"""What stands in free pages: zeros, a poison that shows who writes where he must not, or what was left there."""

from __future__ import annotations

from kmemlab.mm.globals import INIT_ON_ALLOC, INIT_ON_FREE, PAGE_POISONING, Mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import __GFP_ZERO
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

PAGE_POISON = 0xAA


@kernel("mm/page_poison.c", "__kernel_poison_pages")
def kernel_poison_pages(mm: Mm, pfn: int, count: int) -> None:
    """Fill free pages with the poison; a page that has no contents of its own takes no memory for it."""
    mm.boot.ram.fill_pages(pfn, count, PAGE_POISON)


@kernel("mm/page_poison.c", "check_poison_mem", left_out="the dump of the bytes and of the stack; the rate limit")
def check_poison_mem(mm: Mm, pfn: int) -> bool:
    """Whether a free page is as it was poisoned; if not, say so."""
    found = mm.boot.ram.read_bytes(pfn << PAGE_SHIFT, PAGE_SIZE)
    wrong = [byte for byte in found if byte != PAGE_POISON]
    if wrong:
        one_bit = len(wrong) == 1 and (wrong[0] ^ PAGE_POISON).bit_count() == 1
        mm.boot.printk.info(f"pagealloc: {'single bit error' if one_bit else 'memory corruption'}")
    return not wrong


@kernel("mm/page_poison.c", "__kernel_unpoison_pages")
def kernel_unpoison_pages(mm: Mm, pfn: int, count: int) -> None:
    """Check that nobody has written into pages while they were free. (What is not written needs no look.)"""
    place = mm.boot.ram.place
    for page in range(pfn, pfn + count):
        if place[page]:
            check_poison_mem(mm, page)


@kernel("mm/page_alloc.c", "post_alloc_hook", left_out="KASAN, page_owner, debug_pagealloc", traced=False)
def post_alloc_hook(mm: Mm, pfn: int, order: int, gfp: int) -> None:
    """Give the pages the contents that the request, or the command line, wants."""
    cells = mm.cells
    if cells[PAGE_POISONING]:
        kernel_unpoison_pages(mm, pfn, 1 << order)
    if cells[INIT_ON_ALLOC] or gfp & __GFP_ZERO:
        ram = mm.boot.ram
        if order:
            ram.fill_pages(pfn, 1 << order, 0)
        elif ram.place[pfn] or ram.filled[pfn]:
            ram.clear_page(pfn)


@invented("two lines of free_pages_prepare", traced=False)
def treat_free_pages(mm: Mm, pfn: int, count: int) -> None:
    """Poison or clear pages that come back, if the command line wants that."""
    cells = mm.cells
    if cells[PAGE_POISONING]:
        kernel_poison_pages(mm, pfn, count)
    elif cells[INIT_ON_FREE]:
        mm.boot.ram.fill_pages(pfn, count, 0)
