"""A disk: blocks as large as a page, and one arm that takes its time.

submit ─▶ [ … 3 2 1 ] ─▶ done at jiffy …      one after the other; a block that follows the last one needs no seek

It takes two jiffies (8 ms) to move the arm, and 1/128 jiffy to pass over a block (about 130 MB a second).
"""

from __future__ import annotations

from kmemlab.hardware.ram import Ram
from kmemlab.sim.column import UNTOUCHED_IS_FREE, Column, column
from kmemlab.sim.kernel import invented
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

BLOCKS_PER_JIFFY = 128
SEEK_JIFFIES = 2
QUEUE_DEPTH = 256
NR_BLOCKS = 1 << 20 if UNTOUCHED_IS_FREE else 1 << 14


@invented("a disk is hardware")
class Disk(Struct):
    """What stands on the blocks, and the queue of requests that are under way, the oldest first.

    Request n of the queue is row `(first + n) % QUEUE_DEPTH` of the columns.

    >>> disk = Disk(100)
    >>> disk.submit(now=10, pfn=7, block=50, write=False), disk.submit(now=10, pfn=8, block=51, write=False)
    (13, 13)
    >>> disk.submit(now=10, pfn=9, block=3, write=True)
    15
    """

    arm = Cell()  # the block behind the last one that was passed over
    busy_until = Cell()  # in 1/128 jiffies
    first = Cell()
    pending = Cell()  # requests under way
    seeks = Cell()

    pfn: Column
    block: Column
    write: Column
    done_at: Column

    def __init__(self, nr_blocks: int = NR_BLOCKS) -> None:
        self.nr_blocks = nr_blocks
        self.contents = Ram(nr_blocks)
        self.pfn = column("q", QUEUE_DEPTH)
        self.block = column("q", QUEUE_DEPTH)
        self.write = column("B", QUEUE_DEPTH)
        self.done_at = column("q", QUEUE_DEPTH)

    def submit(self, now: int, pfn: int, block: int, write: bool) -> int:
        """Ask for a block to be read into a page frame or written from it; returns the jiffy when that will be done."""
        assert self.pending < QUEUE_DEPTH, "the queue is full"
        assert 0 <= block < self.nr_blocks, f"the disk has no block {block}"
        start = max(self.busy_until, now * BLOCKS_PER_JIFFY)
        if block != self.arm:
            start += SEEK_JIFFIES * BLOCKS_PER_JIFFY
            self.seeks += 1
        self.arm = block + 1
        self.busy_until = start + 1
        row = (self.first + self.pending) % QUEUE_DEPTH
        done_at = -(-self.busy_until // BLOCKS_PER_JIFFY)
        self.pfn[row], self.block[row], self.write[row], self.done_at[row] = pfn, block, write, done_at
        self.pending += 1
        return done_at

    def next_done(self) -> int:
        """The jiffy when the oldest request will be done."""
        assert self.pending, "nothing is under way"
        return self.done_at[self.first]

    def take_done(self) -> tuple[int, int, bool]:
        """(page frame, block, whether it was written) of the oldest request, which leaves the queue."""
        row = self.first
        self.first = (row + 1) % QUEUE_DEPTH
        self.pending -= 1
        return self.pfn[row], self.block[row], bool(self.write[row])


@invented("what DMA does", traced=False)
def copy_page(source: Ram, from_pfn: int, target: Ram, to_pfn: int) -> None:
    """Copy a page frame or block; one that is full of a single byte takes no memory on the other side either."""
    if source.place[from_pfn]:
        target.write_bytes(to_pfn << PAGE_SHIFT, source.read_bytes(from_pfn << PAGE_SHIFT, PAGE_SIZE))
    else:
        target.fill_pages(to_pfn, 1, source.filled[from_pfn])
