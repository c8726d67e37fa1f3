"""mm/readahead.c: who reads straight on will want the next pages too; they are asked for before they are wanted.

the window of a file       start                              start + size
                             | . . . . . . . . . . ◆ . . . . . . |        ◆ PG_readahead: who comes here has the
                                                   └ async_size ─┘          next window fetched, twice as large

A reader who jumps gets what he asked for and no more, and starts anew with a small window when he goes straight on.
"""

from __future__ import annotations

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.mm.address_space import filemap_get_folio, mapping_ops
from kmemlab.mm.context import PF_MEMALLOC_NOFS
from kmemlab.mm.files import VM_READAHEAD_PAGES
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_cache import filemap_add_folio
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import clear_page_flag, set_page_flag
from kmemlab.mm.wait import cond_resched
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import __GFP_NORETRY, __GFP_NOWARN, GFP_HIGHUSER_MOVABLE
from kmemlab.types.pageflags import PG_readahead

READAHEAD_GFP = GFP_HIGHUSER_MOVABLE | __GFP_NORETRY | __GFP_NOWARN  # nobody needs these pages yet


@kernel("mm/filemap.c", "filemap_alloc_folio", formerly=("__page_cache_alloc",), left_out="spreading over nodes")
def filemap_alloc_folio(mm: Mm, gfp: int) -> int | None:
    """A page for the page cache, or None. Whoever was woken by the request before it, as kswapd is, runs first."""
    cond_resched(mm)  # in C each request that may wait is such a point: might_alloc, on kernels that preempt by choice
    return alloc_pages_inner(mm, gfp, 0, 0)


@kernel("mm/readahead.c", "get_init_ra_size", traced=False)
def get_init_ra_size(size: int, largest: int) -> int:
    """The first window of a stream whose first read wants `size` pages: larger than asked for, up to `largest`.

    >>> [get_init_ra_size(size, 32) for size in (1, 2, 4, 8, 9)]
    [4, 4, 8, 16, 32]
    """
    newsize = 1 << (size - 1).bit_length()
    if newsize <= largest // 32:
        return newsize * 4
    return newsize * 2 if newsize <= largest // 4 else largest


@kernel("mm/readahead.c", "get_next_ra_size", traced=False)
def get_next_ra_size(size: int, largest: int) -> int:
    """The window after one of `size` pages: four times as large while small, then twice, up to `largest`.

    >>> [get_next_ra_size(size, 32) for size in (1, 4, 8, 16, 32)]
    [4, 8, 16, 32, 32]
    """
    if size < largest // 16:
        return 4 * size
    return 2 * size if size <= largest // 2 else largest


@kernel("mm/readahead.c", "do_page_cache_ra", formerly=("__do_page_cache_readahead",))
def do_page_cache_ra(mm: Mm, ino: int, index: int, nr_to_read: int, lookahead_size: int) -> None:
    """Ask for pages of a file, not beyond its end; the one that begins the last `lookahead_size` is marked.

    Pages that are in memory are passed over. Where no page can be had, the rest is left for later.
    """
    mapping = mm.files.mapping[ino]
    nr_to_read = min(nr_to_read, mm.files.nr_pages[ino] - index)
    read_folio = mapping_ops(mm.mappings, mapping).read_folio
    assert read_folio is not None, f"mapping {mapping} can't be read"
    # In the middle of a file system's work: reclaim on behalf of these requests must not enter one again.
    before = mm.current.flags
    mm.current.flags = before | PF_MEMALLOC_NOFS
    started = []
    for nth in range(nr_to_read):
        if filemap_get_folio(mm.mappings, mapping, index + nth) is not None:
            continue
        pfn = filemap_alloc_folio(mm, READAHEAD_GFP)
        if pfn is None:
            break
        filemap_add_folio(mm, mapping, pfn, index + nth, READAHEAD_GFP)
        if nth == nr_to_read - lookahead_size:
            set_page_flag(mm.page, pfn, PG_readahead)
        started.append(pfn)
    mm.current.flags = before
    for pfn in started:
        read_folio(mm, pfn)
        put_page(mm, pfn)


