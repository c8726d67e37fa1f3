"""Hints: what is known of the free pieces of a page of a chunk, and of the chunk, without looking at its bits.

        first_free        scan_hint            contig_hint
            ▼             ▼▼▼▼▼▼                ▼▼▼▼▼▼▼▼▼▼
 ░░░▓▓▓▓▓▓▓▓░░▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░▓▓▓▓░░░░
 ◀▶                                                            ◀▶
 left_free                                                     right_free

`contig_hint` is the largest free piece, `scan_hint` the largest one before it that is known: a request that is larger
than that need not look at what lies before. A piece that goes over the end of a page is put together from right_free
and left_free.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.alloc.bitmap import find_last_bit, find_next_bit, find_next_zero_bit, for_each_clear_bitrange
from kmemlab.alloc.percpu_chunk import PCPU_BITMAP_BLOCK_BITS as BLOCK_BITS
from kmemlab.alloc.percpu_chunk import PcpuChunk, Percpu, pcpu_update_empty_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import round_up


@kernel("mm/percpu.c", "pcpu_init_md_block", traced=False)
def pcpu_init_md_block(chunk: PcpuChunk, block: int) -> None:
    """All that a block of hints is about is free."""
    nr_bits = chunk.nr_bits(block)
    chunk.scan_hint[block] = chunk.contig_hint_start[block] = 0
    chunk.contig_hint[block] = chunk.left_free[block] = chunk.right_free[block] = nr_bits
    chunk.first_free[block] = 0


@kernel("mm/percpu.c", "pcpu_init_md_blocks")
def pcpu_init_md_blocks(chunk: PcpuChunk) -> None:
    """The whole chunk is free."""
    for block in (*range(chunk.nr_pages), chunk.whole):
        pcpu_init_md_block(chunk, block)


@kernel("mm/percpu.c", "pcpu_check_block_hint", traced=False)
def pcpu_check_block_hint(chunk: PcpuChunk, block: int, bits: int, align: int) -> bool:
    """Whether a request fits into the largest free piece."""
    start = chunk.contig_hint_start[block]
    return round_up(start, align) - start + bits <= chunk.contig_hint[block]


@kernel("mm/percpu.c", "pcpu_next_hint", traced=False)
def pcpu_next_hint(chunk: PcpuChunk, block: int, alloc_bits: int) -> int:
    """Where to begin to look: behind `scan_hint`, if the request is larger than that."""
    scan, start = chunk.scan_hint[block], chunk.scan_hint_start[block]
    if scan and chunk.contig_hint_start[block] > start and alloc_bits > scan:
        return start + scan
    return chunk.first_free[block]


@invented("__ffs: C's hint with the better alignment", traced=False)
def better_aligned(start: int, than: int) -> bool:
    """Whether `start` is a multiple of a larger power of two; 0 is a multiple of all."""
    return bool(than) and (not start or start & -start > than & -than)


@kernel("mm/percpu.c", "pcpu_block_update", traced=False)
def pcpu_block_update(chunk: PcpuChunk, block: int, start: int, end: int) -> None:
    """Take note of the free piece [start, end) of a block: it may be the largest, or the largest before that."""
    contig, hint, hint_start = end - start, chunk.contig_hint[block], chunk.contig_hint_start[block]
    scan, scan_start = chunk.scan_hint[block], chunk.scan_hint_start[block]
    chunk.first_free[block] = min(chunk.first_free[block], start)
    if start == 0:
        chunk.left_free[block] = contig
    if end == chunk.nr_bits(block):
        chunk.right_free[block] = contig
    if contig > hint:
        if start > hint_start and hint > scan:
            scan, scan_start = hint, hint_start
        elif start <= hint_start or start < scan_start:
            scan = 0
        chunk.contig_hint[block], chunk.contig_hint_start[block] = contig, start
    elif contig == hint:
        if better_aligned(start, hint_start):
            chunk.contig_hint_start[block] = start
            if start < scan_start and hint > scan:
                scan = 0
        elif start > scan_start or hint > scan:
            scan, scan_start = contig, start
    elif start < hint_start and (contig > scan or (contig == scan and start > scan_start)):
        scan, scan_start = contig, start
    chunk.scan_hint[block], chunk.scan_hint_start[block] = scan, scan_start


@kernel("mm/percpu.c", "pcpu_block_update_scan", traced=False)
def pcpu_block_update_scan(chunk: PcpuChunk, bit_off: int, bits: int) -> None:
    """Take note of a free piece that a search has passed over, if it lies within one page."""
    block, s_off = divmod(bit_off, BLOCK_BITS)
    if s_off + bits > BLOCK_BITS:
        return
    # What lies before an aligned start may be free as well.
    first = block * BLOCK_BITS
    last = find_last_bit(chunk.alloc_map, bit_off, first)
    pcpu_block_update(chunk, block, 0 if last == bit_off else last + 1 - first, s_off + bits)


@kernel("mm/percpu.c", "pcpu_next_md_free_region", formerly=("pcpu_for_each_md_free_region",), traced=False)
def for_each_md_free_region(chunk: PcpuChunk, bit_off: int) -> Iterator[tuple[int, int]]:
    """The free pieces from `bit_off` on that the hints of the pages tell of, as (first bit, bits).

    Of each page it is the largest one, and the one that goes on in the next page.
    """
    while True:
        at, bits = _next_md_free_region(chunk, bit_off)
        if not bits:
            return
        yield at, bits
        bit_off = at + bits + 1


def _next_md_free_region(chunk: PcpuChunk, bit_off: int) -> tuple[int, int]:
    first, block_off = divmod(bit_off, BLOCK_BITS)
    at = bits = 0
    for block in range(first, chunk.nr_pages):
        if bits:  # a piece that began in the page before
            bits += chunk.left_free[block]
            if chunk.left_free[block] == BLOCK_BITS:
                continue
            return at, bits
        bits, start = chunk.contig_hint[block], chunk.contig_hint_start[block]
        if bits and start >= block_off and bits + start < BLOCK_BITS:
            return block * BLOCK_BITS + start, bits
        block_off = 0
        bits = chunk.right_free[block]
        at = (block + 1) * BLOCK_BITS - bits
    return at, bits


@kernel("mm/percpu.c", "pcpu_next_fit_region", formerly=("pcpu_for_each_fit_region",))
def pcpu_next_fit_region(chunk: PcpuChunk, alloc_bits: int, align: int, bit_off: int) -> tuple[int, int]:
    """The first place from `bit_off` on where a request fits, by the hints, and how many bits to look at there.

    The chunk's end if there is none. It is not quite the lowest place: a page is asked for its largest piece only.
    """
    first, block_off = divmod(bit_off, BLOCK_BITS)
    at = bits = 0
    for block in range(first, chunk.nr_pages):
        if bits:  # a piece that began in the page before
            bits += chunk.left_free[block]
            if bits >= alloc_bits:
                return at, bits
            if chunk.left_free[block] == BLOCK_BITS:
                continue
        hint, hint_start = chunk.contig_hint[block], chunk.contig_hint_start[block]
        skipped = round_up(hint_start, align) - hint_start
        if hint and hint_start >= block_off and hint >= skipped + alloc_bits:
            start = pcpu_next_hint(chunk, block, alloc_bits)
            return block * BLOCK_BITS + start, skipped + alloc_bits + hint_start - start
        block_off = 0
        start = round_up(BLOCK_BITS - chunk.right_free[block], align)
        bits, at = BLOCK_BITS - start, block * BLOCK_BITS + start
        if bits >= alloc_bits:
            return at, bits
    return chunk.map_bits, bits


@kernel("mm/percpu.c", "pcpu_chunk_refresh_hint")
def pcpu_chunk_refresh_hint(chunk: PcpuChunk, full_scan: bool) -> None:
    """Find the chunk's largest free piece again, from the hints of its pages."""
    whole = chunk.whole
    if not full_scan and chunk.scan_hint[whole]:
        bit_off = promote_scan_hint(chunk, whole)
    else:
        bit_off = chunk.first_free[whole]
        chunk.contig_hint[whole] = 0
    for at, bits in for_each_md_free_region(chunk, bit_off):
        pcpu_block_update(chunk, whole, at, at + bits)


