"""Chunks of per-CPU memory: the same offsets in every CPU's unit are given out together.

pcpu_chunk_lists     0      1     …     6     …     sidelined    free    to_depopulate
                     │      │           │               │          │          │
                  no room   ●5          ●0─●3           ○          ●7         ○        by the largest free piece

unit of CPU 0    |▓▓▓▓▓▓░░░░▓▓░░░░░░░░░░░░░░░░│· · · · · · · ·|      ▓ given out  ░ free  · no page behind it yet
unit of CPU 1    |▓▓▓▓▓▓░░░░▓▓░░░░░░░░░░░░░░░░│· · · · · · · ·|      always the same in all units
"""

from __future__ import annotations

from kmemlab.boot.percpu import PCPU_MIN_ALLOC_SIZE, PCPU_MIN_UNIT_SIZE, PCPU_SLOT_BASE_SHIFT, PERCPU_DYNAMIC_EARLY_SIZE
from kmemlab.mm.globals import Mm
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead, list_add, list_add_tail, list_del, list_for_each
from kmemlab.sim.struct import Cell, Struct, U64Cell
from kmemlab.types.units import PAGE_SIZE, U64_MAX, round_up

PCPU_MIN_ALLOC_SHIFT = 2
PCPU_BITMAP_BLOCK_BITS = PAGE_SIZE >> PCPU_MIN_ALLOC_SHIFT  # one block of hints covers a page of a unit
PCPU_SLOT_FAIL_THRESHOLD = 3
PCPU_EMPTY_POP_PAGES_LOW, PCPU_EMPTY_POP_PAGES_HIGH = 2, 4
MOST_CHUNKS = 32
FIRST_CHUNK, RESERVED_CHUNK, FIRST_OTHER_CHUNK = 0, 1, 2
SLOTS = 40  # more than any unit size needs