@kernel("mm/readahead.c", "ondemand_readahead", left_out="huge pages; reads larger than the window in one go")
def ondemand_readahead(mm: Mm, ino: int, index: int, hit_marker: bool, req_size: int) -> None:
    """Decide how much to fetch: a new window, the next one, or only what is asked for."""
    files, largest = mm.files, VM_READAHEAD_PAGES
    start, size, async_size = files.ra_start[ino], files.ra_size[ino], files.ra_async_size[ino]
    if index and index in (start + size - async_size, start + size):
        start, size = start + size, max(size, get_next_ra_size(size, largest))
        async_size = size
    elif index and hit_marker:
        start = page_cache_next_miss(mm, ino, index + 1, largest)
        if start - index > largest:
            return
        size = async_size = get_next_ra_size(start - index + req_size, largest)
    elif not index or req_size > largest or 0 <= index - (files.prev_index[ino] - 1) <= 1:
        start, size = index, get_init_ra_size(req_size, largest)
        async_size = size - req_size if size > req_size else size
    else:
        window = try_context_readahead(mm, ino, index, req_size, largest)
        if window is None:
            do_page_cache_ra(mm, ino, index, req_size, 0)
            return
        start, size, async_size = index, window, 1
    submit_window(mm, ino, index, (start, size, async_size))


@kernel("mm/readahead.c", "ondemand_readahead", traced=False)
def submit_window(mm: Mm, ino: int, index: int, window: tuple[int, int, int]) -> None:
    """The label `readit`: fetch a window; if its mark would be met at once, the next one is joined to it now."""
    files, largest = mm.files, VM_READAHEAD_PAGES
    start, size, async_size = window
    if index == start and size == async_size:
        add_pages = get_next_ra_size(size, largest)
        size, async_size = (size + add_pages, add_pages) if size + add_pages <= largest else (largest, largest // 2)
    files.ra_start[ino], files.ra_size[ino], files.ra_async_size[ino] = start, size, async_size
    do_page_cache_ra(mm, ino, start, size, async_size)


@kernel("mm/filemap.c", "page_cache_next_miss", traced=False)
def page_cache_next_miss(mm: Mm, ino: int, index: int, most: int) -> int:
    """The first page of a file from `index` on that is not in memory, looking at `most` pages."""
    mapping = mm.files.mapping[ino]
    for nth in range(most):
        if filemap_get_folio(mm.mappings, mapping, index + nth) is None:
            return index + nth
    return index + most


@kernel("mm/readahead.c", "count_history_pages", traced=False)
def count_history_pages(mm: Mm, ino: int, index: int, most: int) -> int:
    """How many pages right before `index` are in memory, looking at `most` pages."""
    mapping = mm.files.mapping[ino]
    for nth in range(1, most + 1):
        if index - nth < 0 or filemap_get_folio(mm.mappings, mapping, index - nth) is None:
            return nth - 1
    return most


@kernel("mm/readahead.c", "try_context_readahead")
def try_context_readahead(mm: Mm, ino: int, index: int, req_size: int, largest: int) -> int | None:
    """The window for a reader of whom nothing is known, but who has left pages right before; None for a random read."""
    history = count_history_pages(mm, ino, index, largest)
    if history <= req_size:
        return None
    if history >= index:
        history *= 2  # all from the start of the file: surely a stream
    return min(history + req_size, largest)


@kernel("mm/readahead.c", "page_cache_sync_ra", formerly=("page_cache_sync_readahead",), left_out="FMODE_RANDOM")
def page_cache_sync_ra(mm: Mm, ino: int, index: int, req_count: int) -> None:
    """A page is wanted that is not in memory."""
    ondemand_readahead(mm, ino, index, False, req_count)


@kernel("mm/readahead.c", "page_cache_async_ra", formerly=("page_cache_async_readahead",))
def page_cache_async_ra(mm: Mm, ino: int, pfn: int, req_count: int) -> None:
    """A reader has come to the marked page: fetch on."""
    clear_page_flag(mm.page, pfn, PG_readahead)
    ondemand_readahead(mm, ino, mm.page.index[pfn], True, req_count)