@invented("the same lines in pcpu_chunk_refresh_hint and pcpu_block_refresh_hint", traced=False)
def promote_scan_hint(chunk: PcpuChunk, block: int) -> int:
    """The second largest piece is the largest now, as far as is known; returns where it ends."""
    chunk.contig_hint[block], chunk.contig_hint_start[block] = chunk.scan_hint[block], chunk.scan_hint_start[block]
    chunk.scan_hint[block] = 0
    return chunk.contig_hint_start[block] + chunk.contig_hint[block]


@kernel("mm/percpu.c", "pcpu_block_refresh_hint")
def pcpu_block_refresh_hint(chunk: PcpuChunk, block: int) -> None:
    """Find the largest free piece of a page again, from its bits."""
    if chunk.scan_hint[block]:
        start = promote_scan_hint(chunk, block)
    else:
        start = chunk.first_free[block]
        chunk.contig_hint[block] = 0
    chunk.right_free[block] = 0
    first = block * BLOCK_BITS
    for start_bit, end_bit in for_each_clear_bitrange(chunk.alloc_map, first + start, first + BLOCK_BITS):
        pcpu_block_update(chunk, block, start_bit - first, end_bit - first)


@invented("pcpu_region_overlap, and the two pairs of fields that it is asked about", traced=False)
def overlaps(start: int, length: int, first: int, last: int) -> bool:
    """Whether [start, start + length) and [first, last) have a bit in common."""
    return start < last and first < start + length