@kernel("mm/percpu-internal.h", "struct pcpu_chunk", left_out="who pays (memcg)", formerly=("pcpu_block_md",))
class PcpuChunk(Struct):
    """One chunk. A bit of `alloc_map` is 4 bytes of every unit; `bound_map` has a bit where something starts or ends.

    The columns of hints are C's `struct pcpu_block_md`, one block a page; the last one, `whole`, is for the chunk.
    """

    in_use = Cell()
    base_addr = U64Cell()  # where the unit at offset 0 starts
    start_offset = Cell()  # bytes at the start of the chunk's first page that are not its own
    end_offset = Cell()
    nr_pages = Cell()  # of one unit
    nr_populated = Cell()
    nr_empty_pop_pages = Cell()  # there, and all free
    free_bytes = Cell()
    immutable = Cell()  # the first chunk: its pages come and go with nobody
    isolated = Cell()  # its pages are being given back: it is used only if no other chunk will do

    alloc_map: Column
    bound_map: Column
    populated: Column
    vms: Column
    scan_hint: Column
    scan_hint_start: Column
    contig_hint: Column
    contig_hint_start: Column
    left_free: Column
    right_free: Column
    first_free: Column

    def __init__(self, number: int, unit_size: int, nr_groups: int) -> None:
        """`unit_size` is the largest that boot may choose."""
        self.number = number
        pages = unit_size // PAGE_SIZE
        self.whole = pages
        self.alloc_map = column("Q", unit_size // PCPU_MIN_ALLOC_SIZE // 64 + 1)
        self.bound_map = column("Q", unit_size // PCPU_MIN_ALLOC_SIZE // 64 + 1)
        self.populated = column("Q", pages // 64 + 1)
        self.vms = column("i", nr_groups)  # the vm_struct of each group
        self.scan_hint = column("i", pages + 1)  # the largest free piece before contig_hint
        self.scan_hint_start = column("i", pages + 1)
        self.contig_hint = column("i", pages + 1)  # the largest free piece
        self.contig_hint_start = column("i", pages + 1)
        self.left_free = column("i", pages + 1)  # free bits at the block's left end
        self.right_free = column("i", pages + 1)
        self.first_free = column("i", pages + 1)

    @property
    def map_bits(self) -> int:
        """pcpu_chunk_map_bits: the bits of the maps that the chunk uses."""
        return self.nr_pages * PCPU_BITMAP_BLOCK_BITS

    def nr_bits(self, block: int) -> int:
        """The bits that a block of hints is about."""
        return self.map_bits if block == self.whole else PCPU_BITMAP_BLOCK_BITS


@invented("C has these as variables of mm/percpu.c")
class Percpu(Struct):
    """All chunks, and the lists that they are on: list `slot` has its head at node MOST_CHUNKS + slot."""

    nr_empty_pop_pages = Cell()
    nr_populated = Cell()  # pages of a unit, over all chunks, the static area included
    async_enabled = Cell()
    atomic_alloc_failed = Cell()
    balance_work = Cell()  # the worker shall run
    warnings = Cell()  # how many failures were told; after ten no more

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.units = mm.numa.pcpu_units
        unit_size = largest_unit_size(mm)
        self.chunks = tuple(PcpuChunk(number, unit_size, self.units.nr_cpus) for number in range(MOST_CHUNKS))
        self.list = ListHead(MOST_CHUNKS + SLOTS)

    @property
    def sidelined_slot(self) -> int:
        """The list of chunks whose empty pages were given back."""
        return pcpu_size_to_slot_inner(self.units.unit_size) + 1

    @property
    def free_slot(self) -> int:
        """The list of chunks of which nothing is given out."""
        return self.sidelined_slot + 1

    @property
    def to_depopulate_slot(self) -> int:
        """The list of chunks whose empty pages shall be given back."""
        return self.free_slot + 1

    def on_list(self, slot: int) -> list[PcpuChunk]:
        """The chunks of a list, first to last."""
        return [self.chunks[number] for number in list_for_each(self.list, MOST_CHUNKS + slot)]


@invented("our structs are sized before boot")
def largest_unit_size(mm: Mm) -> int:
    """The bytes of a unit if every CPU gets an allocation of its own."""
    image = mm.boot.spec.image
    dyn = max(image.percpu_dynamic, PERCPU_DYNAMIC_EARLY_SIZE)
    size_sum = round_up(image.percpu_static + image.percpu_reserved + dyn, PAGE_SIZE)
    return round_up(max(size_sum, PCPU_MIN_UNIT_SIZE), mm.boot.config.percpu_atom_size)


@kernel("mm/percpu.c", "__pcpu_size_to_slot", traced=False)
def pcpu_size_to_slot_inner(size: int) -> int:
    """The list for chunks whose largest free piece has `size` bytes: one a power of two, from 16 on.

    >>> [pcpu_size_to_slot_inner(size) for size in (4, 15, 16, 31, 32, 64, 4096)]
    [1, 1, 2, 2, 3, 4, 10]
    """
    return max(size.bit_length() - PCPU_SLOT_BASE_SHIFT + 2, 1)


@kernel("mm/percpu.c", "pcpu_size_to_slot", traced=False)
def pcpu_size_to_slot(percpu: Percpu, size: int) -> int:
    """The first list that a request must look at, and the list of a chunk whose largest free piece has this size."""
    return percpu.free_slot if size == percpu.units.unit_size else pcpu_size_to_slot_inner(size)


@kernel("mm/percpu.c", "pcpu_chunk_slot", traced=False)
def pcpu_chunk_slot(percpu: Percpu, chunk: PcpuChunk) -> int:
    """The list that a chunk belongs on."""
    contig = chunk.contig_hint[chunk.whole]
    if chunk.free_bytes < PCPU_MIN_ALLOC_SIZE or contig == 0:
        return 0
    return pcpu_size_to_slot(percpu, contig * PCPU_MIN_ALLOC_SIZE)


@kernel("mm/percpu.c", "__pcpu_chunk_move", formerly=("pcpu_chunk_move",), lock="pcpu_lock")
def pcpu_chunk_move(percpu: Percpu, chunk: PcpuChunk, slot: int, front: bool = True) -> None:
    """Put a chunk on another list. The reserved chunk is on none."""
    if chunk.number == RESERVED_CHUNK:
        return
    list_del(percpu.list, chunk.number)
    add = list_add if front else list_add_tail
    add(percpu.list, chunk.number, MOST_CHUNKS + slot)


@kernel("mm/percpu.c", "pcpu_chunk_relocate", lock="pcpu_lock")
def pcpu_chunk_relocate(percpu: Percpu, chunk: PcpuChunk, oslot: int) -> None:
    """Put a chunk where it belongs now; one that has gained room goes to the front, one that has lost to the end."""
    nslot = pcpu_chunk_slot(percpu, chunk)
    if not chunk.isolated and oslot != nslot:
        pcpu_chunk_move(percpu, chunk, nslot, front=oslot < nslot)


@kernel("mm/percpu.c", "pcpu_isolate_chunk", lock="pcpu_lock")
def pcpu_isolate_chunk(percpu: Percpu, chunk: PcpuChunk) -> None:
    """From now on a chunk's empty pages count as given back; the worker will do it."""
    if not chunk.isolated:
        chunk.isolated = 1
        percpu.nr_empty_pop_pages -= chunk.nr_empty_pop_pages
    pcpu_chunk_move(percpu, chunk, percpu.to_depopulate_slot)


@kernel("mm/percpu.c", "pcpu_reintegrate_chunk", lock="pcpu_lock")
def pcpu_reintegrate_chunk(percpu: Percpu, chunk: PcpuChunk) -> None:
    """A chunk that was set aside serves again."""
    if chunk.isolated:
        chunk.isolated = 0
        percpu.nr_empty_pop_pages += chunk.nr_empty_pop_pages
        pcpu_chunk_relocate(percpu, chunk, -1)


@kernel("mm/percpu.c", "pcpu_update_empty_pages", lock="pcpu_lock", traced=False)
def pcpu_update_empty_pages(percpu: Percpu, chunk: PcpuChunk, nr: int) -> None:
    """Count pages that have become empty (or, below 0, no longer are)."""
    chunk.nr_empty_pop_pages += nr
    if chunk.number != RESERVED_CHUNK and not chunk.isolated:
        percpu.nr_empty_pop_pages += nr


@kernel("mm/percpu.c", "pcpu_chunk_addr", traced=False)
def pcpu_chunk_addr(percpu: Percpu, chunk: PcpuChunk, cpu: int, page_idx: int) -> int:
    """Where page `page_idx` of a CPU's unit in a chunk is."""
    return chunk.base_addr + percpu.units.unit_off[cpu] + page_idx * PAGE_SIZE & word_mask(percpu.mm)


@invented("C's unsigned long wraps by itself", traced=False)
def word_mask(mm: Mm) -> int:
    """The largest unsigned long."""
    return U64_MAX >> 64 - 8 * mm.boot.config.sizeof_pointer


@kernel("mm/percpu.c", "pcpu_nr_pages", traced=False)
def pcpu_nr_pages(percpu: Percpu) -> int:
    """The pages of all units of all chunks that are there: `Percpu:` of /proc/meminfo."""
    return percpu.nr_populated * percpu.units.nr_units
