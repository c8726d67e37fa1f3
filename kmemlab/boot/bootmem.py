"""bootmem, until 4.19: the allocator before the page allocator kept one bit a page frame. Then, and not now.

page frame   0 1 2 3 4 5 6 7 8 9 …
bit          1 1 0 0 0 1 1 0 0 0        1: reserved, a hole, or handed out     0: free
                 └─▶ the first free place from below, at or above a goal

All bits are 1 until memory is registered. A part of a page that is reserved takes the whole page, and a part that is
freed frees nothing; requests smaller than a page may share one with the request before, and only with that.
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import BadRequest, DoubleFree, KernelPanic, TooLarge
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE, pfn_down, pfn_up, round_up

BITS_PER_LONG = 64
WORD_ORDER = 6  # a word of free bits is handed over as one block of 2**6 pages
MOST_PAGES = 1 << 20  # the lab's bitmap ends at 4 GiB
_GONE = "of mm/bootmem.c, removed in 4.20; memblock does its work now"


@invented(f"struct bootmem_data {_GONE}")
class BootmemData(Struct):
    """The bitmap of one node: bit i speaks of page frame `node_min_pfn` + i. The bitmap itself lies in `map_pfn` on.

    `last_end_off` is where the last request ended, in bytes from the node's start; no search begins below `hint_idx`.
    """

    node_min_pfn = Cell()
    node_low_pfn = Cell()
    map_pfn = Cell()
    last_end_off = Cell()
    hint_idx = Cell()

    node_bootmem_map: Column

    def __init__(self, pages: int) -> None:
        if not 0 < pages <= MOST_PAGES:
            raise TooLarge(
                f"a bitmap of {pages} page frames is not for this lab",
                where="BootmemData",
                remedy=f"take from 1 to {MOST_PAGES} page frames",
            )
        self.pages = pages
        self.node_bootmem_map = column("B", (pages + 7) // 8)


@invented(f"bootmem_bootmap_pages {_GONE}")
def bootmem_bootmap_pages(pages: int) -> int:
    """The pages that a bitmap for so many page frames takes.

    >>> bootmem_bootmap_pages(32768), bootmem_bootmap_pages(32769)
    (1, 2)
    """
    return pfn_up(round_up((pages + 7) // 8, BITS_PER_LONG // 8))


@invented(f"init_bootmem {_GONE}")
def init_bootmem(bdata: BootmemData, mapstart: int, start: int) -> int:
    """Set the bitmap up at page frame `mapstart`, all ones, for page frames from `start` on; returns its bytes."""
    bdata.node_min_pfn = start
    bdata.node_low_pfn = start + bdata.pages
    bdata.map_pfn = mapstart
    for at in range(len(bdata.node_bootmem_map)):
        bdata.node_bootmem_map[at] = 0xFF
    return round_up((bdata.pages + 7) // 8, BITS_PER_LONG // 8)


@invented("test_bit on the bitmap", traced=False)
def is_reserved(bdata: BootmemData, idx: int) -> bool:
    """Whether the page frame with this index is taken."""
    return bool(bdata.node_bootmem_map[idx >> 3] >> (idx & 7) & 1)


@invented("test_and_set_bit and test_and_clear_bit on the bitmap", traced=False)
def mark(bdata: BootmemData, sidx: int, eidx: int, taken: bool) -> None:
    """Set or clear the bits [sidx, eidx)."""
    for idx in range(sidx, eidx):
        bit = 1 << (idx & 7)
        byte = bdata.node_bootmem_map[idx >> 3]
        bdata.node_bootmem_map[idx >> 3] = byte | bit if taken else byte & ~bit


@invented("the BUG_ON()s of mark_bootmem_node", traced=False)
def check_range(bdata: BootmemData, start_pfn: int, end_pfn: int, where: str) -> None:
    """Raise `BadRequest` for page frames that the bitmap does not know."""
    if start_pfn < bdata.node_min_pfn or end_pfn > bdata.node_low_pfn:
        raise BadRequest(
            f"page frames {start_pfn:#x} to {end_pfn:#x} are not all on this node",
            where=where,
            remedy=f"the bitmap covers {bdata.node_min_pfn:#x} to {bdata.node_low_pfn:#x}",
        )


@invented(f"reserve_bootmem {_GONE}")
def reserve_bootmem(bdata: BootmemData, physaddr: int, size: int) -> None:
    """Take [physaddr, physaddr + size): a page of which any part is reserved is reserved. Twice does no harm."""
    start_pfn, end_pfn = pfn_down(physaddr), pfn_up(physaddr + size)
    check_range(bdata, start_pfn, end_pfn, "reserve_bootmem")
    mark(bdata, start_pfn - bdata.node_min_pfn, end_pfn - bdata.node_min_pfn, taken=True)


@invented(f"free_bootmem {_GONE}")
def free_bootmem(bdata: BootmemData, physaddr: int, size: int) -> None:
    """Give [physaddr, physaddr + size) free: only pages that lie in it whole. Raises `DoubleFree` where C has BUG()."""
    start_pfn, end_pfn = pfn_up(physaddr), pfn_down(physaddr + size)
    if start_pfn >= end_pfn:
        return
    check_range(bdata, start_pfn, end_pfn, "free_bootmem")
    sidx, eidx = start_pfn - bdata.node_min_pfn, end_pfn - bdata.node_min_pfn
    for idx in range(sidx, eidx):
        if not is_reserved(bdata, idx):
            raise DoubleFree(
                f"page frame {bdata.node_min_pfn + idx:#x} is free already",
                where="free_bootmem",
                remedy="free each page once",
            )
    mark(bdata, sidx, eidx, taken=False)
    bdata.hint_idx = min(bdata.hint_idx, sidx)


@invented(f"alloc_bootmem_bdata {_GONE}")
def alloc_bootmem_bdata(bdata: BootmemData, size: int, align: int, goal: int = 0, limit: int = 0) -> int | None:
    """Take the first free place of `size` bytes at or above `goal` and below `limit` (0: none); its address, or None.

    Raises `BadRequest` for no bytes, and for an `align` that is no power of two.
    """
    if size <= 0 or align <= 0 or align & (align - 1):
        raise BadRequest(
            f"{size} bytes aligned to {align} can't be asked for",
            where="alloc_bootmem",
            remedy="give a size above 0, and a power of two to align to",
        )
    low, step = bdata.node_min_pfn, max(align >> PAGE_SHIFT, 1)
    highest = min(bdata.node_low_pfn, limit >> PAGE_SHIFT) if limit else bdata.node_low_pfn
    goal_pfn = goal >> PAGE_SHIFT
    sidx = align_idx(bdata, goal_pfn - low if low < goal_pfn < highest else 0, step)
    found = None
    # Below the hint all is taken, as a rule: look there only if nothing is found above.
    if bdata.hint_idx > sidx:
        found = find_block(bdata, align_idx(bdata, bdata.hint_idx, step), highest - low, pfn_up(size), step)
    if found is None:
        found = find_block(bdata, sidx, highest - low, pfn_up(size), step)
    return None if found is None else take_block(bdata, found, size, align)


@invented("C aligns page frame numbers, the bitmap has indexes", traced=False)
def align_idx(bdata: BootmemData, idx: int, step: int) -> int:
    """The first index from `idx` on whose page frame is a multiple of `step`."""
    return round_up(bdata.node_min_pfn + idx, step) - bdata.node_min_pfn


@invented("the loop of alloc_bootmem_bdata")
def find_block(bdata: BootmemData, sidx: int, midx: int, pages: int, step: int) -> int | None:
    """The first index in [sidx, midx), aligned to `step`, from which so many pages are free."""
    while sidx + pages <= midx:
        taken = next((idx for idx in range(sidx, sidx + pages) if is_reserved(bdata, idx)), None)
        if taken is None:
            return sidx
        sidx = align_idx(bdata, taken + 1, step)
    return None


@invented("the end of alloc_bootmem_bdata")
def take_block(bdata: BootmemData, sidx: int, size: int, align: int) -> int:
    """Take `size` bytes from index `sidx` on; begin in the page before if the last request left room in it."""
    start_off = sidx << PAGE_SHIFT
    if bdata.last_end_off % PAGE_SIZE and pfn_down(bdata.last_end_off) + 1 == sidx:
        base = bdata.node_min_pfn << PAGE_SHIFT
        start_off = round_up(base + bdata.last_end_off, align) - base
    merge = pfn_down(start_off) < sidx
    end_off = start_off + size
    bdata.last_end_off = end_off
    bdata.hint_idx = pfn_up(end_off)
    mark(bdata, pfn_down(start_off) + merge, pfn_up(end_off), taken=True)
    return (bdata.node_min_pfn << PAGE_SHIFT) + start_off


@invented(f"__alloc_bootmem {_GONE}")
def alloc_bootmem(bdata: BootmemData, size: int, align: int = 64, goal: int = 0) -> int:
    """Take zeroed memory above `goal`, else anywhere; raises `KernelPanic` when there is none."""
    found = alloc_bootmem_bdata(bdata, size, align, goal)
    if found is None and goal:
        found = alloc_bootmem_bdata(bdata, size, align)
    if found is None:
        raise KernelPanic(
            "Out of memory", where=f"bootmem alloc of {size} bytes failed!", remedy="ask for less, or register more"
        )
    return found


@invented(f"free_all_bootmem {_GONE}")
def free_all_bootmem(bdata: BootmemData) -> tuple[int, ...]:
    """Hand all free pages to the page allocator; returns how many blocks it got, by order.

    Word by word: 64 free pages are one block of order 6, anything less goes page by page. The pages of the bitmap go
    last, and the bitmap is never asked again.
    """
    counts = [0] * (WORD_ORDER + 1)
    for word in range(0, bdata.pages, BITS_PER_LONG):
        free = [idx for idx in range(word, min(word + BITS_PER_LONG, bdata.pages)) if not is_reserved(bdata, idx)]
        if len(free) == BITS_PER_LONG and (bdata.node_min_pfn + word) % BITS_PER_LONG == 0:
            counts[WORD_ORDER] += 1
        else:
            counts[0] += len(free)
    counts[0] += bootmem_bootmap_pages(bdata.pages)
    mark(bdata, 0, bdata.pages, taken=True)
    return tuple(counts)