@kernel("mm/percpu.c", "pcpu_block_update_hint_alloc")
def pcpu_block_update_hint_alloc(percpu: Percpu, chunk: PcpuChunk, bit_off: int, bits: int) -> None:
    """Bring the hints up to date after [bit_off, bit_off + bits) was given out."""
    s_block, s_off = divmod(bit_off, BLOCK_BITS)
    e_block, e_off = divmod(bit_off + bits - 1, BLOCK_BITS)
    e_off += 1
    nr_empty = int(chunk.contig_hint[s_block] == BLOCK_BITS)
    update_first_block(chunk, s_block, s_off, bits, e_off if s_block == e_block else BLOCK_BITS)
    if s_block != e_block:
        nr_empty += int(chunk.contig_hint[e_block] == BLOCK_BITS) + e_block - s_block - 1
        update_last_block(chunk, e_block, e_off)
        for block in range(s_block + 1, e_block + (e_off == BLOCK_BITS)):
            chunk.scan_hint[block] = chunk.contig_hint[block] = chunk.left_free[block] = chunk.right_free[block] = 0
    if nr_empty:
        pcpu_update_empty_pages(percpu, chunk, -nr_empty)
    whole, end = chunk.whole, bit_off + bits
    if overlaps(chunk.scan_hint_start[whole], chunk.scan_hint[whole], bit_off, end):
        chunk.scan_hint[whole] = 0
    if overlaps(chunk.contig_hint_start[whole], chunk.contig_hint[whole], bit_off, end):
        pcpu_chunk_refresh_hint(chunk, full_scan=False)


@invented("a part of pcpu_block_update_hint_alloc", traced=False)
def update_first_block(chunk: PcpuChunk, block: int, s_off: int, bits: int, e_off: int) -> None:
    """The hints of the page in which something was given out from `s_off` on."""
    first, end = block * BLOCK_BITS, s_off + bits
    if s_off == chunk.first_free[block]:
        after = min(first + end, first + BLOCK_BITS)
        chunk.first_free[block] = find_next_zero_bit(chunk.alloc_map, first + BLOCK_BITS, after) - first
    if overlaps(chunk.scan_hint_start[block], chunk.scan_hint[block], s_off, end):
        chunk.scan_hint[block] = 0
    if overlaps(chunk.contig_hint_start[block], chunk.contig_hint[block], s_off, end):
        if not s_off:
            chunk.left_free[block] = 0
        pcpu_block_refresh_hint(chunk, block)
    else:
        chunk.left_free[block] = min(chunk.left_free[block], s_off)
        chunk.right_free[block] = min(chunk.right_free[block], BLOCK_BITS - e_off)


@invented("a part of pcpu_block_update_hint_alloc", traced=False)
def update_last_block(chunk: PcpuChunk, block: int, e_off: int) -> None:
    """The hints of the page whose first `e_off` bits were given out as the end of something."""
    first = block * BLOCK_BITS
    chunk.first_free[block] = find_next_zero_bit(chunk.alloc_map, first + BLOCK_BITS, first + e_off) - first
    if e_off == BLOCK_BITS:
        return
    if e_off > chunk.scan_hint_start[block]:
        chunk.scan_hint[block] = 0
    chunk.left_free[block] = 0
    if e_off > chunk.contig_hint_start[block]:
        pcpu_block_refresh_hint(chunk, block)
    else:
        chunk.right_free[block] = min(chunk.right_free[block], BLOCK_BITS - e_off)


@kernel("mm/percpu.c", "pcpu_block_update_hint_free")
def pcpu_block_update_hint_free(percpu: Percpu, chunk: PcpuChunk, bit_off: int, bits: int) -> None:
    """Bring the hints up to date after [bit_off, bit_off + bits) has become free."""
    s_block, s_off = divmod(bit_off, BLOCK_BITS)
    e_block, e_off = divmod(bit_off + bits - 1, BLOCK_BITS)
    e_off += 1
    start, end = free_piece_start(chunk, s_block, s_off), free_piece_end(chunk, e_block, e_off)
    stop = end if s_block == e_block else BLOCK_BITS
    nr_empty = int(start == 0 and stop == BLOCK_BITS)
    pcpu_block_update(chunk, s_block, start, stop)
    if s_block != e_block:
        nr_empty += int(end == BLOCK_BITS) + e_block - s_block - 1
        pcpu_block_update(chunk, e_block, 0, end)
        for block in range(s_block + 1, e_block):
            pcpu_init_md_block(chunk, block)
    if nr_empty:
        pcpu_update_empty_pages(percpu, chunk, nr_empty)
    if end - start >= BLOCK_BITS or s_block != e_block:
        pcpu_chunk_refresh_hint(chunk, full_scan=True)
    else:
        # As in 6.1: `end` counts from the start of the page, so beyond the first page this is no piece at all, and the
        # chunk's hint stays too low until a page is wholly free or it is looked at anew.
        pcpu_block_update(chunk, chunk.whole, s_block * BLOCK_BITS + start, end)


@invented("a part of pcpu_block_update_hint_free", traced=False)
def free_piece_start(chunk: PcpuChunk, block: int, s_off: int) -> int:
    """Where the free piece starts, within its page, that goes on at `s_off`."""
    if s_off == chunk.contig_hint_start[block] + chunk.contig_hint[block]:
        return chunk.contig_hint_start[block]
    first = block * BLOCK_BITS
    last = find_last_bit(chunk.alloc_map, first + s_off, first)
    return 0 if last == first + s_off else last + 1 - first


@invented("a part of pcpu_block_update_hint_free", traced=False)
def free_piece_end(chunk: PcpuChunk, block: int, e_off: int) -> int:
    """Where the free piece ends, within its page, that goes on behind `e_off`."""
    if e_off == chunk.contig_hint_start[block]:
        return chunk.contig_hint_start[block] + chunk.contig_hint[block]
    first = block * BLOCK_BITS
    return find_next_bit(chunk.alloc_map, first + BLOCK_BITS, first + e_off) - first
